"""The results of scanning a film are reused as long as the film is unchanged."""

import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from bwpipe.engine.ledger import Ledger
from bwpipe.engine.planner import Plan, make_plan
from bwpipe.engine.run import run
from bwpipe.engine.scan_cache import SqliteScanCache
from bwpipe.engine.share_ledger import open_ledgers
from bwpipe.graph.graph import read_graph
from bwpipe.video.file import VideoFile
from bwpipe.video.probe import open_video
from tests.support.made_films import MKV, make_film


def graph(folder: Path) -> Mapping[str, Any]:
    stages = [{"use": "read", "path": str(folder / "film.mkv"), "frames": 3}]
    return {"stages": [*stages, {"use": "write", "path": str(folder / "out"), "codec": "ffv1"}]}


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A film that a run has scanned."""
    path = make_film(tmp_path / "film.mkv", MKV)
    assert run(graph(tmp_path)).exit_code == 0
    return path


def damage(film: Path) -> None:
    """Overwrite the second half of a film with zeros, without changing its size and modification time."""
    status = film.stat()
    content = film.read_bytes()
    film.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    os.utime(film, ns=(status.st_atime_ns, status.st_mtime_ns))


def plan(folder: Path) -> Plan:
    read = read_graph(graph(folder))
    with open_ledgers([folder / "out"], lock=False) as ledgers:
        return make_plan(read, ledgers, restart=True)


def planned_media(folder: Path) -> VideoFile:
    (unit,) = plan(folder).todo
    assert isinstance(unit.media, VideoFile)
    return unit.media


class NoScans(SqliteScanCache):
    """A cache that has to know everything."""

    def find(self, path: Path, what: str, look: Callable[[], bytes], read: Callable[[bytes], Any]) -> Any:
        def scan() -> bytes:
            raise AssertionError(f"{path} is scanned again")

        return super().find(path, what, scan, read)


def test_an_unchanged_film_is_not_scanned_again(film: Path) -> None:
    ledger = Ledger(film.parent / "out")

    again = open_video(film, PurePosixPath(film.name), max_pixels=10**6, scans=NoScans([ledger]))

    assert list(again.times) == list(MKV.times)
    assert (again.timing, again.last, again.faults, len(again.keys)) == ("exact", 40, (), 3)


@pytest.mark.parametrize("touch", [True, False], ids=["another time", "the same time"])
def test_a_film_whose_bytes_changed_is_scanned_again(film: Path, touch: bool) -> None:
    damage(film)
    if touch:
        os.utime(film)

    again = planned_media(film.parent)

    assert len(again.times) < 20
    assert again.faults


def test_a_film_whose_scan_is_damaged_is_scanned_again(film: Path) -> None:
    with closing(sqlite3.connect(film.parent / "out" / ".bwpipe" / "ledger.sqlite")) as connection, connection:
        connection.execute("UPDATE scans SET found = substr(found, 1, 40)")

    assert list(planned_media(film.parent).times) == list(MKV.times)


def test_nothing_is_written_before_a_run_has_started(tmp_path: Path) -> None:
    make_film(tmp_path / "film.mkv", MKV)

    plan(tmp_path)

    assert not (tmp_path / "out").exists()


def test_a_different_method_is_not_answered_from_the_cache(tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(b"long")
    ledger = Ledger(tmp_path / "out")
    ledger.open()
    first = SqliteScanCache([ledger])
    assert first.find(tmp_path / "input", "length", lambda: b"4", bytes) == b"4"
    first.store()
    ledger.close()

    scans = SqliteScanCache([Ledger(tmp_path / "out")])

    assert scans.find(tmp_path / "input", "length", lambda: b"another", bytes) == b"4"
    assert scans.find(tmp_path / "input", "length in words", lambda: b"four", bytes) == b"four"
