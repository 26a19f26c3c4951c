"""Which hues the colours of pictures have."""

import numpy as np
from numpy.typing import NDArray

from bwpipe.color import from_rgb

NAMES = {
    "red": (2, 0, 0),
    "orange": (2, 1, 0),
    "yellow": (2, 2, 0),
    "green": (0, 2, 0),
    "cyan": (0, 2, 2),
    "azure": (0, 1, 2),
    "blue": (0, 0, 2),
    "purple": (2, 0, 2),
}
"""Hues by the ratio of red, green and blue in the middle of each; a pixel has the one whose angle in (Cb, Cr) is nearest."""
COLOURED = 0.02
"""The length of (Cb, Cr), full range -0.5..0.5, from which on a pixel counts as coloured."""


def _middles() -> NDArray[np.float32]:
    """(Q, 2) the direction of each hue in (Cb, Cr)."""
    row = np.array([list(NAMES.values())], np.uint8) * np.uint8(127)  # as bright as 8 bits hold
    chroma = from_rgb(row)[1][:, 0].T.astype(np.float32)
    return np.asarray(chroma / np.linalg.norm(chroma, axis=1, keepdims=True))


_MIDDLES = _middles()


def hues(chroma: NDArray[np.float32]) -> NDArray[np.float64]:
    """How much of each hue is in a picture.

    Args:
        chroma: (2, h, w), full range -0.5..0.5.

    Returns:
        (Q,) for each of `NAMES`, the length of chroma of its pixels, divided by the number of all pixels.
    """
    planes = chroma.reshape(2, -1)
    length = np.hypot(*planes)
    coloured = length > COLOURED
    places = (_MIDDLES @ planes[:, coloured]).argmax(axis=0)
    return np.asarray(np.bincount(places, length[coloured], len(NAMES)) / length.size)
