from pathlib import Path

import pytest

from bwpipe.tools.samples import write_samples


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the output of `bwpipe samples`: five pictures and a film. Tests must not change it."""
    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder)
    return folder
