"""Full runs of films in segments: splitting, joining, resuming, redoing."""

import json
import shutil
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
from bwpipe.core.segments import default_size, split_into_segments
from bwpipe.engine.run import RunResult, run
from bwpipe.errors import RunAborted, UsageError
from bwpipe.graph.graph import read_graph
from bwpipe.tools.describe import describe_graph
from bwpipe.video.file import open_container
from bwpipe.video.segment_outline import is_outline
from tests.support.made_films import AVI, MKV, UNEVEN, Kind, make_film, moments, opened, read, sound_of, spoil

NONE: Mapping[str, Any] = MappingProxyType({})
KINDS = {
    "uneven times and B-frames": Kind(
        times=[time for lap in range(3) for time in np.add(UNEVEN, lap * 40000).tolist()], sound="aac"
    ),
    "Matroska": replace(MKV, codec="libx264", sound="aac", times=range(0, 3600, 40)),
    "AVI without times": replace(AVI, times=range(90), sound="pcm_s16le"),
}


PLUGIN = '''
"""Stages that disturb a run, for this test."""

import os
import signal

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import sleep

import numpy as np

from bwpipe import Frame, Map, MediaError, NoEffect, Unit, UnitMap, stage
from bwpipe.core.stage import stages
from bwpipe.core.atomic_file import AtomicFile
from bwpipe.errors import RunAborted, RunStopped


@stage("trip")
class Trip(Map):
    """Ends the run, or fails the unit, at a frame."""

    at: NoEffect[int] = -1
    how: NoEffect[str] = ""

    def apply(self, frame: Frame) -> Frame:
        if frame.index == self.at:
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise {"abort": RunAborted, "fail": MediaError}[self.how](
                {"abort": "the power failed", "fail": "it is torn"}[self.how]
            )
        return frame


@stage("interrupted_write")
class InterruptedWrite(stages["write"]):
    """Raises a signal when a film is about to be joined, and continues once the engine has handled it."""

    signalled: NoEffect[bool] = False

    def assemble(self, unit: Unit, fragments: Sequence[Path]) -> AtomicFile:
        if self.signalled:
            os.kill(os.getpid(), signal.SIGTERM)
            with suppress(RunStopped):
                while True:
                    self._run.raise_if_stopped()
                    sleep(0.01)
        return super().assemble(unit, fragments)


@stage("lightest")
class Lightest(UnitMap):
    """The maximum luma of each pixel over a frame and the two frames before and after it."""

    @property
    def context(self) -> int:
        return 2

    def apply(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        some = list(frames)
        for i, frame in enumerate(some):
            yield replace(frame, luma=np.max([other.luma for other in some[max(i - 2, 0) : i + 3]], axis=0))
'''


class SegmentedMedia(Media):
    kind = "film"
    has_segments = True


@pytest.fixture(scope="module", autouse=True)
def plugin(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Writes the plug-in folder, below the base folder of this module's tests."""
    (tmp_path_factory.getbasetemp() / "trip").mkdir(exist_ok=True)
    (tmp_path_factory.getbasetemp() / "trip" / "trip.py").write_text(PLUGIN)


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


def remaining(out: Path) -> list[str]:
    """The files in the work folder other than ledger, lock, report and record of the run, and what finished films keep."""
    files = [path for path in (out / ".bwpipe").rglob("*") if path.is_file() and not is_outline(path)]
    names = [str(path.relative_to(out / ".bwpipe")) for path in files]
    return sorted(name for name in names if not name.startswith(("ledger.sqlite", "lock", "report.jsonl", "last-run.json")))


def events(out: Path) -> list[str]:
    return [json.loads(line)["event"] for line in (out / ".bwpipe" / "report.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module", params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind = KINDS[request.param]
    return make_film(tmp_path_factory.mktemp("film") / f"film{kind.suffix}", kind)


@pytest.mark.parametrize("codec", ["h264", "ffv1"])
def test_a_film_in_segments_keeps_every_frame_timestamp_and_sound(source: Path, codec: str, tmp_path: Path) -> None:
    lossless: dict[str, Any] = {"codec": "ffv1", "preset": None, "options": {}}
    if source.suffix == ".mp4":  # in Matroska all of it would be later, since it has no times below zero
        lossless["container"] = "same"
    result = coloured(source, tmp_path, **(lossless if codec == "ffv1" else {}))

    (path,) = (file for file in tmp_path.iterdir() if file.is_file())
    film, output = opened(source), opened(path)
    assert (result.done, result.exit_code) == (1, 0)
    assert output.faults == ()
    rounding = 0 if output.container == film.container else 1 / 2000
    assert max(abs(a - b) for a, b in zip(moments(film), moments(output), strict=True)) <= rounding
    assert output.last is None or film.last is None or rounding or output.last == film.last
    assert [packet[2] for packet in sound_of(output)] == [packet[2] for packet in sound_of(film)]
    frames = read(output)
    assert len(frames) == len(film.times)
    for before, after in zip(read(film), frames, strict=True):
        if codec == "ffv1":
            assert_array_equal(before.luma, after.luma)
        else:
            assert np.abs(before.luma.astype(int) - after.luma).mean() < 3
    assert remaining(tmp_path) == []


def test_decode_timestamps_increase_with_an_encoder_that_reorders_frames(source: Path, tmp_path: Path) -> None:
    coloured(source, tmp_path)

    with open_container(next(file for file in tmp_path.iterdir() if file.is_file())) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    times = [
        (packet.dts, packet.pts) for packet in packets if packet.dts is not None
    ]  # Matroska has no decode timestamps at its end
    decoded, shown = [dts for dts, _ in times], [pts or 0 for _, pts in times]
    assert decoded == sorted(set(decoded))
    assert all(dts <= pts for dts, pts in zip(decoded, shown, strict=True))
    assert shown != sorted(shown)


def test_stages_with_context_see_frames_across_segments(film: Path, tmp_path: Path) -> None:
    outputs = []
    for segment in (20, "off"):
        described = graph(film, tmp_path / str(segment), segment=segment, codec="ffv1", preset=None, options={})
        described["stages"][1:2] = [{"use": "lightest"}, {"use": "lightest", "id": "again"}]
        result = run(described)
        assert result.exit_code == 0
        outputs.append(read(opened(tmp_path / str(segment) / "film.mkv")))
        borders = 4 if segment == 20 else 0
        passed_on = [result.meters[name].items for name in ("read", "lightest", "again")]
        assert passed_on == [87 + borders * 2 * 4, 87 + borders * 2 * 2, 87]  # no more than the stages below need

    assert len(outputs[0]) == 87
    for one, other in zip(*outputs, strict=True):
        assert_array_equal(one.luma, other.luma)
    assert any((one.luma != frame.luma).any() for one, frame in zip(outputs[0], read(opened(film)), strict=True))


def test_a_film_is_split_into_segments() -> None:
    film = SegmentedMedia(path=Path("a"), name=PurePosixPath("a"), width=1, height=1, frames=45)

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
def test_segments_share_a_decoder_up_to_a_thousand_frames(size: int, since: list[int]) -> None:
    film = SegmentedMedia(path=Path("a"), name=PurePosixPath("a"), width=1, height=1, frames=2050)

    assert [unit.since for unit in split_into_segments(Unit(film), size)] == since


@pytest.mark.parametrize(
    ("size", "expected"),
    [((720, 576), 1000), ((1280, 720), 1000), ((1920, 1080), 500), ((2560, 1440), 250), ((3840, 2160), 125)],
)
def test_segments_of_large_frames_are_shorter_by_default(size: tuple[int, int], expected: int) -> None:
    assert default_size(SegmentedMedia(path=Path("a"), name=PurePosixPath("a"), width=size[0], height=size[1])) == expected


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of 26 frames whose segments are of 20 frames by the default of an earlier version, and of 10 by today's."""
    return make_film(tmp_path_factory.mktemp("large") / "large.mkv", replace(MKV, times=range(0, 26 * 40, 40)))


@pytest.fixture
def _short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bwpipe.engine.planner.EARLIER_DEFAULT", 20)
    monkeypatch.setattr("bwpipe.core.segments._BY_SIZE", ((10**9, 10),))


@pytest.mark.usefixtures("_short_segments")
def test_a_film_begun_or_finished_in_segments_of_an_earlier_default_stays_so(large: Path, tmp_path: Path) -> None:
    coloured(large, tmp_path, segment=20, trip={"at": 22, "how": "fail"})
    assert len(remaining(tmp_path)) == 1

    assert coloured(large, tmp_path, segment="auto").done == 1
    assert events(tmp_path).count("segment") == 1
    assert coloured(large, tmp_path, segment="auto").already == 1
    assert coloured(large, tmp_path, segment=10).done == 1


@pytest.mark.usefixtures("_short_segments")
def test_a_new_film_is_split_by_the_new_default(large: Path, tmp_path: Path) -> None:
    coloured(large, tmp_path, segment="auto")

    assert events(tmp_path).count("segment") == 3


def test_an_interrupted_film_says_where_it_goes_on(film: Path, tmp_path: Path, capfd: Any) -> None:
    with pytest.raises(RunAborted):
        coloured(film, tmp_path, trip={"at": 65, "how": "abort"})
    done = len(remaining(tmp_path))
    line = f"film.mp4: it goes on at frame {20 * done} of {len(opened(film).times)}"
    assert f"{line} when the run is started again\n" in capfd.readouterr().err

    run(graph(film, tmp_path), quiet=False)

    assert f"{line}\n" in capfd.readouterr().err


def test_a_film_begun_with_another_openvino_starts_over_and_says_so(
    film: Path, tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_colour(out: Path, **trip: Any) -> dict[str, Any]:
        described = graph(film, out, trip=trip)
        described["stages"][1:1] = [{"use": "colorize", "model": "autoencoder", "device": "cpu"}]
        return described

    with pytest.raises(RunAborted):
        run(with_colour(tmp_path / "out", at=65, how="abort"))
    assert len(remaining(tmp_path / "out")) > 0
    capfd.readouterr()
    monkeypatch.setattr("bwpipe.stages.colorize.openvino_version", lambda: "1999.1")

    run(with_colour(tmp_path / "out"), quiet=False)

    said = capfd.readouterr().err
    assert 'film.mp4: it starts over, since this changed: colorize.runtime was "openvino' in said
    assert 'and is "openvino 1999.1"\n' in said
    monkeypatch.undo()
    again = run(with_colour(tmp_path / "out"), quiet=False)
    assert (again.done, again.already) == (0, 1)
    assert "1 finished file" in capfd.readouterr().err


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", KINDS["uneven times and B-frames"])


@pytest.fixture(scope="module")
def whole(film: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The output of an undisturbed run."""
    out = tmp_path_factory.mktemp("whole")
    coloured(film, out)
    return (out / "film.mp4").read_bytes()


@pytest.mark.parametrize("at", [5, 55, 85])
def test_an_aborted_run_resumes_to_the_same_file(film: Path, whole: bytes, at: int, tmp_path: Path) -> None:
    with pytest.raises(RunAborted, match="the power failed"):
        coloured(film, tmp_path, trip={"at": at, "how": "abort"})
    done = len(remaining(tmp_path))
    assert at // 20 - 2 <= done <= at // 20
    assert not (tmp_path / "film.mp4").exists()

    result = coloured(film, tmp_path)

    assert events(tmp_path).count("segment") == 5 - done
    assert (result.done, result.exit_code) == (1, 0)
    assert (tmp_path / "film.mp4").read_bytes() == whole
    assert remaining(tmp_path) == []
    assert coloured(film, tmp_path).already == 1


def test_a_damaged_film_resumes_to_the_same_file(tmp_path: Path) -> None:
    kind = Kind(times=range(0, 60 * 512, 512), options={"g": "8"})
    damaged = slice(24, 25)  # earlier content shows through until frame 31
    film = spoil(make_film(tmp_path / "film.mp4", kind), damaged, kept=0.5)
    coloured(film, tmp_path / "undisturbed", segment=10)

    with pytest.raises(RunAborted):
        coloured(film, tmp_path / "out", segment=10, trip={"at": 35, "how": "abort"})
    assert not any(name.endswith("-000003") for name in remaining(tmp_path / "out"))
    coloured(film, tmp_path / "out", segment=10)

    assert (tmp_path / "out" / "film.mp4").read_bytes() == (tmp_path / "undisturbed" / "film.mp4").read_bytes()


def test_a_killed_run_resumes_to_the_same_file(film: Path, whole: bytes, tmp_path: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "graph.json"
    file.write_text(json.dumps(graph(film, out, trip={"at": 70, "how": "kill"})))
    killed = subprocess.run([sys.executable, "-m", "bwpipe", "run", str(file)], check=False, capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert any(name.startswith("fragments/") for name in remaining(out))

    coloured(film, out)

    assert 0 < events(out).count("segment") < 5
    assert (out / "film.mp4").read_bytes() == whole
    assert remaining(out) == []


def test_a_signal_interrupts_a_join_which_the_next_run_redoes(film: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "graph.json"
    file.write_text(json.dumps(graph(film, out, use="interrupted_write", signalled=True)))
    ended = subprocess.run([sys.executable, "-m", "bwpipe", "run", str(file)], check=False, capture_output=True, timeout=60)

    assert ended.returncode == 128 + signal.SIGTERM
    assert [name.partition("/")[0] for name in remaining(out)] == ["fragments"] * 5
    assert not (out / "film.mp4").exists()

    assert coloured(film, out, use="interrupted_write").done == 1
    assert events(out).count("segment") == 0
    coloured(film, tmp_path / "undisturbed", use="interrupted_write")
    assert (out / "film.mp4").read_bytes() == (tmp_path / "undisturbed" / "film.mp4").read_bytes()


def test_a_segment_that_fails_does_not_lose_the_others(film: Path, whole: bytes, tmp_path: Path, capfd: Any) -> None:
    result = coloured(film, tmp_path, trip={"at": 45, "how": "fail"})

    assert (result.done, result.exit_code, result.failed) == (0, 1, {film: "it is torn"})
    assert f"error: {film}: frames 40 to 59: it is torn" in capfd.readouterr().err
    assert not (tmp_path / "film.mp4").exists()
    assert len(remaining(tmp_path)) == 4

    assert coloured(film, tmp_path).done == 1
    assert events(tmp_path).count("segment") == 1
    assert (tmp_path / "film.mp4").read_bytes() == whole


def test_an_undecodable_segment_is_left_out_with_a_warning(tmp_path: Path) -> None:
    path = spoil(
        make_film(tmp_path / "film.mkv", replace(MKV, codec="mjpeg", pix_fmt="yuvj420p", times=range(0, 2400, 40))),
        slice(20, 40),
    )

    result = coloured(path, tmp_path / "out")

    assert result.exit_code == 0
    assert result.remarks["20 of frames 20 to 39 failed to decode and are skipped"] == 1
    assert list(opened(tmp_path / "out" / "film.mkv").times) == [*range(0, 800, 40), *range(1600, 2400, 40)]


def test_a_changed_recipe_redoes_affected_segments(film: Path, tmp_path: Path) -> None:
    with pytest.raises(RunAborted):
        coloured(film, tmp_path, trip={"at": 85, "how": "abort"})

    coloured(film, tmp_path, crf=30)
    assert events(tmp_path).count("segment") == 5
    first = (tmp_path / "film.mp4").read_bytes()

    assert coloured(film, tmp_path, crf=30, segment=1000).done == 1
    assert events(tmp_path).count("segment") == 1
    assert (tmp_path / "film.mp4").read_bytes() != first
    assert coloured(film, tmp_path, crf=30, segment="off").already == 1
    assert remaining(tmp_path) == []


def test_restart_redoes_everything(film: Path, whole: bytes, tmp_path: Path) -> None:
    with pytest.raises(RunAborted):
        coloured(film, tmp_path, trip={"at": 85, "how": "abort"})

    assert coloured(film, tmp_path, restart=True).done == 1
    assert events(tmp_path).count("segment") == 5
    assert coloured(film, tmp_path, restart=True).done == 1
    assert events(tmp_path).count("segment") == 5
    assert (tmp_path / "film.mp4").read_bytes() == whole


def test_a_modified_fragment_is_redone(film: Path, whole: bytes, tmp_path: Path) -> None:
    with pytest.raises(RunAborted):
        coloured(film, tmp_path, trip={"at": 85, "how": "abort"})
    fragment = tmp_path / ".bwpipe" / remaining(tmp_path)[0]
    fragment.write_bytes(fragment.read_bytes()[:-7])

    coloured(film, tmp_path)

    assert (tmp_path / "film.mp4").read_bytes() == whole


def test_unknown_fragments_are_removed(film: Path, tmp_path: Path) -> None:
    coloured(film, tmp_path)
    (tmp_path / ".bwpipe" / "fragments" / "0123-000000").write_bytes(b"left behind")

    coloured(film, tmp_path)

    assert remaining(tmp_path) == []


def test_fragments_of_a_film_that_is_gone_are_removed_and_those_of_others_stay(film: Path, tmp_path: Path) -> None:
    inputs, out = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    for name in ("gone.mp4", "stays.mp4"):
        shutil.copy(film, inputs / name)
        with pytest.raises(RunAborted):
            coloured(inputs / name, out, trip={"at": 45, "how": "abort"})
    assert len(remaining(out)) == 4
    shutil.copytree(inputs, tmp_path / "elsewhere")
    (inputs / "gone.mp4").unlink()

    coloured(film, out)  # a run over another folder does not tell what is gone from this one
    assert len(remaining(out)) == 4
    with pytest.raises(RunAborted):  # a film that was moved goes on
        coloured(tmp_path / "elsewhere" / "gone.mp4", out, trip={"at": 65, "how": "abort"})
    assert len(remaining(out)) == 5
    (tmp_path / "elsewhere" / "gone.mp4").unlink()

    assert coloured(tmp_path / "elsewhere", out).done == 1
    assert remaining(out) == []
    assert events(out).count("segment") == 3


def test_a_fragments_folder_that_is_a_link_is_rejected(film: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / ".bwpipe").mkdir(parents=True)
    (tmp_path / "out" / ".bwpipe" / "fragments").symlink_to(tmp_path)

    with pytest.raises(UsageError, match="is a link or is reached through one"):
        coloured(film, tmp_path / "out")


def test_check_counts_films_not_segments(film: Path, tmp_path: Path) -> None:
    assert "would read: 1 film" in list(describe_graph(read_graph(graph(film, tmp_path / "out"))))


def test_a_trial_is_split_into_segments_too(film: Path, tmp_path: Path) -> None:
    coloured(film, tmp_path, read={"frames": 30})

    assert events(tmp_path).count("segment") == 2
    assert moments(opened(tmp_path / "film.mp4")) == moments(opened(film))[:30]
