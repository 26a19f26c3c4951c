"""Correlation of predicted chroma with the reference."""

import numpy as np
from numpy.typing import NDArray

from bwpipe.pixels.resize import squash

SIDE = 64
"""Height and width of the grid to which each image is averaged, so that all count equally."""
_FLAT = 1e-9
"""Variances below this share of the mean square are rounding errors."""


class Correlation:
    """Pearson correlation of predicted and reference chroma over all pixels of all images, Cb and Cr pooled."""

    def __init__(self) -> None:
        self._count = 0
        self._sums = np.zeros(5)  # of prediction, reference, prediction ** 2, reference ** 2, prediction * reference

    def add(self, prediction: NDArray[np.floating], reference: NDArray[np.floating]) -> None:
        """Add an image.

        Args:
            prediction: (2, h, w), in any unit.
            reference: (2, H, W), in any unit.
        """
        x, y = _averaged(prediction), _averaged(reference)
        self._count += x.size
        self._sums += [x.sum(), y.sum(), x @ x, y @ y, x @ y]

    @property
    def value(self) -> float:
        """From -1 to 1; 0 if either is constant, as grey is, since then the correlation is undefined."""
        x, y, xx, yy, xy = self._sums / max(self._count, 1)
        if xx - x * x <= _FLAT * xx or yy - y * y <= _FLAT * yy:
            return 0.0
        return float((xy - x * y) / np.sqrt((xx - x * x) * (yy - y * y)))


def _averaged(planes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Average planes (2, h, w) to the common grid, flattened."""
    return squash(planes.transpose(1, 2, 0).astype(np.float32), SIDE, SIDE).ravel().astype(np.float64)
