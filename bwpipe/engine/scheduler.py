"""The scheduler: one thread per stage, one bounded channel per edge, in each lane."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any

from bwpipe.core.atomic_file import AtomicFile
from bwpipe.core.context import RunContext
from bwpipe.core.frame import End, Unit
from bwpipe.core.parallel import single_threaded_opencv
from bwpipe.core.stage import BatchMap, Gather, Map, Sink, Source, UnitMap
from bwpipe.engine.channel import Channel
from bwpipe.engine.executors import execute, execute_source, without_context
from bwpipe.engine.failures import as_bwpipe_error
from bwpipe.engine.lanes import UnitQueue, lane_count
from bwpipe.engine.overridden import with_overrides
from bwpipe.engine.planner import Plan, context_below
from bwpipe.engine.sink_executor import Assemblies, execute_sink
from bwpipe.engine.timing import Meter
from bwpipe.errors import BwpipeError, RunStopped
from bwpipe.graph.graph import Graph
from bwpipe.graph.node import Node

TICK = 0.1
"""Interval, in seconds, at which the scheduler shows the progress."""


def run_stages(
    graph: Graph,
    plan: Plan,
    run: RunContext,
    meters: dict[str, Meter],
    *,
    ready: Mapping[str, Any],
    prepare: Callable[[Unit], None],
    keep: Callable[[Node, Unit, AtomicFile], None],
    tick: Callable[[], None],
) -> None:
    """Run the stages, which have been set up, until all have ended.

    Args:
        graph: The graph.
        plan: What to read and write.
        run: The context that the stages share.
        meters: A meter for each node, by its id.
        ready: Cached results of gathering stages, by their ids; stages that only feed them are not started.
        prepare: Called in the source's threads before a unit is read.
        keep: Publishes a finished file; called in the sink's threads.
        tick: Called in this thread every tenth of a second, and when a stage has ended.

    Raises:
        BwpipeError: The first error of a stage; all other stages have ended by then.
        BaseException: What interrupted this thread, such as a signal; all stages have ended by then.
    """
    threads = _Threads(graph, plan, run, meters, ready=ready, prepare=prepare, keep=keep)
    with single_threaded_opencv():
        threads.run(tick)
    if threads.failures:
        raise threads.failures[0]


class _Threads:
    """The threads of a run, and the channels between them.

    Attributes:
        failures: The errors that ended the run, in order.
    """

    def __init__(
        self,
        graph: Graph,
        plan: Plan,
        run: RunContext,
        meters: dict[str, Meter],
        *,
        ready: Mapping[str, Any],
        prepare: Callable[[Unit], None],
        keep: Callable[[Node, Unit, AtomicFile], None],
    ) -> None:
        self.failures: list[BwpipeError] = []
        self._plan, self._run, self._meters, self._ready, self._prepare, self._keep = plan, run, meters, ready, prepare, keep
        self._instances = graph.instances
        idle = idle_nodes(graph, ready)
        self._nodes = [node for node in graph.nodes if node.id not in idle]
        self._queue = UnitQueue(plan.todo)
        stages = [node.stage for node in self._nodes]
        self._lanes = range(lane_count(stages, plan.todo, len(self._queue), graph.segments_at_once))
        consumers = [node for node in self._nodes if node.upstream and node.id not in ready]
        self._inbox = {(node.id, lane): Channel[Any](graph.queue) for node in consumers for lane in self._lanes}
        self._outbox = {
            (node.id, lane): [self._inbox[other.id, lane] for other in consumers if other.upstream == node.id]
            for node in self._nodes
            for lane in self._lanes
        }
        self._assemblies = {
            node.id: Assemblies(plan.assemblies[node.id], plan.recipes[node.id].__contains__, joins=plan.joins)
            for node in self._nodes
            if isinstance(node.stage, Sink)
        }
        self._context = {node.id: context_below(graph, node) for node in self._nodes}
        self._pools: dict[str, Executor] = {}
        self._ended: list[tuple[Node, int]] = []
        self._ends: SimpleQueue[None] = SimpleQueue()
        self._complete = Counter[str]()
        self._lock = Lock()

    def run(self, tick: Callable[[], None]) -> None:
        """Run them until all have ended, whatever interrupts this thread meanwhile."""
        threads = [Thread(target=self._work, args=(node, lane), name=self._name(node, lane)) for node, lane in self._pairs()]
        with ExitStack() as stack:
            for node in self._nodes if len(self._lanes) > 1 else ():
                if isinstance(node.stage, Map | BatchMap | Sink) and node.stage.workers > 1:
                    self._pools[node.id] = stack.enter_context(ThreadPoolExecutor(node.stage.workers))
            try:
                for thread in threads:
                    thread.start()
                self._wait(threads, tick)
            except BaseException:  # a signal: stop, but let every stage release its resources
                self._abort()
                self._wait([thread for thread in threads if thread.ident], lambda: None)
                raise

    def _pairs(self) -> list[tuple[Node, int]]:
        """Each stage in each lane."""
        return [(node, lane) for lane in self._lanes for node in self._nodes]

    def _name(self, node: Node, lane: int) -> str:
        """The name of a thread, for profilers and debuggers."""
        return node.id if len(self._lanes) == 1 else f"{node.id} {lane + 1}"

    def _work(self, node: Node, lane: int) -> None:
        """The work of one thread."""
        try:
            for item in self._stream(node, lane):
                if isinstance(node.stage, Sink):
                    continue
                if not isinstance(item, End):
                    self._meters[node.id].count()
                wanted = [channel.put(item) for channel in self._outbox[node.id, lane]]
                if wanted and not any(wanted):
                    break
            else:
                self._finish(node)
        except RunStopped:
            pass
        except BaseException as error:
            self.failures.append(as_bwpipe_error(error, node))
            self._abort()
        finally:
            if (node.id, lane) in self._inbox:
                self._inbox[node.id, lane].leave()
            for channel in self._outbox[node.id, lane]:
                channel.end()
            self._ended.append((node, lane))
            self._ends.put(None)

    def _stream(self, node: Node, lane: int) -> Iterator[Any]:
        """What a stage makes in a lane."""
        plan, run, meter, pool = self._plan, self._run, self._meters[node.id], self._pools.get(node.id)
        match node.stage:
            case Gather() if node.id in self._ready:
                return iter([self._ready[node.id]])
            case Source():
                return execute_source(node.stage, self._queue.take(), plan.context, run, meter, prepare=self._prepare)
            case Sink():
                return execute_sink(
                    node.stage,
                    iter(self._inbox[node.id, lane]),
                    wanted=plan.recipes[node.id].__contains__,
                    keep=lambda unit, file: self._keep(node, unit, file),
                    run=run,
                    meter=meter,
                    assemblies=self._assemblies[node.id],
                    pool=pool,
                )
            case _:
                stage = with_overrides(node, self._instances)
                items = execute(stage, iter(self._inbox[node.id, lane]), run, meter, pool)
                return without_context(items, self._context[node.id]) if isinstance(stage, UnitMap) else items

    def _finish(self, node: Node) -> None:
        """A stage has come to its end in a lane."""
        with self._lock:
            self._complete[node.id] += 1
            if self._complete[node.id] < len(self._lanes):
                return
        node.stage.finish()
        if isinstance(node.stage, Source):
            self._run.all_read.set()

    def _abort(self) -> None:
        self._run.stop()
        for channel in self._inbox.values():
            channel.abort()

    def _wait(self, threads: list[Thread], tick: Callable[[], None]) -> None:
        """Wait until all threads have ended.

        Not by joining alone: after a signal during `join`, Python 3.11 considers a running thread ended. Nor by an `Event`,
        whose locks a signal can leave in disorder.
        """
        while len(self._ended) < len(threads):
            with suppress(Empty):
                self._ends.get(timeout=TICK)
            tick()
        for thread in threads:
            thread.join()


def idle_nodes(graph: Graph, ready: Mapping[str, Any]) -> set[str]:
    """The ids of nodes that need not run, because they only feed gathering stages that are ready."""
    idle: set[str] = set()
    for node in reversed(graph.nodes):  # each node comes after its upstream
        consumers = [other.id for other in graph.nodes if other.upstream == node.id]
        if consumers and all(other in ready or other in idle for other in consumers):
            idle.add(node.id)
    return idle
