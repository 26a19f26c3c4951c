"""Signal handling: the first signal stops a run cleanly, the second one immediately."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from types import FrameType

GRACE_PERIOD = 8.0
"""Seconds from the first signal until the process is ended, whatever a stage is doing."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class InterruptedRun(BaseException):
    """A signal interrupted the run.

    Attributes:
        exit_code: 128 plus the signal's number, the shells' convention.
    """

    def __init__(self, number: int, effect_of_rerun: str) -> None:
        """`effect_of_rerun` says what running the same command again does."""
        super().__init__(f"interrupted by {signal.Signals(number).name}; the same command {effect_of_rerun}")
        self.exit_code = 128 + number


@contextmanager
def interruptible(effect_of_rerun: str = "resumes from here") -> Iterator[None]:
    """Raise InterruptedRun in the main thread on SIGINT or SIGTERM; its message includes `effect_of_rerun`.

    A second signal, or `GRACE_PERIOD` seconds after the first, ends the process immediately; the next run removes unfinished
    files.
    """
    timers: list[Timer] = []

    def first(number: int, _: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, second)
        timers.append(Timer(GRACE_PERIOD, os._exit, (128 + number,)))
        timers[0].daemon = True
        timers[0].start()
        raise InterruptedRun(number, effect_of_rerun)

    def second(number: int, _: FrameType | None) -> None:
        os._exit(128 + number)

    previous = {each: signal.signal(each, first) for each in _SIGNALS}
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        for each, handler in previous.items():
            signal.signal(each, handler)
