"""Runs a graph: one thread a stage, one bounded channel an edge."""

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
from bwpipe.engine.planner import Plan
from bwpipe.engine.sink_executor import execute_sink
from bwpipe.engine.timing import Meter
from bwpipe.errors import BwpipeError, RunAborted, RunStopped, format_error
from bwpipe.graph.graph import Graph, Node

TICK = 0.1
"""Seconds between two looks at whether the stages have ended."""


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
    """Run the stages, which are set up, until the last one has ended.

    Args:
        graph: The graph.
        plan: What is to be read and written.
        run: What the stages share.
        meters: One for each node, by its id.
        ready: What gathering stages have already, by their ids; what only feeds them is not started.
        keep: Publishes a finished file; called in the sink's threads.
        tick: Called in this thread every tenth of a second.

    Raises:
        BwpipeError: The first one that a stage raised; every other stage has ended by then.
        BaseException: What interrupted this thread, such as a signal; every stage has ended by then.
    """
    resting = idle_nodes(graph, ready)
    nodes = [node for node in graph.nodes if node.id not in resting]
    fed = [node for node in nodes if node.upstream and node.id not in ready]
    inbox = {node.id: Channel[Any](graph.queue) for node in fed}
    outbox = {node.id: [inbox[other.id] for other in fed if other.upstream == node.id] for node in nodes}
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
                    keep=lambda unit, draft: keep(node, unit, draft),
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
            failures.append(_explained(error, node))
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
    except BaseException:  # a signal: stop, but let every stage let go of what it holds
        abort()
        _wait([thread for thread in threads if thread.ident], ended, lambda: None)
        raise
    if failures:
        raise failures[0]


def idle_nodes(graph: Graph, ready: Mapping[str, Any]) -> set[str]:
    """The ids of the nodes that have nothing to do, since they only feed gathering stages that are ready."""
    resting: set[str] = set()
    for node in reversed(graph.nodes):  # each comes after its upstream
        fed = [other.id for other in graph.nodes if other.upstream == node.id]
        if fed and all(other in ready or other in resting for other in fed):
            resting.add(node.id)
    return resting


def _wait(threads: list[Thread], ended: list[Node], tick: Callable[[], None]) -> None:
    """Wait until all threads have ended.

    Not by joining alone: a signal in the midst of `join` makes Python 3.11 take a running thread for an ended one.
    """
    while len(ended) < len(threads):
        sleep(TICK)
        tick()
    for thread in threads:
        thread.join()


def _explained(error: BaseException, node: Node) -> BwpipeError:
    """The error as the user is to read it."""
    if isinstance(error, BwpipeError):
        return error
    what = "out of memory; use a smaller `batch` or `queue`" if isinstance(error, MemoryError) else format_error(error)
    explained = RunAborted(f"{node.where}: stage {node.id!r}: {what}")
    explained.__cause__ = error
    return explained
