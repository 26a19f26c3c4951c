"""Network input from frames."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bwpipe.nn.inference import network_input
from bwpipe.pixels.resize import squash
from bwpipe.testing import make_frames


def test_shrinking_averages_areas() -> None:
    plane = np.random.default_rng(0).random((12, 20, 2), dtype=np.float32)

    output = squash(plane, 3, 5)

    assert_allclose(output, plane.reshape(3, 4, 5, 4, 2).mean((1, 3)), atol=1e-6)


def test_shrinking_one_side_and_enlarging_the_other_averages_along_the_first() -> None:
    plane = np.zeros((3, 400), np.uint8)
    plane[:, ::2] = 200

    output = squash(plane, 30, 40)

    assert output.shape == (30, 40)
    assert_array_equal(output, 100)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_the_same_size_keeps_dtype_and_values(kind: type[Any]) -> None:
    plane = np.arange(60).reshape(6, 10).astype(kind)
    plane.flags.writeable = False

    output = squash(plane[::-1, ::-1], 6, 10)

    assert output.dtype == kind
    assert_array_equal(output, plane[::-1, ::-1])


@pytest.mark.parametrize(("depth", "levels"), [(8, (16, 235)), (8, (0, 255)), (10, (64, 940))])
def test_black_is_0_and_white_is_1(depth: int, levels: tuple[int, int]) -> None:
    frame = make_frames(1, depth=depth, levels=levels)[0]
    luma = frame.luma.copy()
    luma[:24], luma[24:] = levels

    batch = network_input(replace(frame, luma=luma), 2, 2)

    assert batch.dtype == np.float32
    assert_array_equal(batch, [[0, 0], [1, 1]])


def test_the_guide_takes_precedence() -> None:
    frame = make_frames(1, levels=(16, 235))[0]
    guide = np.full((4, 4), 51, np.uint8)

    assert_allclose(network_input(replace(frame, guide=guide), 2, 3), 0.2)
