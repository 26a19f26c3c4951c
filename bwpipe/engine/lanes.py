"""Lanes: several segments of one film at once, each in threads of its own for every stage."""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import groupby
from threading import Lock

from bwpipe.core.frame import Unit
from bwpipe.core.memory import available
from bwpipe.core.parallel import cores
from bwpipe.core.stage import BatchMap, Map, Sink, Source, Stage, UnitMap

CORES_PER_LANE = 4
"""One segment at a time keeps about as many cores busy: decoder and encoder work in order, the others in parallel."""
_FRAMES_PER_LANE = 150
"""Frames that are in memory for each segment in work, at most: in channels, windows, batches and the encoder."""
_BYTES_PER_PIXEL = 6
"""Of such a frame, for each pixel of its luma: samples, chroma and guide, in the types that the stages use."""
_SHARE = 0.5
"""Share of the available memory that lanes may fill."""


class UnitQueue:
    """The units of a run, handed out to lanes. Thread-safe.

    Segments that share a decoder (`Unit.since`) go to one lane, so that nothing is decoded twice, and so do the pictures
    between two films, of which a lane reads several in parallel anyway.
    """

    def __init__(self, units: Sequence[Unit]) -> None:
        """`units` are all units to read, in order."""
        groups = groupby(units, key=lambda unit: (unit.media, unit.since) if unit.media.has_segments else None)
        self._groups = deque([list(group) for _, group in groups])
        self._lock = Lock()

    def __len__(self) -> int:
        """Number of groups of units that can be in work at once."""
        return len(self._groups)

    def take(self) -> Iterator[Unit]:
        """The units for one lane, as long as there are any."""
        while True:
            with self._lock:
                if not self._groups:
                    return
                group = self._groups.popleft()
            yield from group


def lane_count(stages: Sequence[Stage], units: Sequence[Unit], groups: int, wanted: int | None) -> int:
    """How many lanes to run.

    Args:
        stages: The stages that run. Shapes that see all units in one stream allow one lane only.
        units: All units to read.
        groups: Number of groups of units that can be in work at once.
        wanted: What the user asked for; None for a number by cores and memory.
    """
    if not all(isinstance(stage, Source | Map | BatchMap | UnitMap | Sink) for stage in stages):
        return 1
    if wanted is None:
        wanted = max(cores() // CORES_PER_LANE, 1)
        memory = available()
        if memory is not None and wanted > 1:
            largest = max((unit.media.width * unit.media.height for unit in units if unit.media.has_segments), default=0)
            each = largest * _BYTES_PER_PIXEL * _FRAMES_PER_LANE
            wanted = min(wanted, max(int(_SHARE * memory / each), 1)) if each else 1
    return max(min(wanted, groups), 1)
