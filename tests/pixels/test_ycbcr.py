"""RGB, luma and chroma of numpy planes."""

from typing import get_args

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bwpipe.core.frame import Luma, Matrix
from bwpipe.pixels.ycbcr import (
    WEIGHTS,
    Weights,
    convert_matrix,
    from_codes,
    rgb_to_ycbcr,
    scale_into_gamut,
    to_codes,
    ycbcr_to_rgb,
)

MATRICES = get_args(Matrix)
LIMITED, FULL = (16, 235), (0, 255)


def noise(dtype: type = np.uint8, height: int = 90, width: int = 110) -> Luma:
    """Random RGB (height, width, 3)."""
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (height, width, 3), dtype, endpoint=True)  # type: ignore[return-value]


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_luma_is_the_rounded_weighted_sum(dtype: type, matrix: Matrix) -> None:
    rgb = noise(dtype)

    luma, _ = rgb_to_ycbcr(rgb, matrix)

    assert luma.dtype == dtype
    assert_allclose(luma, rgb @ np.array(WEIGHTS[matrix]), atol=0.51)


def test_chroma_matches_jpeg() -> None:
    rgb = np.array([[[255, 0, 0], [0, 0, 255], [255, 255, 0]]], np.uint8)

    _, chroma = rgb_to_ycbcr(rgb)

    assert_allclose(chroma[:, 0], [[-0.1687, 0.5, -0.5], [0.5, -0.0813, 0.0813]], atol=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_has_exactly_zero_chroma_and_keeps_its_code(dtype: type) -> None:
    grey = noise(dtype)[..., 0]

    luma, chroma = rgb_to_ycbcr(grey[..., None].repeat(3, axis=2))

    assert_array_equal(luma, grey)
    assert not chroma.any()


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("reach", [0.05, 0.6])
def test_rgb_has_exactly_the_luma_it_was_made_from_whatever_the_chroma(reach: float, dtype: type, matrix: Matrix) -> None:
    luma = noise(dtype)[..., 0]
    chroma = np.random.default_rng(1).uniform(-reach, reach, (2, *luma.shape)).astype(np.float16)

    again, _ = rgb_to_ycbcr(ycbcr_to_rgb(luma, chroma, matrix), matrix)

    assert_array_equal(again, luma)


def test_colour_survives_a_round_trip_up_to_rounding() -> None:
    rgb = noise() // 2 + 64  # away from the gamut boundary

    back = ycbcr_to_rgb(*rgb_to_ycbcr(rgb))

    assert np.abs(back.astype(int) - rgb).max() <= 1


def test_processing_in_bands_leaves_no_seam() -> None:
    rgb = noise(np.uint8, 700, 300)

    luma, chroma = rgb_to_ycbcr(rgb)

    top, bottom = rgb_to_ycbcr(rgb[:350]), rgb_to_ycbcr(rgb[350:])
    assert_array_equal(luma, np.concatenate([top[0], bottom[0]]))
    assert_array_equal(chroma, np.concatenate([top[1], bottom[1]], axis=1))
    assert_array_equal(ycbcr_to_rgb(luma, chroma), np.concatenate([ycbcr_to_rgb(*top), ycbcr_to_rgb(*bottom)]))


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("levels", [LIMITED, FULL])
def test_out_of_gamut_colour_loses_chroma_at_constant_hue(levels: tuple[int, int], matrix: Matrix) -> None:
    luma = noise()[..., 0]
    chroma = np.random.default_rng(1).uniform(-0.5, 0.5, (2, *luma.shape)).astype(np.float32)

    scaled = scale_into_gamut(chroma, luma, levels, matrix)

    weights = WEIGHTS[matrix]
    y = np.clip((luma - float(levels[0])) / (levels[1] - levels[0]), 0, 1)
    blue, red = y + 1.772 * scaled[0], y + 1.402 * scaled[1]
    green = (y - weights.blue * blue - weights.red * red) / weights.green
    for plane in (red, green, blue):
        assert plane.min() > -1e-5
        assert plane.max() < 1 + 1e-5
    assert_allclose(scaled[0] * chroma[1], scaled[1] * chroma[0], atol=1e-6)
    assert np.all(np.abs(scaled) <= np.abs(chroma) + 1e-6)
    assert np.all(scaled * chroma >= 0)


def test_colour_in_gamut_is_unchanged() -> None:
    luma = np.full((4, 4), 128, np.uint8)
    chroma = np.full((2, 4, 4), 0.1, np.float16)

    assert_array_equal(scale_into_gamut(chroma, luma, FULL, "bt601"), chroma)


@pytest.mark.parametrize("level", [10, 16, 235, 250])
def test_black_and_white_get_no_chroma(level: int) -> None:
    chroma = np.full((2, 4, 4), 0.2, np.float32)

    scaled = scale_into_gamut(chroma, np.full((4, 4), level, np.uint8), LIMITED, "bt709")

    assert_allclose(scaled, 0, atol=1e-6)


def test_inputs_are_not_modified() -> None:
    luma, chroma = rgb_to_ycbcr(noise())
    wide = chroma.astype(np.float32)
    for plane in (luma, chroma, wide):
        plane.flags.writeable = False

    ycbcr_to_rgb(luma, chroma)
    scale_into_gamut(wide, luma, FULL, "bt601")
    to_codes(wide, "bt601", 8, FULL)
    convert_matrix(luma, chroma, FULL, "bt601", WEIGHTS["bt709"])


@pytest.mark.parametrize(
    ("matrix", "depth", "levels", "blue"),
    [
        ("bt601", 8, FULL, (255, 107)),  # 255.5, clamped
        ("bt601", 8, LIMITED, (240, 110)),
        ("bt709", 8, LIMITED, (240, 118)),
        ("bt2020", 10, (64, 940), (960, 476)),
    ],
)
def test_pure_blue_has_the_codes_of_the_standards(
    matrix: Matrix, depth: int, levels: tuple[int, int], blue: tuple[int, int]
) -> None:
    rgb = np.array([[[0, 0, 65535]]], np.uint16)

    output = to_codes(rgb_to_ycbcr(rgb, matrix)[1], matrix, depth, levels)

    assert_array_equal(output[:, 0, 0], blue)


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize(("depth", "levels"), [(8, LIMITED), (8, FULL), (10, (64, 940)), (12, (0, 4095))])
def test_every_code_survives_a_round_trip(depth: int, levels: tuple[int, int], matrix: Matrix) -> None:
    low, high = (0, 2**depth - 1) if levels[0] == 0 else (16 << depth - 8, 240 << depth - 8)
    every = np.arange(low, high + 1, dtype=np.uint8 if depth == 8 else np.uint16)
    stored: Luma = np.stack([every, every[::-1]])[:, None]

    output = to_codes(from_codes(stored, matrix, depth, levels), matrix, depth, levels)

    assert output.dtype == stored.dtype
    assert np.abs(output.astype(int) - stored).max() <= (1 if depth == 12 else 0)  # float16 holds 11 bits


@pytest.mark.parametrize(
    ("depth", "levels", "ends"),
    [
        (8, LIMITED, (16, 240)),
        (8, FULL, (0, 255)),
        (10, (64, 940), (64, 960)),
        *((depth, (0, 2**depth - 1), (0, 2**depth - 1)) for depth in (9, 10, 12, 14, 16)),
    ],
)
def test_codes_stay_in_the_range_of_chroma(depth: int, levels: tuple[int, int], ends: tuple[int, int]) -> None:
    output = to_codes(np.array([[[-0.7, 0.7]], [[-0.7, 0.7]]], np.float32), "bt601", depth, levels)

    assert (output.min(), output.max()) == ends


@pytest.mark.parametrize(("channel", "weights"), [(0, Weights(1, 0, 0)), (1, Weights(0, 1, 0)), (2, Weights(0, 0, 1))])
@pytest.mark.parametrize("matrix", MATRICES)
def test_a_weight_on_one_channel_gives_that_channel(matrix: Matrix, channel: int, weights: Weights) -> None:
    rgb = noise(np.uint16)

    luma = convert_matrix(*rgb_to_ycbcr(rgb, matrix), (0, 65535), matrix, weights)

    assert luma.dtype == np.uint16
    assert_allclose(luma, rgb[..., channel], atol=40)  # float16 holds 11 bits


def test_converted_luma_stays_within_limited_levels() -> None:
    luma = np.array([[16, 235, 126]], np.uint8)
    chroma = np.array([[[-0.1, 0.1, 0.1]], [[-0.1, 0.1, 0.1]]], np.float16)

    output = convert_matrix(luma, chroma, LIMITED, "bt601", Weights(1, 0, 0))

    assert output.tolist() == [[16, 235, 157]]
