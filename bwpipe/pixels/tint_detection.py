"""Tell images in real colour from toned and grey ones: for old scans to colourise and photographs to train on."""

from math import hypot, sqrt
from typing import Any, Literal, TypeAlias, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import Luma
from bwpipe.pixels.resize import fit_short_side, resize_area
from bwpipe.pixels.ycbcr import AnyChroma

ColourKind: TypeAlias = Literal["grey", "toned", "colour"]

A = TypeVar("A", bound=NDArray[Any])

_SHORT, _CELLS = 256, 16
"""Short sides of the copy on which chroma is compared with luma, and of the grid on which the differences are averaged."""
_SHADES = 64
_MIN_SPREAD, _SPREAD_SHARE = 0.002, 0.04
"""How far the chroma of a toned image deviates from its tone: a constant, and a share of its strength."""
_GREY = 0.015
"""Root mean square of chroma below which a tone is not visible."""

_HUE_SHORT, _HUE_CELLS = 96, 12
_HUE_MIN, _HUE_SHARE = 0.004, 0.02
"""As above, for a tone that was applied to the whole image at once: the residual is mostly that of the JPEG encoder. By this
criterion, 52 of 13,922 photographs have one hue; about 30 of them were toned."""
_MIN_ALIGNMENT = 0.8
"""Least share of the chroma that points in one direction where there is one hue; 1 is all of it."""


def colour_kind(luma: Luma, chroma: AnyChroma) -> ColourKind:
    """Whether an image is in real colour; toned, i.e. its chroma is a function of its luma (sepia, cyanotype); or grey.

    The mean chroma of each shade of luma is subtracted. In real colour, the residual spreads in all directions; in a toned
    image only a little, and mostly along the tone, as paper ages unevenly. So the area of that spread decides.

    Args:
        luma: (H, W) codes.
        chroma: (2, h, w).
    """
    small, cells = _small(chroma, fit_short_side(luma.shape, _SHORT)), fit_short_side(luma.shape, _CELLS)
    strength = sum(float(np.mean(resize_area(plane, cells) ** 2)) for plane in small) ** 0.5
    residual = [resize_area(plane, cells).ravel() for plane in _residuals(luma, small)]
    spread = max(float(np.linalg.det(np.cov(residual, bias=True))), 0) ** 0.25
    if spread > _MIN_SPREAD + _SPREAD_SHARE * strength:
        return "colour"
    return "toned" if strength > _GREY else "grey"


def has_one_hue(luma: Luma, chroma: AnyChroma) -> bool:
    """Whether an image's chroma follows from its luma alone, in one hue: sepia, a duotone, a photograph through fog or dusk.

    Narrower than "toned" of `colour_kind`, which includes a blue sky with white clouds and a print that has faded unevenly: the
    mean chroma of each shade of luma must explain nearly all chroma, in each direction, and point in one direction.

    Args:
        luma: (H, W) codes.
        chroma: (2, h, w).
    """
    small = _small(chroma, fit_short_side(luma.shape, _HUE_SHORT))
    length = cv2.magnitude(*small)
    power = float(np.mean(length**2))
    if hypot(*(float(np.mean(plane * length)) for plane in small)) <= _MIN_ALIGNMENT * power:
        return False
    cells = fit_short_side(luma.shape, _HUE_CELLS)
    residual = sqrt(sum(float(np.mean(resize_area(plane, cells) ** 2)) for plane in _residuals(luma, small)))
    return residual < _HUE_MIN + _HUE_SHARE * sqrt(power)


def _small(chroma: AnyChroma, size: tuple[int, int]) -> list[NDArray[np.float32]]:
    """The two planes of chroma (2, h, w), downsampled to `size`, height and width."""
    return [resize_area(_subsampled(plane).astype(np.float32, copy=False), size) for plane in chroma]


def _residuals(luma: Luma, chroma: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Chroma, two planes (h, w), less its mean for each shade of luma (H, W)."""
    size = chroma[0].shape
    shades = cv2.normalize(resize_area(_subsampled(luma), size), np.empty(size), 0, _SHADES - 1, cv2.NORM_MINMAX, cv2.CV_8U)
    counts = np.maximum(np.bincount(shades.ravel(), minlength=_SHADES), 1)
    tones = (np.bincount(shades.ravel(), plane.ravel(), _SHADES) / counts for plane in chroma)
    return [plane - tone.astype(np.float32)[shades] for plane, tone in zip(chroma, tones, strict=True)]


def _subsampled(plane: A) -> A:
    """Every nth sample of every nth row, which is enough for a large plane."""
    step = max(1, min(plane.shape) // (2 * _SHORT))
    return cast(A, plane[::step, ::step])
