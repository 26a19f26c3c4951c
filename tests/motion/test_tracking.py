from itertools import pairwise

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from bwpipe.core.frame import Motion
from bwpipe.motion.optical_flow import Flow
from bwpipe.motion.tracking import follow

AT, RADIUS, FRAMES = (60, 85), 17, 37
DOWN, ACROSS = np.mgrid[:128, :171]
PLAIN = 150 + 6 * np.sin(ACROSS / 5) * np.cos(DOWN / 7)
STRIPES = 150 + 20 * np.sin((ACROSS + 0.6 * DOWN) * np.pi / 4)


def planes(face: NDArray[np.float64]) -> list[NDArray[np.uint8]]:
    """A disc of a face that keeps its place, before a surface that moves to the left by 0.75 cells a frame."""
    random = np.random.default_rng(4)
    surface = cv2.GaussianBlur(random.uniform(0, 255, (128, 260)).astype(np.float32), (0, 0), 1.5)
    surface = (surface - surface.mean()) * 5 + 120
    disc = np.hypot(DOWN - AT[0], ACROSS - AT[1]) < RADIUS
    found = []
    for number in range(FRAMES):
        by = np.array([[1, 0, -0.75 * number], [0, 1, 0]], np.float32)
        moved = cv2.warpAffine(surface, by, (171, 128))
        found.append(np.where(disc, face, moved).clip(0, 255).astype(np.uint8))
    return found


@pytest.mark.parametrize("face", [PLAIN, STRIPES], ids=["of little texture", "with stripes"])
def test_a_thing_is_followed_and_not_what_moves_behind_it(face: NDArray[np.float64]) -> None:
    seen, flow = planes(face), Flow()
    on = [*(flow(here, after) for here, after in pairwise(seen)), None]
    back = [None, *(flow(after, here) for here, after in pairwise(seen))]
    motions = [Motion(plane, i == 0, i, back[i], on[i]) for i, plane in enumerate(seen)]

    *_, (offset, valid) = follow(iter(motions))

    middle = np.s_[AT[0] - 5 : AT[0] + 6, AT[1] - 5 : AT[1] + 6]
    assert np.abs(offset[middle]).max() < 1
    assert valid[middle].min() == 1
