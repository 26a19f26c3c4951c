"""Which frames of a film are remembered."""

import numpy as np
from numpy.typing import NDArray

SECONDS = 2.0
"""Least time between two key frames."""
_ROUNDING = 1e-6
"""Seconds by which times may differ that are equal but for their rounding."""
MOST = 1024
"""Most key frames of a film: of a longer one they are further apart."""


def choose_key_frames(seconds: NDArray[np.float64], keys: NDArray[np.int64], first: int, stop: int) -> list[int]:
    """The indices of a film's key frames: at most one in two seconds, and at most 1024.

    A coded key frame is taken if one comes soon, since it can be decoded by itself.

    Args:
        seconds: (frames,) The time of each frame, increasing.
        keys: Indices of the coded key frames, ascending.
        first: Index of the first frame.
        stop: Index after the last.
    """
    if stop <= first:
        return []
    apart = max(SECONDS, float(seconds[stop - 1] - seconds[first]) / MOST)
    chosen: list[int] = []
    at = first
    while at < stop and len(chosen) < MOST:
        number = int(np.searchsorted(keys, at))
        coded = int(keys[number]) if number < len(keys) else stop
        if coded < stop and seconds[coded] - seconds[at] <= apart / 2:
            at = coded
        chosen.append(at)
        at = int(np.searchsorted(seconds, seconds[at] + apart - _ROUNDING))
    return chosen
