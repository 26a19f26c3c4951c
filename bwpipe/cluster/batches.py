"""What is handed to workers in one go, and what each piece of it still needs."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from bwpipe.cluster.messages import Task
from bwpipe.core.frame import Unit
from bwpipe.engine.planner import Plan

_PICTURES = 16
"""Pictures in a piece, at most: enough that starting on one takes little of its time, and few to do again if it is lost."""
_PIECES = 4
"""Pieces for each worker, at least, where there are enough pictures: the last ones to end wait for little."""


class Units:
    """The units of a plan, by numbers: they are known by identity, which does not travel."""

    def __init__(self, plan: Plan) -> None:
        """Number them."""
        self.units = list(plan.todo)
        self.files: list[Unit] = []
        self._sinks = plan.recipes
        self._segments = {
            sink: {unit for assembly in assemblies for unit in assembly.segments}
            for sink, assemblies in plan.assemblies.items()
        }
        numbers: dict[Unit, int] = {}
        self.file_of: list[int] = []
        for unit in self.units:
            whole = plan.files.get(unit, unit)
            if whole not in numbers:
                numbers[whole] = len(self.files)
                self.files.append(whole)
            self.file_of.append(numbers[whole])

    def sinks(self, number: int) -> list[str]:
        """The ids of the sinks that write a unit."""
        return [sink for sink, recipes in self._sinks.items() if self.units[number] in recipes]

    def task(self, number: int) -> Task:
        """A unit as a worker is told of it."""
        unit, sinks = self.units[number], self.sinks(number)
        joined = tuple(sink for sink in sinks if unit in self._segments[sink])
        return Task(number, unit.part, unit.start, unit.stop, unit.since, tuple(sinks), joined)

    def pieces(self, workers: int) -> Iterator[tuple[int, ...]]:
        """The units in pieces, by number, in order: segments that share a decoder, or some pictures."""
        indices = range(len(self.units))
        pictures = sum(not unit.media.has_segments for unit in self.units)
        size = min(max(pictures // (workers * _PIECES), 1), _PICTURES)
        for key, group in groupby(indices, key=self._key):
            numbers = tuple(group)
            step = size if key is None else len(numbers)
            yield from (numbers[start : start + step] for start in range(0, len(numbers), step))

    def _key(self, number: int) -> tuple[int, int] | None:
        """What the units of a piece have in common; None for pictures."""
        unit = self.units[number]
        if not unit.media.has_segments:
            return None
        return self.file_of[number], unit.start if unit.since is None else unit.since

    def by_file(self, numbers: Sequence[int]) -> Mapping[int, tuple[Task, ...]]:
        """The tasks of some units, by the number of their file."""
        return {file: tuple(map(self.task, group)) for file, group in groupby(numbers, key=lambda number: self.file_of[number])}


class Backlog:
    """The pieces that no worker has yet; those that were lost come first."""

    def __init__(self, pieces: Iterator[tuple[int, ...]]) -> None:
        self._pieces = deque(pieces)

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return iter(tuple(self._pieces))

    def take(self, piece: tuple[int, ...]) -> None:
        """Take a piece out."""
        self._pieces.remove(piece)

    def put_back(self, piece: tuple[int, ...]) -> None:
        """Put back a piece that was lost."""
        self._pieces.appendleft(piece)
