"""Dense optical flow between frames, on a small grid."""

from functools import lru_cache
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import FlowField, Frame
from bwpipe.pixels.levels import full_range
from bwpipe.pixels.resize import fit_short_side, halve_towards, resize_area

L = TypeVar("L", bound=NDArray[Any])

SHORT = 128
"""Cells along the short side of the grid on which optical flow is computed."""
LONGEST_GAP = 8
"""A network may run on every nth frame of a film, up to this n; the frames in between are filled in along the flow."""
_SHARE, _CELLS = 0.01, 0.5


def motion_plane(frame: Frame) -> NDArray[np.uint8]:
    """A frame's guide, or its luma if it has none, on the flow grid."""
    if frame.guide is not None:
        return _small(frame.guide)
    luma, levels = frame.unit.media.on_display(_small(frame.luma))
    return full_range(luma, levels)


def _small(plane: L) -> L:
    """A plane on the flow grid: halved first, which takes a quarter of the time and differs by rounding only."""
    size = fit_short_side(plane.shape, SHORT)
    return resize_area(halve_towards(plane, size), size)


class Flow:
    """Dense optical flow: Kroeger et al. 2016, "Fast Optical Flow using Dense Inverse Search" (arXiv:1603.03590), as in OpenCV.

    Not thread-safe. The result does not depend on how many threads OpenCV uses.
    """

    def __init__(self) -> None:
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def __call__(self, here: NDArray[np.uint8], there: NDArray[np.uint8]) -> FlowField:
        """The flow from one plane (h, w) to another: where each cell of `here` lies in `there`."""
        if min(here.shape) < _MIN_SIDE:
            return zero_flow(here.shape)
        rows, width = here.shape
        if rows < _MIN_ROWS and width >= _WIDE:
            below = _MIN_ROWS - rows
            here, there = (np.pad(plane, ((0, below), (0, 0)), mode="edge") for plane in (here, there))
        self._search.setFinestScale(_FINEST_SCALE)
        return np.asarray(self._search.calc(here, there, None))[:rows]  # type: ignore[call-overload]  # OpenCV's stub wants a flow

    def refined(self, here: NDArray[np.uint8], there: NDArray[np.uint8], begin: FlowField) -> FlowField:
        """The same by a search that begins with a flow field, and goes on to the finest scale, which takes ten times as long.

        One of less than 32 x 91 cells begins with none.
        """
        if min(here.shape) < _MIN_ROWS or max(here.shape) < _LEAST_TO_BEGIN:
            return self(here, there)
        # a new one each time: one that has begun with a flow field reads beyond its memory at another size
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        search.setFinestScale(0)  # at that of the preset a thing of little texture moves with what is behind it
        return np.asarray(search.calc(here, there, begin.copy()))


_FINEST_SCALE = 2
"""The scale at which the search ends: that of the preset. For small planes OpenCV chooses a finer one, and would keep it for
all planes that come later."""
_LEAST_TO_BEGIN = 91
"""Cells along the longer side from which OpenCV's coarsest scale is no finer than the finest; below, a search that begins with
a flow field reads beyond its memory."""
_MIN_SIDE = 16
"""Least cells per side for flow to be computed; the search uses patches of 8."""
_MIN_ROWS, _WIDE = 32, 80
"""OpenCV chooses the coarsest scale by the width alone: from this width on, fewer rows than that are too few for a patch there,
and it fails, or reads beyond its memory."""


def zero_flow(shape: tuple[int, ...]) -> FlowField:
    """A flow field of zeros on a grid (h, w)."""
    return np.zeros((*shape, 2), np.float32)


def warp(plane: NDArray[Any], field: FlowField) -> NDArray[np.float32]:
    """Backward-warp a plane (h, w) or (h, w, C) by a flow field (bilinear, edges replicated)."""
    return sample(plane, places(field))


def places(field: FlowField) -> FlowField:
    """The coordinates that a flow field points to: (h, w, 2), x and y in the other frame for each cell."""
    return _cells(*field.shape[:2]) + field


def sample(plane: NDArray[Any], places: FlowField) -> NDArray[np.float32]:
    """Sample a plane (h, w) or (h, w, C) at coordinates, as `warp` does: for several planes that share them."""
    sampled = cv2.remap(plane.astype(np.float32, copy=False), places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    return np.asarray(sampled)


def forward_backward_error(there: FlowField, back: FlowField) -> NDArray[np.float32]:
    """Squared forward-backward flow error, (h, w), in cells.

    Args:
        there: The flow from this frame to another.
        back: The flow from that frame to this one.
    """
    return _squared(there + warp(back, there))


def consistency_mask(there: FlowField, back: FlowField) -> NDArray[np.bool_]:
    """Where forward and backward flow agree, (h, w).

    By the criterion of Sundaram, Brox and Keutzer 2010, "Dense Point Trajectories by GPU-Accelerated Large Displacement
    Optical Flow".
    """
    returned = warp(back, there)
    return np.asarray(_squared(there + returned) < _SHARE * (_squared(there) + _squared(returned)) + _CELLS)


def _squared(field: FlowField) -> NDArray[np.float32]:
    """The squared length of each offset; plane by plane, since numpy is slow on an axis of length two."""
    across, down = field[..., 0], field[..., 1]
    return np.asarray(across * across + down * down)


def resize_flow(field: FlowField, size: tuple[int, int]) -> FlowField:
    """A flow field resampled to another grid, in cells of that grid."""
    height, width = field.shape[:2]
    smaller = size[0] <= height and size[1] <= width
    interpolation = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    resized: FlowField = np.asarray(cv2.resize(field, size[::-1], interpolation=interpolation), np.float32)
    resized[..., 0] *= size[1] / width
    resized[..., 1] *= size[0] / height
    return resized


@lru_cache(maxsize=8)
def _cells(height: int, width: int) -> FlowField:
    """The x and y of each cell."""
    down, across = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([across, down], axis=2)
