"""Motion on small grids: what is brought where, and when two ways agree."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bwpipe.motion.optical_flow import (
    SHORT,
    Flow,
    consistency_mask,
    forward_backward_error,
    is_static,
    motion_plane,
    resize_flow,
    warp,
)
from bwpipe.pixels.resize import fit_short_side, resize_area
from bwpipe.testing import make_frames
from tests.support.made_scenes import scene


def test_what_a_field_points_at_is_brought_here() -> None:
    plane = np.arange(12, dtype=np.float32).reshape(3, 4)
    field = is_static((3, 4))
    field[..., 0], field[..., 1] = 1, 0.5

    moved = warp(plane, field)

    assert_allclose(moved[:2, :3], plane[:2, 1:] + 2)
    assert_allclose(moved[:2, 3], plane[:2, 3] + 2)  # beyond the edge


def test_a_way_back_that_leads_elsewhere_does_not_agree() -> None:
    there, back = is_static((8, 9)) + np.float32(2), is_static((8, 9)) - np.float32(2)
    back[:, 6:] += 3

    assert_array_equal(consistency_mask(there, back)[:, :4], True)
    assert_array_equal(consistency_mask(there, back)[:, 5:], False)
    assert_allclose(forward_backward_error(there, back)[:, :4], 0)
    assert_allclose(forward_backward_error(there, back)[:, 5:], 18)


def test_a_field_on_another_grid_counts_in_the_cells_of_that() -> None:
    field = is_static((40, 60)) + np.array([6, -4], np.float32)

    assert_allclose(resize_flow(field, (20, 20)), is_static((20, 20)) + np.array([2, -2], np.float32))
    assert_allclose(resize_flow(field, (80, 90)), is_static((80, 90)) + np.array([9, -8], np.float32))


def test_motion_is_looked_for_on_the_guide_or_else_on_full_range_luma() -> None:
    frame = make_frames(1, height=300, width=400, levels=(16, 235), film=True)[0]
    guide = np.full((256, 341), 7, np.uint8)

    assert_array_equal(motion_plane(replace(frame, guide=guide)), np.full((SHORT, 170), 7))
    assert motion_plane(frame).shape == (SHORT, 171)
    assert_allclose(motion_plane(frame).mean(), (frame.luma.mean() - 16) / 219 * 255, atol=1)


@pytest.mark.parametrize("size", [(301, 407), (512, 910), (129, 255)])
def test_what_is_seen_is_the_average_of_the_guide(size: tuple[int, int]) -> None:
    frame = make_frames(1, height=size[0], width=size[1], film=True)[0]
    guide = frame.luma.astype(np.uint8)

    small = motion_plane(replace(frame, guide=guide))

    assert_allclose(small.astype(float), resize_area(guide, fit_short_side(size, SHORT)).astype(float), atol=2)


def test_a_field_on_its_own_grid_is_another_with_the_same_offsets() -> None:
    field = is_static((9, 7)) + np.float32(3)

    same = resize_flow(field, (9, 7))

    assert_array_equal(same, field)
    assert not np.shares_memory(same, field)


def test_the_search_gives_the_same_whatever_it_searched_before() -> None:
    one, two, three = (plane.clip(0, 255).astype(np.uint8) for plane in scene(3, 0))
    flow = Flow()

    first = flow(one, two)
    flow(two, three)

    assert_array_equal(flow(one, two), first)
