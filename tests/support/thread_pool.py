"""A pool of workers that are objects in this process: what hands out work can be tested without a cluster."""

from collections.abc import Callable, Collection, Hashable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import Event
from typing import Any

from bwpipe.cluster.pool import WorkerLost
from bwpipe.cluster.worker import Worker


class ThreadWorker:
    """A worker with a thread for its work, and one for questions.

    Attributes:
        lost: Set once it is killed: what it answers is not heard any more.
    """

    def __init__(self, name: str) -> None:
        self.name, self.worker, self.lost = name, Worker(), Event()
        self.threads = {"news": ThreadPoolExecutor(1)}
        self.work = ThreadPoolExecutor(1)


class LocalPool:
    """A `WorkerPool` whose workers are in this process. `trip` is called before each call, and may raise WorkerLost."""

    def __init__(self, workers: int, trip: Callable[[str, str, tuple[Any, ...]], None] = lambda *call: None) -> None:
        self._workers, self._trip = workers, trip
        self.started: list[ThreadWorker] = []

    def open(self, say: Callable[[str], None]) -> str:
        return "this process"

    def size(self) -> int:
        return self._workers

    def start(self, name: str) -> Hashable:
        self.started.append(ThreadWorker(name))
        return self.started[-1]

    def call(self, worker: Hashable, method: str, *arguments: Any) -> Hashable:
        assert isinstance(worker, ThreadWorker)

        def work() -> Any:
            self._trip(worker.name, method, arguments)
            return getattr(worker.worker, method)(*arguments)

        return worker.threads.get(method, worker.work).submit(work)

    def wait(self, tickets: Collection[Hashable], seconds: float) -> list[Hashable]:
        futures: list[Future[Any]] = [ticket for ticket in tickets if isinstance(ticket, Future)]
        if not futures:
            Event().wait(seconds)
        return list(wait(futures, seconds, FIRST_COMPLETED).done) if futures else []

    def result(self, ticket: Hashable) -> Any:
        assert isinstance(ticket, Future)
        return ticket.result()

    def share(self, value: Any) -> Any:
        return value

    def resources(self) -> list[str]:
        return ["this process"]

    def kill(self, worker: Hashable) -> None:
        assert isinstance(worker, ThreadWorker)
        worker.lost.set()
        for pool in (worker.work, *worker.threads.values()):
            pool.shutdown(wait=True, cancel_futures=True)
        worker.worker.close()

    def close(self) -> None:
        pass


__all__ = ["LocalPool", "ThreadWorker", "WorkerLost"]
