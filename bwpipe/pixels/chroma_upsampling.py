"""Upsample chroma from the small grid of a prediction to the grid of the output."""

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import Luma, Matrix
from bwpipe.pixels.resize import resize_area
from bwpipe.pixels.ycbcr import AnyChroma, scale_into_gamut

_EDGE = np.float32(0.02)
"""Luma variance (luma in 0..1) of an edge that chroma follows half-way. That of grain is far lower, so it leaves no trace."""
_ROUND_TRIP = np.array([-0.02, 0.094, 0.852, 0.094, -0.02], np.float32)
"""Weights of a sample and its neighbours after cubic upsampling and averaging back to the coarse grid."""
_IDENTITY = np.ones(1, np.float32)


def upsample_chroma(
    chroma: AnyChroma, luma: Luma, levels: tuple[int, int], matrix: Matrix, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Resample chroma to another grid and scale it into gamut; on a finer grid, chroma edges follow those of luma.

    Cubic interpolation, plus the difference of luma from its own cubic interpolation times the slope of chroma over luma in 3x3
    samples of the small grid: a guided filter (He & Sun 2015, "Fast Guided Filter", arXiv:1505.00996) without its smoothing of
    chroma. Averaged back to the small grid, the result reproduces the input. On a coarser grid, chroma is averaged.

    Args:
        chroma: (2, h, w).
        luma: (H, W) codes, on any grid no coarser than `size`.
        levels: The luma codes of black and white.
        matrix: The one that the luma was computed with.
        size: Height and width of the output grid.

    Returns:
        Chroma (2, *size) float32, in gamut (`scale_into_gamut`).
    """
    resized = resize_area(luma, size).astype(np.float32)
    height, width = (min(sides) for sides in zip(size, chroma.shape[1:], strict=True))
    small = np.stack([resize_area(plane, (height, width)) for plane in chroma.astype(np.float32)])
    large = small if (height, width) == size else _guided(small, (resized - levels[0]) / np.float32(levels[1] - levels[0]))
    return scale_into_gamut(large, resized, levels, matrix)


def _guided(chroma: NDArray[np.float32], luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Upsample chroma (2, h, w) to the grid of luma (H, W) in 0..1."""
    small = resize_area(luma, chroma.shape[1:])
    detail = luma - _interpolated(small, luma.shape)
    mean = _mean(small)
    spread = _mean(small * small) - mean * mean + _EDGE
    large = np.empty((2, *luma.shape), np.float32)
    for i, plane in enumerate(chroma):
        slope = _mean((_mean(plane * small) - _mean(plane) * mean) / spread)
        cv2.resize(slope, luma.shape[::-1], dst=large[i], interpolation=cv2.INTER_LINEAR)
        large[i] *= detail
        large[i] += _interpolated(plane, luma.shape)
    return large


def _interpolated(plane: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """Upsample a plane so that its area averages on the original grid are the original samples."""
    rows, columns = (_ROUND_TRIP if side < new else _IDENTITY for side, new in zip(plane.shape, size, strict=True))
    sharp = 2 * plane - cv2.sepFilter2D(plane, -1, columns, rows, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(sharp, size[::-1], interpolation=cv2.INTER_CUBIC))


def _mean(plane: NDArray[np.floating]) -> NDArray[np.float32]:
    """Mean over 3x3 samples."""
    return np.asarray(cv2.blur(plane, (3, 3), borderType=cv2.BORDER_REFLECT_101))
