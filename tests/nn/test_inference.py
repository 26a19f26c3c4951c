"""What networks see of frames."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bwpipe.nn.inference import network_input
from bwpipe.pixels.resize import squash
from bwpipe.testing import make_frames


def test_smaller_is_the_mean_of_areas() -> None:
    plane = np.random.default_rng(0).random((12, 20, 2), dtype=np.float32)

    made = squash(plane, 3, 5)

    assert_allclose(made, plane.reshape(3, 4, 5, 4, 2).mean((1, 3)), atol=1e-6)


def test_one_side_smaller_and_the_other_larger_is_still_the_mean_along_the_first() -> None:
    plane = np.zeros((3, 400), np.uint8)
    plane[:, ::2] = 200

    made = squash(plane, 30, 40)

    assert made.shape == (30, 40)
    assert_array_equal(made, 100)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_the_type_stays_and_so_does_the_plane(kind: type[Any]) -> None:
    plane = np.arange(60).reshape(6, 10).astype(kind)
    plane.flags.writeable = False

    made = squash(plane[::-1, ::-1], 6, 10)

    assert made.dtype == kind
    assert_array_equal(made, plane[::-1, ::-1])


@pytest.mark.parametrize(("depth", "levels"), [(8, (16, 235)), (8, (0, 255)), (10, (64, 940))])
def test_black_is_0_and_white_is_1(depth: int, levels: tuple[int, int]) -> None:
    frame = make_frames(1, depth=depth, levels=levels)[0]
    luma = frame.luma.copy()
    luma[:24], luma[24:] = levels

    seen = network_input(replace(frame, luma=luma), 2, 2)

    assert seen.dtype == np.float32
    assert_array_equal(seen, [[0, 0], [1, 1]])


def test_the_guide_comes_first() -> None:
    frame = make_frames(1, levels=(16, 235))[0]
    guide = np.full((4, 4), 51, np.uint8)

    assert_allclose(network_input(replace(frame, guide=guide), 2, 3), 0.2)
