"""The report on a film's shots, from frames that passed `shots` and `steady`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bwpipe import Frame
from bwpipe.motion.shot_report import Shot, ShotList
from bwpipe.testing import run_stage
from tests.support.made_scenes import film_of, scene

CONFIDENCES = (0.9, 0.2, 0.5)
"""Confidence of the network in the three shots."""


def film(**options: Any) -> list[Frame]:
    """Three shots of 12, 20 and 14 frames, with a different tint in every frame, after `steady`."""
    seen = run_stage("shots", film_of(scene(12, 1) + scene(20, 2) + scene(14, 3)))
    rng = np.random.default_rng(0)
    inputs = []
    for frame in seen:
        chroma = np.full((2, 24, 32), rng.normal(0, 0.05)).astype(np.float16)
        confidence = np.full((24, 32), CONFIDENCES[(frame.index >= 12) + (frame.index >= 32)], np.float16)
        inputs.append(replace(frame, chroma=chroma, confidence=confidence))
    return run_stage("steady", inputs, **options)


def report_of(frames: Sequence[Frame]) -> ShotList:
    shots = ShotList()
    for frame in frames:
        shots.add_frame(frame)
    return shots


def test_each_shot_has_its_position_duration_and_flicker_before_and_after() -> None:
    shots = [shot.to_json() for shot in report_of(film()).shots]

    assert [(shot["first"], shot["frames"], shot["start"], shot["seconds"]) for shot in shots] == [
        *((0, 12, 0, 0.48), (12, 20, 0.48, 0.8), (32, 14, 1.28, 0.56)),
    ]
    for shot, confidence in zip(shots, CONFIDENCES, strict=True):
        assert shot["flicker"] == pytest.approx(shot["chroma_change"] / shot["luma_change"], rel=1e-2)
        assert shot["flicker"] < 0.5 * shot["flicker_before"]
        assert shot["confidence"] == pytest.approx(confidence, abs=1e-3)
        assert shot["doubt"] == pytest.approx((1 - confidence) * shot["seconds"], abs=1e-3)


def test_segments_stored_in_the_ledger_give_the_same_list() -> None:
    frames = film()
    whole = report_of(frames)

    joined = ShotList(report_of(part).text for part in (frames[:5], frames[5:12], frames[12:40], frames[40:]))

    for shot, other in zip(joined.shots, whole.shots, strict=True):
        assert shot.to_json() == pytest.approx(other.to_json(), abs=2e-4)


def test_the_most_doubtful_shots_are_listed_by_time_the_longest_and_least_confident_first() -> None:
    doubtful = [Shot(True, 0, 2, start, start + length, confidences=confidence, judged=1) for start, length, confidence in (
        *((0, 60, 0.95), (60, 4, 0.1), (3661, 30, 0.5), (3700, 9, 0.99)),
    )]  # fmt: skip
    shots = ShotList()
    shots.shots = doubtful

    assert list(shots.describe()) == [
        "4 shots",
        "most doubtful: 1:01:01 (30.0 s, confidence 0.50), 0:01:00 (4.0 s, confidence 0.10), 0:00:00 (60.0 s, confidence 0.95)",
    ]


def test_exceeding_the_budget_gives_a_warning_with_the_worst_shots() -> None:
    assert report_of(film(max_flicker=100)).warning() is None

    warning = report_of(film(max_flicker=0)).warning()

    assert warning is not None
    assert warning.startswith("3 of 3 shots flicker more than `max_flicker: 0` allows, at 0:00:0")


def test_an_invisible_change_does_not_exceed_the_budget() -> None:
    frames = film_of([plane * 0 + 100 for plane in scene(12, 1)])
    seen = [replace(frame, chroma=np.full((2, 24, 32), 0.1, np.float16)) for frame in run_stage("shots", frames)]

    assert report_of(run_stage("steady", seen, max_flicker=0)).warning() is None


def test_without_a_prediction_for_each_frame_there_is_no_flicker_before() -> None:
    inputs = [
        replace(frame, chroma=None if frame.index % 4 else np.full((2, 24, 32), 0.1, np.float16))
        for frame in run_stage("shots", film_of(scene(20, 1)))
    ]

    (shot,) = report_of(run_stage("steady", inputs)).shots

    assert shot.to_json()["flicker_before"] is None
    assert shot.to_json()["flicker"] < 0.01
    assert shot.confidence is None


def test_frames_that_did_not_pass_shots_have_no_shots() -> None:
    shots = report_of(film_of(scene(3, 1)))

    assert (shots.shots, shots.text) == ([], "")
