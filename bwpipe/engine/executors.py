"""Turns each shape of stage into a stream: items in, items out, and an `End` after those of each unit."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby
from time import perf_counter
from typing import Any

from bwpipe.core.context import RunContext
from bwpipe.core.frame import End, Unit
from bwpipe.core.parallel import ordered_map
from bwpipe.core.stage import BatchMap, Gather, Map, Source, Stage, UnitMap
from bwpipe.engine.batching import in_batches
from bwpipe.engine.timing import Meter
from bwpipe.errors import FATAL, MediaError


def execute(stage: Stage, items: Iterator[Any], run: RunContext, meter: Meter) -> Iterator[Any]:
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


def execute_source(stage: Source, units: Iterable[Unit], context: int, run: RunContext, meter: Meter) -> Iterator[Any]:
    """The stream of a source: pictures are read several at a time, films one after another."""
    unwanted = run.skipped_kinds(stage)

    def items_of(unit: Unit) -> Iterator[Any]:
        if why := unwanted.get(unit.media.kind):
            run.exclude(unit.media, why)
            yield End(unit)
            return
        try:
            yield from _metered(lambda _: stage.read(unit, context), iter(()), meter, run, unit)
        except Exception as error:
            fail_unit(unit, error, run)
        yield End(unit, run.failure(unit))

    for in_rows, group in groupby(units, key=lambda unit: unit.media.has_segments):
        if not in_rows:
            yield from chain.from_iterable(ordered_map(lambda unit: list(items_of(unit)), group, stage.workers))
        else:
            yield from chain.from_iterable(map(items_of, group))
    run.all_read.set()


def fail_unit(unit: Unit, error: Exception, run: RunContext) -> None:
    """Let a unit fail of an error, or raise the error if it is the run's. One file too large for the memory is the unit's."""
    if isinstance(error, MemoryError) and not unit.media.has_segments:
        error = MediaError(f"there is not enough memory for {unit.media}")
    if isinstance(error, FATAL):
        raise error
    run.fail(unit, error)


def by_unit(items: Iterator[Any]) -> Iterator[tuple[Unit, Iterator[Any]]]:
    """The items of each unit, its End last."""
    return groupby(items, key=lambda item: item.unit)


def _attempt(call: Callable[[Any], Any], item: Any, run: RunContext, meter: Meter) -> Any:
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
        fail_unit(unit, error, run)
        return None


def _map(stage: Map, items: Iterator[Any], run: RunContext, meter: Meter) -> Iterator[Any]:
    def one(item: Any) -> Any:
        return item if isinstance(item, End) else _attempt(stage.apply, item, run, meter)

    return (made for made in ordered_map(one, items, stage.workers) if made is not None)


def _unit_map(stage: UnitMap, items: Iterator[Any], run: RunContext, meter: Meter) -> Iterator[Any]:
    for unit, group in by_unit(items):
        ends: list[End] = []
        try:
            yield from _metered(stage.apply, _before_end(group, ends), meter, run, unit)
        except Exception as error:
            fail_unit(unit, error, run)
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
    call: Callable[[Iterator[Any]], Iterator[Any]],
    items: Iterator[Any],
    meter: Meter,
    run: RunContext,
    unit: Unit | None = None,
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
