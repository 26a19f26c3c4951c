"""How what is seen moves from frame to frame, on small guides."""

from functools import lru_cache
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import FlowField, Frame
from bwpipe.pixels.levels import full_range
from bwpipe.pixels.resize import fit_short_side, resize_area

L = TypeVar("L", bound=NDArray[Any])

SHORT = 128
"""Cells of the short side of the grid on which motion is looked for."""
LONGEST_GAP = 8
"""A network may be shown every frame of a film, or down to one of so many; those between are filled in along the motion."""
_SHARE, _CELLS = 0.01, 0.5


def motion_plane(frame: Frame) -> NDArray[np.uint8]:
    """A frame's guide, or its luma where it has none, on the grid of motion."""
    if frame.guide is not None:
        return _small(frame.guide)
    return full_range(_small(frame.luma), frame.unit.media.levels)


def _small(plane: L) -> L:
    """A plane on the grid of motion: halved first, which takes a quarter of the time and gives the same but for rounding."""
    size = fit_short_side(plane.shape, SHORT)
    while plane.shape[0] >= 2 * size[0] and plane.shape[1] >= 2 * size[1]:
        plane = resize_area(plane, (plane.shape[0] // 2, plane.shape[1] // 2))
    return resize_area(plane, size)


class Flow:
    """Finds dense motion: Kroeger et al. 2016, "Fast Optical Flow using Dense Inverse Search" (arXiv:1603.03590), as in OpenCV.

    Not for several threads at a time. The bytes do not depend on how many threads OpenCV has.
    """

    def __init__(self) -> None:
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def __call__(self, here: NDArray[np.uint8], there: NDArray[np.uint8]) -> FlowField:
        """Where each cell of one plane (h, w) lies in another."""
        if min(here.shape) < _LEAST:
            return is_static(here.shape)
        return np.asarray(self._search.calc(here, there, None))  # type: ignore[call-overload]  # OpenCV's stub wants a flow


_LEAST = 16
"""Cells that a side needs for motion to be looked for; the search takes patches of 8."""


def is_static(shape: tuple[int, ...]) -> FlowField:
    """A field without motion on a grid (h, w)."""
    return np.zeros((*shape, 2), np.float32)


def warp(plane: NDArray[Any], field: FlowField) -> NDArray[np.float32]:
    """What a plane (h, w) or (h, w, C) shows where a field points: bring it here; beyond its edges it goes on as they are."""
    return sample(plane, places(field))


def places(field: FlowField) -> FlowField:
    """Where a field points: (h, w, 2), the x and the y in the other frame of each cell."""
    return _cells(*field.shape[:2]) + field


def sample(plane: NDArray[Any], places: FlowField) -> NDArray[np.float32]:
    """What a plane (h, w) or (h, w, C) shows at places, as `brought` has it: for several planes that share them."""
    moved = cv2.remap(plane.astype(np.float32, copy=False), places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    return np.asarray(moved)


def forward_backward_error(there: FlowField, back: FlowField) -> NDArray[np.float32]:
    """By how much a way there and back misses its start: the squared distance in cells, (h, w).

    Args:
        there: Where each cell lies in another frame.
        back: Where each cell of that frame lies in this one.
    """
    return _squared(there + warp(back, there))


def consistency_mask(there: FlowField, back: FlowField) -> NDArray[np.bool_]:
    """Where a way there and back ends about where it began, (h, w).

    By the rule of Sundaram, Brox and Keutzer 2010, "Dense Point Trajectories by GPU-Accelerated Large Displacement
    Optical Flow".
    """
    returned = warp(back, there)
    return np.asarray(_squared(there + returned) < _SHARE * (_squared(there) + _squared(returned)) + _CELLS)


def _squared(field: FlowField) -> NDArray[np.float32]:
    """The squared length of each offset; plane by plane, since numpy is slow at an axis of two."""
    across, down = field[..., 0], field[..., 1]
    return np.asarray(across * across + down * down)


def resize_flow(field: FlowField, size: tuple[int, int]) -> FlowField:
    """A field on a grid of another size, in the cells of that."""
    height, width = field.shape[:2]
    smaller = size[0] <= height and size[1] <= width
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    moved: FlowField = np.asarray(cv2.resize(field, size[::-1], interpolation=how), np.float32)
    moved[..., 0] *= size[1] / width
    moved[..., 1] *= size[0] / height
    return moved


@lru_cache(maxsize=8)
def _cells(height: int, width: int) -> FlowField:
    """The x and the y of each cell."""
    down, across = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([across, down], axis=2)
