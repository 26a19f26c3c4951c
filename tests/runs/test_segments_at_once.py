"""Several segments of a film in work at once: the same bytes, also after a run that was killed."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from bwpipe import Frame, Gather, Map
from bwpipe.core import segments
from bwpipe.core.frame import Media, Unit
from bwpipe.core.segments import split_into_segments
from bwpipe.engine import lanes
from bwpipe.engine.lanes import UnitQueue, lane_count
from bwpipe.engine.run import run
from tests.support.made_films import MKV, make_film

FRAMES = 70
STOP = '''
"""A stage that kills the run, and segments that share no decoder, for this test."""

import os
import signal

from bwpipe import Frame, Map, NoEffect, stage
from bwpipe.core import segments

segments.SHARED_DECODER_FRAMES = 20


@stage("stop")
class Stop(Map):
    """Kills the process at a frame."""

    at: NoEffect[int] = -1

    def apply(self, frame: Frame) -> Frame:
        if frame.index == self.at and not frame.context:
            os.kill(os.getpid(), signal.SIGKILL)
        return frame
'''


class Same(Map):
    def apply(self, frame: Frame) -> Frame:
        return frame


class Together(Gather):
    def gather(self, frames: Iterator[Frame]) -> Frame:
        return next(frames)


class Film(Media):
    kind = "film"
    has_segments = True


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind = replace(MKV, size=(48, 32), times=range(0, 40 * FRAMES, 40))
    return make_film(tmp_path_factory.mktemp("films") / "film.mkv", kind)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    usual = segments.SHARED_DECODER_FRAMES
    folder = tmp_path_factory.mktemp("stop")
    (folder / "stop.py").write_text(STOP)
    yield folder
    segments.SHARED_DECODER_FRAMES = usual


def graph(film: Path, plugin: Path, out: Path, at_once: int | str, at: int = -1) -> dict[str, Any]:
    chain = [
        {"use": "read", "path": str(film)},
        {"use": "grayscale", "workers": 2},
        {"use": "shots", "workers": 2},
        {"use": "stop", "at": at},
        {"use": "write", "path": str(out), "codec": "ffv1", "workers": 3},
    ]
    return {"plugins": [str(plugin)], "segment": 20, "segments_at_once": at_once, "stages": chain}


@pytest.fixture(scope="module")
def one_by_one(film: Path, plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("one")
    assert run(graph(film, plugin, out, 1)).done == 1
    return (out / "film.mkv").read_bytes()


@pytest.mark.parametrize("at_once", [2, 3, "auto"])
def test_a_film_has_the_same_bytes_however_many_segments_are_in_work(
    film: Path, plugin: Path, one_by_one: bytes, tmp_path: Path, at_once: int | str
) -> None:
    result = run(graph(film, plugin, tmp_path, at_once))

    assert result.done == 1
    assert result.meters["write"].items == FRAMES
    assert (tmp_path / "film.mkv").read_bytes() == one_by_one


def test_a_killed_run_goes_on_with_another_number_of_segments(
    film: Path, plugin: Path, one_by_one: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(graph(film, plugin, tmp_path / "out", 3, at=30)))
    ended = subprocess.run([sys.executable, "-m", "bwpipe", "run", str(file)], check=False, capture_output=True, timeout=300)
    assert ended.returncode == -signal.SIGKILL
    assert not (tmp_path / "out" / "film.mkv").exists()

    assert run(graph(film, plugin, tmp_path / "out", 2)).done == 1
    assert (tmp_path / "out" / "film.mkv").read_bytes() == one_by_one


def test_segments_that_share_a_decoder_are_read_by_one_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SHARED_DECODER_FRAMES", 1000)
    unit = Unit(Film(path=Path("a"), name=PurePosixPath("a"), frames=2100))
    picture = [Unit(Media(path=Path(name), name=PurePosixPath(name))) for name in "bc"]
    queue = UnitQueue([*split_into_segments(unit, 300), *picture])

    first, second = queue.take(), queue.take()
    taken = [next(first), next(second), next(first), *second]

    assert [(each.name.name, each.start) for each in taken[:5]] == [("a", 0), ("a", 900), ("a", 300), ("a", 1200), ("a", 1500)]
    assert [each.name.name for each in taken[-2:]] == ["b", "c"]
    assert [each.start for each in first] == [600]


def test_how_many_segments_are_in_work_follows_from_cores_memory_and_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    some = [Same(), Same()]
    units = [Unit(Film(path=Path("a"), name=PurePosixPath("a"), width=1280, height=720, frames=9000))]
    monkeypatch.setattr(lanes, "cores", lambda: 16)
    monkeypatch.setattr(lanes, "available", lambda: 64 << 30)

    assert lane_count(some, units, 9, None) == 4
    assert lane_count(some, units, 3, None) == 3
    assert lane_count(some, units, 9, 7) == 7
    monkeypatch.setattr(lanes, "available", lambda: 4 << 30)
    assert lane_count(some, units, 9, None) == 2
    monkeypatch.setattr(lanes, "cores", lambda: 2)
    assert lane_count(some, units, 9, None) == 1
    assert lane_count([*some, Together()], units, 9, 5) == 1
