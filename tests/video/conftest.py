import pytest

from bwpipe.video.file import VideoFile
from tests.support.made_films import make_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, VideoFile]:
    """A film of each of the `KINDS`, by name. Tests must not change them."""
    return make_corpus(tmp_path_factory.mktemp("corpus"))
