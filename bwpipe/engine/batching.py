"""Batching: group items, process several batches in parallel, and yield results in the order of the items."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import Any

from bwpipe.core.context import RunContext
from bwpipe.core.frame import End
from bwpipe.core.memory import is_out_of_memory
from bwpipe.core.stage import BatchMap
from bwpipe.engine.failures import fail_unit
from bwpipe.engine.timing import Meter
from bwpipe.errors import FATAL, RunAborted

OPEN_BATCHES = 4
"""Limit on items in open batches, in full batches; beyond it the oldest open batch is sent part-filled."""


def in_batches(
    stage: BatchMap, items: Iterator[Any], run: RunContext, meter: Meter, pool: Executor | None = None
) -> Iterator[Any]:
    """The stream of a BatchMap: one open batch per key; a batch of video frames never crosses a unit boundary.

    `pool` has the stage's workers, if other streams share them.
    """
    slots: deque[_Slot | End] = deque()
    open_batches: dict[Any, list[_Slot]] = {}
    worker = _Worker(stage, run, meter)
    with nullcontext(pool) if pool else ThreadPoolExecutor(stage.workers) as threads:

        def send(key: Any) -> None:
            batch = open_batches.pop(key)
            future = threads.submit(worker.do, batch)
            for slot in batch:
                slot.future = future

        try:
            for item in items:
                if isinstance(item, End):
                    slots.append(item)
                    for key in [key for key in open_batches if key[0] is item.unit]:
                        send(key)
                elif not run.failure(item.unit):
                    try:
                        key = (item.unit if item.unit.media.has_segments else None, stage.key(item))
                        hash(key)
                    except Exception as error:
                        fail_unit(item.unit, error, run)
                        continue
                    new = _Slot(item, key)
                    slots.append(new)
                    open_batches.setdefault(key, []).append(new)
                    if len(open_batches[key]) >= worker.size:
                        send(key)
                    elif sum(map(len, open_batches.values())) >= OPEN_BATCHES * worker.size:
                        send(next(iter(open_batches)))
                if (blocking := _blocking_slot(slots)) and len(slots) > 2 * (OPEN_BATCHES + stage.workers) * worker.size:
                    send(blocking.key)
                yield from _pop_finished(slots, ahead=stage.workers * worker.size)
            for key in list(open_batches):
                send(key)
            yield from _pop_finished(slots, ahead=0)
        finally:
            for slot in slots:
                if isinstance(slot, _Slot) and slot.future:
                    slot.future.cancel()


@dataclass(slots=True, eq=False)
class _Slot:
    """An item's position in the output order: the item, then its result (None if its unit failed)."""

    item: Any
    key: Any
    result: Any = None
    future: Future[None] | None = None


def _blocking_slot(slots: deque[_Slot | End]) -> _Slot | None:
    """The first slot, if its item is still in an open batch and thus holds back all finished results behind it."""
    return slots[0] if slots and isinstance(slots[0], _Slot) and slots[0].future is None else None


def _pop_finished(slots: deque[_Slot | End], ahead: int) -> Iterator[Any]:
    """Pop finished results from the front, waiting while more than `ahead` items are in the pool."""
    while slots:
        slot = slots[0]
        if isinstance(slot, _Slot):
            if slot.future is None or not (slot.future.done() or _in_pool(slots) > ahead):
                return
            slot.future.result()
        slots.popleft()
        item = slot if isinstance(slot, End) else slot.result
        if item is not None:
            yield item


def _in_pool(slots: deque[_Slot | End]) -> int:
    return sum(isinstance(slot, _Slot) and slot.future is not None and not slot.future.done() for slot in slots)


class _Worker:
    """Applies a stage to batches; failed batches are retried in smaller ones."""

    def __init__(self, stage: BatchMap, run: RunContext, meter: Meter) -> None:
        self.size = stage.batch
        self._stage = stage
        self._run = run
        self._meter = meter
        self._lock = Lock()

    def do(self, batch: list[_Slot]) -> None:
        """Fill the slots of a batch with their results."""
        live = [slot for slot in batch if not self._run.failure(slot.item.unit)]
        while live:
            size = self.size
            try:
                self._apply(live[:size], size)
                live = live[size:]
            except MemoryError as error:
                self._halve(size, error)

    def _apply(self, slots: list[_Slot], size: int) -> None:
        self._run.raise_if_stopped()
        # always a full batch, so that a frame's result does not depend on how many others are in it
        items = [slot.item for slot in slots]
        padded = items + items[-1:] * (size - len(items))
        try:
            with self._meter.working():
                results = list(zip(padded, self._stage.apply(padded), strict=True))
        except FATAL:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise MemoryError from error
            if len(slots) == 1:
                fail_unit(items[0].unit, error, self._run)
                return
            for slot in slots:
                self._apply([slot], size)
            return
        for slot, (_, item) in zip(slots, results, strict=False):
            slot.result = item

    def _halve(self, size: int, error: MemoryError) -> None:
        with self._lock:
            if self.size < size:  # another worker has halved it already
                return
            if size == 1:
                raise RunAborted(
                    f"stage {self._stage.registered!r}: out of memory, even for one frame; use another device or smaller frames"
                ) from error
            self.size = size // 2
        self._run.warn(f"stage {self._stage.registered!r}: out of memory, so its batch is reduced from {size} to {self.size}")
