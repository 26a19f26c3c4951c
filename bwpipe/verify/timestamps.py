"""Which frames belong together, by when they are shown."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import Frame
from bwpipe.video.file import VideoFile

HALF_MS = Fraction(1, 2000)
"""How far a time may be off where the output counts in milliseconds."""
_MOST = 2**62


class Clock:
    """Counts the times of two files in common ticks, so that they can be compared exactly.

    Attributes:
        slack: By how many ticks two times may differ and still be the same: 0, or half a millisecond.
    """

    def __init__(self, before: Fraction, after: Fraction, tolerance: Fraction = Fraction(0)) -> None:
        """Make it for two time bases."""
        self._rate = lcm(before.denominator, after.denominator, tolerance.denominator)
        self.slack = int(tolerance * self._rate)

    def ticks(self, times: NDArray[np.int64], time_base: Fraction) -> NDArray[Any]:
        """Times in units of `time_base` as ticks: int64, or Python's numbers where these would not do."""
        factor = int(time_base * self._rate)
        most = int(np.abs(times).max(initial=0))
        return (times if most * factor < _MOST else times.astype(object)) * factor

    def seconds(self, ticks: int) -> float:
        """Ticks in seconds, for messages."""
        return int(ticks) / self._rate

    def has(self, ticks: NDArray[Any], time: int) -> bool:
        """Whether a time is among others, which rise."""
        place = int(np.searchsorted(ticks, time - self.slack))
        return place < len(ticks) and bool(ticks[place] <= time + self.slack)


def tolerance(before: VideoFile, after: VideoFile) -> Fraction:
    """How far times may be off: Matroska counts in milliseconds, and other containers, and rare Matroska files, more finely."""
    as_fine = "matroska" in before.container and (before.time_base * 1000).denominator == 1
    return HALF_MS if "matroska" in after.container and not as_fine else Fraction(0)


@dataclass(slots=True)
class Pairing:
    """Pairs the frames of a film with those of the film that was made of it; the attributes count as it goes on.

    Frames belong together if they are shown at the same time. One whose time the other film does not know belongs to the
    one that comes in its place with a time that is unknown too: it was moved. Any other has no partner.

    Attributes:
        clock: Compares their times.
        known_before, known_after: All times of either film, in ticks, rising.
        before, after: How many frames were read of either film.
        exact, rounded: How many are shown at the same time, and at the same time but for rounding.
        lost, extra, moved: How many frames of the input have no partner, how many of the output, how many have one at another
            time.
        first_lost, first_extra, first_moved: What is to be said of the first of each.
    """

    clock: Clock
    known_before: NDArray[Any]
    known_after: NDArray[Any]
    before: int = 0
    after: int = 0
    exact: int = 0
    rounded: int = 0
    lost: int = 0
    extra: int = 0
    moved: int = 0
    first_lost: str = ""
    first_extra: str = ""
    first_moved: str = ""

    def pairs(self, before: Iterator[Frame], after: Iterator[Frame]) -> Iterator[tuple[Frame, Frame]]:
        """The frames that belong together; holds no more than one of each film at a time."""
        one, other = self._next(before, "before"), self._next(after, "after")
        while one or other:
            was = self._time(one, self.known_before)
            made = self._time(other, self.known_after)
            if one and other and abs(was - made) <= self.clock.slack:
                self.exact += was == made
                self.rounded += was != made
            elif one and other and not (self.clock.has(self.known_before, made) or self.clock.has(self.known_after, was)):
                self.moved += 1
                self.first_moved = self.first_moved or (
                    f"frame {one.index} at {self.clock.seconds(made):.6f} s instead of {self.clock.seconds(was):.6f} s"
                )
            elif one and (other is None or not self.clock.has(self.known_after, was) or was < made):
                self.lost += 1
                self.first_lost = self.first_lost or f"frame {one.index} at {self.clock.seconds(was):.6f} s"
                one = self._next(before, "before")
                continue
            else:
                self.extra += 1
                self.first_extra = self.first_extra or f"one at {self.clock.seconds(made):.6f} s"
                other = self._next(after, "after")
                continue
            assert one
            assert other
            yield one, other
            one, other = self._next(before, "before"), self._next(after, "after")

    def complaints(self) -> list[str]:
        """What is wrong, a sentence each."""
        found = {
            f"{self.lost} of {self.before} frames are lost, first {self.first_lost}": self.lost,
            f"{self.extra} of {self.after} frames are not the input's, first {self.first_extra}": self.extra,
            f"{self.moved} of {self.before} frames are shown at another time, first {self.first_moved}": self.moved,
        }
        return [text for text, count in found.items() if count]

    def _next(self, frames: Iterator[Frame], side: str) -> Frame | None:
        frame = next(frames, None)
        if frame:
            setattr(self, side, getattr(self, side) + 1)
        return frame

    def _time(self, frame: Frame | None, known: NDArray[Any]) -> int:
        return int(known[frame.index]) if frame else 0
