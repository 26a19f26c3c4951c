"""The drift of chroma within a shot, at cells that hold still."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from bwpipe import Frame
from bwpipe.motion.drift import Drift, DriftMeter, Gap
from bwpipe.motion.shot_report import ShotList
from bwpipe.testing import run_stage
from tests.support.made_scenes import film_of, scene

FRAMES = 97


def still(seed: int = 1) -> NDArray[np.uint8]:
    """A frame of texture, (120, 160)."""
    return np.asarray(np.random.default_rng(seed).integers(40, 200, (120, 160)), np.uint8)


def chroma_at(number: int) -> NDArray[np.float32]:
    """A tint of length 0.1 that turns by a hundredth of its length from frame to frame."""
    angle = number / 100
    return np.full((12, 16, 2), (0.1 * np.cos(angle), 0.1 * np.sin(angle)), np.float32)


def measured(lumas: list[NDArray[np.uint8]], meter: DriftMeter | None = None) -> dict[Gap, Drift]:
    """The drift of one shot with these lumas, and the tints of `chroma_at`."""
    meter = meter or DriftMeter()
    total: dict[Gap, Drift] = {12: Drift(), 48: Drift()}
    for number, luma in enumerate(lumas):
        for gap, drift in meter.add(luma, chroma_at(number), None).items():
            total[gap] = total[gap].plus(drift)
    return total | {"half": meter.begin()}


def chord(frames: int) -> float:
    """The change over that many frames, relative to the length of the tint."""
    return 2 * float(np.sin(frames / 200))


@pytest.mark.parametrize("step", [1, 6])
def test_drift_is_the_change_of_chroma_over_its_length(step: int) -> None:
    found = measured([still()] * FRAMES, DriftMeter(step))

    assert found[12].share == pytest.approx(chord(12), rel=1e-3)
    assert found[48].share == pytest.approx(chord(48), rel=1e-3)
    assert found[48].mean == pytest.approx(0.1 * chord(48), rel=1e-3)
    assert found["half"].share == pytest.approx(chord(48), rel=0.15)


def test_a_long_shot_is_compared_over_half_of_it_in_bounded_memory() -> None:
    found = measured([still()] * 400)

    assert found["half"].share == pytest.approx(chord(200), rel=0.05)


def test_what_moves_does_not_drift() -> None:
    lumas = [still() for _ in range(FRAMES)]
    for number, luma in enumerate(lumas):
        luma[:, :80] = np.roll(still(2), 7 * number, axis=1)[:, :80]

    moving = measured(lumas)

    assert 0.4 < moving[48].cells / measured([still()] * FRAMES)[48].cells < 0.6


def test_a_flow_counts_as_motion_even_where_luma_is_even() -> None:
    even = np.full((120, 160), 90, np.uint8)
    meter = DriftMeter()
    flow = np.zeros((60, 80, 2), np.float32)
    flow[:, :40] = 3
    for number in range(49):
        found = meter.add(even, chroma_at(number), None if number == 0 else flow)

    assert found[48].cells == 120 * 80


def test_nothing_is_compared_across_the_beginning_of_a_shot() -> None:
    meter = DriftMeter()
    for number in range(40):
        meter.add(still(), chroma_at(number), None)
    meter.begin()

    assert not any(meter.add(still(), chroma_at(number), None) for number in range(12))


def test_each_shot_reports_its_drift_and_is_the_more_doubtful_for_it() -> None:
    seen = run_stage("shots", film_of(scene(60, 1, speed=(0, 0), grain=0) + scene(60, 2, speed=(0, 0), grain=0)))

    def tinted(frame: Frame) -> Frame:
        turn = chroma_at(frame.index % 60 if frame.index < 60 else 0)
        confidence = np.full((12, 16), 0.5, np.float16)
        return replace(frame, chroma=turn.transpose(2, 0, 1).astype(np.float16), confidence=confidence)

    shots = ShotList()
    for frame in seen:
        shots.add_frame(tinted(frame))
    stored = ShotList([shots.text])

    first, second = (shot.to_json() for shot in stored.shots)
    assert (first["drift_12"], first["drift_48"]) == pytest.approx((chord(12), chord(48)), rel=0.01)
    assert (second["drift_12"], second["drift_48"], second["drift_half"]) == (0, 0, 0)
    assert first["doubt"] == pytest.approx(2.4 * (1 - 0.5 * (1 - chord(48))), rel=0.01)
    assert second["doubt"] == pytest.approx(2.4 * 0.5)
    assert any(part.startswith("drift ") for part in stored.describe())
    assert "confidence 0.50, drift 48%" in list(stored.describe())[-1]
