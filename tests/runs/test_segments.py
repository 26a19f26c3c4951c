"""Whole runs of films in segments: what is cut, joined, resumed, done again and left alone."""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from bwpipe.core.frame import Media, Unit
from bwpipe.core.segments import split_into_segments
from bwpipe.engine.run import RunResult, run
from bwpipe.errors import RunAborted, UsageError
from bwpipe.graph.graph import read_graph
from bwpipe.tools.describe import describe_graph
from bwpipe.video.file import open_container
from tests.support.made_films import AVI, MKV, UNEVEN, Kind, make_film, moments, opened, read, sound_of, spoil

NONE: Mapping[str, Any] = MappingProxyType({})
KINDS = {
    "uneven times and B-frames": Kind(
        times=[time for lap in range(3) for time in np.add(UNEVEN, lap * 40000).tolist()], sound="aac"
    ),
    "Matroska": replace(MKV, codec="libx264", sound="aac", times=range(0, 3600, 40)),
    "AVI without times": replace(AVI, times=range(90), sound="pcm_s16le"),
}


TRIP = '''
"""A stage over which a run stumbles; the test's own."""

import os
import signal

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import sleep

import numpy as np

from bwpipe import Frame, Map, MediaError, NoEffect, Unit, UnitMap, stage
from bwpipe.core.stage import stages
from bwpipe.core.atomic_file import AtomicFile
from bwpipe.errors import RunAborted


@stage("trip")
class Trip(Map):
    """Ends the run, or the unit, at a frame."""

    at: NoEffect[int] = -1
    how: NoEffect[str] = ""

    def apply(self, frame: Frame) -> Frame:
        if frame.index == self.at:
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise {"abort": RunAborted, "fail": MediaError}[self.how](
                {"abort": "the plug was pulled", "fail": "it is torn"}[self.how]
            )
        return frame


@stage("wired")
class Wired(stages["write"]):
    """Gets a signal as soon as a film is to be joined, and goes on when the engine has seen it."""

    signalled: NoEffect[bool] = False

    def assemble(self, unit: Unit, fragments: Sequence[Path]) -> AtomicFile:
        if self.signalled:
            os.kill(os.getpid(), signal.SIGTERM)
            sleep(0.5)
        return super().assemble(unit, fragments)


@stage("lightest")
class Lightest(UnitMap):
    """Takes the lightest luma of each pixel in a frame, the two before and the two after it."""

    @property
    def context(self) -> int:
        return 2

    def apply(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        some = list(frames)
        for i, frame in enumerate(some):
            yield replace(frame, luma=np.max([other.luma for other in some[max(i - 2, 0) : i + 3]], axis=0))
'''


@pytest.fixture(scope="module", autouse=True)
def plugin(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The folder of the stage, below the folder of all of this module's tests."""
    (tmp_path_factory.getbasetemp() / "trip").mkdir(exist_ok=True)
    (tmp_path_factory.getbasetemp() / "trip" / "trip.py").write_text(TRIP)


def graph(
    source: Path,
    out: Path,
    segment: int | str = 20,
    read: Mapping[str, Any] = NONE,
    trip: Mapping[str, Any] = NONE,
    **options: Any,
) -> dict[str, Any]:
    folder = next(place for place in out.parents if (place / "trip").is_dir())
    stages = [
        {"use": "read", "path": str(source), **read},
        {"use": "trip", **trip},
        {"use": "write", "path": str(out), "preset": "ultrafast", "options": {"bf": "2"}, **options},
    ]
    return {"plugins": [str(folder / "trip")], "segment": segment, "stages": stages}


def coloured(source: Path, out: Path, restart: bool = False, **options: Any) -> RunResult:
    return run(graph(source, out, **options), restart=restart)


def left(out: Path) -> list[str]:
    """What is in the work folder besides its ledger, lock and report."""
    names = [str(path.relative_to(out / ".bwpipe")) for path in (out / ".bwpipe").rglob("*") if path.is_file()]
    return sorted(name for name in names if name not in {"ledger.sqlite", "lock", "report.jsonl"})


def events(out: Path) -> list[str]:
    return [json.loads(line)["event"] for line in (out / ".bwpipe" / "report.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module", params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind = KINDS[request.param]
    return make_film(tmp_path_factory.mktemp("film") / f"film{kind.suffix}", kind)


@pytest.mark.parametrize("codec", ["h264", "ffv1"])
def test_a_film_in_segments_keeps_every_frame_time_and_sound(source: Path, codec: str, tmp_path: Path) -> None:
    lossless: dict[str, Any] = {"codec": "ffv1", "preset": None, "options": {}}
    outcome = coloured(source, tmp_path, **(lossless if codec == "ffv1" else {}))

    (path,) = (file for file in tmp_path.iterdir() if file.is_file())
    film, made = opened(source), opened(path)
    assert (outcome.done, outcome.exit_code) == (1, 0)
    assert made.faults == ()
    rounding = 0 if made.container == film.container else 1 / 2000
    assert max(abs(a - b) for a, b in zip(moments(film), moments(made), strict=True)) <= rounding
    assert made.last is None or film.last is None or rounding or made.last == film.last
    assert [packet[2] for packet in sound_of(made)] == [packet[2] for packet in sound_of(film)]
    frames = read(made)
    assert len(frames) == len(film.times)
    for before, after in zip(read(film), frames, strict=True):
        if codec == "ffv1":
            assert_array_equal(before.luma, after.luma)
        else:
            assert np.abs(before.luma.astype(int) - after.luma).mean() < 3
    assert left(tmp_path) == []


def test_an_encoder_with_reordered_frames_gets_decoding_times_that_rise(source: Path, tmp_path: Path) -> None:
    coloured(source, tmp_path)

    with open_container(next(file for file in tmp_path.iterdir() if file.is_file())) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    times = [
        (packet.dts, packet.pts) for packet in packets if packet.dts is not None
    ]  # Matroska has none of decoding at its end
    decoded, shown = [dts for dts, _ in times], [pts or 0 for _, pts in times]
    assert decoded == sorted(set(decoded))
    assert all(dts <= pts for dts, pts in zip(decoded, shown, strict=True))
    assert shown != sorted(shown)


def test_stages_that_look_at_neighbours_see_them_across_segments(film: Path, tmp_path: Path) -> None:
    made = []
    for segment in (20, "off"):
        described = graph(film, tmp_path / str(segment), segment=segment, codec="ffv1", preset=None, options={})
        described["stages"][1:2] = [{"use": "lightest"}, {"use": "lightest", "id": "again"}]
        assert run(described).exit_code == 0
        made.append(read(opened(tmp_path / str(segment) / "film.mp4")))

    assert len(made[0]) == 87
    for one, other in zip(*made, strict=True):
        assert_array_equal(one.luma, other.luma)
    assert any((one.luma != frame.luma).any() for one, frame in zip(made[0], read(opened(film)), strict=True))


def test_a_film_is_cut_where_its_frames_end() -> None:
    film = type("Film", (Media,), {"kind": "film"})(path=Path("a"), name=PurePosixPath("a"), width=1, height=1, frames=45)

    assert [(unit.part, unit.start, unit.stop) for unit in split_into_segments(Unit(film), 20)] == [
        (0, 0, 20),
        (1, 20, 40),
        (2, 40, 45),
    ]
    assert [(unit.start, unit.stop) for unit in split_into_segments(Unit(film, stop=30), 20)] == [(0, 20), (20, 30)]
    assert (
        [unit.stop for unit in split_into_segments(Unit(film), None)]
        == [unit.stop for unit in split_into_segments(Unit(film), 45)]
        == [None]
    )


@pytest.mark.parametrize(
    ("size", "since"),
    [(300, [0, 0, 0, 900, 900, 900, 1800]), (700, [0, 700, 1400]), (1000, [0, 1000, 2000]), (2000, [0, 2000])],
)
def test_segments_are_decoded_in_one_go_up_to_a_thousand_frames(size: int, since: list[int]) -> None:
    film = type("Film", (Media,), {"kind": "film"})(path=Path("a"), name=PurePosixPath("a"), width=1, height=1, frames=2050)

    assert [unit.since for unit in split_into_segments(Unit(film), size)] == since


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", KINDS["uneven times and B-frames"])


@pytest.fixture(scope="module")
def whole(film: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What an undisturbed run makes of it."""
    out = tmp_path_factory.mktemp("whole")
    coloured(film, out)
    return (out / "film.mp4").read_bytes()


@pytest.mark.parametrize("at", [5, 55, 85])
def test_a_run_that_ended_early_goes_on_to_the_same_file(film: Path, whole: bytes, at: int, tmp_path: Path) -> None:
    with pytest.raises(RunAborted, match="the plug was pulled"):
        coloured(film, tmp_path, trip={"at": at, "how": "abort"})
    done = len(left(tmp_path))
    assert at // 20 - 2 <= done <= at // 20
    assert not (tmp_path / "film.mp4").exists()

    outcome = coloured(film, tmp_path)

    assert events(tmp_path).count("segment") == 5 - done
    assert (outcome.done, outcome.exit_code) == (1, 0)
    assert (tmp_path / "film.mp4").read_bytes() == whole
    assert left(tmp_path) == []
    assert coloured(film, tmp_path).already == 1


def test_a_damaged_film_goes_on_to_the_same_file(tmp_path: Path) -> None:
    kind = Kind(times=range(0, 60 * 512, 512), options={"g": "8"})
    damaged = slice(24, 25)  # what was before it shines through to frame 31
    film = spoil(make_film(tmp_path / "film.mp4", kind), damaged, kept=0.5)
    coloured(film, tmp_path / "undisturbed", segment=10)

    with pytest.raises(RunAborted):
        coloured(film, tmp_path / "out", segment=10, trip={"at": 35, "how": "abort"})
    assert not any(name.endswith("-000003") for name in left(tmp_path / "out"))
    coloured(film, tmp_path / "out", segment=10)

    assert (tmp_path / "out" / "film.mp4").read_bytes() == (tmp_path / "undisturbed" / "film.mp4").read_bytes()


def test_a_run_that_was_killed_goes_on_to_the_same_file(film: Path, whole: bytes, tmp_path: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "graph.json"
    file.write_text(json.dumps(graph(film, out, trip={"at": 70, "how": "kill"})))
    killed = subprocess.run([sys.executable, "-m", "bwpipe", "run", str(file)], check=False, capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert any(name.startswith("fragments/") for name in left(out))

    coloured(film, out)

    assert 0 < events(out).count("segment") < 5
    assert (out / "film.mp4").read_bytes() == whole
    assert left(out) == []


def test_a_signal_ends_a_join_which_the_next_run_does_again(film: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "graph.json"
    file.write_text(json.dumps(graph(film, out, use="wired", signalled=True)))
    ended = subprocess.run([sys.executable, "-m", "bwpipe", "run", str(file)], check=False, capture_output=True, timeout=60)

    assert ended.returncode == 128 + signal.SIGTERM
    assert [name.partition("/")[0] for name in left(out)] == ["fragments"] * 5
    assert not (out / "film.mp4").exists()

    assert coloured(film, out, use="wired").done == 1
    assert events(out).count("segment") == 0
    coloured(film, tmp_path / "undisturbed", use="wired")
    assert (out / "film.mp4").read_bytes() == (tmp_path / "undisturbed" / "film.mp4").read_bytes()


def test_a_segment_that_fails_does_not_lose_the_others(film: Path, whole: bytes, tmp_path: Path, capfd: Any) -> None:
    outcome = coloured(film, tmp_path, trip={"at": 45, "how": "fail"})

    assert (outcome.done, outcome.exit_code, outcome.failed) == (0, 1, {film: "it is torn"})
    assert f"error: {film}: frames 40 to 59: it is torn" in capfd.readouterr().err
    assert not (tmp_path / "film.mp4").exists()
    assert len(left(tmp_path)) == 4

    assert coloured(film, tmp_path).done == 1
    assert events(tmp_path).count("segment") == 1
    assert (tmp_path / "film.mp4").read_bytes() == whole


def test_a_segment_of_which_nothing_can_be_seen_is_left_out_and_said(tmp_path: Path) -> None:
    path = spoil(
        make_film(tmp_path / "film.mkv", replace(MKV, codec="mjpeg", pix_fmt="yuvj420p", times=range(0, 2400, 40))),
        slice(20, 40),
    )

    outcome = coloured(path, tmp_path / "out")

    assert outcome.exit_code == 0
    assert outcome.remarks["20 of frames 20 to 39 did not decode and are left out"] == 1
    assert list(opened(tmp_path / "out" / "film.mkv").times) == [*range(0, 800, 40), *range(1600, 2400, 40)]


def test_a_changed_recipe_redoes_what_it_touches(film: Path, tmp_path: Path) -> None:
    with pytest.raises(RunAborted):
        coloured(film, tmp_path, trip={"at": 85, "how": "abort"})

    coloured(film, tmp_path, crf=30)
    assert events(tmp_path).count("segment") == 5
    first = (tmp_path / "film.mp4").read_bytes()

    assert coloured(film, tmp_path, crf=30, segment=1000).done == 1
    assert events(tmp_path).count("segment") == 1
    assert (tmp_path / "film.mp4").read_bytes() != first
    assert coloured(film, tmp_path, crf=30, segment="off").already == 1
    assert left(tmp_path) == []


def test_restart_does_all_again(film: Path, whole: bytes, tmp_path: Path) -> None:
    with pytest.raises(RunAborted):
        coloured(film, tmp_path, trip={"at": 85, "how": "abort"})

    assert coloured(film, tmp_path, restart=True).done == 1
    assert events(tmp_path).count("segment") == 5
    assert coloured(film, tmp_path, restart=True).done == 1
    assert events(tmp_path).count("segment") == 5
    assert (tmp_path / "film.mp4").read_bytes() == whole


def test_a_fragment_that_was_changed_is_made_again(film: Path, whole: bytes, tmp_path: Path) -> None:
    with pytest.raises(RunAborted):
        coloured(film, tmp_path, trip={"at": 85, "how": "abort"})
    fragment = tmp_path / ".bwpipe" / left(tmp_path)[0]
    fragment.write_bytes(fragment.read_bytes()[:-7])

    coloured(film, tmp_path)

    assert (tmp_path / "film.mp4").read_bytes() == whole


def test_fragments_of_unknown_origin_are_cleared_away(film: Path, tmp_path: Path) -> None:
    coloured(film, tmp_path)
    (tmp_path / ".bwpipe" / "fragments" / "0123-000000").write_bytes(b"left behind")

    coloured(film, tmp_path)

    assert left(tmp_path) == []


def test_a_folder_of_fragments_that_is_a_link_is_refused(film: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / ".bwpipe").mkdir(parents=True)
    (tmp_path / "out" / ".bwpipe" / "fragments").symlink_to(tmp_path)

    with pytest.raises(UsageError, match="is, or lies behind, a link"):
        coloured(film, tmp_path / "out")


def test_a_check_counts_films_and_not_segments(film: Path, tmp_path: Path) -> None:
    assert "would read: 1 film" in list(describe_graph(read_graph(graph(film, tmp_path / "out"))))


def test_a_trial_is_cut_too(film: Path, tmp_path: Path) -> None:
    coloured(film, tmp_path, read={"frames": 30})

    assert events(tmp_path).count("segment") == 2
    assert moments(opened(tmp_path / "film.mp4")) == moments(opened(film))[:30]
