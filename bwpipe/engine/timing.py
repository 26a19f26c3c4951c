"""How much a stage did, and how long it was busy with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from time import perf_counter


class Meter:
    """Counts one stage's work. Safe in threads.

    Attributes:
        items: How many items it made, or took if it is the last.
        busy: Seconds of work, added up over the stage's threads; waiting for items or for room is no work.
    """

    def __init__(self) -> None:
        self.items = 0
        self.busy = 0.0
        self._lock = Lock()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count the time spent inside."""
        start = perf_counter()
        try:
            yield
        finally:
            self.add(perf_counter() - start)

    def add(self, seconds: float) -> None:
        """Count some seconds of work; negative ones take back time that turned out to be waiting."""
        with self._lock:
            self.busy += seconds
