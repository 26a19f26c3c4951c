"""The scheduler: one thread per stage, one bounded channel per edge."""

from collections.abc import Callable, Iterator, Mapping
from threading import Thread
from time import sleep
from typing import Any

from bwpipe.core.atomic_file import AtomicFile
from bwpipe.core.context import RunContext
from bwpipe.core.frame import End, Unit
from bwpipe.core.stage import Gather, Sink, Source
from bwpipe.engine.channel import Channel
from bwpipe.engine.executors import execute, execute_source
from bwpipe.engine.failures import as_bwpipe_error
from bwpipe.engine.planner import Plan
from bwpipe.engine.sink_executor import execute_sink
from bwpipe.engine.timing import Meter
from bwpipe.errors import BwpipeError, RunStopped
from bwpipe.graph.graph import Graph, Node

TICK = 0.1
"""Interval, in seconds, at which the scheduler checks whether the stages have ended."""


def run_stages(
    graph: Graph,
    plan: Plan,
    run: RunContext,
    meters: dict[str, Meter],
    *,
    ready: Mapping[str, Any],
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
        keep: Publishes a finished file; called in the sink's threads.
        tick: Called in this thread every tenth of a second.

    Raises:
        BwpipeError: The first error of a stage; all other stages have ended by then.
        BaseException: What interrupted this thread, such as a signal; all stages have ended by then.
    """
    idle = idle_nodes(graph, ready)
    nodes = [node for node in graph.nodes if node.id not in idle]
    consumers = [node for node in nodes if node.upstream and node.id not in ready]
    inbox = {node.id: Channel[Any](graph.queue) for node in consumers}
    outbox = {node.id: [inbox[other.id] for other in consumers if other.upstream == node.id] for node in nodes}
    failures: list[BwpipeError] = []
    ended: list[Node] = []

    def abort() -> None:
        run.stop()
        for channel in inbox.values():
            channel.abort()

    def stream(node: Node) -> Iterator[Any]:
        meter = meters[node.id]
        match node.stage:
            case Gather() if node.id in ready:
                return iter([ready[node.id]])
            case Source():
                return execute_source(node.stage, plan.todo, plan.context, run, meter)
            case Sink():
                return execute_sink(
                    node.stage,
                    iter(inbox[node.id]),
                    wanted=plan.recipes[node.id].__contains__,
                    keep=lambda unit, file: keep(node, unit, file),
                    run=run,
                    meter=meter,
                    assemblies=plan.assemblies[node.id],
                )
            case _:
                return execute(node.stage, iter(inbox[node.id]), run, meter)

    def work(node: Node) -> None:
        try:
            for item in stream(node):
                if isinstance(node.stage, Sink):
                    continue
                if not isinstance(item, End):
                    meters[node.id].items += 1
                wanted = [channel.put(item) for channel in outbox[node.id]]
                if wanted and not any(wanted):
                    break
            else:
                node.stage.finish()
        except RunStopped:
            pass
        except BaseException as error:
            failures.append(as_bwpipe_error(error, node))
            abort()
        finally:
            if node.id in inbox:
                inbox[node.id].leave()
            for channel in outbox[node.id]:
                channel.end()
            ended.append(node)

    threads = [Thread(target=work, args=(node,), name=node.id) for node in nodes]
    try:
        for thread in threads:
            thread.start()
        _wait(threads, ended, tick)
    except BaseException:  # a signal: stop, but let every stage release its resources
        abort()
        _wait([thread for thread in threads if thread.ident], ended, lambda: None)
        raise
    if failures:
        raise failures[0]


def idle_nodes(graph: Graph, ready: Mapping[str, Any]) -> set[str]:
    """The ids of nodes that need not run, because they only feed gathering stages that are ready."""
    idle: set[str] = set()
    for node in reversed(graph.nodes):  # each node comes after its upstream
        consumers = [other.id for other in graph.nodes if other.upstream == node.id]
        if consumers and all(other in ready or other in idle for other in consumers):
            idle.add(node.id)
    return idle


def _wait(threads: list[Thread], ended: list[Node], tick: Callable[[], None]) -> None:
    """Wait until all threads have ended.

    Not by joining alone: after a signal during `join`, Python 3.11 considers a running thread ended.
    """
    while len(ended) < len(threads):
        sleep(TICK)
        tick()
    for thread in threads:
        thread.join()
