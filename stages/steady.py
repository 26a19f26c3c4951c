"""The `steady` stage."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from bwpipe import Frame, MediaError, UnitMap, stage
from bwpipe.core.provenance import KEPT
from bwpipe.core.segments import frames_away
from bwpipe.core.stage import Needs, Stage
from bwpipe.motion.optical_flow import LONGEST_GAP
from bwpipe.motion.shot_report import FLICKER, Step
from bwpipe.motion.temporal_filter import (
    Change,
    MovingAverage,
    WindowFrame,
    change,
    grid,
    input_vividness,
    join,
    mean,
    output_change,
    vividness,
    window_frame,
)

NEAR = 4
"""Number of frames on each side whose changes determine the strength at a frame."""
GOAL = 0.35
"""Maximum share of the network's own change of chroma that is left where the flow is reliable, however small that change is."""
FILLED = "chroma of every frame"
"""What it provides, for stages above that leave frames without any."""
SPARSE = 20
"""Least `window` where the network sees some frames only. With less, fewer of them are averaged, and films flicker more than
where it sees all."""
MOST = 1.5
"""Maximum gain that restores the vividness lost by averaging chroma that differs between frames."""


@stage("steady")
class Steady(UnitMap):
    """Stabilises the chroma of a film within each shot, and fills in frames on which the network was not run.

    Chroma is averaged over neighbouring frames along the optical flow from `shots`, as much as `max_flicker` requires; luma is
    not touched. Nothing crosses a cut; areas occluded in other frames keep the network's own chroma. Pictures pass through
    unchanged.
    """

    revision: ClassVar[int] = 8
    provides: ClassVar[frozenset[str]] = frozenset({FILLED})
    changes_only: ClassVar[str | None] = "film"

    max_flicker: Annotated[float, Field(ge=0)] = 0.5
    """Maximum change of chroma from frame to frame along the motion, as a fraction of luma's change there, both in 8-bit code
    values. In any case the target is at most about a third of the network's own change."""
    window: Annotated[int, Field(ge=LONGEST_GAP, le=50)] = 10
    """Maximum number of frames before and after a frame over which its chroma is averaged; nearer frames weigh more. It is at
    least 20 where the network sees some frames only (`colorize.every`)."""

    _sparse: bool = PrivateAttr(default=False)
    _below: Sequence[Sequence[Stage]] = PrivateAttr(default=())

    def placed(self, above: Sequence[Stage], below: Sequence[Sequence[Stage]]) -> None:
        """Find out whether a stage above leaves frames without chroma, and which stages below need context frames."""
        self._sparse = any(FILLED in stage.needs.below for stage in above)
        self._below = below

    @property
    def _window(self) -> int:
        """The option, unless too few frames would be averaged."""
        return max(self.window, SPARSE) if self._sparse else self.window

    @property
    def _needed(self) -> int:
        """How many context frames it has to stabilise: those that stages below need, and one more, for the change from it."""
        sums = (sum(stage.context for stage in path if isinstance(stage, UnitMap)) for path in self._below)
        return max(sums, default=0) + 1

    @property
    def needs(self) -> Needs:
        """It needs motion from a stage above."""
        return Needs(above=frozenset({"motion"}))

    @property
    def context(self) -> int:
        """The frames that affect a unit's chroma."""
        return self._window + NEAR + 1

    def apply(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Stabilise the chroma of a film's frames, on their own grid or one with a short side of 96."""
        row = list[WindowFrame]()
        changes = list[Change | None]()
        at, averaged, window, needed = 0, 0, self._window, self._needed
        average = MovingAverage(window, resting=self._sparse)
        for frame in frames:
            before_key = frame.context and frame.chroma is None and not row  # no average reaches beyond a frame with chroma
            if frame.unit.media.kind != "film" or KEPT in frame.notes or before_key:
                yield frame
                continue
            row.append(self._window_frame(frame, row))
            if len(row) > 1:
                join(row[-2], row[-1])
            average.add(row, needed=frames_away(frame) <= needed + NEAR)
            if len(row) - averaged > window:
                averaged = self._average(row, changes, averaged)
            if averaged - at > NEAR:
                yield self._stabilised(row, changes, at, needed)
                at += 1
            if at > window + NEAR:
                del row[0], changes[0]
                at, averaged = at - 1, averaged - 1
        while averaged < len(row):
            averaged = self._average(row, changes, averaged)
        for place in range(at, len(row)):
            yield self._stabilised(row, changes, place, needed)

    def _window_frame(self, frame: Frame, row: Sequence[WindowFrame]) -> WindowFrame:
        if frame.motion is None:
            raise MediaError("its frames have no motion; add the stage `shots` above `steady`")
        if not row and frame.chroma is None:
            raise MediaError("its first frame has no chroma; add the stage `colorize` between `shots` and `steady`")
        another = frame.motion.cut and frame.chroma is not None  # it may have been coloured on another grid
        size = row[-1].luma.shape if row and not another else grid(frame)
        return window_frame(frame, frame.motion, size)

    def _average(self, row: Sequence[WindowFrame], changes: list[Change | None], at: int) -> int:
        """Average the chroma of the frame at an index, and return the next index."""
        here = row[at]
        if here.sums is not None:
            here.mean, here.sums = mean(here), None
            here.input_vividness = input_vividness(row, at, self._window)
            here.averaged_vividness = vividness(here.mean)
        changes.append(change(row[at - 1], row[at]) if at else None)
        return at + 1

    def _stabilised(self, row: Sequence[WindowFrame], changes: Sequence[Change | None], at: int, needed: int) -> Frame:
        here = row[at]
        frame, here.frame = here.frame, None  # it need not stay in memory for as long as its chroma
        assert frame is not None
        if frames_away(frame) > needed:
            return frame
        assert here.mean is not None
        first, last = _shot(row, at)
        chroma = here.mean * np.float32(_gain(row[first : last + 1]))
        if here.own is not None:
            strength = self._strength(changes[first + 1 : last + 1])
            chroma = here.own + np.float32(strength) * (chroma - here.own)
        here.output = chroma
        notes = dict(frame.notes)
        if at and (moved := changes[at]) and (after := output_change(row[at - 1], here)) is not None:
            notes[FLICKER] = Step(moved.luma, moved.own, after, self.max_flicker)
        if at:
            row[at - 1].release()
        return replace(frame, chroma=_frame_chroma(chroma), notes=notes)

    def _strength(self, changes: Sequence[Change | None]) -> float:
        """The share of the average in the output, 0..1.

        A mixture of own and averaged chroma changes at most as much as that mixture of their changes, which meets the budget.
        """
        known = [change for change in changes if change]
        if any(change.own is None for change in known):
            return 1.0  # frames that were filled in are averages, and the frames between must match them
        own, luma = sum(change.own or 0.0 for change in known), sum(change.luma for change in known)
        mean = sum(change.mean for change in known)
        goal = min(self.max_flicker * luma, GOAL * own)
        if own <= goal:
            return 0.0
        return 1.0 if mean >= goal else (own - goal) / (own - mean)


def _shot(row: Sequence[WindowFrame], at: int) -> tuple[int, int]:
    """The first and the last index of the neighbouring frames that belong to the same shot."""
    first = last = at
    while first > max(0, at - NEAR) and not row[first].first:
        first -= 1
    while last < min(len(row) - 1, at + NEAR) and not row[last].last:
        last += 1
    return first, last


def _gain(window: Sequence[WindowFrame]) -> float:
    """The gain that makes averaged chroma as vivid as its sources: averaging different hues makes them paler."""
    both = [(each.input_vividness, each.averaged_vividness) for each in window if each.input_vividness]
    own, averaged = (sum(values) for values in zip(*both, strict=True)) if both else (0.0, 0.0)
    return min(MOST, max(1.0, own / averaged)) if averaged else 1.0


def _frame_chroma(chroma: NDArray[np.float32]) -> NDArray[np.float16]:
    """Chroma (h, w, 2) in the format of frames."""
    planes = chroma.transpose(2, 0, 1).astype(np.float16, order="C")
    planes.flags.writeable = False
    return planes
