from collections.abc import Iterator
from pathlib import Path

import pytest

from bwpipe import run
from bwpipe.cluster import worker
from bwpipe.core import segments
from tests.support.tripping import contents, make_inputs, tripping_graph


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Pictures, a film of four segments, and a plug-in."""
    folder = tmp_path_factory.mktemp("cluster")
    usual, segments.SHARED_DECODER_FRAMES = segments.SHARED_DECODER_FRAMES, 20
    make_inputs(folder)
    yield folder
    segments.SHARED_DECODER_FRAMES = usual


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what a worker changes of its process, which is that of the tests here."""
    for name in ("name_parts", "limit_cores"):
        monkeypatch.setattr(worker, name, lambda *arguments: None)


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, bytes]:
    """What one process writes."""
    assert run(tripping_graph(folder, folder / "whole")).exit_code == 0
    return contents(folder / "whole")
