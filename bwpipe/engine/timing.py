"""How much a stage did, and how long it was busy with it."""

from collections.abc import Iterator, Mapping
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


def table(meters: Mapping[str, Meter]) -> str:
    """The closing table: what each stage made, how long it was busy, and its share of all busy time."""
    busy = sum(meter.busy for meter in meters.values()) or 1.0
    slowest = max(meters, key=lambda name: meters[name].busy)
    width = max(len("stage"), *map(len, meters))
    lines = [f"{'stage':{width}}  {'items':>8}  {'busy s':>8}  {'share':>5}"]
    for name, meter in meters.items():
        mark = "  <- slowest" if name == slowest and len(meters) > 1 else ""
        lines.append(f"{name:{width}}  {meter.items:8}  {meter.busy:8.2f}  {meter.busy / busy:5.0%}{mark}")
    return "\n".join(lines)
