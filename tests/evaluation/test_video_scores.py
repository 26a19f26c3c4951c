"""The command `bwpipe score`, on films."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from typer.testing import CliRunner

from bwpipe.cli.main import app
from bwpipe.core import plugins
from bwpipe.metrics.temporal import Steadiness, flow_pair
from tests.support.made_films import KINDS, make_film
from tests.support.made_scenes import HEIGHT, WIDTH, Planes, scene

plugins.load()

Tint = Callable[[int], float]


def make(path: Path, lumas: Planes, tint: Tint | None) -> Path:
    """Write a lossless film whose chroma follows luma, with a tint per frame; without a tint in grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "gray" if tint is None else "yuv444p"
        for number, plane in enumerate(lumas):
            luma = plane.clip(16, 235)
            planes = [luma] if tint is None else [luma, 128 + 0.2 * (luma - 128) + tint(number), 128 - 0.2 * (luma - 128)]
            samples = np.rint(np.stack(planes)).astype(np.uint8)
            frame = VideoFrame.from_ndarray(samples[0] if tint is None else samples, format=stream.pix_fmt)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def even(_: int) -> float:
    return 0


def restless(number: int) -> float:
    return float(np.random.default_rng(number).normal(0, 8))


def score(*arguments: str | Path, code: int = 0) -> tuple[dict[str, Any], list[str]]:
    """The JSON output of the command, and its lines on standard error."""
    result = CliRunner().invoke(app, ["score", *map(str, arguments), "--json", "-", "--device", "cpu"])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if code < 2 else {}, result.stderr.splitlines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film in colour, a prediction of it, and the film in grey."""
    folder = tmp_path_factory.mktemp("films")
    lumas = scene(12, 1, speed=(0, 2), grain=1)
    for name, tint in (("truth", even), ("guess", restless), ("grey", None)):
        make(folder / name / "a.mkv", lumas, tint)
    return folder


def test_a_film_is_as_steady_as_itself(folder: Path) -> None:
    found, said = score("--guess", folder / "truth", "--truth", folder / "truth")

    film = found["films"]["a.mkv"]
    assert said == []
    assert (found["all"], found["pictures"], film["frames"]) == (None, {}, 12)
    assert set(film["guess"]) == {"flicker", "chroma_change", "cdc"} <= set(found["meaning"])
    assert film["guess"] == film["truth"]
    assert set(film["ratio"].values()) == {1}
    assert film["truth"]["flicker"] == pytest.approx(0.2 * 2**0.5, rel=0.1)  # as chroma was derived from luma


@pytest.mark.parametrize("kind", ["10 bits, full range", "RGB", "RGB, 10 bits", "packed", "turned", "odd size"])
def test_films_of_every_kind_are_read_in_their_colours(kind: str, tmp_path: Path) -> None:
    film = make_film(tmp_path / f"film{KINDS[kind].suffix}", replace(KINDS[kind], times=KINDS[kind].times[:6]))

    found, _ = score("--guess", film, "--truth", film)

    figures = found["films"][film.name]
    assert (figures["frames"], figures["guess"]) == (6, figures["truth"])
    assert figures["guess"]["chroma_change"] > 0


def test_a_tint_that_changes_from_frame_to_frame_is_measured(folder: Path) -> None:
    found, _ = score("--guess", folder / "guess", "--truth", folder / "truth")

    film = found["films"]["a.mkv"]
    step = np.mean([abs(restless(number) - restless(number - 1)) for number in range(1, 12)])
    assert film["guess"]["chroma_change"] == pytest.approx(step * 255 / 224, rel=0.1)  # limited range
    assert film["ratio"]["flicker"] == pytest.approx(film["ratio"]["chroma_change"])
    assert min(film["ratio"].values()) > 3


def test_a_source_in_black_and_white_has_no_figures_of_its_own(folder: Path) -> None:
    found, _ = score("--guess", folder / "guess", "--truth", folder / "grey")
    network, _ = score("autoencoder", "--on", folder / "grey")

    beside, _ = score("--guess", folder / "guess", "--truth", folder / "truth")
    for name in ("chroma_change", "cdc"):  # the grey film is in full range, which scales luma's changes
        assert found["films"]["a.mkv"]["guess"][name] == pytest.approx(beside["films"]["a.mkv"]["guess"][name], rel=0.01)
    assert (found["films"]["a.mkv"]["truth"], found["films"]["a.mkv"]["ratio"]) == (None, {})
    assert network["protocol"]["network"] == "autoencoder"
    assert network["films"]["a.mkv"]["guess"]["flicker"] > 0


def test_nothing_is_compared_across_a_cut(tmp_path: Path) -> None:
    lumas = [plane * 0.5 + 60 for plane in scene(12, 1, speed=(0, 2), grain=0) + scene(12, 5, speed=(0, 1), grain=0)]
    make(tmp_path / "film.mkv", lumas, lambda number: 40 if number < 12 else -40)

    found, _ = score("--guess", tmp_path / "film.mkv", "--truth", tmp_path / "film.mkv")

    assert found["films"]["film.mkv"]["guess"]["chroma_change"] < 1


def test_the_table_and_the_page_have_the_films(folder: Path, tmp_path: Path) -> None:
    arguments = ["--guess", folder / "guess", "--truth", folder / "truth", "--html", tmp_path / "made.html"]

    printed = CliRunner().invoke(app, ["score", *map(str, arguments)]).stdout

    page = (tmp_path / "made.html").read_text(encoding="utf-8")
    lines = printed[printed.index("frames  ") :].splitlines()
    for word in ("flicker", "chroma change", "CDC", "a.mkv", "ratio"):
        assert word in page
        assert any(word in line for line in lines)


def test_images_and_films_are_scored_together_and_files_without_a_partner_are_named(folder: Path, tmp_path: Path) -> None:
    for side in ("guess", "truth"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "a.mkv").symlink_to(folder / side / "a.mkv")
        plane = np.random.default_rng(1).integers(0, 255, (20, 20, 3), np.uint8)
        cv2.imwrite(str(tmp_path / side / "b.png"), plane)
    make(tmp_path / "truth" / "c.mkv", scene(2, 1), even)
    make(tmp_path / "guess" / "d.mkv", scene(2, 1), even)
    (tmp_path / "truth" / "a.mkv").unlink()
    make(tmp_path / "truth" / "a.mkv", scene(9, 1, speed=(0, 2), grain=1), even)
    (tmp_path / "guess" / "a.mkv").unlink()
    make(tmp_path / "guess" / "a.mkv", scene(7, 1, speed=(0, 2), grain=1), restless)

    found, said = score("--guess", tmp_path / "guess", "--truth", tmp_path / "truth", "--size", "16")

    assert list(found["pictures"]) == ["b.png"]
    assert found["films"]["a.mkv"]["frames"] == 7
    assert (found["protocol"]["films"], found["protocol"]["frames"], found["protocol"]["without_partner"]) == (1, 7, 2)
    assert said == [
        f"warning: c.mkv: not scored, since there is no prediction in {tmp_path}/guess of the same name",
        f"warning: d.mkv: not scored, since there is no reference in {tmp_path}/truth of the same name",
        "warning: films are compared at a short side of 256 pixels; --size and --crop are for pictures",
        "warning: a.mkv: its prediction has 7 frames, not 9; only the first 7 are compared",
    ]


def test_a_black_and_white_prediction_fails_by_name(folder: Path) -> None:
    _, said = score("--guess", folder / "grey", "--truth", folder / "truth", code=2)

    assert said == [
        f"error: {folder}/truth/a.mkv: its prediction {folder}/grey/a.mkv has no chroma; use a film in colour",
        f"error: {folder}/truth: nothing can be scored: 1 failed, 0 in black and white",
    ]


def distribution(plane: NDArray[np.float32]) -> NDArray[np.intp]:
    return np.histogram(np.rint(plane + 128), bins=256, range=(0, 256))[0]


def divergences(frames: Sequence[NDArray[np.float32]], lag: int) -> list[float]:
    from scipy.spatial.distance import jensenshannon  # type: ignore[import-untyped]

    pairs = [(frames[i][..., plane], frames[i + lag][..., plane]) for i in range(len(frames) - lag) for plane in range(2)]
    return [jensenshannon(*map(distribution, pair)) ** 2 for pair in pairs]


def test_cdc_is_the_mean_of_the_divergences_of_scipy_one_two_and_four_frames_apart() -> None:
    rng = np.random.default_rng(3)
    frames = [rng.normal(rng.normal(0, 5), 20, (30, 40, 2)).astype(np.float32) for _ in range(7)]
    accumulator = Steadiness()
    for number, frame in enumerate(frames):
        accumulator.add(frame, None, begins=not number)

    expected = np.mean([np.mean(divergences(frames, lag)) for lag in (1, 2, 4)])

    assert accumulator.figures() == {"cdc": pytest.approx(expected)}


def test_static_luma_has_no_flicker() -> None:
    luma = scene(1, 1)[0].clip(0, 255).astype(np.uint8)
    accumulator = Steadiness()
    still = flow_pair(luma, luma)
    for begins in (True, False):
        accumulator.add(np.ones((HEIGHT, WIDTH, 2), np.float32), None if begins else still, begins=begins)

    assert accumulator.figures() == {"chroma_change": 0, "cdc": 0}


def test_a_wall_that_turns_from_one_colour_to_another_drifts(tmp_path: Path) -> None:
    lumas = [plane * 0.5 + 60 for plane in scene(1, 1, grain=0) * 61]
    make(tmp_path / "guess" / "a.mkv", lumas, lambda number: 20 + number / 2)
    make(tmp_path / "truth" / "a.mkv", lumas, lambda number: 30)

    found, _ = score("--guess", tmp_path / "guess", "--truth", tmp_path / "truth")

    film = found["films"]["a.mkv"]
    assert film["guess"]["drift_12"] == pytest.approx(6 / 35, rel=0.1)
    assert film["guess"]["drift_48"] == pytest.approx(24 / 35, rel=0.1)
    assert film["guess"]["drift_half"] == pytest.approx(15 / 35, rel=0.2)
    assert film["truth"]["drift_48"] < 0.02
    assert {"drift_12", "drift_48", "drift_half"} <= set(found["meaning"])
