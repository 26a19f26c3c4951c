"""Chroma upsampling to the grid of the output."""

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from bwpipe.core.frame import Luma
from bwpipe.pixels.chroma_upsampling import upsample_chroma
from bwpipe.pixels.ycbcr import scale_into_gamut

FULL = (0, 255)


def discs(height: int = 240, width: int = 320) -> tuple[Luma, NDArray[np.float32]]:
    """Discs of one colour each on a background of another: luma (height, width) and chroma (2, height, width)."""
    rng = np.random.default_rng(3)
    image = np.full((height, width, 3), (0.5, 0.05, -0.05), np.float32)
    for _ in range(12):
        colour = [float(rng.uniform(0.25, 0.75)), *(float(part) for part in rng.uniform(-0.12, 0.12, 2))]
        cv2.circle(image, (int(rng.integers(width)), int(rng.integers(height))), int(rng.integers(15, 60)), colour, -1)
    return np.rint(255 * image[..., 0]).astype(np.uint8), image[..., 1:].transpose(2, 0, 1)


def small(chroma: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    return np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA) for plane in chroma])


def bilinear(chroma: NDArray[np.float32], luma: Luma) -> NDArray[np.float32]:
    return np.stack([cv2.resize(plane, luma.shape[::-1], interpolation=cv2.INTER_LINEAR) for plane in chroma])


def error(output: NDArray[np.float32], original: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean((output - original) ** 2)))


@pytest.mark.parametrize(("height", "width"), [(60, 80), (30, 40), (150, 150)])
def test_it_is_closer_to_the_original_than_bilinear_interpolation(height: int, width: int) -> None:
    luma, original = discs()
    chroma = small(original, height, width)

    output = upsample_chroma(chroma, luma, FULL, "bt601", luma.shape)

    assert error(output, original) < 0.85 * error(bilinear(chroma, luma), original)


def test_grain_hardly_shows_in_chroma() -> None:
    luma, original = discs()
    chroma = small(original, 60, 80)
    grain = np.random.default_rng(0).normal(0, 8, luma.shape)
    grainy = np.clip(np.rint(luma + grain), 0, 255).astype(np.uint8)

    change = upsample_chroma(chroma, grainy, FULL, "bt601", luma.shape) - upsample_chroma(
        chroma, luma, FULL, "bt601", luma.shape
    )

    assert 255 * change.std() < 0.1 * grain.std()


def test_averaged_back_it_reproduces_the_input_chroma() -> None:
    luma, original = discs()
    chroma = small(original, 60, 80)

    averaged = small(upsample_chroma(chroma, luma, FULL, "bt601", luma.shape), 60, 80)

    assert error(averaged, chroma) < 0.25 * error(small(bilinear(chroma, luma), 60, 80), chroma)


def test_a_uniform_colour_is_unchanged() -> None:
    luma, _ = discs()
    chroma = np.stack([np.full((15, 20), 0.05), np.full((15, 20), -0.1)]).astype(np.float16)

    output = upsample_chroma(chroma, luma, FULL, "bt709", (120, 160))

    assert output.dtype == np.float32
    assert_allclose(output[0], 0.05, atol=2e-4)
    assert_allclose(output[1], -0.1, atol=2e-4)


def test_on_the_same_grid_chroma_is_unchanged() -> None:
    luma, original = discs()

    assert_array_equal(upsample_chroma(original, luma, FULL, "bt601", luma.shape), original)


def test_on_a_coarser_grid_chroma_is_averaged() -> None:
    luma, original = discs()

    output = upsample_chroma(original, luma, FULL, "bt601", (120, 160))

    assert_allclose(output, original.reshape(2, 120, 2, 160, 2).mean((2, 4)), atol=1e-6)


@pytest.mark.parametrize("size", [(120, 30), (30, 160), (1, 1), (1, 160)])
def test_rows_and_columns_are_resampled_independently(size: tuple[int, int]) -> None:
    luma, original = discs()
    chroma = small(original, 60, 80)

    assert upsample_chroma(chroma, luma, FULL, "bt601", size).shape == (2, *size)


@pytest.mark.parametrize(("depth", "levels"), [(8, (16, 235)), (10, (64, 940)), (16, (0, 65535))])
def test_depth_and_range_of_the_luma_make_no_difference(depth: int, levels: tuple[int, int]) -> None:
    luma, original = discs()
    chroma = small(original, 60, 80)
    codes = levels[0] + luma / 255 * (levels[1] - levels[0])
    other: Luma = np.rint(codes).astype(np.uint8) if depth == 8 else np.rint(codes).astype(np.uint16)

    output = upsample_chroma(chroma, other, levels, "bt601", (120, 160))

    assert_allclose(output, upsample_chroma(chroma, luma, FULL, "bt601", (120, 160)), atol=2e-3)


def test_where_only_the_row_count_grows_each_row_stays_as_sharp() -> None:
    chroma = np.zeros((2, 8, 32), np.float32)
    chroma[:, :, 16:] = 0.1
    luma = np.full((16, 32), 128, np.uint8)

    assert_allclose(upsample_chroma(chroma, luma, FULL, "bt601", (16, 32)), chroma.repeat(2, axis=1), atol=1e-6)


def test_the_result_is_in_gamut() -> None:
    luma, _ = discs()
    chroma = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 15, 20)).astype(np.float16)

    output = upsample_chroma(chroma, luma, FULL, "bt709", luma.shape)

    assert_allclose(scale_into_gamut(output, luma, FULL, "bt709"), output, atol=1e-6)


def test_a_one_pixel_image_works() -> None:
    luma = np.full((1, 1), 128, np.uint8)

    assert_allclose(upsample_chroma(np.full((2, 1, 1), 0.1, np.float16), luma, FULL, "bt601", (1, 1)), 0.1, atol=1e-4)
