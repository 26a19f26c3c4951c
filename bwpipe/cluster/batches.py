"""What is handed to workers in one go, and what each piece of it still needs."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from math import ceil

from bwpipe.cluster.messages import Task
from bwpipe.core.frame import Unit
from bwpipe.engine.planner import Plan

_PICTURES = 16
"""Pictures in a piece, at most: enough that starting on one takes little of its time, and few to do again if it is lost."""
_PIECES = 4
"""Pieces for each worker into which the pictures that are left would be cut: towards the end pieces become smaller, so that all
workers end at about the same time."""
_ROWS = 2
"""Pieces of films for each worker, at least, where there are enough segments: fewer rows that share a decoder are cut. Each
piece then decodes what is before it in its row, which takes less time than waiting for the longest row."""


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
        """The units in pieces, by number: segments that share a decoder, in order, then pictures, which fill in at the end."""
        rows: list[list[int]] = []
        pictures: list[int] = []
        for key, group in groupby(range(len(self.units)), key=self._key):
            if key is None:
                pictures.extend(group)
            else:
                rows.append(list(group))
        longest = ceil(sum(map(len, rows)) / (workers * _ROWS)) if len(rows) < workers * _ROWS else len(self.units)
        for row in rows:
            parts = ceil(len(row) / longest)
            ends = [len(row) * part // parts for part in range(parts + 1)]
            yield from (tuple(row[start:stop]) for start, stop in pairwise(ends))
        at = 0
        while at < len(pictures):
            size = min(max((len(pictures) - at) // (workers * _PIECES), 1), _PICTURES)
            yield tuple(pictures[at : at + size])
            at += size

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
