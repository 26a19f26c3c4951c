"""Optical flow on small grids: warping, consistency, resampling."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bwpipe.motion.optical_flow import (
    SHORT,
    Flow,
    consistency_mask,
    forward_backward_error,
    motion_plane,
    resize_flow,
    warp,
    zero_flow,
)
from bwpipe.pixels.resize import fit_short_side, resize_area
from bwpipe.testing import make_frames
from tests.support.made_scenes import scene


def test_warp_samples_where_the_flow_points() -> None:
    plane = np.arange(12, dtype=np.float32).reshape(3, 4)
    field = zero_flow((3, 4))
    field[..., 0], field[..., 1] = 1, 0.5

    moved = warp(plane, field)

    assert_allclose(moved[:2, :3], plane[:2, 1:] + 2)
    assert_allclose(moved[:2, 3], plane[:2, 3] + 2)  # beyond the edge


def test_backward_flow_that_leads_elsewhere_is_inconsistent() -> None:
    there, back = zero_flow((8, 9)) + np.float32(2), zero_flow((8, 9)) - np.float32(2)
    back[:, 6:] += 3

    assert_array_equal(consistency_mask(there, back)[:, :4], True)
    assert_array_equal(consistency_mask(there, back)[:, 5:], False)
    assert_allclose(forward_backward_error(there, back)[:, :4], 0)
    assert_allclose(forward_backward_error(there, back)[:, 5:], 18)


def test_a_resized_flow_is_in_cells_of_its_new_grid() -> None:
    field = zero_flow((40, 60)) + np.array([6, -4], np.float32)

    assert_allclose(resize_flow(field, (20, 20)), zero_flow((20, 20)) + np.array([2, -2], np.float32))
    assert_allclose(resize_flow(field, (80, 90)), zero_flow((80, 90)) + np.array([9, -8], np.float32))


def test_flow_is_computed_on_the_guide_or_else_on_full_range_luma() -> None:
    frame = make_frames(1, height=300, width=400, levels=(16, 235), film=True)[0]
    guide = np.full((256, 341), 7, np.uint8)

    assert_array_equal(motion_plane(replace(frame, guide=guide)), np.full((SHORT, 170), 7))
    assert motion_plane(frame).shape == (SHORT, 171)
    assert_allclose(motion_plane(frame).mean(), (frame.luma.mean() - 16) / 219 * 255, atol=1)


@pytest.mark.parametrize("size", [(301, 407), (512, 910), (129, 255)])
def test_the_motion_plane_is_the_average_of_the_guide(size: tuple[int, int]) -> None:
    frame = make_frames(1, height=size[0], width=size[1], film=True)[0]
    guide = frame.luma.astype(np.uint8)

    small = motion_plane(replace(frame, guide=guide))

    assert_allclose(small.astype(float), resize_area(guide, fit_short_side(size, SHORT)).astype(float), atol=2)


def test_resizing_to_the_same_grid_copies_the_flow() -> None:
    field = zero_flow((9, 7)) + np.float32(3)

    same = resize_flow(field, (9, 7))

    assert_array_equal(same, field)
    assert not np.shares_memory(same, field)


@pytest.mark.parametrize("shape", [(16, 80), (16, 128), (24, 300), (31, 512), (16, 1024), (17, 4096)])
def test_flow_of_low_and_wide_planes_finds_a_shift(shape: tuple[int, int]) -> None:
    here = cv2.GaussianBlur(np.random.default_rng(7).integers(0, 256, (shape[0], shape[1] + 2), np.uint8), (0, 0), 2)
    here = cv2.normalize(here, None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]

    field = Flow()(np.ascontiguousarray(here[:, 2:]), np.ascontiguousarray(here[:, :-2]))

    assert field.shape == (*shape, 2)
    assert abs(float(np.median(field[..., 0])) - 2) < 0.3
    assert abs(float(np.median(field[..., 1]))) < 0.3


def test_flow_does_not_depend_on_previous_calls() -> None:
    one, two, three = (plane.clip(0, 255).astype(np.uint8) for plane in scene(3, 0))
    flow = Flow()

    first = flow(one, two)
    flow(two, three)

    assert_array_equal(flow(one, two), first)


@pytest.mark.parametrize("size", [(17, 40), (30, 60), (33, 40), (33, 90), (60, 45)])
def test_flow_does_not_depend_on_the_sizes_that_were_seen_before(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    here, there = (plane.clip(0, 255).astype(np.uint8) for plane in scene(2, 0))
    small = rng.integers(0, 256, size, np.uint8)
    begin = zero_flow(here.shape)
    fresh, used = Flow(), Flow()

    used.refined(small, small, used(small, small))

    assert_array_equal(used(here, there), fresh(here, there))
    assert_array_equal(used.refined(here, there, begin), fresh.refined(here, there, begin))
