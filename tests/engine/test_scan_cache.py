"""What reading a film through has found is not looked for again as long as the film is unchanged."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bwpipe.engine.ledger import Ledger, open_ledgers
from bwpipe.engine.planner import Plan, make_plan
from bwpipe.engine.run import run
from bwpipe.engine.scan_cache import SqliteScanCache
from bwpipe.graph.graph import read_graph
from bwpipe.video.file import VideoFile
from tests.support.made_films import MKV, make_film


def graph(folder: Path) -> Mapping[str, Any]:
    stages = [{"use": "read", "path": str(folder / "film.mkv"), "frames": 3}]
    return {"stages": [*stages, {"use": "write", "path": str(folder / "out"), "codec": "ffv1"}]}


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A film that was read through by a run, and of which half is gone since then, which its stamp does not tell."""
    path = make_film(tmp_path / "film.mkv", MKV)
    assert run(graph(tmp_path)).exit_code == 0
    status = path.stat()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return path


def plan(folder: Path) -> Plan:
    read = read_graph(graph(folder))
    with open_ledgers([folder / "out"], lock=False) as ledgers:
        return make_plan(read, ledgers, restart=True)


def known(folder: Path) -> VideoFile:
    (unit,) = plan(folder).todo
    assert isinstance(unit.media, VideoFile)
    return unit.media


def test_a_film_that_is_unchanged_is_not_read_through_again(film: Path) -> None:
    again = known(film.parent)

    assert list(again.times) == list(MKV.times)
    assert (again.timing, again.last, again.faults, len(again.keys)) == ("exact", 40, (), 3)


def test_one_whose_stamp_changed_is(film: Path) -> None:
    os.utime(film)

    again = known(film.parent)

    assert len(again.times) < 20
    assert again.faults


def test_nothing_is_written_before_a_run_has_begun(tmp_path: Path) -> None:
    make_film(tmp_path / "film.mkv", MKV)

    plan(tmp_path)

    assert not (tmp_path / "out").exists()


def test_what_was_found_another_way_is_found_anew(tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(b"long")
    ledger = Ledger(tmp_path / "out")
    ledger.open()
    first = SqliteScanCache([ledger])
    assert first.find(tmp_path / "input", "length", lambda: b"4") == b"4"
    first.store()
    ledger.close()

    scans = SqliteScanCache([Ledger(tmp_path / "out")])

    assert scans.find(tmp_path / "input", "length", lambda: b"another") == b"4"
    assert scans.find(tmp_path / "input", "length in words", lambda: b"four") == b"four"
