"""Rotate planes upright and back: EXIF tag 274, Orientation (CIPA DC-008, 4.6.4.A)."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

P = TypeVar("P", bound=np.generic)

_REVERSED = {2: (False, True), 3: (True, True), 4: (True, False), 6: (False, True), 7: (True, True), 8: (True, False)}
"""Whether rows and columns are reversed, after they are transposed for 5 to 8."""


def upright(plane: NDArray[P], orientation: int) -> NDArray[P]:
    """A plane in display orientation.

    Args:
        plane: (..., H, W) as stored.
        orientation: 1 to 8.

    Returns:
        A view: (..., H, W), or (..., W, H) for 5 to 8.
    """
    return _mirror(plane.swapaxes(-2, -1) if orientation >= 5 else plane, orientation)


def stored(plane: NDArray[P], orientation: int) -> NDArray[P]:
    """Inverse of `upright`: a view of an upright plane (..., H, W) in storage orientation."""
    mirrored = _mirror(plane, orientation)
    return mirrored.swapaxes(-2, -1) if orientation >= 5 else mirrored


def _mirror(plane: NDArray[P], orientation: int) -> NDArray[P]:
    rows, columns = _REVERSED.get(orientation, (False, False))
    return plane[..., :: -1 if rows else 1, :: -1 if columns else 1]
