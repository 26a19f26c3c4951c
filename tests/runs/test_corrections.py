"""The folder of corrections: it redoes what it touches, before a film was joined and after it, and nothing else."""

import json
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from bwpipe import UsageError, read_graph, run
from bwpipe.engine.run import RunResult
from bwpipe.tools.describe import describe_graph, graph_to_json
from tests.runs.test_anchor import SHOT, TRIP, chroma
from tests.runs.test_film_hints import RED, dot, folder, graph  # noqa: F401 (a fixture)
from tests.support.apart import run_apart

IN_FIRST, IN_SECOND, IN_THIRD, LAST = 4, 15, 30, 38
"""Frames of the film's shots, which have frames of the segments 0 and 1, 1 and 2, and 2 to 4; and its last one."""


def corrected(folder: Path, out: Path, corrections: Path, **changes: Any) -> RunResult:  # noqa: F811
    return run(corrected_graph(folder, out, corrections), set=changes)


def corrected_graph(folder: Path, out: Path, corrections: Path) -> dict[str, Any]:  # noqa: F811
    """A graph that can be killed, or fail its film, at a frame."""
    made = graph(folder, out, None, corrections=str(corrections))
    made["plugins"].append(str(folder / "trip"))
    made["stages"].insert(2, {"use": "trip_corrections"})
    return made


@pytest.fixture(scope="module", autouse=True)
def _trip(folder: Path) -> None:  # noqa: F811
    (folder / "trip").mkdir()
    (folder / "trip" / "trip.py").write_text(TRIP.replace("kill_at", "trip_corrections"))


@pytest.fixture(scope="module")
def made(folder: Path) -> Path:  # noqa: F811
    """An output folder with the film, joined, without corrections."""
    corrected(folder, folder / "made", folder / "none")
    assert redone(folder / "made") == [0, 1, 2, 3, 4]
    return folder / "made"


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(made, tmp_path / "out")


@pytest.fixture(scope="module")
def torn(folder: Path) -> Path:  # noqa: F811
    """An output folder with segments of the film, whose last frame failed."""
    last = {"trip_corrections.at": LAST, "trip_corrections.fail": True}  # no key frame
    assert list(corrected(folder, folder / "torn", folder / "none", **last).failed.values()) == ["it is torn"]
    assert redone(folder / "torn") == [0, 1, 2]  # the next one looks at that frame, too
    return folder / "torn"


def redone(out: Path) -> list[int]:
    """The segments that the last run has written."""
    lines = [json.loads(line) for line in (out / ".bwpipe" / "report.jsonl").read_text().splitlines()]
    ends = [i for i, line in enumerate(lines) if line["event"] in ("ended", "stopped")]
    last = lines[(ends[-2] + 1 if len(ends) > 1 else 0) :]
    return sorted(line["part"] for line in last if line["event"] == "segment")


def with_the_recipe_of_the_first_segment(out: Path) -> set[int]:
    """The segments in the ledger that were written with the corrections that the first one was written with."""
    with closing(sqlite3.connect(out / ".bwpipe" / "ledger.sqlite")) as ledger:
        first = "SELECT recipe FROM units WHERE CAST(target AS TEXT) LIKE '%-000000'"
        return {part for (part,) in ledger.execute(f"SELECT part FROM units WHERE recipe = ({first})")}


def still(folder: Path, path: Path, index: int) -> None:  # noqa: F811
    """A frame of the film as a still of one tint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(folder / "film" / "film.mkv")) as film:
        luma = next(frame.to_ndarray(format="gray") for i, frame in enumerate(film.decode(video=0)) if i == index)
    planes = np.dstack([luma, np.full_like(luma, 128 - 20), np.full_like(luma, 128 + 30)])
    Image.fromarray(planes, "YCbCr").convert("RGB").save(path)


def override(corrections: Path, *entries: dict[str, Any]) -> None:
    corrections.mkdir(exist_ok=True)
    (corrections / "overrides.yaml").write_text(json.dumps(entries))


def test_a_hint_redoes_the_segments_of_its_shot_of_a_joined_film(folder: Path, out: Path, tmp_path: Path) -> None:  # noqa: F811
    corrections = tmp_path / "corrections"
    size = sum(path.stat().st_size for path in (out / ".bwpipe" / "fragments").iterdir())
    dot(corrections / "hints" / "film.mkv" / f"{IN_SECOND:06}.png", (40, 40), RED)
    again = corrected(folder, out, corrections)

    assert again.done == 1
    assert redone(out) == [1, 2]
    assert size < (out / "film.mkv").stat().st_size / 2
    corrected(folder, tmp_path / "new", corrections)
    assert (tmp_path / "new" / "film.mkv").read_bytes() == (out / "film.mkv").read_bytes()
    assert corrected(folder, out, corrections).already == 1


def test_a_still_redoes_the_segments_of_its_shot_of_a_joined_film(folder: Path, out: Path, tmp_path: Path) -> None:  # noqa: F811
    corrections = tmp_path / "corrections"
    before = chroma(out / "film.mkv")
    still(folder, corrections / "references" / "film.mkv" / f"{IN_SECOND:06}.png", IN_SECOND)
    corrected(folder, out, corrections)
    after = chroma(out / "film.mkv")

    assert redone(out) == [1, 2]
    assert after[SHOT : 2 * SHOT].mean(axis=(0, 2, 3)) == pytest.approx((-20, 30), abs=3)
    others = np.r_[0:SHOT, 2 * SHOT : 3 * SHOT]
    np.testing.assert_array_equal(after[others], before[others])
    (corrections / "references" / "film.mkv" / f"{IN_SECOND:06}.png").unlink()
    corrected(folder, out, corrections)
    assert redone(out) == [1, 2]
    np.testing.assert_array_equal(chroma(out / "film.mkv"), before)


@pytest.mark.parametrize(
    ("correct", "touched"),
    [
        (lambda film, place: dot(place / "hints" / "film.mkv" / f"{IN_FIRST:06}.png", (40, 40), RED), [0, 1]),
        pytest.param(  # as with a joined film
            lambda film, place: still(film, place / "references" / "film.mkv" / f"{IN_FIRST:06}.png", IN_FIRST),
            [0, 1],
            marks=pytest.mark.slow,
        ),
        (lambda film, place: still(film, place / "references" / "film.mkv" / "any.png", IN_FIRST), [0, 1, 2]),
    ],
    ids=["hint", "still of a shot", "still of the film"],
)
def test_a_correction_of_a_film_that_is_not_joined_yet_redoes_what_it_touches(
    correct: Callable[[Path, Path], object],
    touched: list[int],
    folder: Path,  # noqa: F811
    torn: Path,
    tmp_path: Path,
) -> None:
    out, corrections = shutil.copytree(torn, tmp_path / "out"), tmp_path / "corrections"
    correct(folder, corrections)
    corrected(folder, out, corrections)

    assert redone(out) == [*touched, 3, 4]
    corrected(folder, tmp_path / "new", corrections)
    assert (tmp_path / "new" / "film.mkv").read_bytes() == (out / "film.mkv").read_bytes()


def test_a_run_killed_in_the_midst_of_a_correction_resumes_to_the_same_bytes(
    folder: Path,  # noqa: F811
    out: Path,
    tmp_path: Path,
) -> None:
    corrections = tmp_path / "corrections"
    before = (out / "film.mkv").read_bytes()
    dot(corrections / "hints" / "film.mkv" / f"{IN_FIRST:06}.png", (40, 40), RED)
    still(folder, corrections / "references" / "film.mkv" / f"{IN_THIRD:06}.png", IN_THIRD)
    stages = corrected_graph(folder, out, corrections)
    stages["stages"][2]["at"] = LAST
    killed = run_apart(stages)

    assert killed == -signal.SIGKILL
    assert (out / "film.mkv").read_bytes() == before
    done = with_the_recipe_of_the_first_segment(out)
    assert {0, 1} <= done  # those of the hint, and of the still what the writer had come to
    resumed = corrected(folder, out, corrections)
    assert (resumed.done, resumed.segments) == (1, 5 - len(done))
    assert redone(out) == sorted(set(range(5)) - done)
    corrected(folder, tmp_path / "new", corrections)
    assert (tmp_path / "new" / "film.mkv").read_bytes() == (out / "film.mkv").read_bytes() != before


def test_a_still_for_no_frame_of_the_film_is_refused(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    still(folder, tmp_path / "corrections" / "references" / "film" / "000039.png", 10)

    with pytest.raises(UsageError, match=r"000039.png is for frame 39, and film.mkv ends with frame 38; correct the number"):
        corrected(folder, tmp_path / "out", tmp_path / "corrections")


def test_an_override_of_a_shot_holds_for_that_shot_and_redoes_its_segments(folder: Path, out: Path, tmp_path: Path) -> None:  # noqa: F811
    corrections = tmp_path / "corrections"
    before = chroma(out / "film.mkv")
    override(corrections, {"files": "*.mkv", "shots": [3], "saturation": 0})
    corrected(folder, out, corrections)
    after = chroma(out / "film.mkv")

    assert redone(out) == [2, 3, 4]
    np.testing.assert_array_equal(after[: 2 * SHOT], before[: 2 * SHOT])
    assert np.abs(after[2 * SHOT :]).max() <= 1
    override(corrections, {"files": "*.mkv", "frames": ["0-4"], "saturation": 0})
    corrected(folder, out, corrections)
    assert redone(out) == [0, 2, 3, 4]
    shutil.rmtree(corrections)
    corrected(folder, out, corrections)
    assert redone(out) == [0]
    np.testing.assert_array_equal(chroma(out / "film.mkv"), before)


def test_an_override_of_a_photograph_is_as_the_option_and_is_not_undone(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "in" / "a").mkdir(parents=True)
    luma = (np.random.default_rng(1).random((6, 8)).repeat(16, 0).repeat(16, 1) * 200).astype(np.uint8)
    for name in ("a/x.png", "y.png"):
        Image.fromarray(luma).save(tmp_path / "in" / name)
    out, corrections = tmp_path / "out", tmp_path / "corrections"
    source = {"read.path": str(tmp_path / "in")}
    corrected(folder, out, corrections, **source)
    grey = corrected(folder, out, corrections, **source, **{"colorize.saturation": 0.0})
    assert grey.done == 2
    override(corrections, {"files": "a/*.png", "saturation": 0.0})
    mixed = corrected(folder, out, corrections, **source)

    assert (mixed.done, mixed.already) == (1, 1)
    assert any("colorize.saturation" in text for text in mixed.remarks)
    assert corrected(folder, out, corrections, **source).already == 2
    planes = [np.asarray(Image.open(out / name).convert("YCbCr"), float)[..., 1:] - 128 for name in ("a/x.png", "y.png")]
    assert np.abs(planes[0]).max() <= 1
    assert np.abs(planes[1]).max() > 5


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("files: x", "overrides.yaml:1:1: expected a list"),
        ("- files: '*'\n  vivid: 1", "overrides.yaml:2:3: unknown key 'vivid'; did you mean 'vividness'"),
        ("- files: '*'", "overrides.yaml:1:3: it sets nothing"),
        ("- saturation: 1", "overrides.yaml:1:3: `files` is missing"),
        ("- files: '*'\n  vividness: 7", "overrides.yaml:1:3: vividness: expected a number from 0 to 1, not 7"),
        ("- files: '*'\n  saturation: 0\n  shots: [4]", "overrides.yaml:1:3: film.mkv has 3 shots, so it has no shot 4"),
        ("- files: '*'\n  saturation: 0\n  frames: [30-39]", "film.mkv ends with frame 38, so it has no frame 39"),
        ("- files: '*'\n  saturation: 0\n  frames: [9-3]", "overrides.yaml:3:12: frames: '9-3' is neither"),
        ("- files: '*'\n  saturation: 0\n  times: ['0:40-0:50']", "film.mkv ends before 40 s; correct the times"),
        ("- files: '*'\n  saturation: 0\n  times: [5]", "overrides.yaml:3:11: times: 5 is no range of times"),
        ("- &a [*a]", "overrides.yaml:1:3: '&a' is an anchor"),
    ],
)
def test_overrides_that_are_wrong_are_refused(text: str, error: str, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "overrides.yaml").write_text(text)

    with pytest.raises(UsageError) as refused:
        corrected(folder, tmp_path / "out", tmp_path)
    assert error in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_hints_that_are_no_folder_are_refused(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "corrections").mkdir()
    (tmp_path / "corrections" / "hints").touch()

    with pytest.raises(UsageError, match=r"hints is no folder; put it into one of that name, or move it away"):
        corrected(folder, tmp_path / "out", tmp_path / "corrections")


def test_a_misspelt_name_in_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "corrections").mkdir()
    (tmp_path / "corrections" / "override.yaml").touch()

    with pytest.raises(UsageError, match=r"override.yaml is not looked at; rename it to overrides.yaml, or move it away"):
        corrected(folder, tmp_path / "out", tmp_path / "corrections")


def test_corrections_for_no_input_are_named_with_the_closest_one(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    corrections, out = tmp_path / "corrections", tmp_path / "out"
    (tmp_path / "in").mkdir()
    for name in ("harbour.png", "market.png"):
        Image.new("L", (48, 32), 90).save(tmp_path / "in" / name)
    dot(corrections / "hints" / "harbor.png", (8, 8), RED)
    dot(corrections / "hints" / "film.mkv" / "000007.png", (8, 8), RED)
    dot(corrections / "hints" / "film.mkv" / "000009.png", (8, 8), RED)
    override(corrections, {"files": "market.png", "saturation": 0.5}, {"files": "markt.png", "saturation": 0.5})
    texts = [
        f"the hints {corrections}/hints/film.mkv/000007.png and 2 more are for no input; name them like the picture, or their "
        "folder like the film",
        f"{corrections}/overrides.yaml:1:46: no input fits 'markt.png'; did you mean 'market.png'?",
    ]
    result = corrected(folder, out, corrections, **{"read.path": str(tmp_path / "in")})

    assert result.done == 2
    assert list(result.remarks) == texts
    (corrections / "overrides.yaml").unlink()
    shutil.rmtree(corrections / "hints" / "film.mkv")
    graph_ = read_graph(corrected_graph(folder, out, corrections)).override({"read.path": str(tmp_path / "in")})
    assert list(describe_graph(graph_))[-1] == (
        f"the hints {corrections}/hints/harbor.png are for no input; did you mean 'harbour'?"
    )


@pytest.mark.parametrize(
    ("stills", "films", "said"),
    [
        (
            ["flim.mkv/000003.png", "film/any.png", "film.mkv/000003.png"],
            True,
            ["flim.mkv/000003.png; did you mean 'film.mkv'?"],
        ),
        (
            ["reels/1/a.png", "reels/1/b.png"],
            True,
            ["reels/1/a.png and 1 more; name it like the picture, or its folder like the film"],
        ),
        (["any.png", "other.png"], True, []),
        (["harbour.png", "market.png"], False, ["market.png; name it like the picture, or its folder like the film"]),
        (["harbor.png", "harbour.png"], False, ["harbor.png; did you mean 'harbour'?"]),
        (["any.png"], False, []),
    ],
)
def test_references_for_no_input_are_named_with_the_closest_one(
    stills: list[str],
    films: bool,
    said: list[str],
    folder: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    corrections, inputs = tmp_path / "corrections", tmp_path / "in"
    inputs.mkdir()
    Image.new("L", (48, 32), 90).save(inputs / "harbour.png")
    for name in stills:
        (corrections / "references" / name).parent.mkdir(parents=True, exist_ok=True)
        (corrections / "references" / name).touch()
    paths = [str(inputs), str(folder / "film" / "film.mkv")] if films else [str(inputs)]
    described = read_graph(corrected_graph(folder, tmp_path / "out", corrections)).override({"read.path": paths})

    texts = [f"no input is shown by the reference {corrections}/references/{text}" for text in said]
    assert [line for line in describe_graph(described) if line.startswith("no input")] == texts
    assert graph_to_json(described)["remarks"] == texts


def test_corrections_for_what_an_earlier_run_coloured_are_no_mistake(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    corrections = tmp_path / "corrections"
    (tmp_path / "in").mkdir()
    for name in ("harbour.png", "market.png"):
        Image.new("L", (48, 32), 90).save(tmp_path / "in" / name)
        corrected(folder, tmp_path / "out", corrections, **{"read.path": str(tmp_path / "in" / name)})
        dot(corrections / "hints" / name, (8, 8), RED)
    for name in ("harbour.png", "market.png"):
        still(folder, corrections / "references" / name, 0)

    result = corrected(folder, tmp_path / "out", corrections, **{"read.path": str(tmp_path / "in" / "market.png")})

    assert result.done == 1
    assert not result.remarks
