"""Pairs input and output frames by their timestamps."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import Frame
from bwpipe.video.file import VideoFile

HALF_MS = Fraction(1, 2000)
"""Tolerance in seconds if the output stores timestamps in milliseconds."""
_MAX_INT = 2**62


class Clock:
    """Converts the timestamps of two files to common ticks, so that they can be compared exactly.

    Attributes:
        slack: Ticks by which two timestamps may differ and still count as equal: 0, or half a millisecond.
    """

    def __init__(self, before: Fraction, after: Fraction, tolerance: Fraction = Fraction(0)) -> None:
        """Find the common tick rate of two time bases."""
        self._rate = lcm(before.denominator, after.denominator, tolerance.denominator)
        self.slack = int(tolerance * self._rate)

    def ticks(self, times: NDArray[np.int64], time_base: Fraction) -> NDArray[Any]:
        """Timestamps in units of `time_base` as ticks: int64, or Python integers if they would overflow."""
        factor = int(time_base * self._rate)
        most = int(np.abs(times).max(initial=0))
        return (times if most * factor < _MAX_INT else times.astype(object)) * factor

    def whole(self, seconds: Fraction) -> int:
        """A time in ticks."""
        return round(seconds * self._rate)

    def seconds(self, ticks: int) -> float:
        """Ticks in seconds, for messages."""
        return int(ticks) / self._rate

    def has(self, ticks: NDArray[Any], time: int) -> bool:
        """Whether a time is among others, which are sorted."""
        index = int(np.searchsorted(ticks, time - self.slack))
        return index < len(ticks) and bool(ticks[index] <= time + self.slack)


def tolerance(before: VideoFile, after: VideoFile) -> Fraction:
    """Tolerance for timestamps, in seconds: Matroska uses milliseconds; other containers and rare Matroska files are finer."""
    as_fine = "matroska" in before.container and (before.time_base * 1000).denominator == 1
    return HALF_MS if "matroska" in after.container and not as_fine else Fraction(0)


def delay(before: VideoFile, after: VideoFile, starts: Iterable[Fraction]) -> Fraction:
    """By how much all of the output is later, in seconds, since a stream begins before zero, which Matroska can't hold.

    Args:
        before: The input.
        after: The output.
        starts: When each other stream of the input begins.
    """
    first, shown = (int(video.times[0]) * video.time_base for video in (before, after))
    missing = Fraction(max(round(-min([first, *starts]) * 1000), 0), 1000)
    is_later = "matroska" in after.container and abs(shown - first - missing) < abs(shown - first)
    return missing if is_later else Fraction(0)


@dataclass(slots=True)
class Pairing:
    """Pairs the frames of an input with those of its output; the attributes are running counts.

    Frames with equal timestamps form a pair. A frame whose timestamp does not occur in the other video is paired with the
    frame in the same position if that one's timestamp does not occur in this video either: it was moved. Others are unpaired.

    Attributes:
        clock: Compares their timestamps.
        known_before, known_after: All timestamps of the input and of the output, in ticks, sorted.
        before, after: Number of frames read from the input and from the output.
        exact, rounded: Number of pairs with equal timestamps, and with equal ones after rounding.
        lost, extra, moved: Number of unpaired input frames, of unpaired output frames, and of pairs that were moved.
        first_lost, first_extra, first_moved: Description of the first of each.
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
        """Yield pairs of frames; holds no more than one frame of each video at a time."""
        one, other = self._next(before, "before"), self._next(after, "after")
        while one or other:
            was = self._time(one, self.known_before)
            now = self._time(other, self.known_after)
            if one and other and abs(was - now) <= self.clock.slack:
                self.exact += was == now
                self.rounded += was != now
            elif one and other and not (self.clock.has(self.known_before, now) or self.clock.has(self.known_after, was)):
                self.moved += 1
                self.first_moved = self.first_moved or (
                    f"frame {one.index} at {self.clock.seconds(now):.6f} s instead of {self.clock.seconds(was):.6f} s"
                )
            elif one and (other is None or not self.clock.has(self.known_after, was) or was < now):
                self.lost += 1
                self.first_lost = self.first_lost or f"frame {one.index} at {self.clock.seconds(was):.6f} s"
                one = self._next(before, "before")
                continue
            else:
                self.extra += 1
                self.first_extra = self.first_extra or f"one at {self.clock.seconds(now):.6f} s"
                other = self._next(after, "after")
                continue
            assert one
            assert other
            yield one, other
            one, other = self._next(before, "before"), self._next(after, "after")

    def violations(self) -> list[str]:
        """Differences between the two videos, a sentence each."""
        found = {
            f"{self.lost} of {self.before} frames are lost, first {self.first_lost}": self.lost,
            f"{self.extra} of {self.after} frames are not in the input, first {self.first_extra}": self.extra,
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
