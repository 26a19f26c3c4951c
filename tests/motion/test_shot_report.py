"""What is told of a film's shots, from frames as `shots` and `steady` leave them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bwpipe import Frame
from bwpipe.motion.shot_report import Shot, ShotList
from bwpipe.testing import run_stage
from tests.support.made_scenes import film_of, scene

SURE = (0.9, 0.2, 0.5)
"""How sure a network is of the three shots."""


def film(**options: Any) -> list[Frame]:
    """Three shots of 12, 20 and 14 frames, with a tint that is another in every frame, after `steady`."""
    seen = run_stage("shots", film_of(scene(12, 1) + scene(20, 2) + scene(14, 3)))
    rng = np.random.default_rng(0)
    given = []
    for frame in seen:
        chroma = np.full((2, 24, 32), rng.normal(0, 0.05)).astype(np.float16)
        sure = np.full((24, 32), SURE[(frame.index >= 12) + (frame.index >= 32)], np.float16)
        given.append(replace(frame, chroma=chroma, confidence=sure))
    return run_stage("steady", given, **options)


def told_of(frames: Sequence[Frame]) -> ShotList:
    found = ShotList()
    for frame in frames:
        found.see(frame)
    return found


def test_each_shot_has_its_place_its_length_and_its_flicker_before_and_after() -> None:
    shots = [shot.to_json() for shot in told_of(film()).shots]

    assert [(shot["first"], shot["frames"], shot["start"], shot["seconds"]) for shot in shots] == [
        *((0, 12, 0, 0.48), (12, 20, 0.48, 0.8), (32, 14, 1.28, 0.56)),
    ]
    for shot, sure in zip(shots, SURE, strict=True):
        assert shot["flicker"] == pytest.approx(shot["chroma_change"] / shot["luma_change"], rel=1e-2)
        assert shot["flicker"] < 0.5 * shot["flicker_before"]
        assert shot["confidence"] == pytest.approx(sure, abs=1e-3)
        assert shot["doubt"] == pytest.approx((1 - sure) * shot["seconds"], abs=1e-3)


def test_segments_that_the_ledger_has_kept_make_the_same_list() -> None:
    frames = film()
    whole = told_of(frames)

    pieces = ShotList(told_of(part).text for part in (frames[:5], frames[5:12], frames[12:40], frames[40:]))

    for shot, other in zip(pieces.shots, whole.shots, strict=True):
        assert shot.to_json() == pytest.approx(other.to_json(), abs=2e-4)


def test_the_most_doubtful_shots_are_named_by_their_time_the_longest_and_least_sure_first() -> None:
    doubtful = [Shot(True, 0, 2, start, start + length, sure=sure, judged=1) for start, length, sure in (
        *((0, 60, 0.95), (60, 4, 0.1), (3661, 30, 0.5), (3700, 9, 0.99)),
    )]  # fmt: skip
    found = ShotList()
    found.shots = doubtful

    assert list(found.describe()) == [
        "4 shots",
        "most doubtful: 1:01:01 (30.0 s, confidence 0.50), 0:01:00 (4.0 s, confidence 0.10), 0:00:00 (60.0 s, confidence 0.95)",
    ]


def test_a_budget_that_is_missed_is_said_with_the_worst_shots() -> None:
    assert told_of(film(max_flicker=100)).complaint() is None

    said = told_of(film(max_flicker=0)).complaint()

    assert said is not None
    assert said.startswith("3 of 3 shots flicker more than `max_flicker: 0` allows, at 0:00:0")


def test_what_changes_less_than_can_be_seen_misses_no_budget() -> None:
    frames = film_of([plane * 0 + 100 for plane in scene(12, 1)])
    seen = [replace(frame, chroma=np.full((2, 24, 32), 0.1, np.float16)) for frame in run_stage("shots", frames)]

    assert told_of(run_stage("steady", seen, max_flicker=0)).complaint() is None


def test_frames_between_those_the_network_was_shown_have_no_flicker_before() -> None:
    given = [
        replace(frame, chroma=None if frame.index % 4 else np.full((2, 24, 32), 0.1, np.float16))
        for frame in run_stage("shots", film_of(scene(20, 1)))
    ]

    (shot,) = told_of(run_stage("steady", given)).shots

    assert shot.to_json()["flicker_before"] is None
    assert shot.to_json()["flicker"] < 0.01
    assert shot.confidence is None


def test_what_is_no_film_or_was_not_looked_at_has_no_shots() -> None:
    found = told_of(film_of(scene(3, 1)))

    assert (found.shots, found.text) == ([], "")
