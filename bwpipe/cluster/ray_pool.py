"""Workers as actors of Ray, on this machine or on a cluster."""

import os
import re
import threading
from collections.abc import Callable, Collection, Hashable
from contextlib import suppress
from typing import Any

from bwpipe.cluster.pool import WorkerLost
from bwpipe.cluster.ray_connection import RayConnection, import_ray, interrupts_kept
from bwpipe.cluster.worker import Worker
from bwpipe.core.parallel import cores
from bwpipe.errors import RunAborted, UsageError, format_error
from bwpipe.graph.graph import Cluster


class RayPool:
    """A `WorkerPool` of Ray's actors. Ray decides where each runs."""

    def __init__(self, address: str, settings: Cluster, workers: int | None) -> None:
        """Nothing is connected to yet.

        Args:
            address: "auto" for the cluster that this machine belongs to, or, if there is none, for one that is started here;
                or a cluster's address, `HOST:PORT`.
            settings: What each worker takes.
            workers: How many workers to start; None for as many as there is room for.

        Raises:
            UsageError: Ray is not installed.
        """
        self._ray = import_ray()
        self._settings, self._workers = settings, workers
        self._connection = RayConnection(self._ray, address)

    def open(self, say: Callable[[str], None]) -> str:
        """Connect to the cluster, or start one here. Raises UsageError."""
        count = self._workers or max(cores() // self._settings.cpus, 1)
        where = self._connection.open(count * self._settings.cpus, say)
        self._check_room()
        return where

    def _check_room(self) -> None:
        """Check that a worker fits anywhere. Raises UsageError."""
        if not any(self._rooms()):
            found = "; ".join(self.resources())
            raise UsageError(f"no machine of the cluster has room for a worker (`cluster` in the graph): it has {found}")

    def size(self) -> int:
        """The number that was asked for, or as many as the cluster has room for."""
        return self._workers or sum(self._rooms())

    def _rooms(self) -> list[int]:
        """For how many workers each machine has room."""
        settings = self._settings
        wanted = {"CPU": settings.cpus, "GPU": settings.gpus, "memory": settings.memory_bytes or 0}
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return [min(int(node.get(name, 0) // amount) for name, amount in wanted.items() if amount) for node in nodes]

    def resources(self) -> list[str]:
        """Each machine, with its processors, GPUs and memory."""
        lines = []
        for node in self._ray.nodes():
            if node["Alive"]:
                has = node["Resources"]
                gpus = f", {has['GPU']:.0f} GPUs" if has.get("GPU") else ""
                lines.append(
                    f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}): {has.get('CPU', 0):.0f} CPUs{gpus}, "
                    f"{has.get('memory', 0) / (1 << 30):.1f} GiB of memory"
                )
        return lines

    @interrupts_kept()
    def start(self, name: str) -> Hashable:
        """Start an actor."""
        settings = self._settings
        options: dict[str, Any] = {
            "num_cpus": settings.cpus,
            "num_gpus": settings.gpus,
            "max_restarts": 0,
            "max_concurrency": 2,
        }
        if settings.memory_bytes:
            options["memory"] = settings.memory_bytes
        actor = self._ray.remote(RayWorker).options(**options)
        handle: Hashable = actor.remote(settings.cpus)
        return handle

    @interrupts_kept()
    def call(self, worker: Any, method: str, *arguments: Any) -> Hashable:
        """Call a method of an actor."""
        ticket: Hashable = getattr(worker, method).remote(*arguments)
        return ticket

    @interrupts_kept()
    def wait(self, tickets: Collection[Hashable], seconds: float) -> list[Hashable]:
        """Those whose results are there."""
        if not tickets:
            threading.Event().wait(seconds)
            return []
        ready, _ = self._ray.wait(list(tickets), num_returns=len(tickets), timeout=0)
        if not ready:
            ready, _ = self._ray.wait(list(tickets), num_returns=1, timeout=seconds)
        return list(ready)

    @interrupts_kept()
    def result(self, ticket: Hashable) -> Any:
        """The result of a call. Raises WorkerLost, RunAborted."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(ticket)
        except errors.RayTaskError as error:
            raise RunAborted(f"a worker failed: {format_error(error.cause or error)}") from error
        except errors.LocalRayletDiedError as error:
            raise RunAborted("Ray on this machine has ended; start it again, and run again to go on") from error
        except errors.OutOfMemoryError as error:
            raise WorkerLost(_MEMORY, for_memory=True) from error
        except errors.RayError as error:
            raise _lost(error) from error

    @interrupts_kept()
    def share(self, value: Any) -> Any:
        """Put a value into Ray's store, from which each machine copies it once; within a list it is not fetched for a call."""
        return self._ray.put(value)

    def kill(self, worker: Any) -> None:
        """End an actor."""
        with suppress(Exception), interrupts_kept():  # it is gone
            self._ray.kill(worker)

    def close(self) -> None:
        """Disconnect; what was started here is ended."""
        self._connection.close()


class RayWorker(Worker):
    """A worker in an actor of Ray."""

    def __init__(self, cpus: int) -> None:
        """Limit the threads of libraries that are still to be imported."""
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(cpus)
        super().__init__(_fetched)


def _fetched(value: Any) -> Any:
    import ray

    return ray.get(value) if isinstance(value, ray.ObjectRef) else value


_MEMORY = (
    "Ray ends workers where a machine's memory is nearly full, whichever program took it; "
    "give `cluster.memory`, start fewer workers, or raise RAY_memory_usage_threshold"
)


def _lost(error: Exception) -> WorkerLost:
    """What the loss of a worker is called."""
    text = str(error)
    if "OutOfMemory" in text or "memory pressure" in text or "running low on memory" in text:
        return WorkerLost(_MEMORY, for_memory=True)
    if missing := re.search(r"ModuleNotFoundError: (.+)", text):
        return WorkerLost(f"{missing[1]}; install bwpipe there, in the same version")
    return WorkerLost("its process or its machine has ended")
