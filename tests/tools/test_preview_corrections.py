"""The preview with corrections: hints, stills and overrides of films and photographs, as in a run."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from bwpipe import read_graph, run
from bwpipe.core.context import RunContext
from bwpipe.graph.templates import template
from bwpipe.tools.preview import preview
from tests.runs.test_corrections import override, still
from tests.runs.test_film_hints import dot, folder, graph  # noqa: F401 (a fixture)
from tests.support.made_pictures import make_picture


def corrected(folder: Path, corrections: Path) -> dict[int, NDArray[np.uint8]]:  # noqa: F811
    """The preview of four frames of the film with corrections, by index."""
    made = graph(folder, folder / "none", None, corrections=str(corrections))
    return {int(each.label.split()[-1]): each.coloured for each in preview(read_graph(made), 4, RunContext())}


def test_a_dot_is_shown_on_its_frame_and_on_others_of_its_shot_as_in_the_film(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    plain = corrected(folder, tmp_path / "nothing")
    dot(tmp_path / "hints" / "film.mkv" / "000023.png", (40, 40), (150, 105, 100))
    found = corrected(folder, tmp_path)
    assert run(graph(folder, tmp_path / "out", None, corrections=str(tmp_path), segment="off")).exit_code == 0

    assert list(plain) == [4, 14, 24, 34]
    assert list(found) == [4, 14, 23, 34]
    patch = np.s_[37:43, 37:43]
    with av.open(str(tmp_path / "out" / "film.mkv")) as film:
        made = [frame.to_ndarray(format="rgb24").astype(float) for frame in film.decode(video=0)]
    for index in (14, 23):
        assert np.abs(found[index][patch].mean(axis=(0, 1)) - made[index][patch].mean(axis=(0, 1))).max() < 5
    assert np.abs(found[14].astype(float) - plain[14])[patch].mean() > 8
    assert np.abs(found[34].astype(float) - found[23])[patch].mean() > 8  # the next shot


def test_options_and_a_still_for_a_shot_are_shown_in_it_alone(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    override(tmp_path, {"files": "film.mkv", "shots": [1], "saturation": 0})
    still(folder, tmp_path / "references" / "film.mkv" / "000015.png", 15)
    found = corrected(folder, tmp_path)

    assert list(found) == [4, 15, 24, 34]
    assert np.ptp(found[4].astype(int), axis=2).max() < 4
    tint = cv2.cvtColor(np.ascontiguousarray(found[24]), cv2.COLOR_RGB2YCrCb)[..., 1:].mean(axis=(0, 1)) - 128
    assert tint == pytest.approx((30, -20), abs=4)


def test_a_photograph_is_shown_with_its_dot(tmp_path: Path) -> None:
    picture = make_picture(tmp_path, "png-grey", width=96, height=64).path
    (tmp_path / "corrections" / "hints").mkdir(parents=True)
    hint = tmp_path / "corrections" / "hints" / f"{picture.name}.yaml"
    hint.write_text('points: [{x: 48, y: 32, colour: "#c03030", radius: 6}]')
    changes = {"read.path": str(picture), "colorize.model": "autoencoder", "corrections": str(tmp_path / "corrections")}
    [hinted] = preview(read_graph(template("pipeline.yaml"), changes), 1, RunContext())

    red, green, blue = hinted.coloured[30:34, 46:50].mean(axis=(0, 1))
    assert red > green + 40
    assert red > blue + 40
