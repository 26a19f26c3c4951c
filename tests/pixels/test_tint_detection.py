"""Telling images in real colour from toned and grey ones."""

from io import BytesIO

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bwpipe.pixels.tint_detection import colour_kind, has_one_hue
from bwpipe.pixels.ycbcr import rgb_to_ycbcr
from bwpipe.testing import make_frames

TONES = {  # red, green and blue of black, grey and white
    "sepia": ((30, 18, 8), (153, 120, 84), (250, 237, 204)),
    "cyanotype": ((5, 20, 64), (64, 122, 173), (237, 247, 250)),
    "selenium": ((23, 13, 23), (133, 120, 128), (247, 245, 242)),
    "split": ((5, 13, 38), (128, 128, 120), (255, 237, 199)),
}


def grey(height: int = 300, width: int = 400, seed: int = 0) -> NDArray[np.uint8]:
    luma = make_frames(1, height=height, width=width, seed=seed)[0].luma
    grain = np.random.default_rng(seed).normal(0, 4, luma.shape)
    return np.rint(luma + grain).clip(0, 255).astype(np.uint8)


def toned(name: str, luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    stops = np.array(TONES[name])
    return np.stack([np.interp(luma, (0, 128, 255), stops[:, i]) for i in range(3)], axis=-1).round().astype(np.uint8)


def through_jpeg(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    file = BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("name", TONES)
def test_a_toned_image_is_not_in_colour(name: str) -> None:
    assert colour_kind(*rgb_to_ycbcr(through_jpeg(toned(name, grey())))) == "toned"


def test_a_tone_that_faded_unevenly_is_still_one_tone() -> None:
    luma = grey()
    share = np.linspace(0.6, 1, luma.shape[1])[:, None]
    rgb = share * toned("sepia", luma) + (1 - share) * luma[..., None]

    assert colour_kind(*rgb_to_ycbcr(through_jpeg(rgb.astype(np.uint8)))) == "toned"


@pytest.mark.parametrize("cast", [(1, 1, 1), (1, 0.985, 0.96)])
def test_grey_with_or_without_a_slight_cast_is_grey(cast: tuple[float, ...]) -> None:
    rgb = (grey()[..., None] * np.array(cast)).astype(np.uint8)

    assert colour_kind(*rgb_to_ycbcr(through_jpeg(rgb))) == "grey"


@pytest.mark.parametrize("scale", [1, 4])
@pytest.mark.parametrize("strength", [0.12, 1.0])
def test_chroma_that_does_not_follow_from_luma_is_colour(strength: float, scale: int) -> None:
    three = np.stack([grey(300 * scale, 400 * scale, seed) for seed in range(3)], axis=-1)
    rgb = strength * three + (1 - strength) * three.mean(axis=-1, keepdims=True)

    assert colour_kind(*rgb_to_ycbcr(through_jpeg(rgb.astype(np.uint8)))) == "colour"


@pytest.mark.parametrize("name", TONES)
def test_sixteen_bits_and_a_coarser_chroma_make_no_difference(name: str) -> None:
    luma, chroma = rgb_to_ycbcr(toned(name, grey()).astype(np.uint16) * 257)

    coarse = np.stack([cv2.resize(plane.astype(np.float32), (200, 150), interpolation=cv2.INTER_AREA) for plane in chroma])
    assert colour_kind(luma, coarse) == "toned"


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (3, 2)])
def test_the_smallest_images_have_a_kind(shape: tuple[int, int]) -> None:
    assert colour_kind(np.zeros(shape, np.uint8), np.zeros((2, *shape), np.float16)) == "grey"


@pytest.mark.parametrize("name", ["sepia", "cyanotype", "selenium"])
def test_a_tone_is_one_hue(name: str) -> None:
    assert has_one_hue(*rgb_to_ycbcr(through_jpeg(toned(name, grey()))))


def test_split_toning_is_two_hues() -> None:
    assert not has_one_hue(*rgb_to_ycbcr(through_jpeg(toned("split", grey()))))


@pytest.mark.parametrize("scale", [1, 4])
def test_a_blue_sky_with_clouds_is_not_one_hue_though_it_is_nearly_a_tone(scale: int) -> None:
    clouds, sky = (grey(300 * scale, 400 * scale, seed)[..., None] / 255 for seed in (1, 2))
    blue = (1 - sky) * np.array([20, 80, 190]) + sky * np.array([90, 170, 230])
    luma, chroma = rgb_to_ycbcr(through_jpeg((clouds * 240 + (1 - clouds) * blue).astype(np.uint8)))

    assert colour_kind(luma, chroma) == "toned"
    assert not has_one_hue(luma, chroma)


def test_real_colour_is_not_one_hue() -> None:
    three = np.stack([grey(seed=seed) for seed in range(3)], axis=-1)

    assert not has_one_hue(*rgb_to_ycbcr(through_jpeg(three)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (3, 2)])
def test_the_smallest_images_have_one_hue_or_not(shape: tuple[int, int]) -> None:
    blue = np.full((2, *shape), 0.2, np.float16)

    assert has_one_hue(np.zeros(shape, np.uint8), blue)
    assert not has_one_hue(np.zeros(shape, np.uint8), np.zeros_like(blue))
