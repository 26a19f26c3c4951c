import threading
from collections.abc import Iterator
from time import sleep

import cv2
import pytest

from bwpipe.core.parallel import ordered_map, single_threaded_opencv


def test_results_keep_the_order_of_the_items() -> None:
    def slow_first(i: int) -> int:
        sleep(0.02 if i % 4 == 0 else 0)
        return i

    assert list(ordered_map(slow_first, range(20), 4)) == list(range(20))


def test_items_are_consumed_only_as_workers_need_them() -> None:
    consumed = []

    def items() -> Iterator[int]:
        for i in range(100):
            consumed.append(i)
            yield i

    stream = ordered_map(lambda i: i, items(), 3)
    next(stream)

    assert len(consumed) <= 5
    stream.close()


def test_an_error_is_raised_at_its_position_in_the_stream() -> None:
    def third_fails(i: int) -> int:
        if i == 2:
            raise ValueError("third")
        return i

    stream = ordered_map(third_fails, range(5), 2)

    assert [next(stream), next(stream)] == [0, 1]
    with pytest.raises(ValueError, match="third"):
        next(stream)


def test_closing_the_stream_ends_the_threads() -> None:
    before = set(threading.enumerate())
    stream = ordered_map(lambda i: i, iter(range(1000)), 4)
    next(stream)
    stream.close()

    assert set(threading.enumerate()) <= before


def test_opencv_has_one_thread_until_the_last_run_ends() -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        with single_threaded_opencv():
            with single_threaded_opencv():
                assert cv2.getNumThreads() == 1
            assert cv2.getNumThreads() == 1
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)
