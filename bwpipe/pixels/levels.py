"""How dark, how light and how noisy luma is, and what evens it."""

from math import pi, sqrt
from typing import Any, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import Luma

Tones = tuple[float, float]
"""Two luma codes, a darker and a lighter one."""
A = TypeVar("A", bound=NDArray[Any])

_TAILS = (0.005, 0.995)
_MOST_GAIN = 2.0
"""Enough for a faded print, while night stays dark and fog stays foggy."""
_BLOCK = 16
_NEAR_BLACK, _NEAR_WHITE = 16, 239
_LAPLACIAN = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_CLEAN = 2.0
"""Noise, in codes of 8 bits, that is left alone: the fine texture of clean photographs measures as much."""


def tonal_range(luma: Luma) -> Tones:
    """The codes between which 99 of 100 samples of luma (H, W) lie."""
    counts = np.cumsum(np.bincount(luma.ravel()))
    low, high = np.searchsorted(counts, np.array(_TAILS) * counts[-1])
    return int(low), int(high)


def auto_levels(found: Tones, levels: Tones) -> Tones:
    """The codes that are to become black and white, so that what lies in `found` fills `levels`.

    Contrast is at most doubled: where `found` is narrow, it is taken to be wider, more so on the side with more room.
    """
    low, high = max(found[0], levels[0]), min(found[1], levels[1])
    missing = (levels[1] - levels[0]) / _MOST_GAIN - (high - low)
    if missing <= 0:
        return low, high
    below = (low - levels[0]) / (levels[1] - levels[0] - (high - low))
    return low - below * missing, high + (1 - below) * missing


def stretch(luma: Luma, points: Tones, levels: tuple[int, int]) -> Luma:
    """Luma (H, W) with the codes `points` brought to `levels`; what lies outside is clipped."""
    gain = (levels[1] - levels[0]) / (points[1] - points[0])
    depth = cv2.CV_8U if luma.dtype == np.uint8 else cv2.CV_16U
    moved = cv2.addWeighted(luma, gain, luma, 0, levels[0] - gain * points[0], dtype=depth)
    return cast(Luma, moved.clip(*levels))


def full_range(luma: Luma, points: Tones) -> NDArray[np.uint8]:
    """Luma (H, W) in 8 bits: the codes `points` become 0 and 255, and what lies outside is clipped."""
    gain = 255 / (points[1] - points[0])
    return np.asarray(cv2.addWeighted(luma, gain, luma, 0, -gain * points[0], dtype=cv2.CV_8U))


def estimate_noise(luma: NDArray[np.uint8]) -> float:
    """The standard deviation of white noise in luma (H, W), full range, in codes; 0 where that can't be told.

    Immerkaer 1996, "Fast Noise Variance Estimation", in each block of 16x16 that is neither black nor white. Edges and texture
    count as noise, so the result is what a tenth of the blocks do not exceed.
    """
    height, width = (side // _BLOCK for side in luma.shape)
    if not (height and width):
        return 0.0
    whole = luma[: height * _BLOCK, : width * _BLOCK]
    rough = cv2.convertScaleAbs(cv2.filter2D(whole, cv2.CV_16S, _LAPLACIAN))
    rough, mean = (cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA) for plane in (rough, whole))
    grey = rough[(mean > _NEAR_BLACK) & (mean < _NEAR_WHITE)]
    return float(np.quantile(grey, 0.1)) * sqrt(pi / 2) / 6 if grey.size else 0.0


def denoise(luma: A, levels: tuple[int, int]) -> A:
    """Luma (H, W), uint8 or uint16, with less noise; the very same where there is hardly any. A bilateral filter of 3x3."""
    black, white = levels
    found = estimate_noise(luma if luma.dtype == np.uint8 and levels == (0, 255) else full_range(luma, levels))
    if found <= _CLEAN:
        return luma
    strength = 4 * sqrt(found**2 - _CLEAN**2) * (white - black) / 255
    if luma.dtype == np.uint8:
        return cast(A, cv2.bilateralFilter(luma, 3, strength, 1))
    return cast(A, np.rint(cv2.bilateralFilter(luma.astype(np.float32), 3, strength, 1)).astype(luma.dtype))
