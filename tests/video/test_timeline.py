"""Repair of timestamps: outliers, restarts, jumps, gaps."""

from collections.abc import Callable

import numpy as np
import pytest

from bwpipe.video.timeline import Timeline, is_regular, repair

STEP = 40
EVEN = [STEP * number for number in range(100)]


def repaired(stated: list[int | None], jump: int | None = None, continues: bool = False) -> Timeline:
    return repair(stated, STEP, jump=jump, long=10_000, continues=lambda before, after: continues, least=1)


def changed(change: Callable[[list[int | None]], None]) -> list[int | None]:
    times: list[int | None] = list(EVEN)
    change(times)
    return times


@pytest.mark.parametrize("number", [0, 1, 30, 98, 99])
@pytest.mark.parametrize("time", [-(10**6), 5, 555, 1239, 1240, 1281, 10**7, 2**33])
def test_a_wrong_timestamp_is_derived_from_its_neighbours(number: int, time: int) -> None:
    if abs(time - EVEN[number]) <= 3 * STEP or (number >= 98 and EVEN[number] < time < EVEN[number] + 10_000):
        pytest.skip("at the ends it may be right")
    found = repaired(changed(lambda times: times.__setitem__(number, time)))

    assert found.times.tolist() == EVEN
    assert found.wrong == (number,)
    assert len(found.parts) == 1


def test_missing_timestamps_are_derived_from_their_neighbours() -> None:
    found = repaired([time if number % 12 == 5 else None for number, time in enumerate(EVEN)])

    assert found.times.tolist() == EVEN


def test_frames_that_are_late_by_the_same_are_corrected_together() -> None:
    times: list[int | None] = [time + STEP * (47 <= number < 51) for number, time in enumerate(EVEN)]

    assert repaired(times).times.tolist() == EVEN


@pytest.mark.parametrize("second", [0, 3800, 600_000])
def test_parts_on_other_clocks_follow_each_other(second: int) -> None:
    found = repaired([*EVEN, *(time + second for time in EVEN)], jump=10_000)

    assert set(np.diff(found.times).tolist()) == {STEP}
    assert [(part.start, part.offset) for part in found.parts] == [(0, 0), (100, 4000 - second)]


@pytest.mark.parametrize("ahead", [-50_000, -5000, 50_000])
def test_a_clock_that_was_off_for_a_while_comes_back(ahead: int) -> None:
    times: list[int | None] = [time + ahead * (40 <= number < 60) for number, time in enumerate(EVEN)]

    for jump in (10_000, None):
        found = repaired(times, jump=jump)
        assert found.times.tolist() == EVEN
        assert [part.offset for part in found.parts] == [0, -ahead, 0]


@pytest.mark.parametrize(("jump", "continues"), [(None, False), (10_000, True)])
def test_a_gap_that_is_none_of_the_clock_stays(jump: int | None, continues: bool) -> None:
    times: list[int | None] = [*EVEN, *(time + 600_000 for time in EVEN)]

    found = repaired(times, jump, continues)

    assert found.times.tolist() == times
    assert (len(found.parts), found.wrong) == (1, ())


def test_uneven_timestamps_stay_as_they_are() -> None:
    uneven = np.cumsum(np.random.default_rng(7).choice([33, 50, 1000, 2000], 300)).tolist()
    for wrong in (10**8, -(10**8)):
        found = repaired([*uneven[:100], wrong, *uneven[101:]])
        assert np.flatnonzero(found.times != uneven).tolist() == [100]


def test_frames_are_in_order_if_none_overtakes_more_than_the_codec_allows() -> None:
    reordered = np.array([0, 120, 40, 80, 240, 160, 200, *range(280, 4000, 40)])
    limits = {"least": 1.0, "jump": np.inf, "long": 10_000.0}

    assert is_regular(reordered, 1, **limits)
    assert not is_regular(reordered, 0, **limits)
    for time in (10**6, 130, -(10**6)):
        moved = reordered.copy()
        moved[40] = time
        assert not is_regular(moved, 1, **limits)
