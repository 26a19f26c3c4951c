"""Turns a sink into a stream: items in, files out, films joined of their segments."""

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from bwpipe.core.atomic_file import AtomicFile
from bwpipe.core.context import RunContext
from bwpipe.core.frame import End, Unit
from bwpipe.core.parallel import ordered_map
from bwpipe.core.segments import Assembly
from bwpipe.core.stage import Sink
from bwpipe.engine.executors import by_unit, fail_unit
from bwpipe.engine.timing import Meter
from bwpipe.errors import MediaError, RunAborted

_DISK = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the quota is used up", errno.EROFS: "the disk is read-only"}


def execute_sink(
    stage: Sink,
    items: Iterator[Any],
    *,
    wanted: Callable[[Unit], bool],
    keep: Callable[[Unit, AtomicFile], None],
    run: RunContext,
    meter: Meter,
    assemblies: Sequence[Assembly] = (),
) -> Iterator[Unit]:
    """The stream of a sink: the units that are over, whether they were written or failed; each film after its segments.

    Args:
        stage: The sink.
        items: What it is to write.
        wanted: Whether a unit is to be written here; another branch may have asked for it.
        keep: Publishes a finished file and remembers it.
        run: The execution.
        meter: Counts the stage's work.
        assemblies: The films that it is to join, each as soon as the last of its segments that is wanted is over.
    """
    writer = _Writer(stage, keep, run, meter, assemblies)
    missing = {film: sum(map(wanted, film.segments)) for film in assemblies}
    yield from (writer.join(film) for film, count in missing.items() if not count)
    groups = ((unit, group) for unit, group in by_unit(items) if wanted(unit))
    for in_rows, some in groupby(groups, key=lambda group: group[0].media.has_segments):
        if not in_rows:
            lists = ((unit, list(group)) for unit, group in some)
            yield from ordered_map(lambda group: writer.write(*group), lists, stage.workers)
            continue
        for unit, group in some:
            yield writer.write(unit, group)
            if film := writer.films.get(unit):
                missing[film] -= 1
                if not missing[film]:
                    yield writer.join(film)


class _Writer:
    """Writes units, and joins films; it may write several units at a time."""

    def __init__(
        self,
        stage: Sink,
        keep: Callable[[Unit, AtomicFile], None],
        run: RunContext,
        meter: Meter,
        assemblies: Sequence[Assembly],
    ) -> None:
        self.films = {segment: film for film in assemblies for segment in film.segments}
        self._stage = stage
        self._keep = keep
        self._run = run
        self._meter = meter

    def write(self, unit: Unit, items: Iterable[Any]) -> Unit:
        """Write a unit's items up to its End."""
        stage, run = self._stage, self._run
        opened = False
        try:
            for item in items:
                if run.failure(unit) or (isinstance(item, End) and item.error):
                    if isinstance(item, End) and item.error:
                        run.fail(unit, item.error)
                    continue
                if not isinstance(item, End):
                    if item.context:
                        continue
                elif not opened and unit not in self.films:  # of a film, nothing of other segments may be missing
                    run.fail(unit, MediaError("none of its frames came to be written"))
                    continue
                with self._meter.working():
                    if not opened:
                        opened = True
                        stage.open(unit)
                    if isinstance(item, End):
                        draft = stage.commit(unit)
                        opened = False
                        self._publish(unit, draft)
                    else:
                        stage.write(item)
                        self._meter.items += 1
        except Exception as error:
            self._blame(unit, error)
        finally:
            if opened:
                stage.abandon(unit)
        return unit

    def join(self, film: Assembly) -> Unit:
        """Join a film, unless a segment failed."""
        count = len(film.segments)
        failed = sum(self._run.failure(segment) is not None for segment in film.segments)
        if failed:
            if failed < count:
                what = f"{failed} of its {count} segments failed, so it is not joined; the others are kept for the next run"
                self._run.warn(what, film.whole.media, each=True)
            return film.whole
        try:
            with self._meter.working():
                fragments = [self._stage.fragment(segment) for segment in film.segments]
                self._publish(film.whole, self._stage.assemble(film.whole, fragments))
        except Exception as error:
            self._blame(film.whole, error)
        return film.whole

    def _publish(self, unit: Unit, draft: AtomicFile) -> None:
        try:
            self._keep(unit, draft)
        except BaseException:
            draft.discard()
            raise

    def _blame(self, unit: Unit, error: Exception) -> None:
        """Let a unit fail of an error in writing it, or end the run where nothing can be written any more."""
        number = error.errno if isinstance(error, OSError) else None
        folder = self._stage.folder
        if number in _DISK or not folder.is_dir():
            raise RunAborted(f"{folder}: {_DISK.get(number or 0, 'the output folder is gone')}") from error
        fail_unit(unit, error, self._run)
