"""Levels and noise of luma."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from bwpipe.core.frame import Luma
from bwpipe.pixels.levels import auto_levels, denoise, estimate_noise, full_range, stretch, tonal_range
from bwpipe.testing import make_frames

FULL = (0, 255)


def grainy(deviation: float, height: int = 256, width: int = 320) -> NDArray[np.uint8]:
    """A smooth image with white noise."""
    luma = make_frames(1, height=height, width=width, levels=(60, 190))[0].luma
    return np.rint(luma + np.random.default_rng(0).normal(0, deviation, luma.shape)).clip(0, 255).astype(np.uint8)


def test_a_few_specks_do_not_affect_the_tonal_range() -> None:
    luma = np.tile(np.arange(50, 150, dtype=np.uint16) * 257, (100, 1))
    luma[:4, :10], luma[4:8, :10] = 0, 65535

    low, high = tonal_range(luma)

    assert (low, high) == (50 * 257, 149 * 257)


@pytest.mark.parametrize("levels", [FULL, (16, 235), (64, 940)])
def test_a_faded_image_is_stretched_to_the_full_levels(levels: tuple[int, int]) -> None:
    span = levels[1] - levels[0]
    found = (levels[0] + 0.2 * span, levels[0] + 0.8 * span)

    assert auto_levels(found, levels) == found


def test_an_image_with_black_and_white_is_unchanged() -> None:
    assert auto_levels((0, 255), FULL) == (0, 255)
    assert auto_levels((3, 250), (16, 235)) == (16, 235)


def test_night_stays_dark() -> None:
    black, white = auto_levels((0, 50), FULL)

    assert black == 0
    assert_allclose(full_range(np.array([[50]], np.uint8), (black, white)), 100, atol=1)


def test_fog_stays_foggy() -> None:
    points = auto_levels((150, 200), FULL)

    output = full_range(np.array([[150, 200]], np.uint8), points).astype(int)

    assert output[0, 1] - output[0, 0] == pytest.approx(100, abs=1)
    assert 100 < output[0, 0] < output[0, 1] < 240


@pytest.mark.parametrize("found", [(128, 128), (0, 0), (255, 255), (2, 9), (240, 250)])
@pytest.mark.parametrize("levels", [FULL, (16, 235)])
def test_contrast_is_at_most_doubled_whatever_is_found(found: tuple[int, int], levels: tuple[int, int]) -> None:
    black, white = auto_levels(found, levels)

    assert white - black == pytest.approx((levels[1] - levels[0]) / 2)
    assert levels[0] <= black < white <= levels[1]


@pytest.mark.parametrize(("dtype", "levels"), [(np.uint8, FULL), (np.uint8, (16, 235)), (np.uint16, (64, 940))])
def test_stretching_maps_the_points_to_the_levels(dtype: type, levels: tuple[int, int]) -> None:
    low, high = levels[0] + 20, levels[1] - 40
    luma: Luma = np.array([[low - 9, low, (low + high) // 2, high, high + 9]], dtype)

    output = stretch(luma, (low, high), levels)

    assert output.dtype == dtype
    assert output[0, 0] == output[0, 1] == levels[0]
    assert output[0, 3] == output[0, 4] == levels[1]
    assert_allclose(output[0, 2], sum(levels) / 2, atol=1.5)


def test_16_bit_codes_are_rounded_to_8_bits() -> None:
    luma = np.arange(65536, dtype=np.uint16).reshape(256, 256)

    assert_array_equal(full_range(luma, (0, 65535)), np.rint(luma / 257))


@pytest.mark.parametrize("deviation", [3.0, 6.0, 10.0])
def test_noise_is_measured(deviation: float) -> None:
    assert estimate_noise(grainy(deviation)) == pytest.approx(deviation, rel=0.12)


def test_a_blown_out_sky_does_not_hide_the_noise() -> None:
    luma = grainy(6)
    luma[:96] = 255

    assert estimate_noise(luma) == pytest.approx(6, rel=0.12)


@pytest.mark.parametrize(
    "luma", [np.zeros((64, 64), np.uint8), np.full((64, 64), 255, np.uint8), np.full((5, 99), 9, np.uint8)]
)
def test_noise_that_cannot_be_estimated_is_0(luma: NDArray[np.uint8]) -> None:
    assert estimate_noise(luma) == 0


@pytest.mark.parametrize("deviation", [0.0, 1.0])
def test_a_clean_image_is_returned_unchanged(deviation: float) -> None:
    luma = grainy(deviation)

    assert denoise(luma, FULL) is luma


def test_denoising_removes_much_of_the_grain_and_keeps_edges() -> None:
    clean = np.full((128, 128), 60, np.uint8)
    clean[:, 64:] = 190
    luma = np.rint(clean + np.random.default_rng(0).normal(0, 6, clean.shape)).astype(np.uint8)

    output = denoise(luma, FULL).astype(float)

    assert (output - clean).std() < 0.55 * 6
    assert output[:, 64].mean() - output[:, 63].mean() > 125


@pytest.mark.parametrize(("levels", "dtype"), [((64, 940), np.uint16), ((0, 65535), np.uint16), ((16, 235), np.uint8)])
def test_denoising_is_the_same_at_every_depth(levels: tuple[int, int], dtype: type) -> None:
    luma = grainy(8)
    scale = (levels[1] - levels[0]) / 255
    other: Luma = np.rint(levels[0] + luma * scale).astype(dtype)

    output = denoise(other, levels)

    assert output.dtype == dtype
    assert_allclose((output.astype(float) - levels[0]) / scale, denoise(luma, FULL), atol=1.8)
