from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from bwpipe.core.frame import Frame
from bwpipe.testing import make_frames
from bwpipe.verify.timestamps import HALF_MS, Clock, Pairing

MS = Fraction(1, 1000)


def paired(before: Sequence[int], after: Sequence[int], *, undecoded: Sequence[int] = ()) -> tuple[list[Any], Pairing]:
    """The pairs of frame numbers of two films with these timestamps; frames at `undecoded` do not decode in either film."""
    clock = Clock(MS, MS)
    known = [clock.ticks(np.array(times, np.int64), MS) for times in (before, after)]
    pairing = Pairing(clock, known[0], known[1])
    (frame,) = make_frames(1, height=2, width=2)

    def frames(times: Sequence[int]) -> Any:
        return (replace(frame, index=index, pts=time) for index, time in enumerate(times) if time not in undecoded)

    pairs: list[tuple[Frame, Frame]] = list(pairing.pairs(frames(before), frames(after)))
    return [(one.index, other.index) for one, other in pairs], pairing


@pytest.mark.parametrize(
    ("before", "after", "pairs", "counts"),
    [
        ([0, 40, 80], [0, 40, 80], [(0, 0), (1, 1), (2, 2)], (0, 0, 0)),
        ([0, 40, 80], [0, 80], [(0, 0), (2, 1)], (1, 0, 0)),
        ([0, 40, 80], [40, 80], [(1, 0), (2, 1)], (1, 0, 0)),
        ([0, 40, 80], [0, 40], [(0, 0), (1, 1)], (1, 0, 0)),
        ([0, 80], [0, 40, 80], [(0, 0), (1, 2)], (0, 1, 0)),
        ([0, 40, 80], [0, 41, 80], [(0, 0), (1, 1), (2, 2)], (0, 0, 1)),
        ([0, 40, 80], [1, 41, 81], [(0, 0), (1, 1), (2, 2)], (0, 0, 3)),
        ([0, 40, 80, 120], [0, 80, 125], [(0, 0), (2, 1), (3, 2)], (1, 0, 1)),
        ([0, 40], [], [], (2, 0, 0)),
        ([], [0], [], (0, 1, 0)),
    ],
)
def test_frames_are_paired_by_timestamp(
    before: list[int], after: list[int], pairs: list[Any], counts: tuple[int, int, int]
) -> None:
    found, pairing = paired(before, after)

    assert found == pairs
    assert (pairing.lost, pairing.extra, pairing.moved) == counts
    assert len(pairing.violations()) == sum(count > 0 for count in counts)


def test_frames_that_decode_in_neither_film_are_skipped() -> None:
    found, pairing = paired([0, 40, 80, 120], [0, 40, 80, 120], undecoded=[40, 80])

    assert found == [(0, 0), (3, 3)]
    assert pairing.violations() == []


def test_timestamps_are_compared_exactly_in_any_time_base() -> None:
    clock = Clock(Fraction(1, 2**31 - 1), Fraction(1, 2**31 - 19))
    times = np.array([0, 2**40], np.int64)

    one, other = clock.ticks(times, Fraction(1, 2**31 - 1)), clock.ticks(times, Fraction(1, 2**31 - 19))

    assert one[1] == 2**40 * (2**31 - 19)
    assert other[1] == 2**40 * (2**31 - 1)
    assert not clock.has(one, int(other[1]))
    assert clock.has(one, int(one[1]))


@pytest.mark.parametrize(("ms", "same"), [(33, True), (34, False), (32, False)])
def test_half_a_millisecond_counts_as_rounding(ms: int, same: bool) -> None:
    clock = Clock(Fraction(1, 30), MS, HALF_MS)

    assert clock.has(clock.ticks(np.array([1], np.int64), Fraction(1, 30)), int(clock.ticks(np.array([ms]), MS)[0])) is same
