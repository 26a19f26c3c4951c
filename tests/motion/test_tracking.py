from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import Motion
from bwpipe.motion.optical_flow import Flow
from bwpipe.motion.tracking import follow

AT, RADIUS, FRAMES = (60, 85), 17, 37


def planes() -> list[NDArray[np.uint8]]:
    """A disc with hardly any texture that keeps its place, before a surface that moves to the left by 0.75 cells a frame."""
    random = np.random.default_rng(4)
    surface = cv2.GaussianBlur(random.uniform(0, 255, (128, 260)).astype(np.float32), (0, 0), 1.5)
    surface = (surface - surface.mean()) * 5 + 120
    down, across = np.mgrid[:128, :171]
    disc = np.hypot(down - AT[0], across - AT[1]) < RADIUS
    face = 150 + 6 * np.sin(across / 5) * np.cos(down / 7)
    found = []
    for number in range(FRAMES):
        by = np.array([[1, 0, -0.75 * number], [0, 1, 0]], np.float32)
        moved = cv2.warpAffine(surface, by, (171, 128))
        found.append(np.where(disc, face, moved).clip(0, 255).astype(np.uint8))
    return found


def test_a_thing_of_little_texture_is_followed_and_not_what_moves_behind_it() -> None:
    seen, flow = planes(), Flow()
    on = [*(flow(here, after) for here, after in pairwise(seen)), None]
    back = [None, *(flow(after, here) for here, after in pairwise(seen))]
    motions = [Motion(plane, i == 0, i, back[i], on[i]) for i, plane in enumerate(seen)]

    *_, (offset, valid) = follow(iter(motions))

    middle = np.s_[AT[0] - 5 : AT[0] + 6, AT[1] - 5 : AT[1] + 6]
    assert np.abs(offset[middle]).max() < 1
    assert valid[middle].min() == 1
