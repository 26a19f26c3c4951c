"""When coded frames are to be decoded, told from when they are shown."""

import numpy as np
from numpy.typing import NDArray


def decoding_times(shown: NDArray[np.int64]) -> NDArray[np.int64]:
    """Times of decoding for a film whose segments were coded apart, rising and never after the frame is shown.

    They are the times at which frames are shown, in rising order, delayed by as many frames as the one that waits longest for
    others: where each segment has its own delay, the times that its encoder gave do not fit those of the one before. Before the
    first frame is shown they have the distances of the film's first frames (as x264 does, in `x264_encoder_encode`).

    Args:
        shown: (frames,) When each is shown, in the order of decoding; no two are the same.

    Returns:
        (frames,) When each is decoded, in the same units.
    """
    count = len(shown)
    order = np.sort(shown)
    places = np.searchsorted(order, shown)
    delay = int((np.arange(count) - places).max(initial=0))
    if not delay:
        return order
    ahead = order[:delay] - order[delay]
    return np.concatenate([order[0] + ahead, order[: count - delay]])
