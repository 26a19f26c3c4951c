"""What a run takes before and between its work: planning many units, and handing them to workers that only wait.

python -m bench.many_units --units 100000                  # time and memory of planning
python -m bench.many_units --wait 0.05 --workers 1 3       # the same work on one worker and on three, which sleep
"""

import argparse
import resource
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from time import perf_counter, process_time, sleep
from typing import Any

import numpy as np

from bwpipe import Frame, Map, NoEffect, Sink, Source, Unit, stage
from bwpipe.cluster.batches import Backlog, Units
from bwpipe.cluster.executor import ClusterExecutor
from bwpipe.core.atomic_file import AtomicFile
from bwpipe.core.fingerprint import FileStamp
from bwpipe.core.frame import Media
from bwpipe.engine.planner import make_plan
from bwpipe.engine.run import run_graph
from bwpipe.engine.share_ledger import open_ledgers
from bwpipe.graph.graph import read_graph
from tests.support.thread_pool import LocalPool

_GREY = np.zeros((8, 8), np.uint8)
_STAMP = FileStamp(1, 1, 1, 1)


class Imagined(Media):
    """A picture that is in no file."""

    def stamp(self, start: int = 0, stop: int | None = None, *, again: bool = True) -> FileStamp:
        """The same for all."""
        return _STAMP

    def digest(self, stamp: FileStamp, tick: Any = None) -> str:
        """The same for all."""
        return "0"


@stage("imagine")
class Imagine(Source):
    """Makes pictures up."""

    count: NoEffect[int]

    def units(self) -> Iterator[Unit]:
        """As many units as were asked for."""
        for number in range(self.count):
            name = PurePosixPath(f"{number // 1000:04}/{number:07}.png")
            yield Unit(Imagined(path=Path("/imagined") / name, name=name, width=8, height=8))

    def read(self, unit: Unit, context: int) -> Iterator[Frame]:
        """One grey frame."""
        yield Frame(_GREY, unit)


@stage("rest")
class Rest(Map):
    """Waits, as for a network on another machine."""

    seconds: NoEffect[float] = 0.0

    def apply(self, frame: Frame) -> Frame:
        """The same frame, later."""
        sleep(self.seconds)
        return frame


@stage("note")
class Note(Sink):
    """Writes a byte for each picture."""

    path: NoEffect[Path]

    @property
    def folder(self) -> Path:
        """The output folder."""
        return self.path.resolve()

    def target(self, unit: Unit) -> Path:
        """A file for each unit."""
        return self.folder / unit.name

    def write(self, frame: Frame) -> None:
        """Nothing is kept."""

    def commit(self, unit: Unit) -> AtomicFile:
        """One byte."""
        file = AtomicFile(self.target(unit), self.folder)
        file.path.write_bytes(b"0")
        return file


def graph(count: int, out: Path, seconds: float = 0.0) -> dict[str, Any]:
    """A graph of these stages."""
    stages = [{"use": "imagine", "count": count}, {"use": "rest", "seconds": seconds}, {"use": "note", "path": str(out)}]
    return {"stages": stages, "queue": 1, "cluster": {"cpus": 1}}


def plan(count: int) -> None:
    """Plan many units, number them, and cut them into pieces."""
    with TemporaryDirectory() as folder:
        read = read_graph(graph(count, Path(folder)))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        start, wall = process_time(), perf_counter()
        with open_ledgers([Path(folder).resolve()], lock=False) as ledgers:
            found = make_plan(read, ledgers)
        planned = process_time() - start
        units = Units(found)
        backlog = Backlog(units.pieces(4))
        pieces = sum(1 for _ in backlog)
        seconds, wall = process_time() - start, perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{count} units: planned in {planned:.1f} s of CPU, {pieces} pieces after {seconds:.1f} s ({wall:.1f} s by the clock)"
    )
    print(f"memory: {before:.0f} MiB before, {peak:.0f} MiB at most")


def overhead(count: int, seconds: float, workers: list[int]) -> None:
    """The same work on different numbers of workers, which are threads that sleep."""
    times = {}
    for number in workers:
        with TemporaryDirectory() as folder:
            start = perf_counter()
            executor = ClusterExecutor(LocalPool(number), cores=1)
            result = run_graph(read_graph(graph(count, Path(folder), seconds)), quiet=True, executor=executor)
            times[number] = perf_counter() - start
            asleep = count * seconds / number
            print(f"{number} workers: {result.done} units in {times[number]:.2f} s, of which {asleep:.2f} s asleep")
    first = next(iter(times.values()))
    print(", ".join(f"{first / each:.2f} times as fast on {number}" for number, each in list(times.items())[1:]))


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=100_000)
    parser.add_argument("--wait", type=float, help="seconds of each unit, for a comparison of numbers of workers")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 3])
    given = parser.parse_args()
    if given.wait is None:
        plan(given.units)
    else:
        overhead(min(given.units, 600), given.wait, given.workers)


if __name__ == "__main__":
    main()
