"""Synthetic scenes with known motion, and films made of them, for tests."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe import Frame
from bwpipe.testing import make_frames

HEIGHT, WIDTH = 96, 128
Planes = list[NDArray[np.float32]]


def scene(count: int, seed: int, *, speed: tuple[int, int] | None = None, grain: float = 3) -> Planes:
    """Views (96, 128) of a synthetic landscape, in code values, panning by `speed` pixels (down, across) per frame."""
    rng = np.random.default_rng(seed)
    down, across = speed or (int(rng.integers(-2, 3)), int(rng.integers(-3, 4)))
    high, wide = HEIGHT + abs(down) * count, WIDTH + abs(across) * count
    shapes = [(max(2, high // size), max(2, wide // size)) for size in (48, 16, 6)]
    layers = [cv2.resize(rng.random(shape, dtype=np.float32), (wide, high), interpolation=cv2.INTER_CUBIC) for shape in shapes]
    land = np.asarray(30 + 110 * layers[0] + 60 * layers[1] + 30 * layers[2])
    views = []
    for i in range(count):
        top, left = (i * each if each >= 0 else (count - i) * -each for each in (down, across))
        views.append(land[top : top + HEIGHT, left : left + WIDTH] + rng.normal(0, grain, (HEIGHT, WIDTH)).astype(np.float32))
    return views


def film_of(planes: Sequence[NDArray[np.float32]]) -> list[Frame]:
    """Frames of one film with these luma planes, in code values."""
    frames = make_frames(len(planes), height=planes[0].shape[0], width=planes[0].shape[1], film=True)
    return [replace(frame, luma=_luma(plane)) for frame, plane in zip(frames, planes, strict=True)]


def _luma(plane: NDArray[np.float32]) -> Any:
    luma = np.rint(plane.clip(0, 255)).astype(np.uint8)
    luma.flags.writeable = False
    return luma
