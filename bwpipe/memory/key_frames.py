"""Which frames of a film are remembered."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SECONDS = 2.0
"""Least time between two key frames."""
_ROUNDING = 1e-6
"""Seconds by which times may differ that are equal but for their rounding."""
NEAR_A_KEY = 16
"""Frames after a coded key frame that are decoded with little work: all of them in FFV1, ProRes and MPEG-2."""
NEIGHBOURS = 16
"""Key frames before and after some frames that are remembered with those among them, so that a scene keeps its colours."""
MOST = 1024
"""Most key frames of a film: of a longer one they are further apart."""


def choose_key_frames(seconds: NDArray[np.float64], keys: NDArray[np.int64], first: int, stop: int) -> list[int]:
    """The indices of a film's key frames: at most one in two seconds, and at most 1024.

    Where a frame is far from the coded key frame before it, the coded key frame after it is taken if it comes soon, since that
    can be decoded by itself. Elsewhere the times alone decide, so that numbered frames and the same film in a codec of archives
    have the same key frames.

    Args:
        seconds: (frames,) The time of each frame, increasing.
        keys: Indices of the coded key frames, ascending; none if each frame is decoded by itself.
        first: Index of the first frame.
        stop: Index after the last.
    """
    if stop <= first:
        return []
    apart = max(SECONDS, float(seconds[stop - 1] - seconds[first]) / MOST)
    chosen: list[int] = []
    at = first
    while at < stop and len(chosen) < MOST:
        number = int(np.searchsorted(keys, at, side="right"))
        before, coded = (int(keys[each]) if 0 <= each < len(keys) else stop for each in (number - 1, number))
        far = at - before > NEAR_A_KEY
        if far and coded < stop and seconds[coded] - seconds[at] <= apart / 2:
            at = coded
        chosen.append(at)
        at = int(np.searchsorted(seconds, seconds[at] + apart - _ROUNDING))
    return chosen


def near(key_frames: Sequence[int], ranges: Sequence[range]) -> list[int]:
    """Of a film's key frames those within ranges of frames, and some before and after each range."""
    chosen: set[int] = set()
    for each in ranges:
        first, last = bisect_left(key_frames, each.start), bisect_right(key_frames, each.stop - 1)
        chosen.update(key_frames[max(first - NEIGHBOURS, 0) : last + NEIGHBOURS])
    return sorted(chosen)
