"""Turns each shape of stage into a stream: items in, items out, and an `End` after those of each unit."""

import errno
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby
from time import perf_counter
from typing import Any

from bwpipe.base import BatchMap, Gather, Map, Sink, Source, Stage, UnitMap
from bwpipe.batches import in_batches
from bwpipe.draft import Draft
from bwpipe.errors import MediaError, RunAborted
from bwpipe.execution import FATAL, Run
from bwpipe.frame import End, Unit
from bwpipe.meter import Meter
from bwpipe.workers import ordered

_DISK = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the quota is used up", errno.EROFS: "the disk is read-only"}


def drive(stage: Stage, items: Iterator[Any], run: Run, meter: Meter) -> Iterator[Any]:
    """The stream of a stage that stands between others."""
    match stage:
        case Map():
            return _map(stage, items, run, meter)
        case BatchMap():
            return in_batches(stage, items, run, meter)
        case UnitMap():
            return _unit_map(stage, items, run, meter)
        case Gather():
            return _gather(stage, items, meter)
        case _:
            return _metered(stage.stream, items, meter, run)


def drive_source(stage: Source, units: Iterable[Unit], context: int, run: Run, meter: Meter) -> Iterator[Any]:
    """The stream of a source: pictures are read several at a time, films one after another."""

    def items_of(unit: Unit) -> Iterator[Any]:
        try:
            yield from _metered(lambda _: stage.read(unit, context), iter(()), meter, run, unit)
        except Exception as error:
            _blame(unit, error, run)
        yield End(unit, run.failure(unit))

    for kind, group in groupby(units, key=lambda unit: unit.media.kind):
        if kind == "picture":
            yield from chain.from_iterable(ordered(lambda unit: list(items_of(unit)), group, stage.workers))
        else:
            yield from chain.from_iterable(map(items_of, group))


def drive_sink(
    stage: Sink,
    items: Iterator[Any],
    *,
    wanted: Callable[[Unit], bool],
    keep: Callable[[Unit, Draft], None],
    run: Run,
    meter: Meter,
) -> Iterator[Unit]:
    """The stream of a sink: the units that are over, whether they were written or failed.

    Args:
        stage: The sink.
        items: What it is to write.
        wanted: Whether a unit is to be written here; another branch may have asked for it.
        keep: Publishes a finished file and remembers it.
        run: The execution.
        meter: Counts the stage's work.
    """

    def write(unit: Unit, group: Iterable[Any]) -> Unit:
        opened = False
        try:
            for item in group:
                if isinstance(item, End):
                    if item.error:
                        run.fail(unit, item.error)
                    elif not opened:
                        run.fail(unit, MediaError("none of its frames came to be written"))
                    elif not run.failure(unit):
                        with meter.working():
                            draft = stage.commit(unit)
                            opened = False
                            _keep(keep, unit, draft)
                elif not (run.failure(unit) or item.context):
                    with meter.working():
                        if not opened:
                            opened = True
                            stage.open(unit)
                        stage.write(item)
                    meter.items += 1
        except Exception as error:
            number = error.errno if isinstance(error, OSError) else None
            if number in _DISK or not stage.folder.is_dir():
                raise RunAborted(f"{stage.folder}: {_DISK.get(number or 0, 'the output folder is gone')}") from error
            _blame(unit, error, run)
        finally:
            if opened:
                stage.abandon(unit)
        return unit

    groups = ((unit, group) for unit, group in _by_unit(items) if wanted(unit))
    for kind, some in groupby(groups, key=lambda group: group[0].media.kind):
        if kind == "picture":
            yield from ordered(lambda group: write(*group), ((unit, list(group)) for unit, group in some), stage.workers)
        else:
            yield from (write(unit, group) for unit, group in some)


def _keep(keep: Callable[[Unit, Draft], None], unit: Unit, draft: Draft) -> None:
    try:
        keep(unit, draft)
    except BaseException:
        draft.discard()
        raise


def _blame(unit: Unit, error: Exception, run: Run) -> None:
    """Let a unit fail of an error, or raise the error if it is the run's. A picture too large for the memory is the unit's."""
    if isinstance(error, MemoryError) and unit.media.kind == "picture":
        error = MediaError(f"there is not enough memory for a picture of {unit.media.width}x{unit.media.height} pixels")
    if isinstance(error, FATAL):
        raise error
    run.fail(unit, error)


def _by_unit(items: Iterator[Any]) -> Iterator[tuple[Unit, Iterator[Any]]]:
    """The items of each unit, its End last."""
    return groupby(items, key=lambda item: item.unit)


def _attempt(call: Callable[[Any], Any], item: Any, run: Run, meter: Meter) -> Any:
    """What a call makes of an item, or None where the item's unit has failed."""
    unit = getattr(item, "unit", None)
    if run.failure(unit):
        return None
    try:
        with meter.working():
            return call(item)
    except Exception as error:
        if unit is None:
            raise
        _blame(unit, error, run)
        return None


def _map(stage: Map, items: Iterator[Any], run: Run, meter: Meter) -> Iterator[Any]:
    def one(item: Any) -> Any:
        return item if isinstance(item, End) else _attempt(stage.apply, item, run, meter)

    return (made for made in ordered(one, items, stage.workers) if made is not None)


def _unit_map(stage: UnitMap, items: Iterator[Any], run: Run, meter: Meter) -> Iterator[Any]:
    for unit, group in _by_unit(items):
        ends: list[End] = []
        try:
            yield from _metered(stage.apply, _before_end(group, ends), meter, run, unit)
        except Exception as error:
            _blame(unit, error, run)
        yield from ends or [item for item in group if isinstance(item, End)]


def _before_end(items: Iterator[Any], ends: list[End]) -> Iterator[Any]:
    """The items up to the End, which goes to `ends`."""
    for item in items:
        if isinstance(item, End):
            ends.append(item)
            return
        yield item


def _gather(stage: Gather, items: Iterator[Any], meter: Meter) -> Iterator[Any]:
    with meter.working():
        made = stage.gather(_unwaited((item for item in items if not isinstance(item, End)), meter))
    yield made


def _metered(
    call: Callable[[Iterator[Any]], Iterator[Any]], items: Iterator[Any], meter: Meter, run: Run, unit: Unit | None = None
) -> Iterator[Any]:
    """What a call makes of items, its time counted without that of waiting for them; it stops where the unit has failed."""
    made = iter(call(_unwaited(items, meter)))
    while not run.failure(unit):
        with meter.working():
            item = next(made, meter)  # an item is never the meter
        if item is meter:
            return
        yield item


def _unwaited(items: Iterator[Any], meter: Meter) -> Iterator[Any]:
    """The items; the time of waiting for each is taken off what the meter counts around it."""
    while True:
        start = perf_counter()
        try:
            item = next(items)
        except StopIteration:
            return
        finally:
            meter.add(start - perf_counter())
        yield item
