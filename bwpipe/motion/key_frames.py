"""Key frames of a film: those that motion does not explain by the last one, so that a network has to see them."""

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import FlowField
from bwpipe.motion.optical_flow import consistency_mask, places, sample, zero_flow

MOST_APART = 8
"""The most frames from one key frame to the next. With half as many a run takes a tenth to a fifth more CPU time, and its
colours come nearer to those of a run that sees every frame by a CIEDE2000 of 0.01 to 0.05. Without `anchor`, chroma wanders by
up to a third more where nothing moves."""
_EXPLAINED = 0.85
"""Least share of a frame that motion from the last key frame has to explain for it not to be one."""
_LUMA = np.float32(24)
"""Difference of luma along the motion, in code values, from which on motion explains nothing: grain and flicker are below."""


class KeyFrames:
    """Finds the key frames of consecutive frames.

    Where each part of a frame was in the last key frame follows from the optical flow of every step in between. It is explained
    as long as forward and backward flow agree at each step (`consistency_mask`) and its luma is that of the key frame: so not
    where something was uncovered, came into the picture, or is another thing. Every second cell of every second row is enough.
    """

    def __init__(self) -> None:
        self._plane: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self._moved: FlowField = zero_flow((0, 0))
        self._known: NDArray[np.float32] = self._plane
        self._apart = 0

    def is_key(self, seen: NDArray[np.uint8], back: FlowField | None, forward: FlowField | None, *, ends: bool) -> bool:
        """Whether the next frame is a key frame.

        Args:
            seen: (h, w) uint8, the frame on the grid of the flow.
            back: (h, w, 2) the flow to the frame before it; None if a shot begins here.
            forward: (h, w, 2) the flow from that frame to this one; None as well.
            ends: Whether the shot ends with it, so that no later frame of it will be a key frame.
        """
        here = seen[::2, ::2].astype(np.float32)
        self._apart += 1
        if back is None or forward is None or self._apart >= MOST_APART or (ends and self._apart > MOST_APART // 2):
            return self._begin(here)
        back, forward = (np.ascontiguousarray(field[::2, ::2]) / np.float32(2) for field in (back, forward))
        coordinates = places(back)
        self._moved = back + sample(self._moved, coordinates)
        before = places(self._moved)
        across, down = before[..., 0], before[..., 1]  # plane by plane, since numpy is slow on an axis of length two
        inside = (across >= 0) & (across <= here.shape[1] - 1) & (down >= 0) & (down <= here.shape[0] - 1)
        alike = np.abs(sample(self._plane, before) - here) < _LUMA
        steps = np.minimum(sample(self._known, coordinates), consistency_mask(back, forward))
        self._known = np.asarray(steps, np.float32)
        explained = np.count_nonzero(inside & alike & (self._known > 0.5)) / here.size
        return bool(explained < _EXPLAINED) and self._begin(here)

    def _begin(self, here: NDArray[np.float32]) -> bool:
        """Take a frame as the key frame to compare with."""
        self._plane, self._moved = here, zero_flow(here.shape)
        self._known = np.ones(here.shape, np.float32)
        self._apart = 0
        return True
