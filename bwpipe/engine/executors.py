"""Executors for each stage shape: a stream of items in and out, with an `End` after those of each unit."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from itertools import chain, groupby
from time import perf_counter
from typing import Any

from bwpipe.core.context import RunContext
from bwpipe.core.frame import End, Frame, Unit
from bwpipe.core.parallel import ordered_map
from bwpipe.core.segments import frames_away
from bwpipe.core.stage import BatchMap, Gather, Map, Source, Stage, UnitMap
from bwpipe.engine.batching import in_batches
from bwpipe.engine.failures import fail_unit
from bwpipe.engine.timing import Meter


def execute(stage: Stage, items: Iterator[Any], run: RunContext, meter: Meter, pool: Executor | None = None) -> Iterator[Any]:
    """The output stream of a stage that is neither source nor sink; `pool` has its workers, if other streams share them."""
    match stage:
        case Map():
            return _map(stage, items, run, meter, pool)
        case BatchMap():
            return in_batches(stage, items, run, meter, pool)
        case UnitMap():
            return _unit_map(stage, items, run, meter)
        case Gather():
            return _gather(stage, items, meter)
        case _:
            return _metered(stage.stream, items, meter, run)


def execute_source(
    stage: Source,
    units: Iterable[Unit],
    context: int,
    run: RunContext,
    meter: Meter,
    *,
    prepare: Callable[[Unit], None] = lambda unit: None,
) -> Iterator[Any]:
    """The output stream of a source: images are read in parallel, videos one after another.

    `prepare` is called before each unit is read; an exception that it raises fails the unit.
    """
    skipped = run.skipped_kinds(stage)

    def items_of(unit: Unit) -> Iterator[Any]:
        if why := skipped.get(unit.media.kind):
            run.exclude(unit.media, why)
            yield End(unit)
            return
        try:
            prepare(unit)
            yield from _metered(lambda _: stage.read(unit, context), iter(()), meter, run, unit)
        except Exception as error:
            fail_unit(unit, error, run)
        yield End(unit, run.failure(unit))

    for has_segments, group in groupby(units, key=lambda unit: unit.media.has_segments):
        if not has_segments:
            yield from chain.from_iterable(ordered_map(lambda unit: list(items_of(unit)), group, stage.workers))
        else:
            yield from chain.from_iterable(map(items_of, group))


def without_context(items: Iterator[Any], beyond: int) -> Iterator[Any]:
    """The items except context frames more than that many frames before or after their unit, which no stage below needs."""
    return (item for item in items if not isinstance(item, Frame) or frames_away(item) <= beyond)


def by_unit(items: Iterator[Any]) -> Iterator[tuple[Unit, Iterator[Any]]]:
    """Group items by unit; the last item of each group is its End."""
    return groupby(items, key=lambda item: item.unit)


def _attempt(call: Callable[[Any], Any], item: Any, run: RunContext, meter: Meter) -> Any:
    """The result of a call on an item, or None if the item's unit has failed."""
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


def _map(stage: Map, items: Iterator[Any], run: RunContext, meter: Meter, pool: Executor | None) -> Iterator[Any]:
    def apply(item: Any) -> Any:
        return item if isinstance(item, End) else _attempt(stage.apply, item, run, meter)

    return (output for output in ordered_map(apply, items, stage.workers, pool) if output is not None)


def _unit_map(stage: UnitMap, items: Iterator[Any], run: RunContext, meter: Meter) -> Iterator[Any]:
    for unit, group in by_unit(items):
        ends: list[End] = []
        try:
            yield from _metered(stage.apply, _before_end(group, ends), meter, run, unit)
        except Exception as error:
            fail_unit(unit, error, run)
        yield from ends or [item for item in group if isinstance(item, End)]


def _before_end(items: Iterator[Any], ends: list[End]) -> Iterator[Any]:
    """The items up to the End, which is appended to `ends`."""
    for item in items:
        if isinstance(item, End):
            ends.append(item)
            return
        yield item


def _gather(stage: Gather, items: Iterator[Any], meter: Meter) -> Iterator[Any]:
    with meter.working():
        output = stage.gather(_excluding_wait((item for item in items if not isinstance(item, End)), meter))
    yield output


def _metered(
    call: Callable[[Iterator[Any]], Iterator[Any]],
    items: Iterator[Any],
    meter: Meter,
    run: RunContext,
    unit: Unit | None = None,
) -> Iterator[Any]:
    """The results of a call on a stream, timed without the wait for its input; stops if the unit has failed."""
    output = iter(call(_excluding_wait(items, meter)))
    while not run.failure(unit):
        with meter.working():
            item = next(output, meter)  # the meter is a sentinel: no item is the meter
        if item is meter:
            return
        yield item


def _excluding_wait(items: Iterator[Any], meter: Meter) -> Iterator[Any]:
    """The items; the time spent waiting for each is subtracted from the meter."""
    while True:
        start = perf_counter()
        try:
            item = next(items)
        except StopIteration:
            return
        finally:
            meter.add(start - perf_counter())
        yield item
