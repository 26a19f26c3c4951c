"""Conversion between RGB, luma and chroma, and the codes that videos store, for numpy planes.

Chroma is (2, h, w): the colour differences B - Y' and R - Y', of signals in 0..1, over 1.772 and 1.402. With BT.601's luma
these are the Cb and Cr in -0.5..0.5 of ITU-T T.871 (JPEG). With the luma of another matrix the scale is the same, and they
reach -0.57..0.57. `bwpipe.nn.ycbcr` is the same for tensors.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import Chroma, Luma, Matrix

AnyChroma = NDArray[np.float16] | NDArray[np.float32]


class ChromaBands(Protocol):
    """Chroma (2, H, W) that is computed where it is asked for: `chroma[:, band]` with a slice of rows."""

    def __getitem__(self, key: tuple[slice, slice], /) -> NDArray[np.float32]: ...


BLUE_SCALE, RED_SCALE = 1.772, 1.402
"""Factors from Cb and Cr to B - Y' and R - Y'."""
_TINY = np.float32(1e-9)
_BAND = 1 << 16
"""Pixels processed at a time, so that intermediate results stay in the processor's cache."""


class Weights(NamedTuple):
    """Weights of red, green and blue in luma."""

    red: float
    green: float
    blue: float


WEIGHTS: dict[str, Weights] = {
    "bt601": Weights(0.299, 0.587, 0.114),
    "bt709": Weights(0.2126, 0.7152, 0.0722),
    "bt2020": Weights(0.2627, 0.6780, 0.0593),
}
"""ITU-R BT.601, BT.709, and BT.2020 with non-constant luminance."""


def rgb_to_ycbcr(rgb: Luma, matrix: Matrix = "bt601") -> tuple[Luma, Chroma]:
    """Split RGB into luma and chroma.

    Args:
        rgb: (H, W, 3) uint8 or uint16, full range.
        matrix: The one to compute the luma with.

    Returns:
        Luma (H, W) of the same type, rounded; chroma (2, H, W) float16, exactly 0 where red, green and blue are equal.
    """
    weights, white = WEIGHTS[matrix], np.iinfo(rgb.dtype).max
    luma = np.empty(rgb.shape[:2], rgb.dtype)
    chroma = np.empty((2, *rgb.shape[:2]), np.float16)
    for band in bands(*rgb.shape[:2]):
        red, green, blue = cv2.split(rgb[band].astype(np.float32))
        y = green + weights.red * (red - green) + weights.blue * (blue - green)
        luma[band] = np.rint(y)
        chroma[0, band] = (blue - y) * (1 / (white * BLUE_SCALE))
        chroma[1, band] = (red - y) * (1 / (white * RED_SCALE))
    return luma, chroma


def ycbcr_to_rgb(
    luma: Luma,
    chroma: AnyChroma | ChromaBands,
    matrix: Matrix = "bt601",
    *,
    out: Luma | None = None,
    white: int | None = None,
) -> Luma:
    """Combine luma and chroma into RGB whose luma, computed again and rounded, is identical.

    Green is derived from the luma and the rounded red and blue, which compensates for their rounding. Out-of-gamut colour loses
    chroma (`scale_into_gamut`).

    Args:
        luma: (H, W) uint8 or uint16, full range.
        chroma: (2, H, W).
        matrix: The one that the luma was computed with.
        out: Where to write RGB; a new array by default.
        white: The code of white; by default the largest of the type.

    Returns:
        RGB (H, W, 3), of the luma's type.
    """
    weights, white = WEIGHTS[matrix], white or int(np.iinfo(luma.dtype).max)
    rgb = np.empty((*luma.shape, 3), luma.dtype) if out is None else out
    for band in bands(*luma.shape):
        y = luma[band].astype(np.float32)
        cb, cr = scale_into_gamut(chroma[:, band], y, (0, white), matrix)
        red = np.rint(y + white * RED_SCALE * cr)
        blue = np.rint(y + white * BLUE_SCALE * cb)
        green = np.rint(y - (weights.red * (red - y) + weights.blue * (blue - y)) * (1 / weights.green))
        rgb[band] = cv2.merge([red, green, blue]).clip(0, white)
    return rgb


def scale_into_gamut(
    chroma: AnyChroma, luma: Luma | NDArray[np.float32], levels: tuple[int, int], matrix: Matrix
) -> NDArray[np.float32]:
    """Reduce chroma, at constant hue and luma, where red, green or blue would leave 0..1.

    Args:
        chroma: (2, h, w).
        luma: (h, w), codes.
        levels: The luma codes of black and white.
        matrix: The one that the luma was computed with.

    Returns:
        Chroma (2, h, w) float32.
    """
    scaled = np.empty(chroma.shape, np.float32)
    for band in bands(*luma.shape):
        scaled[:, band] = chroma[:, band]
        scaled[:, band] *= _gamut_scale(scaled[:, band], luma[band], levels, WEIGHTS[matrix])
    return scaled


def _gamut_scale(
    chroma: NDArray[np.float32], luma: Luma | NDArray[np.float32], levels: tuple[int, int], weights: Weights
) -> NDArray[np.float32]:
    """Factor that brings chroma (2, h, w) into gamut: (h, w) in 0..1."""
    y = np.clip((luma.astype(np.float32) - levels[0]) * (1 / (levels[1] - levels[0])), 0, 1)
    red, green, blue = offsets(chroma, weights)
    above = np.maximum(np.maximum(red, green), blue)
    below = np.minimum(np.minimum(red, green), blue)
    scale: NDArray[np.float32] = np.minimum((1 - y) / np.maximum(above, _TINY), y / np.maximum(-below, _TINY))
    return np.minimum(scale, 1)


def offsets(
    chroma: NDArray[np.float32], weights: Weights
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Offsets of red, green and blue (h, w) from luma in 0..1, in gamut or not, of chroma (2, h, w)."""
    blue, red = BLUE_SCALE * chroma[0], RED_SCALE * chroma[1]
    return red, blue * (-weights.blue / weights.green) - red * (weights.red / weights.green), blue


def convert_matrix(luma: Luma, chroma: AnyChroma, levels: tuple[int, int], matrix: Matrix, weights: Weights) -> Luma:
    """Luma with different weights of red, green and blue.

    Args:
        luma: (H, W) codes.
        chroma: (2, H, W).
        levels: The luma codes of black and white.
        matrix: The one that the luma was computed with.
        weights: The new weights; their sum is 1.

    Returns:
        Luma (H, W) of the same type, within the levels.
    """
    old, span = WEIGHTS[matrix], levels[1] - levels[0]
    of_blue = span * BLUE_SCALE * (weights.blue - weights.green * old.blue / old.green)
    of_red = span * RED_SCALE * (weights.red - weights.green * old.red / old.green)
    output = np.empty_like(luma)
    for band in bands(*luma.shape):
        cb, cr = chroma[:, band].astype(np.float32)
        output[band] = np.rint(luma[band] + of_blue * cb + of_red * cr).clip(*levels)
    return output


def to_codes(chroma: AnyChroma, matrix: Matrix, depth: int, levels: tuple[int, int]) -> Luma:
    """Chroma as a video or a JPEG file stores it (ITU-T H.273, 8.3, equations 27 to 32).

    Args:
        chroma: (2, h, w).
        matrix: The one that the luma was computed with.
        depth: Bits per sample, at least 8.
        levels: The luma codes of black and white, which imply full or limited range.

    Returns:
        Cb and Cr (2, h, w), uint8, or uint16 where depth is above 8; neutral is 2 ** (depth - 1), and none is above
        2 ** depth - 1: full range is not symmetric about neutral, so that 0.5 itself has no code of its own.
    """
    span, neutral = _span(depth, levels), 1 << (depth - 1)
    output = np.empty(chroma.shape, np.uint8 if depth == 8 else np.uint16)
    for plane, out, scale in zip(chroma.astype(np.float32, copy=False), output, _scales(matrix), strict=True):
        signal = plane * np.float32(span / scale)
        cv2.addWeighted(signal, 1, signal, 0, neutral, dst=out, dtype=cv2.CV_8U if depth == 8 else cv2.CV_16U)
    return output.clip(round(neutral - span / 2), min(round(neutral + span / 2), 2 * neutral - 1), out=output)


def from_codes(stored: Luma, matrix: Matrix, depth: int, levels: tuple[int, int]) -> Chroma:
    """Chroma (2, h, w) float16 of stored Cb and Cr: the inverse of `to_codes`."""
    tables = _chroma_of_codes(matrix, depth, levels, np.iinfo(stored.dtype).max + 1)
    if stored.dtype != np.uint8:
        return np.stack([table[plane] for table, plane in zip(tables, stored, strict=True)])
    found = np.empty(stored.shape, np.float16)  # OpenCV looks up 16 bits, whatever they mean, in a fifth of numpy's time
    for table, plane, chroma in zip(tables, stored, found.view(np.uint16), strict=True):
        cv2.LUT(plane, table.view(np.uint16), dst=chroma)
    return found


@lru_cache(maxsize=8)
def _chroma_of_codes(matrix: Matrix, depth: int, levels: tuple[int, int], codes: int) -> Chroma:
    """What each code of Cb and of Cr means, (2, codes): looked up, as rounding each sample to float16 takes 6 ms for 720p."""
    scales = np.array(_scales(matrix), np.float32)[:, None] / _span(depth, levels)
    return ((np.arange(codes, dtype=np.float32) - (1 << (depth - 1))) * scales).astype(np.float16)


def _scales(matrix: Matrix) -> tuple[float, float]:
    """Divisors from our Cb and Cr to those of a matrix, which lie in -0.5..0.5."""
    weights = WEIGHTS[matrix]
    return 2 * (1 - weights.blue) / BLUE_SCALE, 2 * (1 - weights.red) / RED_SCALE


def _span(depth: int, levels: tuple[int, int]) -> int:
    """Number of codes that -0.5..0.5 spans."""
    return (1 << depth) - 1 if levels[0] == 0 else 224 << (depth - 8)


def bands(height: int, width: int) -> Iterator[slice]:
    """Slices of rows that together cover a plane (height, width), small enough for the processor's cache."""
    rows = max(1, _BAND // width)
    return (slice(top, top + rows) for top in range(0, height, rows))
