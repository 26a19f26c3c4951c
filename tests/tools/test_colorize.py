"""`bwpipe.colorize` and `bwpipe.load_network`, as a notebook uses them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import bwpipe
from tests.support.made_films import Kind, make_film

SMALL: Any = {"model": "autoencoder", "set": {"colorize.device": "cpu"}}


def ramp(dtype: type, *channels: int) -> NDArray[Any]:
    """A grey ramp (48, 64, *channels) of the full range."""
    across = np.linspace(0.05, 0.95, 64) * np.linspace(1, 0.6, 48)[:, None]
    grey: NDArray[Any] = np.round(across * np.iinfo(dtype).max).astype(dtype)
    return np.stack([grey] * channels[0], axis=-1) if channels else grey


def luma(rgb: NDArray[Any]) -> NDArray[np.float64]:
    """BT.601 luma of RGB in 0..1."""
    return np.asarray(rgb[..., :3] @ np.array([0.299, 0.587, 0.114]) / np.iinfo(rgb.dtype).max, np.float64)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
def test_an_array_becomes_a_coloured_array_of_its_type_with_its_luma(dtype: type, channels: tuple[int, ...]) -> None:
    grey = ramp(dtype, *channels)
    if channels == (4,):
        grey[..., 3] = np.iinfo(dtype).max // 3

    rgb = bwpipe.colorize(grey, **SMALL)

    first = grey[..., 0] if channels else grey
    assert rgb.dtype == np.dtype(dtype)
    assert rgb.shape == (48, 64, 4 if channels == (4,) else 3)
    assert np.ptp(rgb[..., :3].astype(int), axis=-1).max() > np.iinfo(dtype).max / 100  # it has colour
    assert np.abs(luma(rgb) - first / np.iinfo(dtype).max).max() < 1.5 / 255
    if channels == (4,):
        assert (rgb[..., 3] == np.iinfo(dtype).max // 3).all()


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "1"])
def test_an_image_of_pillow_becomes_one(mode: str) -> None:
    grey = Image.fromarray(ramp(np.uint16)) if mode == "I;16" else Image.fromarray(ramp(np.uint8)).convert(mode)

    coloured = bwpipe.colorize(grey, **SMALL)

    assert (coloured.size, coloured.mode) == ((64, 48), "RGBA" if mode in ("LA", "RGBA") else "RGB")


def test_a_path_becomes_an_image_and_nothing_is_written_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(ramp(np.uint8)).save(path)

    coloured = bwpipe.colorize(path, **SMALL)

    assert (coloured.size, coloured.mode) == ((64, 48), "RGB")
    assert list(tmp_path.iterdir()) == [path]


def test_colours_are_the_same_in_memory_as_in_files(tmp_path: Path) -> None:
    grey = ramp(np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")

    result = bwpipe.colorize(tmp_path / "a.png", tmp_path / "out", **SMALL)

    assert result.outputs == [tmp_path / "out" / "a.png"]
    with Image.open(result.outputs[0]) as image:
        assert np.array_equal(np.asarray(image), bwpipe.colorize(grey, **SMALL))


def test_an_image_in_colour_keeps_its_colours_unless_they_are_to_be_replaced() -> None:
    rng = np.random.default_rng(7)
    patches = rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)

    kept, replaced = bwpipe.colorize(patches, **SMALL), bwpipe.colorize(patches, recolour=True, **SMALL)

    assert np.abs(kept.astype(int) - patches).max() <= 2
    assert np.abs(replaced.astype(int) - patches).max() > 50


def test_a_result_is_shown_with_its_pictures_before_and_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(ramp(np.uint8)).save(tmp_path / "a<b>.png")
    film = make_film(tmp_path / "film.mp4", Kind(times=range(0, 5 * 512, 512)))

    result = bwpipe.colorize([tmp_path / "a<b>.png", film], tmp_path / "out", **SMALL)

    html = result._repr_html_()
    assert [html.count(f'<img alt="{alt}" src="data:') for alt in ("before", "after")] == [2, 2]
    assert ">out/a&lt;b&gt;.png<" in html
    assert "<code>bwpipe report out</code>" in html
    assert "1 picture and 1 film done in " in html
    assert "busy s" not in html


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((4, 4)), "source: expected an array of uint8 or uint16, not float64"),
        (np.zeros((4, 4, 2), np.uint8), "source: expected an array"),
        (np.zeros((0, 4), np.uint8), "source: expected an array"),
        (Image.new("F", (4, 4)), "source: images of mode 'F' are not read"),
        (3, "source: expected a path, an image of Pillow or an array, not int"),
        ("gone.png", "source: there is no file or folder gone.png"),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(source: Any, message: str) -> None:
    with pytest.raises(bwpipe.UsageError) as error:
        bwpipe.colorize(source)

    assert str(error.value).startswith(message)


def test_films_and_options_are_refused_by_the_name_of_the_argument(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", Kind(times=range(0, 5 * 512, 512)))

    with pytest.raises(bwpipe.UsageError, match=r"is not one picture; give an output folder"):
        bwpipe.colorize(film, **SMALL)
    with pytest.raises(bwpipe.UsageError, match=r"vividness: expected a number from 0 to 1"):
        bwpipe.colorize(ramp(np.uint8), vividness=2.0)
    with pytest.raises(bwpipe.UsageError, match=r"^model: unknown network 'gone'"):
        bwpipe.colorize(ramp(np.uint8), model="gone")
    with pytest.raises(bwpipe.UsageError, match=r"^output: an image is returned"):
        bwpipe.colorize(ramp(np.uint8), tmp_path)  # type: ignore[call-overload]


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")

    with pytest.raises(bwpipe.MediaError, match=r"bad\.png: it is not a picture or film"):
        bwpipe.colorize(tmp_path / "bad.png", **SMALL)


def test_a_network_is_loaded_by_name() -> None:
    network = bwpipe.load_network("autoencoder")

    with torch.inference_mode():
        guess = network.guess(torch.full((1, 1, *network.input_size(48, 64, "normal")), 0.5))

    assert guess.chroma.shape[:2] == (1, 2)
    assert not network.training


def test_the_name_is_that_of_the_function_whatever_was_imported_before() -> None:
    program = (
        "import bwpipe, bwpipe.tools.colorize, bwpipe.stages.colorize\n"
        "assert callable(bwpipe.colorize) and callable(bwpipe.tools.colorize.colorize)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=100)


def test_saturation_0_gives_grey_and_hints_need_files() -> None:
    rgb = bwpipe.colorize(ramp(np.uint8), saturation=0, **SMALL)

    assert np.ptp(rgb.astype(int), axis=-1).max() <= 1
    with pytest.raises(bwpipe.UsageError, match="found by the names of files, which images in memory do not have"):
        bwpipe.colorize(ramp(np.uint8), hints="hints", **SMALL)


def test_a_dot_colours_the_photograph_that_it_is_named_like(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        Image.fromarray(ramp(np.uint8).repeat(4, 0).repeat(4, 1)).save(tmp_path / "in" / f"{name}.png")
    (tmp_path / "hints").mkdir()
    (tmp_path / "hints" / "a.yaml").write_text('points: [{x: 128, y: 96, colour: "#2040c0", radius: 12}]')

    blue = {}
    for hints in (None, tmp_path / "hints"):
        out = tmp_path / f"out-{hints is None}"
        bwpipe.colorize(tmp_path / "in", out, hints=hints, set={"colorize.device": "cpu"})
        for name in ("a", "b"):
            pixel = np.asarray(Image.open(out / f"{name}.png"), np.float64)[92:100, 124:132].mean((0, 1))
            blue[name, hints is None] = pixel[2] - pixel[0]
    assert blue["a", False] > blue["a", True] + 20
    assert blue["b", False] == blue["b", True]
