"""The first signal ends a run in order, the second one at once."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from types import FrameType

PATIENCE = 8.0
"""Seconds from the first signal to the end, whatever a stage is at."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class InterruptedRun(BaseException):
    """A signal asked for the end of the run.

    Attributes:
        exit_code: 128 and the signal's number, as shells count.
    """

    def __init__(self, number: int, again: str) -> None:
        """`again` says what the same command does when it is given again."""
        super().__init__(f"interrupted by {signal.Signals(number).name}; the same command {again}")
        self.exit_code = 128 + number


@contextmanager
def interruptible(again: str = "goes on from here") -> Iterator[None]:
    """Inside, a SIGINT or SIGTERM raises InterruptedRun in the main thread; `again` says what the same command then does.

    A second one, or what is not over `PATIENCE` seconds after the first, ends the process without more ado: what is unfinished
    then is cleared away by the next run.
    """
    timers: list[Timer] = []

    def first(number: int, _: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, second)
        timers.append(Timer(PATIENCE, os._exit, (128 + number,)))
        timers[0].daemon = True
        timers[0].start()
        raise InterruptedRun(number, again)

    def second(number: int, _: FrameType | None) -> None:
        os._exit(128 + number)

    before = {each: signal.signal(each, first) for each in _SIGNALS}
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        for each, handler in before.items():
            signal.signal(each, handler)
