"""The time codes in the headers of groups of pictures (MPEG-1 and MPEG-2 video): whether they count on, or jump."""

from fractions import Fraction
from typing import NamedTuple

CODECS = frozenset({"mpeg1video", "mpeg2video"})
"""The codecs that have them, by FFmpeg's names."""
_HEADER = b"\0\0\1\xb8"
_SEARCHED = 1024
"""Bytes of a coded frame in which the header is: before it there is a sequence header at most."""
_DAY = 24 * 60 * 60
_NEAR = 2
"""Frames by which times may be off: frames are shown in another order than they are coded."""


class _TimeCode(NamedTuple):
    """The time code of a group of pictures (ITU-T H.262, 6.3.8)."""

    drop: bool
    hours: int
    minutes: int
    seconds: int
    frames: int

    def __str__(self) -> str:
        return f"{self.hours:02}:{self.minutes:02}:{self.seconds:02}{';' if self.drop else ':'}{self.frames:02}"

    def number(self, nominal: int) -> int:
        """The frames counted since midnight, at a nominal rate."""
        minutes = 60 * self.hours + self.minutes
        dropped = (nominal // 15) * (minutes - minutes // 10) if self.drop else 0
        return (60 * minutes + self.seconds) * nominal + self.frames - dropped


class GopTimeCodes:
    """Watches coded frames in their order, for time codes that do not count on from one group of pictures to the next.

    Between two groups the count may go on by the frames that are coded, or by those that are shown in the time between, which
    are more where fields are repeated. The same time code again and again counts nothing, and is no jump.
    """

    def __init__(self, rate: Fraction) -> None:
        """Nothing is seen yet; `rate` is that of the sequence header."""
        self._rate = rate
        self._last: tuple[_TimeCode, int, float | None] | None = None
        self._frames = self._jumps = 0
        self._first = ""

    def add(self, data: memoryview, seconds: float | None) -> None:
        """Look at a coded frame, and when it is shown."""
        if (code := _time_code(bytes(data[:_SEARCHED]))) is not None:
            if self._last and self._is_jump(code, seconds):
                self._first = self._first or f"frame {self._frames}, from {self._last[0]} to {code}"
                self._jumps += 1
            self._last = code, self._frames, seconds
        self._frames += 1

    def _is_jump(self, code: _TimeCode, seconds: float | None) -> bool:
        assert self._last
        before, frame, then = self._last
        nominal = round(self._rate)
        passed = (code.number(nominal) - before.number(nominal)) % (_DAY * nominal)
        possible = [0, self._frames - frame]
        if seconds is not None and then is not None:
            possible.append(round((seconds - then) * self._rate))
        return all(abs(passed - each) > (_NEAR if each else 0) for each in possible)

    def sentence(self) -> str:
        """What is wrong with them, without the film's name; empty for nothing."""
        if not self._jumps:
            return ""
        places = f"{self._jumps} {'place' if self._jumps == 1 else 'places'}"
        return (
            f"the time codes of its groups of pictures jump at {places} (first: {self._first}); only that of the start is kept"
        )


def _time_code(data: bytes) -> _TimeCode | None:
    at = data.find(_HEADER)
    if at < 0 or at + 8 > len(data):
        return None
    bits = int.from_bytes(data[at + 4 : at + 8], "big")
    return _TimeCode(bool(bits >> 31), bits >> 26 & 31, bits >> 20 & 63, bits >> 13 & 63, bits >> 7 & 63)
