"""Work in several threads: a parallel map over a stream that preserves order, and libraries that leave it at that."""

import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from threading import get_native_id
from typing import TypeVar

from bwpipe.core.shared_setting import SharedSetting

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


def _single_thread(restore: ExitStack) -> None:
    opencv = sys.modules["cv2"]
    restore.callback(opencv.setNumThreads, opencv.getNumThreads())
    opencv.setNumThreads(1)


_SINGLE_THREADED = SharedSetting(_single_thread)


def single_threaded_opencv() -> AbstractContextManager[None]:
    """Inside the context, in every thread, OpenCV computes each call in the thread that makes it. Reentrant.

    Stages compute frames in parallel, and what OpenCV does to one of them takes a fraction of a millisecond: its own threads,
    which wait for more in a loop, then cost up to twice the CPU time of the work itself. Its results do not depend on them.
    Nothing is done if nothing has imported OpenCV.
    """
    return _SINGLE_THREADED.changed() if "cv2" in sys.modules else nullcontext()


@contextmanager
def scheduling_kept() -> Iterator[None]:
    """Restore how the system schedules this thread, and have threads that were started inside scheduled like it.

    SVT-AV1 makes the thread of a root user that opens it real-time, at the highest priority of all. Its own threads inherit
    that, as do processes that the thread starts later, and together they keep all others from the cores.
    """
    if sys.platform != "linux":
        yield
        return
    policy, parameters, before = os.sched_getscheduler(0), os.sched_getparam(0), _system_threads()
    try:
        yield
    finally:
        for thread in {get_native_id(), *(_system_threads() - before)}:
            with suppress(ProcessLookupError):  # it has ended
                if os.sched_getscheduler(thread) != policy:
                    os.sched_setscheduler(thread, policy, parameters)


def _system_threads() -> set[int]:
    """All threads of this process, those of libraries included, by the numbers that Linux gives them."""
    return {int(entry.name) for entry in os.scandir("/proc/self/task")}
