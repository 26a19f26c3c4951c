"""The folder of corrections: it redoes what it touches, before a film was joined and after it, and nothing else."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bwpipe import UsageError, run
from bwpipe.engine.run import RunResult
from tests.runs.test_anchor import SHOT, chroma
from tests.runs.test_film_hints import RED, dot, folder, graph  # noqa: F401 (a fixture)

SEGMENTS = 5
"""Of the film, of 20 frames each but the last one: its second shot has frames of the segments 1 and 2, its third of 3 and 4."""


def corrected(folder: Path, out: Path, corrections: Path, **changes: Any) -> RunResult:  # noqa: F811
    stages = graph(folder, out, None, corrections=str(corrections))
    return run(stages, set=changes)


def redone(out: Path) -> list[int]:
    """The segments that the last run has written."""
    lines = [json.loads(line) for line in (out / ".bwpipe" / "report.jsonl").read_text().splitlines()]
    ends = [i for i, line in enumerate(lines) if line["event"] in ("ended", "stopped")]
    last = lines[(ends[-2] + 1 if len(ends) > 1 else 0) :]
    return sorted(line["part"] for line in last if line["event"] == "segment")


def override(corrections: Path, *entries: dict[str, Any]) -> None:
    corrections.mkdir(exist_ok=True)
    (corrections / "overrides.yaml").write_text(json.dumps(entries))


def test_a_hint_redoes_the_segments_of_its_shot_of_a_joined_film(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    out, corrections = tmp_path / "out", tmp_path / "corrections"
    corrected(folder, out, corrections)
    assert redone(out) == [0, 1, 2, 3, 4]
    size = sum(path.stat().st_size for path in (out / ".bwpipe" / "fragments").iterdir())
    dot(corrections / "hints" / "film.mkv" / "000035.png", (40, 40), RED)
    again = corrected(folder, out, corrections)

    assert again.done == 1
    assert redone(out) == [1, 2]
    assert size < (out / "film.mkv").stat().st_size / 2
    corrected(folder, tmp_path / "new", corrections)
    assert (tmp_path / "new" / "film.mkv").read_bytes() == (out / "film.mkv").read_bytes()
    assert corrected(folder, out, corrections).already == 1


def test_an_override_of_a_shot_holds_for_that_shot_and_redoes_its_segments(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    out, corrections = tmp_path / "out", tmp_path / "corrections"
    corrected(folder, out, corrections)
    before = chroma(out / "film.mkv")
    override(corrections, {"files": "*.mkv", "shots": [3], "saturation": 0})
    corrected(folder, out, corrections)
    after = chroma(out / "film.mkv")

    assert redone(out) == [3, 4]
    np.testing.assert_array_equal(after[: 2 * SHOT], before[: 2 * SHOT])
    assert np.abs(after[2 * SHOT :]).max() <= 1
    override(corrections, {"files": "*.mkv", "frames": ["0-10"], "saturation": 0})
    corrected(folder, out, corrections)
    assert redone(out) == [0, 3, 4]
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
        ("files: x", "overrides.yaml:1:1: this is a list"),
        ("- files: '*'\n  vivid: 1", "overrides.yaml:2:3: unknown key 'vivid'; did you mean 'vividness'"),
        ("- files: '*'", "overrides.yaml:1:3: it sets nothing"),
        ("- saturation: 1", "overrides.yaml:1:3: `files` is missing"),
        ("- files: '*'\n  vividness: 7", "overrides.yaml:1:3: vividness: expected a number from 0 to 1, not 7"),
        ("- files: '*'\n  saturation: 0\n  shots: [4]", "overrides.yaml:1:3: film.mkv has 3 shots, so it has no shot 4"),
        ("- files: '*'\n  saturation: 0\n  frames: [80-90]", "film.mkv ends with frame 89, so it has no frame 90"),
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


def test_a_misspelt_name_in_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "corrections").mkdir()
    (tmp_path / "corrections" / "override.yaml").touch()

    with pytest.raises(UsageError, match=r"override.yaml is not looked at; rename it to overrides.yaml, or move it away"):
        corrected(folder, tmp_path / "out", tmp_path / "corrections")
