"""The `steady` stage."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bwpipe import Frame, MediaError, UnitMap, stage
from bwpipe.core.stage import Needs
from bwpipe.motion.optical_flow import LONGEST_GAP
from bwpipe.motion.shot_report import FLICKER, Step
from bwpipe.motion.temporal_filter import Change, WindowFrame, change, grid, join, left, mean, usual, vividness, window_frame

NEAR = 4
"""The strength at a frame follows from what changes between the frames up to so many away."""
GOAL = 0.35
"""At most this share of the network's own change of chroma is left, however little that is, where motion can be followed."""
MOST = 1.5
"""The most that averaged chroma is made stronger, where so much of it was not the same from frame to frame."""


@stage("steady")
class Steady(UnitMap):
    """Makes the chroma of a film hold still inside a shot, and fills it in where the network was not asked.

    Chroma is averaged over the frames nearby, along the motion that `shots` found, as far as `max_flicker` takes; luma is not
    touched. Nothing crosses a cut; what other frames hide keeps the network's own chroma. Pictures pass as they are.
    """

    revision: ClassVar[int] = 4
    provides: ClassVar[frozenset[str]] = frozenset({"chroma of every frame"})

    max_flicker: Annotated[float, Field(ge=0)] = 0.5
    """How much chroma may change from frame to frame along the motion, as a share of luma's change there, both in 8-bit code
    values. In any case no more than a third of the network's own change is aimed at."""
    window: Annotated[int, Field(ge=LONGEST_GAP, le=50)] = 10
    """How many frames before and after a frame its chroma is averaged over, at most; nearer ones weigh more."""

    @property
    def needs(self) -> Needs:
        """What it steadies along."""
        return Needs(above=frozenset({"motion"}))

    @property
    def context(self) -> int:
        """The frames that decide about a unit's chroma."""
        return self.window + NEAR + 1

    def apply(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Steady the chroma of a film's frames, on their own grid or one with a short side of 96."""
        row = list[WindowFrame]()
        changes = list[Change | None]()
        at = averaged = 0
        for frame in frames:
            if frame.unit.media.kind != "film":
                yield frame
                continue
            row.append(self._seat(frame, row))
            if len(row) > 1:
                join(row[-2], row[-1])
            if len(row) - averaged > self.window:
                averaged = self._average(row, changes, averaged)
            if averaged - at > NEAR:
                yield self._steadied(row, changes, at)
                at += 1
            if at > self.window + NEAR:
                del row[0], changes[0]
                at, averaged = at - 1, averaged - 1
        while averaged < len(row):
            averaged = self._average(row, changes, averaged)
        for place in range(at, len(row)):
            yield self._steadied(row, changes, place)

    def _seat(self, frame: Frame, row: Sequence[WindowFrame]) -> WindowFrame:
        if frame.motion is None:
            raise MediaError("its frames come without motion; put the stage `shots` above `steady`")
        if not row and frame.chroma is None:
            raise MediaError("its first frame comes without chroma; put the stage `colorize` between `shots` and `steady`")
        size = row[-1].planes.shape[:2] if row else grid(frame)
        return window_frame(frame, frame.motion, size)

    def _average(self, row: Sequence[WindowFrame], changes: list[Change | None], at: int) -> int:
        """Average the chroma of the frame at a place, and give the next place."""
        here = row[at]
        here.mean, here.usual = mean(row, at, self.window), usual(row, at, self.window)
        here.left = vividness(here.mean)
        changes.append(change(row[at - 1], row[at]) if at else None)
        return at + 1

    def _steadied(self, row: Sequence[WindowFrame], changes: Sequence[Change | None], at: int) -> Frame:
        here = row[at]
        assert here.mean is not None
        first, last = _shot(row, at)
        chroma = here.mean * np.float32(_gain(row[first : last + 1]))
        if here.own is not None:
            strength = self._strength(changes[first + 1 : last + 1])
            chroma = here.own + np.float32(strength) * (chroma - here.own)
        here.made = chroma
        notes = dict(here.frame.notes)
        if at and (moved := changes[at]) and (after := left(row[at - 1], here)) is not None:
            notes[FLICKER] = Step(moved.luma, moved.own, after, self.max_flicker)
        return replace(here.frame, chroma=_kept(chroma), notes=notes)

    def _strength(self, changes: Sequence[Change | None]) -> float:
        """How much of the average to take, 0..1.

        A mixture of both kinds of chroma changes no more than the mixture of their changes, which is made to meet the budget.
        """
        known = [change for change in changes if change]
        if any(change.own is None for change in known):
            return 1.0  # those that are filled in are averages, and what is between them is to be like them
        own, luma = sum(change.own or 0.0 for change in known), sum(change.luma for change in known)
        mean = sum(change.mean for change in known)
        goal = min(self.max_flicker * luma, GOAL * own)
        if own <= goal:
            return 0.0
        return 1.0 if mean >= goal else (own - goal) / (own - mean)


def _shot(row: Sequence[WindowFrame], at: int) -> tuple[int, int]:
    """The first and the last place of the frames near one that belong to its shot."""
    first = last = at
    while first > max(0, at - NEAR) and row[first].back is not None:
        first -= 1
    while last < min(len(row) - 1, at + NEAR) and row[last].on is not None:
        last += 1
    return first, last


def _gain(seats: Sequence[WindowFrame]) -> float:
    """What makes averaged chroma as vivid as what it was made of: to average unlike hues makes them paler."""
    both = [(each.usual, each.left) for each in seats if each.usual]
    own, averaged = (sum(values) for values in zip(*both, strict=True)) if both else (0.0, 0.0)
    return min(MOST, max(1.0, own / averaged)) if averaged else 1.0


def _kept(chroma: NDArray[np.float32]) -> NDArray[np.float16]:
    """Chroma (h, w, 2) as frames keep it."""
    made = chroma.transpose(2, 0, 1).astype(np.float16, order="C")
    made.flags.writeable = False
    return made
