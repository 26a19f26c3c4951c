"""Upsample chroma from the small grid of a prediction to the grid of the output."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import Luma, Matrix
from bwpipe.pixels.resize import resize_area
from bwpipe.pixels.ycbcr import AnyChroma, bands, scale_into_gamut

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


class UpsampledChroma:
    """What `upsample_chroma` makes, on the luma's grid, computed in bands of rows: `chroma[:, band]`, (2, n, W) float32.

    So it takes no memory in proportion to the image's size. Rounding differs in the last bits of float32.

    Args:
        chroma: (2, h, w), on a grid up to the luma's.
        luma: (H, W) codes.
        levels: The luma codes of black and white.
        matrix: The one that the luma was computed with.
    """

    def __init__(self, chroma: AnyChroma, luma: Luma, levels: tuple[int, int], matrix: Matrix) -> None:
        self._luma, self._levels, self._matrix = luma, levels, matrix
        self._chroma = chroma
        self._same = chroma.shape[1:] == luma.shape
        if self._same:
            return
        planes = chroma.astype(np.float32)
        small = self._small_luma(planes.shape[1:])
        mean = _mean(small)
        spread = _mean(small * small) - mean * mean + _EDGE
        slopes = [_mean((_mean(plane * small) - _mean(plane) * mean) / spread) for plane in planes]
        self._small = self._widened(_sharpened(small, luma.shape), cv2.INTER_CUBIC)
        self._slopes = [self._widened(slope, cv2.INTER_LINEAR) for slope in slopes]
        self._planes = [self._widened(_sharpened(plane, luma.shape), cv2.INTER_CUBIC) for plane in planes]

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[np.float32]:
        """The chroma of all columns of some rows, in gamut."""
        band = key[1]
        codes = self._luma[band].astype(np.float32)
        if self._same:
            return scale_into_gamut(self._chroma[:, band], codes, self._levels, self._matrix)
        rows = np.arange(*band.indices(self._luma.shape[0]))
        detail = self._normalised(codes) - self._between(self._small, rows, _cubic)
        large = np.empty((2, *codes.shape), np.float32)
        for i, (slope, plane) in enumerate(zip(self._slopes, self._planes, strict=True)):
            large[i] = self._between(slope, rows, _linear) * detail + self._between(plane, rows, _cubic)
        return scale_into_gamut(large, codes, self._levels, self._matrix)

    def _normalised(self, codes: NDArray[np.float32]) -> NDArray[np.float32]:
        black, white = self._levels
        return (codes - black) / np.float32(white - black)

    def _small_luma(self, size: tuple[int, ...]) -> NDArray[np.float32]:
        """The luma in 0..1, averaged on a grid: rows in bands first, then columns."""
        height, width = self._luma.shape
        narrow = np.empty((height, size[1]), np.float32)
        for band in bands(height, width):
            codes = self._normalised(self._luma[band].astype(np.float32))
            narrow[band] = resize_area(codes, (codes.shape[0], size[1]))
        return resize_area(narrow, size)

    def _widened(self, plane: NDArray[np.float32], kind: int) -> NDArray[np.float32]:
        """A plane (h, w) interpolated to all columns: (h, W)."""
        return np.asarray(cv2.resize(plane, (self._luma.shape[1], plane.shape[0]), interpolation=kind))

    def _between(
        self,
        plane: NDArray[np.float32],
        rows: NDArray[np.int64],
        weights: Callable[[NDArray[np.float64]], Sequence[NDArray[np.float64]]],
    ) -> NDArray[np.float32]:
        """Rows of the full grid, interpolated between those of a plane (h, W), as OpenCV does."""
        height = plane.shape[0]
        if height == self._luma.shape[0]:
            return plane[rows[0] : rows[-1] + 1]
        at = (rows + 0.5) * (height / self._luma.shape[0]) - 0.5
        base = np.floor(at)
        taps = weights(at - base)
        output = np.zeros((rows.size, plane.shape[1]), np.float32)
        for i, weight in enumerate(taps, 1 - len(taps) // 2):
            output += weight[:, None].astype(np.float32) * plane[np.clip(base.astype(np.int64) + i, 0, height - 1)]
        return output


def _linear(t: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Weights of the two nearest rows."""
    return [1 - t, t]


def _cubic(t: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Weights of the four nearest rows (Keys 1981, with a = -0.75)."""
    a = -0.75
    outer = [a * (((x - 5) * x + 8) * x - 4) for x in (1 + t, 2 - t)]
    inner = [((a + 2) * x - (a + 3)) * x * x + 1 for x in (t, 1 - t)]
    return [outer[0], *inner, outer[1]]


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
    return np.asarray(cv2.resize(_sharpened(plane, size), size[::-1], interpolation=cv2.INTER_CUBIC))


def _sharpened(plane: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """A plane whose cubic interpolation to `size` has the averages that the plane has."""
    rows, columns = (_ROUND_TRIP if side < new else _IDENTITY for side, new in zip(plane.shape, size, strict=True))
    return 2 * plane - cv2.sepFilter2D(plane, -1, columns, rows, borderType=cv2.BORDER_REPLICATE)


def _mean(plane: NDArray[np.floating]) -> NDArray[np.float32]:
    """Mean over 3x3 samples."""
    return np.asarray(cv2.blur(plane, (3, 3), borderType=cv2.BORDER_REFLECT_101))
