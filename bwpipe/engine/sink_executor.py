"""The executor of sinks: writes files, and joins videos from their segments."""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import closing
from itertools import groupby
from threading import Lock
from typing import Any, TypeVar

from bwpipe.core.atomic_file import AtomicFile
from bwpipe.core.context import RunContext
from bwpipe.core.frame import End, Unit
from bwpipe.core.memory import trim_heap
from bwpipe.core.parallel import ordered_map
from bwpipe.core.segments import Assembly
from bwpipe.core.stage import Sink
from bwpipe.engine.executors import by_unit
from bwpipe.engine.failures import fail_unit
from bwpipe.engine.timing import Meter
from bwpipe.errors import MediaError, RunAborted

T = TypeVar("T")

_FIRST_TRIM = 16
"""Frames of a segment after which free memory is given back again, and then after twice as many each time: frames are cut from
what the last encoder has freed, and the next one's buffers do not fit between them. It takes 720p 60 MB less, mostly in the
second segment."""
_DISK = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the quota is used up", errno.EROFS: "the disk is read-only"}


def execute_sink(
    stage: Sink,
    items: Iterator[Any],
    *,
    wanted: Callable[[Unit], bool],
    keep: Callable[[Unit, AtomicFile], None],
    run: RunContext,
    meter: Meter,
    assemblies: "Sequence[Assembly] | Assemblies" = (),
    pool: Executor | None = None,
) -> Iterator[Unit]:
    """The stream of a sink: finished units, written or failed; each video comes after its segments.

    Args:
        stage: The sink.
        items: The items to write.
        wanted: Whether this sink has to write a unit; it may be read for another branch only.
        keep: Publishes a finished file and records it.
        run: The context of the run.
        meter: Measures the stage's work.
        assemblies: The videos to join, each as soon as its last pending segment is finished.
        pool: The threads that prepare frames, if other streams share them.
    """
    if not isinstance(assemblies, Assemblies):
        assemblies = Assemblies(assemblies, wanted)
    writer = SinkWriter(stage, keep, run, meter, assemblies=assemblies, pool=pool)
    yield from map(writer.join, assemblies.complete())
    groups = ((unit, group) for unit, group in by_unit(items) if wanted(unit))
    for has_segments, unit_groups in groupby(groups, key=lambda group: group[0].media.has_segments):
        if not has_segments:
            lists = ((unit, list(group)) for unit, group in unit_groups)
            yield from ordered_map(lambda group: writer.write(*group), lists, stage.workers)
            continue
        for unit, group in unit_groups:
            yield writer.write(unit, group)
            if assembly := assemblies.completed_by(unit):
                yield writer.join(assembly)


def _trimming(items: Iterator[T]) -> Iterator[T]:
    """The items of a segment; every now and then the heap is trimmed."""
    due = _FIRST_TRIM
    for number, item in enumerate(items, 1):
        yield item
        if number == due:
            trim_heap()
            due *= 2


class Assemblies:
    """The videos that a sink has to join, and how many segments each still waits for. Thread-safe."""

    def __init__(self, assemblies: Iterable[Assembly], wanted: Callable[[Unit], bool], *, joins: bool = True) -> None:
        """Prepare them.

        Args:
            assemblies: The videos.
            wanted: Whether a segment has to be written; the others have been.
            joins: Whether the videos are joined here, not by another run.
        """
        self._joins = joins
        self._lock = Lock()
        self._pending = {assembly: sum(map(wanted, assembly.segments)) for assembly in assemblies}
        self._of = {segment: assembly for assembly in self._pending for segment in assembly.segments}

    def __contains__(self, unit: Unit) -> bool:
        """Whether a unit is a segment of one of them."""
        return unit in self._of

    def complete(self) -> list[Assembly]:
        """Those that wait for nothing; each is given once."""
        with self._lock:
            found = [assembly for assembly, count in self._pending.items() if not count and self._joins]
            for assembly in found:
                del self._pending[assembly]
            return found

    def completed_by(self, segment: Unit) -> Assembly | None:
        """The video that waits for nothing more, now that a segment is finished; None if there is none."""
        assembly = self._of.get(segment)
        if assembly is None or not self._joins:
            return None
        with self._lock:
            self._pending[assembly] -= 1
            if self._pending[assembly]:
                return None
            del self._pending[assembly]
            return assembly


class SinkWriter:
    """Writes units and joins videos; several units may be written in parallel."""

    def __init__(
        self,
        stage: Sink,
        keep: Callable[[Unit, AtomicFile], None],
        run: RunContext,
        meter: Meter,
        *,
        assemblies: Assemblies,
        pool: Executor | None = None,
    ) -> None:
        """Prepare it; the arguments are those of `execute_sink`."""
        self._assemblies, self._pool = assemblies, pool
        self._stage = stage
        self._folder = os.path.realpath(stage.folder)
        self._keep = keep
        self._run = run
        self._meter = meter

    def write(self, unit: Unit, items: Iterable[Any]) -> Unit:
        """Write a unit's items up to its End."""
        if not unit.media.has_segments:
            return self._write(unit, map(self._prepared, items))
        with closing(ordered_map(self._prepared, items, self._stage.workers, self._pool)) as prepared:
            self._write(unit, _trimming(prepared))
        trim_heap()
        return unit

    def _prepared(self, item: Any) -> tuple[Any, Any]:
        """An item, and what the sink makes of it before it is written."""
        if isinstance(item, End) or item.context or self._run.failure(item.unit):
            return item, None
        with self._meter.working():
            return item, self._stage.prepare(item)

    def _write(self, unit: Unit, items: Iterable[tuple[Any, Any]]) -> Unit:
        stage, run = self._stage, self._run
        opened = False
        try:
            for item, prepared in items:
                if run.failure(unit) or (isinstance(item, End) and item.error):
                    if isinstance(item, End) and item.error:
                        run.fail(unit, item.error)
                    continue
                if not isinstance(item, End):
                    if item.context:
                        continue
                elif not opened and unit not in self._assemblies:  # a segment of a video may be empty
                    run.fail(unit, MediaError("none of its frames could be written"))
                    continue
                with self._meter.working():
                    if not opened:
                        self._check_folder()
                        opened = True
                        stage.open(unit)
                    if isinstance(item, End):
                        file = stage.commit(unit)
                        opened = False
                        self._publish(unit, file)
                    else:
                        stage.write(prepared)
                        self._meter.count()
        except Exception as error:
            self._fail(unit, error)
        finally:
            if opened:
                stage.abandon(unit)
        return unit

    def join(self, assembly: Assembly) -> Unit:
        """Join a video, unless a segment failed."""
        count = len(assembly.segments)
        failed = sum(self._run.failure(segment) is not None for segment in assembly.segments)
        if failed:
            if failed < count:
                what = f"{failed} of its {count} segments failed, so it is not joined; the others are kept for the next run"
                self._run.warn(what, assembly.whole.media, each=True)
            return assembly.whole
        try:
            with self._meter.working():
                fragments = [self._stage.fragment(segment) for segment in assembly.segments]
                self._publish(assembly.whole, self._stage.assemble(assembly.whole, fragments))
        except Exception as error:
            self._fail(assembly.whole, error)
        return assembly.whole

    def publish(self, unit: Unit, file: AtomicFile) -> None:
        """Publish the file of a unit that was written elsewhere."""
        try:
            self._publish(unit, file)
        except Exception as error:
            self._fail(unit, error)

    def _publish(self, unit: Unit, file: AtomicFile) -> None:
        try:
            self._check_folder()
            self._keep(unit, file)
        except BaseException:
            file.discard()
            raise

    def _check_folder(self) -> None:
        """Nothing is written through a link that took the place of the output folder. Raises RunAborted."""
        if os.path.realpath(self._stage.folder) != self._folder:
            raise RunAborted(f"{self._stage.folder}: the output folder was replaced by a link; undo that, and run again")

    def _fail(self, unit: Unit, error: Exception) -> None:
        """Fail a unit because of a write error, or abort the run if nothing can be written any more."""
        number = error.errno if isinstance(error, OSError) else None
        folder = self._stage.folder
        if number in _DISK or not folder.is_dir():
            raise RunAborted(f"{folder}: {_DISK.get(number or 0, 'the output folder is gone')}") from error
        if number == errno.EFBIG:
            error = MediaError(f"its output is larger than files in {folder} can be; choose a folder on another file system")
        fail_unit(unit, error, self._run)
