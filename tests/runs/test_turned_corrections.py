"""Corrections of films that players turn, mirror and crop: they are made on what is shown, and colour that."""

import json
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bwpipe import read_graph, run
from bwpipe.pixels.orientation import upright
from bwpipe.review.live_preview import LivePreview
from tests.runs.test_anchor import SIZE, chroma, make
from tests.runs.test_film_hints import RED, folder, graph, tint  # noqa: F401 (a fixture)
from tests.support.made_films import opened
from tests.support.planted import with_pixel_crop

AT, PATCH, INDEX = (40, 24), np.s_[..., 22:27, 38:43], 5
"""Where something is coloured, (x, y) and around it, in the film as it is stored, and in which frame."""
PAN = 1
"""Pixels by which what the film shows moves to the right with each frame."""
CROPPED = 8
"""Rows that are not shown, at the top and at the bottom."""
AS_STORED = {"grayscale.levels": "off"}
"""Stretched levels would move the mean of a small patch by two code values."""


@pytest.fixture(scope="module", params=["turned and mirrored", "cropped"])
def odd(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A folder with the network and such a film, and `made`, which has its colours without corrections."""
    place = tmp_path_factory.mktemp("turned")
    (place / "film").mkdir()
    (place / "net.safetensors").hardlink_to(folder / "net.safetensors")
    path = place / "film" / "film.mkv"
    make(path, texture=12, turn=(0, False) if request.param == "cropped" else (90, True), shots=1, pan=PAN)
    if request.param == "cropped":
        with_pixel_crop(path, path)
    assert run(graph(place, place / "made", None), set=AS_STORED).exit_code == 0
    return place


def shown(plane: NDArray[np.uint8], place: Path) -> NDArray[np.uint8]:
    """A plane (..., h, w) as stored, as a player shows it."""
    media = opened(place / "film" / "film.mkv")
    assert media.orientation != 1 or media.cropping[:2] == (CROPPED, CROPPED)
    top, bottom = media.cropping[:2]
    return upright(plane[..., top : SIZE[1] - bottom, :], media.orientation)


def layer(place: Path) -> NDArray[np.uint8]:
    """A dot on nothing as a player would show it, (h, w, 4)."""
    x, y = np.arange(SIZE[0]), np.arange(SIZE[1])[:, None]
    dot = (x - AT[0]) ** 2 + (y - AT[1]) ** 2 <= 36
    planes = np.where(dot, np.array([*RED, 255])[:, None, None], 0).astype(np.uint8)
    return np.moveaxis(shown(planes, place), 0, -1)


def point(place: Path) -> dict[str, Any]:
    """The same as a point in pixels."""
    down, across = np.nonzero(layer(place)[..., 3])
    return {"x": float(across.mean()), "y": float(down.mean()), "colour": "#966964", "radius": 6}


@pytest.mark.parametrize("ending", ["png", "yaml"])
def test_a_dot_colours_what_it_is_on_through_the_shot(ending: str, odd: Path, tmp_path: Path) -> None:
    file = tmp_path / "hints" / "film.mkv" / f"{INDEX:06}.{ending}"
    file.parent.mkdir(parents=True)
    if ending == "png":
        Image.fromarray(layer(odd)).resize([3 * side for side in layer(odd).shape[1::-1]]).save(file)  # as on a screen
    else:
        file.write_text(json.dumps({"points": [point(odd)]}))
    assert run(graph(odd, tmp_path / "out", tmp_path / "hints", segment="off"), set=AS_STORED).exit_code == 0

    found, before = (chroma(out / "film.mkv") for out in (tmp_path / "out", odd / "made"))
    for planes in (found, before):
        for number, plane in enumerate(planes):
            plane[:] = np.roll(plane, PAN * (INDEX - number), axis=-1)
    assert np.abs(found[PATCH].mean(axis=(2, 3)) - tint(RED)).mean() < 5.5
    change = cv2.blur(np.abs(found - before).sum(axis=(0, 1)), (5, 5))
    down, across = np.unravel_index(int(change.argmax()), change.shape)
    assert np.hypot(across - AT[0], down - AT[1]) < 8


def test_a_still_colours_what_it_shows(odd: Path, tmp_path: Path) -> None:
    with av.open(str(odd / "film" / "film.mkv")) as film:
        luma = next(frame.to_ndarray(format="gray") for i, frame in enumerate(film.decode(video=0)) if i == INDEX)
    halves = np.where(np.arange(SIZE[0]) < SIZE[0] // 2, 98, 158).astype(np.uint8)[None].repeat(SIZE[1], axis=0)
    planes = shown(np.stack([luma, halves, ~halves]), odd)
    file = tmp_path / "corrections" / "references" / "film.mkv" / f"{INDEX:06}.png"
    file.parent.mkdir(parents=True)
    Image.fromarray(np.ascontiguousarray(np.moveaxis(planes, 0, -1)), "YCbCr").convert("RGB").save(file)
    assert run(graph(odd, tmp_path / "out", None, corrections=str(tmp_path / "corrections"), segment="off")).exit_code == 0

    found = chroma(tmp_path / "out" / "film.mkv")[INDEX - 1 : INDEX + 2, :, CROPPED : SIZE[1] - CROPPED, :]
    left, right = found[..., : SIZE[0] // 2 - 16].mean(axis=(0, 2, 3)), found[..., SIZE[0] // 2 + 16 :].mean(axis=(0, 2, 3))
    np.testing.assert_allclose([left, right], [(-30, 30), (30, -30)], atol=8)


def test_a_click_on_the_page_colours_what_is_there(odd: Path) -> None:
    path, dot = odd / "film" / "film.mkv", point(odd)
    with LivePreview(read_graph(graph(odd, odd / "made", None))) as preview:
        size = preview.size(path, INDEX)
        plain = preview.colour(path, INDEX)
        dotted = preview.colour(path, INDEX, points=[dot])

    assert dotted.shape[1::-1] == size == layer(odd).shape[1::-1]
    change = cv2.blur(np.abs(dotted.astype(float) - plain).sum(axis=-1), (5, 5))
    down, across = np.unravel_index(int(change.argmax()), change.shape)
    assert np.hypot(across - dot["x"], down - dot["y"]) < 8
