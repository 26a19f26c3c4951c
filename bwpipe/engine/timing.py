"""Measures how many items each stage processed, and how long it was busy."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from time import perf_counter


class Meter:
    """Measures one stage's work. Thread-safe.

    Attributes:
        items: Number of items it produced, or consumed if it is a sink.
        busy: Seconds of work, summed over the stage's threads, without waiting for input or for space.
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

    def count(self, items: int = 1) -> None:
        """Count items; a negative number takes back what was lost."""
        with self._lock:
            self.items += items

    def add(self, seconds: float) -> None:
        """Add seconds of work; negative values subtract time spent waiting."""
        with self._lock:
            self.busy += seconds


def table(meters: Mapping[str, Meter], of: str = "stage") -> str:
    """The timing table of stages, or of workers: items, busy time, and share of all busy time of each."""
    busy = sum(meter.busy for meter in meters.values()) or 1.0
    slowest = max(meters, key=lambda name: meters[name].busy)
    width = max(len(of), *map(len, meters))
    lines = [f"{of:{width}}  {'items':>8}  {'busy s':>8}  {'share':>5}"]
    for name, meter in meters.items():
        mark = "  <- slowest" if name == slowest and len(meters) > 1 and of == "stage" else ""
        lines.append(f"{name:{width}}  {meter.items:8}  {meter.busy:8.2f}  {meter.busy / busy:5.0%}{mark}")
    return "\n".join(lines)
