"""Tells pictures in real colour from toned ones and grey ones: old scans to be coloured, and photographs to learn from."""

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
_LEAST, _SHARE = 0.002, 0.04
"""How far chroma of a toned picture strays from its tone, apart from and as a share of its strength."""
_GREY = 0.015
"""Root mean square of chroma below which a tone is not seen as one."""

_HUE_SHORT, _HUE_CELLS = 96, 12
_HUE_LEAST, _HUE_SHARE = 0.004, 0.02
"""As above, for a tone that was given to the whole picture at once: what is left is mostly the JPEG encoder's. By this, 52 of
13,922 photographs have one hue, of which about 30 were toned."""
_STRAIGHT = 0.8
"""How much of the chroma points one way where there is one hue: 1 is all of it."""


def colour_kind(luma: Luma, chroma: AnyChroma) -> ColourKind:
    """Whether a picture is in real colour; toned, which is that its chroma follows from its luma (sepia, cyanotype); or grey.

    The mean chroma of each shade of luma is taken away. What is left strays, in real colour, in all directions; in a toned
    picture a little, and mostly along the tone, as paper ages unevenly. So the area over which it strays decides.

    Args:
        luma: (H, W) codes.
        chroma: (2, h, w).
    """
    small, cells = _small(chroma, fit_short_side(luma.shape, _SHORT)), fit_short_side(luma.shape, _CELLS)
    strength = sum(float(np.mean(resize_area(plane, cells) ** 2)) for plane in small) ** 0.5
    stray = [resize_area(plane, cells).ravel() for plane in _beside_tone(luma, small)]
    spread = max(float(np.linalg.det(np.cov(stray, bias=True))), 0) ** 0.25
    if spread > _LEAST + _SHARE * strength:
        return "colour"
    return "toned" if strength > _GREY else "grey"


def has_one_hue(luma: Luma, chroma: AnyChroma) -> bool:
    """Whether a picture was coloured by its luma alone and in one hue: sepia, a duotone, a photograph through fog or dusk.

    Narrower than what `colour_kind` calls toned, to which a blue sky with white clouds belongs, and a print that has faded
    unevenly: the mean chroma of each shade of luma must say nearly all, in each direction, and point one way.

    Args:
        luma: (H, W) codes.
        chroma: (2, h, w).
    """
    small = _small(chroma, fit_short_side(luma.shape, _HUE_SHORT))
    length = cv2.magnitude(*small)
    power = float(np.mean(length**2))
    if hypot(*(float(np.mean(plane * length)) for plane in small)) <= _STRAIGHT * power:
        return False
    cells = fit_short_side(luma.shape, _HUE_CELLS)
    stray = sqrt(sum(float(np.mean(resize_area(plane, cells) ** 2)) for plane in _beside_tone(luma, small)))
    return stray < _HUE_LEAST + _HUE_SHARE * sqrt(power)


def _small(chroma: AnyChroma, size: tuple[int, int]) -> list[NDArray[np.float32]]:
    """The two planes of chroma (2, h, w) on a grid of `size`, height and width."""
    return [resize_area(_thinned(plane).astype(np.float32, copy=False), size) for plane in chroma]


def _beside_tone(luma: Luma, chroma: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Chroma, two planes (h, w), without the mean of each shade of luma (H, W)."""
    size = chroma[0].shape
    shades = cv2.normalize(resize_area(_thinned(luma), size), np.empty(size), 0, _SHADES - 1, cv2.NORM_MINMAX, cv2.CV_8U)
    counts = np.maximum(np.bincount(shades.ravel(), minlength=_SHADES), 1)
    tones = (np.bincount(shades.ravel(), plane.ravel(), _SHADES) / counts for plane in chroma)
    return [plane - tone.astype(np.float32)[shades] for plane, tone in zip(chroma, tones, strict=True)]


def _thinned(plane: A) -> A:
    """Every n-th sample of every n-th row, which is enough of a large plane."""
    step = max(1, min(plane.shape) // (2 * _SHORT))
    return cast(A, plane[::step, ::step])
