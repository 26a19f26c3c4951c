"""Follows places of one frame through the others of its shot, along chained optical flow."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import FlowField, Motion
from bwpipe.motion.optical_flow import Flow, forward_backward_error, warp

_ERROR = np.float32(1.0)
"""Squared forward-backward error of the flow between neighbours, in cells, up to which a place is followed."""
_LUMA = np.float32(28)
"""Difference of smoothed luma, in code values, up to which a place is taken for the one that was followed."""
_REFINED = 6
"""Frames after which the chain is compared with the first frame, so that its errors do not add up."""


def follow(motions: Iterable[Motion], *, backwards: bool = False) -> Iterator[tuple[FlowField, NDArray[np.float32]]]:
    """Where the places of frames lie in the first of them.

    Args:
        motions: The motion of consecutive frames of one shot; with `backwards` in descending order.
        backwards: Whether each frame comes before the one in front of it.

    Yields:
        For each frame after the first the flow (h, w, 2) to the first one, and how far it is to be trusted, (h, w) in 0..1.
    """
    flow = Flow()
    first: NDArray[np.uint8] | None = None
    offset = refined = np.zeros((1, 1, 2), np.float32)
    valid = np.ones((1, 1), np.float32)
    for number, (before, here) in enumerate(pairwise(motions), 1):
        if first is None:
            first = before.seen
            offset = refined = np.zeros((*first.shape, 2), np.float32)
            valid = np.ones(first.shape, np.float32)
        step, back = (here.on, before.back) if backwards else (here.back, before.on)
        if step is None or back is None:
            return
        sure = (forward_backward_error(step, back) < _ERROR).astype(np.float32)
        offset = step + warp(offset, step)
        valid = sure * warp(valid, step)
        if number % _REFINED == 0 and min(first.shape) >= _LEAST:
            offset = refined = _refined(flow, here.seen, first, (offset, refined))
        yield offset, np.minimum(valid, _alike(here.seen, first, offset))


_LEAST = 32
"""Least cells per side for a chain to be refined."""


def _refined(flow: Flow, here: NDArray[np.uint8], first: NDArray[np.uint8], offsets: Sequence[FlowField]) -> FlowField:
    """Where places lie, by a search that begins with the best of some offsets for each, except where that looks worse.

    One is the chain of flow, another what was found before: a thing that keeps its place is where it was, and not where its
    flow leads, which is often that of what is behind it: a search from that place ends at another stripe of a pattern.
    """
    begin = _best(here, first, offsets)
    return _best(here, first, (flow.refined(here, first, begin), begin))


def _best(here: NDArray[np.uint8], first: NDArray[np.uint8], offsets: Sequence[FlowField]) -> FlowField:
    """For each place that of some offsets along which the frames look most alike."""
    chosen = np.argmin([cv2.blur(_difference(here, first, each), (5, 5)) for each in offsets], axis=0)
    return np.ascontiguousarray(np.take_along_axis(np.stack(offsets), chosen[None, ..., None], axis=0)[0])


def _alike(here: NDArray[np.uint8], first: NDArray[np.uint8], offset: FlowField) -> NDArray[np.float32]:
    """Where a frame looks like the first one along the flow, 0 or 1."""
    return (cv2.blur(_difference(here, first, offset), (5, 5)) < _LUMA).astype(np.float32)


def _difference(here: NDArray[np.uint8], first: NDArray[np.uint8], offset: FlowField) -> NDArray[np.float32]:
    return np.asarray(np.abs(here.astype(np.float32) - warp(first, offset)), np.float32)
