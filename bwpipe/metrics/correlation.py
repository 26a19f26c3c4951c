"""How far guessed chroma goes with the truth."""

import numpy as np
from numpy.typing import NDArray

from bwpipe.pixels.resize import squash

SIDE = 64
"""Height and width of the grid that each picture is averaged to, so that each counts the same."""
_FLAT = 1e-9
"""The share of its mean square that a variance is above, unless it is what rounding leaves of none."""


class Correlation:
    """Pearson's correlation of guessed and true chroma over all pixels of all pictures, Cb and Cr pooled."""

    def __init__(self) -> None:
        self._count = 0
        self._sums = np.zeros(5)  # of guess, truth, guess ** 2, truth ** 2, guess * truth

    def add(self, guess: NDArray[np.floating], truth: NDArray[np.floating]) -> None:
        """Add a picture.

        Args:
            guess: (2, h, w), in any unit.
            truth: (2, H, W), in any unit.
        """
        x, y = _averaged(guess), _averaged(truth)
        self._count += x.size
        self._sums += [x.sum(), y.sum(), x @ x, y @ y, x @ y]

    @property
    def value(self) -> float:
        """From -1 to 1; 0 where either never changes, as grey does, and so can't go with the other."""
        x, y, xx, yy, xy = self._sums / max(self._count, 1)
        if xx - x * x <= _FLAT * xx or yy - y * y <= _FLAT * yy:
            return 0.0
        return float((xy - x * y) / np.sqrt((xx - x * x) * (yy - y * y)))


def _averaged(planes: NDArray[np.floating]) -> NDArray[np.float64]:
    """All values of planes (2, h, w) on the common grid."""
    return squash(planes.transpose(1, 2, 0).astype(np.float32), SIDE, SIDE).ravel().astype(np.float64)
