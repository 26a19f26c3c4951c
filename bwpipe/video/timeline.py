"""Repairs the timestamps of a video: outliers, clocks that restart or jump, timestamps that are missing or not increasing.

Frames are taken in the order in which the decoder shows them. Their true timestamps increase: a stated one that does not fit
those around it is wrong.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Continues: TypeAlias = Callable[[int, int], bool]
"""Called with the numbers of two frames: whether the sound runs on between them, so that a gap is none of the clock."""

_LOOKAHEAD = 8
"""How many of the following frames vote on a timestamp that does not follow the one before."""
_REGULAR = 3
"""A step of at most that many usual ones is taken as it is."""
_MOST_REORDERED = 16
"""The most frames that any codec here reorders (ITU-T H.264, A.3.1)."""


@dataclass(frozen=True, slots=True)
class Part:
    """A run of frames on one clock.

    Attributes:
        start: Number of its first frame, in the order in which frames are shown.
        offset: What is added to its stated timestamps, in ticks.
    """

    start: int
    offset: int


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Repaired timestamps.

    Attributes:
        times: (frames,) Timestamps in ticks, increasing.
        parts: The parts; the first starts at 0, as a rule with offset 0.
        wrong: The frames whose stated timestamp is not used, or that have none.
    """

    times: NDArray[np.int64]
    parts: tuple[Part, ...]
    wrong: tuple[int, ...]

    def shifted(self, ticks: int) -> "Timeline":
        """The same, later."""
        return Timeline(self.times + ticks, tuple(Part(part.start, part.offset + ticks) for part in self.parts), self.wrong)


def is_regular(stated: NDArray[np.int64], reordered: int, *, least: float, jump: float, long: float) -> bool:
    """Whether timestamps can be those of frames in the order that the decoder shows, as far as one can see without decoding.

    Without reordering this is nearly certain. Otherwise a frame that stands within a few places of its own is noticed by the
    gap that it leaves, or by the frames that it stands too close to, if the others are evenly spaced.

    Args:
        stated: (frames,) Presentation timestamps in decoding order, in ticks.
        reordered: How many frames can precede another one in decoding order and follow it in presentation order.
        least: The smallest step that an output can store, in ticks.
        jump: A gap longer than this may be a jump of the clock, in ticks.
        long: A gap longer than this near the first and last frames is doubtful if the others are evenly spaced, in ticks.
    """
    if len(stated) < 2:
        return True
    order = np.argsort(stated, kind="stable")
    steps = np.diff(stated[order])
    usual = float(np.median(steps))
    early = order - np.arange(len(order))  # how many places a frame is decoded after those shown before it
    most = _MOST_REORDERED if reordered else 0
    if steps.min() <= 0 or steps.max() > jump or early.max() > reordered or early.min() < -most or _is_crowded(steps, least):
        return False
    uneven = np.abs(steps - usual) * 4 > usual
    if uneven.mean() > 0.05:
        return True
    ends = np.concatenate([steps[:_MOST_REORDERED], steps[-_MOST_REORDERED:]])
    if not reordered:
        return bool(ends.max() <= long)
    return bool(ends.max() < 1.5 * usual) and not bool((steps * 4 < usual * 3).any())


def _is_crowded(steps: NDArray[np.int64], least: float) -> bool:
    """Whether two frames are closer than any output can store, although the others are not."""
    return bool(steps.min() < least and steps.min() * 2 < np.median(steps))


def usual_step(stated: NDArray[np.int64], otherwise: float) -> int:
    """The median of the steps between increasing timestamps, in ticks; `otherwise` if there are none."""
    steps = np.diff(stated)
    steps = steps[steps > 0]
    return max(round(float(np.median(steps)) if len(steps) else otherwise), 1)


def repair(
    stated: Sequence[int | None], step: int, *, jump: int | None, long: int, continues: Continues, least: int
) -> Timeline:
    """Repair timestamps.

    A step that is not positive, or longer than three usual ones, is put to the vote of the frames that follow: they go on
    either from the timestamp before it, which makes this one wrong, or from this one. Then it is a gap, or a part on another
    clock starts, one usual step after the frame before.

    Args:
        stated: The stated timestamp of each frame in the order in which they are shown; None where there is none.
        step: The usual step between frames, in ticks.
        jump: Gaps longer than this are jumps of the clock, in ticks; None if none are.
        long: A first or last frame beyond a gap longer than this is wrong, in ticks.
        continues: Asked about these gaps.
        least: The smallest step between two repaired timestamps, in ticks.
    """
    chain = _Chain(stated, step, jump, long, continues)
    numbers = np.arange(len(stated))
    if not chain.good:
        return Timeline(numbers * step, (Part(0, 0),), tuple(range(len(stated))))
    good, values = np.array(chain.good, np.int64), np.array(chain.values, np.int64)
    times = np.rint(np.interp(numbers, good, (values - values[0]).astype(np.float64))).astype(np.int64) + values[0]
    times[good] = values  # exact, whatever their size
    before, after = numbers[: good[0]], numbers[good[-1] + 1 :]
    times[: good[0]] = values[0] + (before - good[0]) * step
    times[good[-1] + 1 :] = values[-1] + (after - good[-1]) * step
    if (np.diff(times) < least).any():
        times = np.maximum.accumulate(times - numbers * least) + numbers * least
    return Timeline(times, tuple(chain.parts), tuple(np.setdiff1d(numbers, good).tolist()))


class _Chain:
    """The frames whose timestamps are taken as stated, and the parts that they belong to.

    Attributes:
        good: Their numbers.
        values: Their timestamps, with the offset of their part.
        parts: The parts.
    """

    def __init__(self, stated: Sequence[int | None], step: int, jump: int | None, long: int, continues: Continues) -> None:
        self._stated, self._step, self._jump, self._long, self._continues = stated, step, jump, long, continues
        self.good: list[int] = []
        self.values: list[int] = []
        self.parts = [Part(0, 0)]
        for number, time in enumerate(stated):
            if time is not None:
                self._add(number, time)

    def _add(self, number: int, time: int) -> None:
        now = time + self.parts[-1].offset
        if not self.good:
            later = list(self._following(number))
            alone = (
                later and min(stated for _, stated in later) - time > self._long and not self._continues(number, later[0][0])
            )
            if not alone and 2 * sum(stated > time for _, stated in later) >= len(later):
                self._take(number, now)
        elif 0 < now - self.values[-1] <= self._within(number) or self._is_confirmed(number, now):
            self._place(number, time, now)

    def _take(self, number: int, value: int) -> None:
        self.good.append(number)
        self.values.append(value)

    def _within(self, number: int) -> int:
        """The longest step from the last good frame to this one that is taken without asking."""
        return self._step * _REGULAR * (number - self.good[-1])

    def _following(self, number: int) -> Iterator[tuple[int, int]]:
        for later in range(number + 1, min(number + 1 + _LOOKAHEAD, len(self._stated))):
            if (time := self._stated[later]) is not None:
                yield later, time

    def _is_confirmed(self, number: int, now: int) -> bool:
        """Whether the frames that follow go on from this one, rather than from the last good one."""
        last, since, offset = self.good[-1], self.values[-1], self.parts[-1].offset
        for_last = for_this = 0
        for later, time in self._following(number):
            there = time + offset
            from_last, from_this = there > since, there > now
            if from_last and from_this:  # from the one that makes it the more regular
                from_last = abs(there - since - (later - last) * self._step) < abs(there - now - (later - number) * self._step)
                from_this = not from_last
            for_last += from_last
            for_this += from_this
        if for_this == for_last:  # among the last frames
            return 0 < now - since <= self._long or (now > since and self._continues(last, number))
        return for_this > for_last

    def _place(self, number: int, time: int, now: int) -> None:
        """Take a timestamp, in this part or in one that it starts."""
        since, gap = self.values[-1], now - self.values[-1]
        if 0 < gap <= self._within(number):
            self._take(number, now)
            return
        for part in reversed(self.parts[:-1]):  # back to an earlier clock?
            if part.offset != self.parts[-1].offset and 0 < time + part.offset - since <= self._within(number):
                self._start(number, time, part.offset)
                return
        jumps = self._jump is not None and gap > self._jump and not self._continues(self.good[-1], number)
        if (gap > 0 and not jumps) or (gap <= 0 and self._make_room(number, now)):
            self._take(number, now)
        elif not -self._step < gap <= 0:
            self._start(number, time, since + (number - self.good[-1]) * self._step - time)

    def _start(self, number: int, time: int, offset: int) -> None:
        self.parts.append(Part(number, offset))
        self._take(number, time + offset)

    def _make_room(self, number: int, now: int) -> bool:
        """Correct the timestamps that are not before this one, if there is room for their frames before it.

        A few are dropped, and so are those before them that are late by the same. More are those of a clock that was ahead for
        a while: a part that starts where they do.
        """
        kept, offset = bisect_left(self.values, now), self.parts[-1].offset
        start = bisect_left(self.good, self.parts[-1].start)
        earlier = range(kept - 1, max(kept - _MOST_REORDERED, start) - 1, -1)
        kept = next((last + 1 for last in earlier if self._fits(last, number, now)), kept)
        if kept <= start or 2 * (now - self.values[kept - 1]) < self._step * (number - self.good[kept - 1]):
            return False
        if len(self.good) - kept <= _LOOKAHEAD:
            del self.good[kept:], self.values[kept:]
            return True
        ahead = self.values[kept] - self.values[kept - 1] - self._step * (self.good[kept] - self.good[kept - 1])
        if self.values[-1] - ahead >= now:
            return False
        self.parts += [Part(self.good[kept], offset - ahead), Part(number, offset)]
        self.values[kept:] = [value - ahead for value in self.values[kept:]]
        return True

    def _fits(self, last: int, number: int, now: int) -> bool:
        """Whether a timestamp is regular after that of an earlier good frame, by the usual step."""
        return 4 * abs(now - self.values[last] - (number - self.good[last]) * self._step) <= self._step
