"""Levels and noise of luma: percentiles, auto-levels, noise estimate, denoising."""

from math import pi, sqrt
from typing import Any, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import Luma

Tones = tuple[float, float]
"""Two luma codes, the darker one first."""
A = TypeVar("A", bound=NDArray[Any])

_TAILS = (0.005, 0.995)
_MAX_GAIN = 2.0
"""Enough for a faded print, while night scenes stay dark and fog stays foggy."""
_BLOCK = 16
_NEAR_BLACK, _NEAR_WHITE = 16, 239
_LAPLACIAN = np.array([1, -2, 1], np.float32)
"""Along rows and along columns: the difference of two Laplacians (Immerkaer) is their product."""
_CLEAN = 2.0
"""Noise, in 8-bit codes, that is left alone: the fine texture of clean photographs measures as much."""


def tonal_range(luma: Luma) -> Tones:
    """The codes between which 99 % of the samples of luma (H, W) lie."""
    return range_of_counts(np.bincount(luma.ravel()))


def range_of_counts(counts: NDArray[np.int64]) -> tuple[int, int]:
    """The codes between which 99 % of the samples of a histogram (codes,) lie."""
    below = np.cumsum(counts)
    low, high = np.searchsorted(below, np.array(_TAILS) * below[-1])
    return int(low), int(high)


def auto_levels(found: Tones, levels: Tones) -> Tones:
    """The codes to map to black and white so that the range `found` fills `levels`.

    Contrast is at most doubled: a narrow range is widened first, more so on the side with more room.
    """
    low, high = max(found[0], levels[0]), min(found[1], levels[1])
    missing = (levels[1] - levels[0]) / _MAX_GAIN - (high - low)
    if missing <= 0:
        return low, high
    below = (low - levels[0]) / (levels[1] - levels[0] - (high - low))
    return low - below * missing, high + (1 - below) * missing


def stretch(luma: Luma, points: Tones, levels: tuple[int, int]) -> Luma:
    """Map the codes `points` of luma (H, W) to `levels`; values outside are clipped."""
    gain = (levels[1] - levels[0]) / (points[1] - points[0])
    depth = cv2.CV_8U if luma.dtype == np.uint8 else cv2.CV_16U
    mapped = cv2.addWeighted(luma, gain, luma, 0, levels[0] - gain * points[0], dtype=depth)
    return cast(Luma, mapped.clip(*levels))


def full_range(luma: Luma, points: Tones) -> NDArray[np.uint8]:
    """Luma (H, W) in 8 bits: the codes `points` become 0 and 255; values outside are clipped."""
    gain = 255 / (points[1] - points[0])
    return np.asarray(cv2.addWeighted(luma, gain, luma, 0, -gain * points[0], dtype=cv2.CV_8U))


def estimate_noise(luma: NDArray[np.uint8]) -> float:
    """Standard deviation of white noise in full-range luma (H, W), in codes; 0 if it can't be estimated.

    Immerkaer 1996, "Fast Noise Variance Estimation", in each 16x16 block that is neither black nor white. Edges and texture
    count as noise, so the result is the 10th percentile over the blocks.
    """
    height, width = (side // _BLOCK for side in luma.shape)
    if not (height and width):
        return 0.0
    cropped = luma[: height * _BLOCK, : width * _BLOCK]
    response = cv2.convertScaleAbs(cv2.sepFilter2D(cropped, cv2.CV_16S, _LAPLACIAN, _LAPLACIAN))
    response, mean = (cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA) for plane in (response, cropped))
    grey = response[(mean > _NEAR_BLACK) & (mean < _NEAR_WHITE)]
    return float(np.quantile(grey, 0.1)) * sqrt(pi / 2) / 6 if grey.size else 0.0


def denoise(luma: A, levels: tuple[int, int]) -> A:
    """Denoise luma (H, W), uint8 or uint16, with a 3x3 bilateral filter; if hardly noisy, the same array is returned."""
    black, white = levels
    found = estimate_noise(luma if luma.dtype == np.uint8 and levels == (0, 255) else full_range(luma, levels))
    if found <= _CLEAN:
        return luma
    strength = 4 * sqrt(found**2 - _CLEAN**2) * (white - black) / 255
    if luma.dtype == np.uint8:
        return cast(A, cv2.bilateralFilter(luma, 3, strength, 1))
    return cast(A, np.rint(cv2.bilateralFilter(luma.astype(np.float32), 3, strength, 1)).astype(luma.dtype))
