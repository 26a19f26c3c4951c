"""Hints for photographs, in whole runs and alone."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from bwpipe import UsageError, run
from bwpipe.core import plugins
from bwpipe.engine.run import RunResult
from bwpipe.memory.hint_spreading import spread
from bwpipe.nn.checkpoint import Checkpoint, save
from bwpipe.nn.network import networks
from tests.support.made_films import Kind, make_film

NETWORKS = Path(__file__).parents[1] / "support" / "networks"
RED, GREY = (150, 105, 100), (120, 120, 120)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Checkpoints of networks that take no hints, and that take them."""
    plugins.load([NETWORKS])
    found = {}
    for name in ("test-wandering", "test-told"):
        torch.manual_seed(3)
        path = tmp_path_factory.mktemp("weights") / f"{name}.safetensors"
        save(path, networks[name](networks[name].Options()), Checkpoint(network=name, version="0"))
        found[name] = str(path)
    return found


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photographs whose left half is dark and whose right half is bright."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    luma = np.where(np.arange(160) < 80, 70, 170)[None, :].repeat(120, axis=0).astype(np.uint8)
    for name in ("a.png", "sub/b.png"):
        Image.fromarray(luma).save(tmp_path / "in" / name)
    return tmp_path


def dot(path: Path, place: tuple[int, int], colour: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    layer = Image.new("RGBA", (160, 120), (0, 0, 0, 0))
    x, y = place
    ImageDraw.Draw(layer).ellipse((x - 4, y - 4, x + 4, y + 4), fill=(*colour, 255))
    layer.save(path)


def coloured(folder: Path, model: str, **options: Any) -> RunResult:
    stages = [
        {"use": "read", "path": str(folder / "in")},
        {"use": "grayscale", "colour": "recolour"},
        {"use": "colorize", "model": model, "device": "cpu", "precision": "float32", "workers": 1, **options},
        {"use": "write", "path": str(folder / "out")},
    ]
    return run({"plugins": [str(NETWORKS)], "stages": stages})


def halves(folder: Path, name: str) -> NDArray[np.float64]:
    """The mean Cb and Cr of the left and the right half of a result."""
    planes = np.asarray(Image.open(folder / "out" / name).convert("YCbCr"), float)[..., 1:] - 128
    return np.stack([planes[:, 10:70].mean(axis=(0, 1)), planes[:, 90:150].mean(axis=(0, 1))])


def chroma_of(colour: tuple[int, int, int]) -> NDArray[np.float64]:
    return np.asarray(Image.new("RGB", (1, 1), colour).convert("YCbCr"), float)[0, 0, 1:] - 128


def test_a_dot_colours_what_is_of_its_luma_and_no_more(photos: Path, weights: dict[str, str]) -> None:
    dot(photos / "hints" / "a.png", (120, 60), RED)
    coloured(photos, weights["test-wandering"], hints=str(photos / "hints"))

    hinted, plain = halves(photos, "a.png"), halves(photos, "sub/b.png")
    assert hinted[1] == pytest.approx(chroma_of(RED), abs=6)
    assert hinted[0] == pytest.approx(plain[0], abs=6)
    assert np.abs(plain[1] - chroma_of(RED)).max() > 9


def test_a_grey_dot_leaves_a_thing_neutral(photos: Path, weights: dict[str, str]) -> None:
    dot(photos / "hints" / "sub" / "b.png", (40, 60), GREY)
    coloured(photos, weights["test-wandering"], hints=str(photos / "hints"))

    assert np.abs(halves(photos, "sub/b.png")[0]).max() < 4
    assert np.abs(halves(photos, "a.png")[0]).max() > 8


@pytest.mark.parametrize(("suffix", "name"), [(".yaml", "a"), (".json", "a.png")])
def test_points_in_a_text_are_dots(suffix: str, name: str, photos: Path, weights: dict[str, str]) -> None:
    (photos / "hints").mkdir()
    points = {"points": [{"x": 120, "y": 60, "colour": "#966964", "radius": 4}]}
    (photos / "hints" / f"{name}{suffix}").write_text(json.dumps(points))
    coloured(photos, weights["test-wandering"], hints=str(photos / "hints"))

    assert halves(photos, "a.png")[1] == pytest.approx(chroma_of(RED), abs=6)


@pytest.mark.parametrize("ending", ["yaml", "png"])
def test_hints_of_a_photograph_that_lies_on_its_side_are_on_the_upright_one(
    ending: str, photos: Path, weights: dict[str, str]
) -> None:
    with Image.open(photos / "in" / "a.png") as upright:
        exif = Image.Exif()
        exif[0x0112] = 6  # its first row is at the right
        upright.transpose(Image.Transpose.ROTATE_90).save(photos / "in" / "a.png", exif=exif)
    (photos / "hints").mkdir()
    if ending == "png":
        dot(photos / "hints" / "a.png", (120, 60), RED)
    else:
        point = {"x": 120, "y": 60, "colour": "#966964", "radius": 4}
        (photos / "hints" / "a.yaml").write_text(json.dumps({"points": [point]}))
    coloured(photos, weights["test-wandering"], hints=str(photos / "hints"))

    with Image.open(photos / "out" / "a.png") as turned:
        ImageOps.exif_transpose(turned).save(photos / "out" / "upright.png")
    hinted, plain = halves(photos, "upright.png"), halves(photos, "sub/b.png")
    assert hinted[1] == pytest.approx(chroma_of(RED), abs=6)
    assert hinted[0] == pytest.approx(plain[0], abs=6)


def test_a_network_that_takes_hints_is_told_them(photos: Path, weights: dict[str, str]) -> None:
    dot(photos / "hints" / "a.png", (40, 60), RED)
    coloured(photos, weights["test-told"], hints=str(photos / "hints"))

    assert halves(photos, "a.png") == pytest.approx(np.stack([chroma_of(RED)] * 2), abs=6)
    assert np.abs(halves(photos, "sub/b.png")).max() < 2


def test_only_the_photograph_whose_hints_change_is_done_again(photos: Path, weights: dict[str, str]) -> None:
    dot(photos / "hints" / "a.png", (40, 60), RED)
    first = coloured(photos, weights["test-wandering"], hints=str(photos / "hints"))
    dot(photos / "hints" / "a.png", (40, 60), GREY)
    again = coloured(photos, weights["test-wandering"], hints=str(photos / "hints"))
    (photos / "hints" / "a.png").unlink()
    without = coloured(photos, weights["test-wandering"])

    assert (first.done, again.done, again.already, without.done, without.already) == (2, 1, 1, 1, 1)


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.yaml", b"points: [{x: 1}]", "are not a list of points; write `points: .*`"),
        ("a.yaml", b"{}", "are not a list of points"),
        ("a.yaml", b'points: [{x: .nan, y: 1, colour: "#ff0000"}]', "are not a list of points"),
        ("a.yaml", b'points: [{x: 1.0e+300, y: 1, colour: "#ff0000"}]', "are not a list of points"),
        ("a.yaml", b'points: [{x: 170, y: 1, colour: "#ff0000"}]', r"a point at x: 170, y: 1, outside of .* 160 x 120 pixels"),
        ("a.yaml", b"a: &a [1]\nb: *a", "are not a list of points"),
        ("a.json", b"[", "are not a list of points"),
        ("a.json", b"\xff", "are not a list of points"),
        ("a.png", b"no picture", "can't be read as a PNG; save them again"),
    ],
)
def test_hints_that_cannot_be_read_fail_their_photograph_only(
    name: str, content: bytes, error: str, photos: Path, weights: dict[str, str]
) -> None:
    (photos / "hints").mkdir()
    (photos / "hints" / name).write_bytes(content)

    result = coloured(photos, weights["test-wandering"], hints=str(photos / "hints"))

    assert result.done == 1
    ((path, text),) = result.failed.items()
    assert path.name == "a.png"
    assert re.search(error, text)


def test_an_opaque_picture_is_no_hint(photos: Path, weights: dict[str, str]) -> None:
    (photos / "hints").mkdir()
    Image.new("RGB", (160, 120), RED).save(photos / "hints" / "a.png")

    (text,) = coloured(photos, weights["test-wandering"], hints=str(photos / "hints")).failed.values()

    assert text.endswith("have no transparency; draw on a transparent layer, and save that alone")


def test_a_missing_folder_is_refused(photos: Path, weights: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"`hints`: there is no folder .*nowhere; create it, or correct the path"):
        coloured(photos, weights["test-wandering"], hints=str(photos / "nowhere"))


def test_like_features_carry_a_hint_further_than_luma_alone() -> None:
    luma = np.full((32, 32), 0.5, np.float32)
    chroma = np.zeros((2, 32, 32), np.float32)
    hints = np.zeros((3, 32, 32), np.float32)
    hints[:, 4:6, 4:6] = np.array([0.1, -0.2, 1.0])[:, None, None]
    features = np.zeros((2, 8, 8), np.float32)
    features[0, :, :4], features[1, :, 4:] = 1, 1

    found = spread(chroma, luma, features, hints)

    assert found[:, 4:6, 4:6] == pytest.approx(np.broadcast_to([[[0.1]], [[-0.2]]], (2, 2, 2)), abs=1e-3)
    assert found[1, 8, 8] < -0.15
    assert abs(found[1, 5, 20]) < 0.03
    assert spread(chroma, luma, features, np.zeros_like(hints)) is chroma


def test_hints_that_contradict_a_prediction_everywhere_shift_all_that_is_alike() -> None:
    luma = np.full((32, 32), 0.5, np.float32)
    chroma = np.zeros((2, 32, 32), np.float32)
    few, more = (np.zeros((3, 32, 32), np.float32) for _ in range(2))
    few[:, 4:6, 4:6] = np.array([0.1, -0.2, 1.0])[:, None, None]
    more[:, 4:30:8, 4:30:8] = np.array([0.1, -0.2, 1.0])[:, None, None]

    one, several = (spread(chroma, luma, None, hints)[1, 26, 26] for hints in (few, more))

    assert -0.19 < one < -0.1
    assert several == pytest.approx(-0.2, abs=0.02)


def test_a_grey_point_takes_the_colour_from_what_is_alike_and_leaves_the_rest() -> None:
    luma = np.concatenate([np.full((32, 16), 0.2), np.full((32, 16), 0.9)], axis=1).astype(np.float32)
    chroma = np.full((2, 32, 32), 0.1, np.float32)
    hints = np.zeros((3, 32, 32), np.float32)
    hints[2, 10:13, 4:7] = 1

    found = spread(chroma, luma, None, hints)

    assert found[:, 11, 5] == pytest.approx([0, 0], abs=1e-6)
    assert np.abs(found[:, 20, 8]).max() < 0.03
    assert found[:, :, 20:].min() > 0.09


def test_a_tint_is_the_mean_colour_of_the_photograph(photos: Path, weights: dict[str, str]) -> None:
    (photos / "hints").mkdir()
    (photos / "hints" / "a.yaml").write_text('tint: "#966964"')

    coloured(photos, weights["test-wandering"], hints=str(photos / "hints"))

    assert halves(photos, "a.png").mean(axis=0) == pytest.approx(chroma_of(RED), abs=3)


def test_hints_named_like_a_film_are_said_to_be_ignored(
    photos: Path, weights: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    make_film(photos / "in" / "film.mkv", Kind(suffix=".mkv", times=range(0, 3 * 40, 40), time_base=Kind().time_base))
    dot(photos / "hints" / "film.png", (30, 30), RED)

    coloured(photos, weights["test-wandering"], hints=str(photos / "hints"))

    assert (
        capsys.readouterr().err.count(
            "film.png are not used: call those of a film by the number of a frame, film.mkv/000123.png"
        )
        == 1
    )
