"""Tells pictures in real colour from toned ones and grey ones."""

from typing import Any, Literal, TypeAlias, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.color import AnyChroma
from bwpipe.frame import Luma
from bwpipe.shrink import averaged, sides

ColourKind: TypeAlias = Literal["grey", "toned", "colour"]

A = TypeVar("A", bound=NDArray[Any])

_SHORT, _CELLS = 256, 16
"""Short sides of the copy on which chroma is compared with luma, and of the grid on which the differences are averaged."""
_SHADES = 64
_LEAST, _SHARE = 0.002, 0.04
"""How far chroma of a toned picture strays from its tone, apart from and as a share of its strength."""
_GREY = 0.015
"""Root mean square of chroma below which a tone is not seen as one."""


def colour_kind(luma: Luma, chroma: AnyChroma) -> ColourKind:
    """Whether a picture is in real colour; toned, which is that its chroma follows from its luma (sepia, cyanotype); or grey.

    The mean chroma of each shade of luma is taken away. What is left strays, in real colour, in all directions; in a toned
    picture a little, and mostly along the tone, as paper ages unevenly. So the area over which it strays decides.

    Args:
        luma: (H, W) codes.
        chroma: (2, h, w).
    """
    size, cells = sides(luma.shape, _SHORT), sides(luma.shape, _CELLS)
    shades = cv2.normalize(averaged(_thinned(luma), size), np.empty(size), 0, _SHADES - 1, cv2.NORM_MINMAX, cv2.CV_8U)
    counts = np.maximum(np.bincount(shades.ravel(), minlength=_SHADES), 1)
    left, power = [], 0.0
    for plane in chroma:
        small = averaged(_thinned(plane).astype(np.float32), size)
        tone = np.bincount(shades.ravel(), small.ravel(), _SHADES) / counts
        left.append(averaged(small - tone.astype(np.float32)[shades], cells).ravel())
        power += float(np.mean(averaged(small, cells) ** 2))
    strength = power**0.5
    spread = max(float(np.linalg.det(np.cov(left, bias=True))), 0) ** 0.25
    if spread > _LEAST + _SHARE * strength:
        return "colour"
    return "toned" if strength > _GREY else "grey"


def _thinned(plane: A) -> A:
    """Every n-th sample of every n-th row, which is enough of a large plane."""
    step = max(1, min(plane.shape) // (2 * _SHORT))
    return cast(A, plane[::step, ::step])
