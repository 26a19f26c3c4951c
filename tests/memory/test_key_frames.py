"""Which frames of a film are remembered."""

import numpy as np

from bwpipe.memory.key_frames import MOST, choose_key_frames

NONE = np.array([], np.int64)


def times(frames: int, rate: float = 25) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.arange(frames) / rate


def test_key_frames_are_two_seconds_apart() -> None:
    assert choose_key_frames(times(140), NONE, 0, 140) == [0, 50, 100]


def test_a_coded_key_frame_that_comes_soon_is_taken() -> None:
    assert choose_key_frames(times(180), np.array([0, 70, 95]), 0, 180) == [0, 70, 120, 170]
    assert choose_key_frames(times(180), np.array([0, 90]), 0, 180) == [0, 50, 100, 150]


def test_only_the_frames_that_are_read_are_chosen() -> None:
    assert choose_key_frames(times(500), NONE, 30, 100) == [30, 80]
    assert choose_key_frames(times(500), np.array([0, 101]), 30, 100) == [30, 80]
    assert choose_key_frames(times(5), NONE, 5, 5) == []


def test_a_long_film_has_no_more_than_1024_all_over_it() -> None:
    chosen = choose_key_frames(times(180_000), np.arange(0, 180_000, 250), 0, 180_000)

    assert 700 < len(chosen) <= MOST
    assert chosen[-1] > 179_000
    assert np.diff(chosen).min() >= 50


def test_uneven_times_count_not_frames() -> None:
    seconds = np.concatenate([np.arange(10) * 3.0, 30 + np.arange(100) / 100])

    assert choose_key_frames(seconds, NONE, 0, 110) == list(range(11))


def test_a_film_in_short_groups_has_the_key_frames_of_the_same_frames_in_single_files() -> None:
    assert choose_key_frames(times(180), np.arange(0, 180, 12), 0, 180) == choose_key_frames(times(180), NONE, 0, 180)
