"""The `shots` stage."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from bwpipe import Frame
from bwpipe.core.frame import Motion
from bwpipe.core.stage import stages
from bwpipe.motion.optical_flow import consistency_mask, warp
from bwpipe.testing import make_frames, run_stage
from tests.support.made_scenes import Planes, film_of, scene


def motion(frame: Frame) -> Motion:
    assert isinstance(frame.motion, Motion)
    return frame.motion


def cuts(planes: Planes) -> list[int]:
    """The first frames of all shots but the first."""
    return [frame.index for frame in run_stage("shots", film_of(planes)) if motion(frame).cut][1:]


def faded(planes: Planes, shares: Any) -> Planes:
    return [np.asarray(16 + share * (plane - 16), np.float32) for plane, share in zip(planes, shares, strict=True)]


def test_fifty_cuts_are_found_and_no_others() -> None:
    rng = np.random.default_rng(5)
    shots = [scene(int(rng.integers(6, 16)), seed) for seed in range(51)]
    true_cuts = set(np.cumsum([len(shot) for shot in shots])[:-1].tolist())

    found = set(cuts([plane for shot in shots for plane in shot]))

    assert len(found & true_cuts) >= 0.95 * len(true_cuts)
    assert len(found & true_cuts) >= 0.95 * len(found)


def test_a_dissolve_is_one_cut_at_its_middle() -> None:
    old, new = scene(36, 1, speed=(0, 1)), scene(36, 2, speed=(0, -1))
    shares = np.clip((np.arange(36) - 11) / 14, 0, 1)

    (found,) = cuts([np.asarray((1 - share) * a + share * b) for a, b, share in zip(old, new, shares, strict=True)])

    assert abs(found - 18.5) <= 1.5


def test_a_fade_is_one_cut_at_the_end_of_its_black() -> None:
    out, into = np.clip(np.linspace(1.6, 0, 20), 0, 1), np.clip(np.linspace(-0.4, 1.6, 20), 0, 1)

    (found,) = cuts(faded(scene(20, 3, grain=0.5), out) + faded(scene(20, 4, grain=0.5), into))

    assert abs(found - 25) <= 1


def test_a_flash_and_a_flickering_lamp_are_not_cuts() -> None:
    rng = np.random.default_rng(0)
    planes = [plane * rng.uniform(0.8, 1.1) for plane in scene(30, 6)]
    planes[14] = np.full_like(planes[14], 250) + rng.normal(0, 8, planes[14].shape).astype(np.float32)

    assert cuts(planes) == []


def test_the_flow_leads_to_the_same_content_in_neighbouring_frames() -> None:
    frames = run_stage("shots", film_of(scene(6, 7, speed=(1, -2))))
    inside = (slice(16, -16), slice(16, -16))

    for before, after in itertools.pairwise(frames):
        back, on = motion(after).back, motion(before).on
        assert back is not None
        assert on is not None
        assert back.dtype == np.float32
        assert not back.flags.writeable
        assert np.abs(back[inside] - [-2, 1]).mean() < 0.2
        assert np.abs(on[inside] - [2, -1]).mean() < 0.2
        assert consistency_mask(back, on)[inside].mean() > 0.95
        shown = warp(motion(before).seen, back)
        assert np.abs(shown - motion(after).seen)[inside].mean() < 6


def test_no_flow_crosses_a_cut_or_leaves_the_film() -> None:
    frames = run_stage("shots", film_of(scene(12, 1) + scene(12, 2)))

    assert [frame.index for frame in frames if motion(frame).back is None] == [0, 12]
    assert [frame.index for frame in frames if motion(frame).on is None] == [11, 23]
    assert [motion(frame).since for frame in frames] == [*range(12), *range(12)]


def test_a_unit_alone_gets_the_same_motion_as_within_the_film() -> None:
    frames = film_of(scene(25, 1) + scene(25, 2) + scene(25, 3))
    whole = run_stage("shots", frames)
    unit = replace(frames[0].unit, start=30, stop=45)
    shots: Any = stages["shots"]
    context = shots().context

    alone = run_stage(
        "shots",
        [replace(frame, unit=unit, context=not 30 <= frame.index < 45) for frame in frames[30 - context : 45 + context]],
    )

    for frame in alone:
        if not frame.context:
            one, other = motion(frame), motion(whole[frame.index])
            assert one.cut == other.cut
            assert_array_equal(one.back, other.back)
            assert_array_equal(one.on, other.on)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_short_films_and_tiny_frames_work(count: int) -> None:
    for height, width in ((96, 128), (9, 13)):
        made = run_stage("shots", make_frames(count, height=height, width=width, film=True))

        assert [frame.index for frame in made] == list(range(count))
        assert [motion(frame).cut for frame in made] == [True] + [False] * (count - 1)


def test_pictures_pass_through_unchanged() -> None:
    frames = make_frames(3)

    assert all(made is frame for made, frame in zip(run_stage("shots", frames), frames, strict=True))
