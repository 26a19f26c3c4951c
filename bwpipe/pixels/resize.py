"""Brings planes to coarser grids."""

from typing import Any, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

A = TypeVar("A", bound=NDArray[Any])


def resize_area(plane: A, size: tuple[int, ...]) -> A:
    """A plane (H, W) on a grid of `size`, height and width: what each cell of that grid holds on average."""
    if plane.shape == size:
        return plane
    small = cv2.resize(plane, size[::-1], interpolation=cv2.INTER_AREA)
    return cast(A, small)


def fit_short_side(shape: tuple[int, ...], short: int) -> tuple[int, int]:
    """The height and width of a picture of that shape when its shorter side is brought down to `short`; never larger."""
    scale = min(1, short / min(shape))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


T = TypeVar("T", bound=np.generic)


def squash(plane: NDArray[T], height: int, width: int) -> NDArray[T]:
    """Bring a plane (h, w) or (h, w, C) to (height, width): by area averaging where it gets smaller, else linearly."""
    smaller: Any = resize_area(np.ascontiguousarray(plane), (min(plane.shape[0], height), min(plane.shape[1], width)))
    return np.asarray(cv2.resize(smaller, (width, height), interpolation=cv2.INTER_LINEAR), plane.dtype)
