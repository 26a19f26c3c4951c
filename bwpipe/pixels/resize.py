"""Resizing of planes."""

from typing import Any, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

A = TypeVar("A", bound=NDArray[Any])


def resize_area(plane: A, size: tuple[int, ...]) -> A:
    """Downsample a plane (H, W) to `size`, height and width, by area averaging."""
    if plane.shape == size:
        return plane
    small = cv2.resize(plane, size[::-1], interpolation=cv2.INTER_AREA)
    return cast(A, small)


def halve_towards(plane: A, size: tuple[int, ...]) -> A:
    """Halve a plane (H, W), by area averaging, until it is less than twice as high or as wide as `size`.

    OpenCV averages four samples in a third of the time that it takes for factors that are not whole.
    """
    while plane.shape[0] >= 2 * size[0] and plane.shape[1] >= 2 * size[1]:
        plane = resize_area(plane, (plane.shape[0] // 2, plane.shape[1] // 2))
    return plane


def resize_fast(plane: A, size: tuple[int, ...]) -> A:
    """Downsample a plane (H, W) to `size`, height and width, in an eighth of the time of `resize_area`.

    It is halved as long as that leaves enough, then interpolated linearly, which below a factor of two leaves out little.
    """
    smaller = halve_towards(plane, size)
    return smaller if smaller.shape == size else cast(A, cv2.resize(smaller, size[::-1], interpolation=cv2.INTER_LINEAR))


def fit_short_side(shape: tuple[int, ...], short: int) -> tuple[int, int]:
    """Height and width of an image of that shape, scaled down so that its short side is `short`; never enlarged."""
    scale = min(1, short / min(shape))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


T = TypeVar("T", bound=np.generic)


def squash(plane: NDArray[T], height: int, width: int) -> NDArray[T]:
    """Resize a plane (h, w) or (h, w, C) to (height, width): area averaging along sides that shrink, linear along others."""
    smaller: Any = resize_area(np.ascontiguousarray(plane), (min(plane.shape[0], height), min(plane.shape[1], width)))
    return np.asarray(cv2.resize(smaller, (width, height), interpolation=cv2.INTER_LINEAR), plane.dtype)
