"""A parallel map over a stream that preserves order."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


_limit: int | None = None


def cores() -> int:
    """Number of cores that this process may use."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return found if _limit is None else min(found, _limit)


def limit_cores(count: int | None) -> None:
    """Let this process use at most that many cores, for a worker that shares a machine with others; None for all."""
    global _limit  # noqa: PLW0603 (a fact of the process)
    _limit = count


def ordered_map(
    function: Callable[[A], B], items: Iterable[A], workers: int, pool: Executor | None = None
) -> Generator[B, None, None]:
    """Apply a function in several threads, at most `workers` items ahead of the reader; results keep the order of the items.

    Args:
        function: What to apply.
        items: The items; taken in the reader's thread.
        workers: Number of threads; one means the reader's own.
        pool: Threads that other streams use too; by default this stream has its own.
    """
    if workers == 1:
        yield from map(function, items)
        return
    pending: deque[Future[B]] = deque()
    with nullcontext(pool) if pool else ThreadPoolExecutor(workers) as threads:
        try:
            for item in items:
                pending.append(threads.submit(function, item))
                while pending and (len(pending) > workers or pending[0].done()):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
