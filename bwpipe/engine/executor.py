"""What executes the work of a run: threads of this process, or something else with the same interface."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bwpipe.core.atomic_file import AtomicFile
from bwpipe.core.context import RunContext
from bwpipe.core.frame import Unit
from bwpipe.engine.first_passes import FirstPasses
from bwpipe.engine.planner import Plan
from bwpipe.engine.scheduler import run_stages
from bwpipe.engine.timing import Meter
from bwpipe.graph.graph import Graph
from bwpipe.graph.node import Node


class Keep(Protocol):
    """Publishes a finished file under its final name, and records it. Thread-safe.

    Raises MediaError if its input has changed, RunAborted and OSError.
    """

    def __call__(self, node: Node, unit: Unit, file: AtomicFile, *, worker: str | None = None) -> None:
        """`node` is the sink, and `worker` the name of what made the file, for the report."""


@dataclass(frozen=True, slots=True)
class Work:
    """The work of a run.

    Attributes:
        graph: The graph, whose stages have been set up in this process.
        plan: What to read, write and join.
        run: What the stages share; what fails or is warned of is told to it.
        meters: By the ids of stages: to be told of the items that each has produced.
        ready: Cached results of gathering stages, by their ids; stages that only feed them need not run.
        first_passes: Those of the files.
        keep: Publishes a finished file.
        tick: To be called in the thread that called `Executor.execute`, a few times a second.
    """

    graph: Graph
    plan: Plan
    run: RunContext
    meters: dict[str, Meter]
    ready: Mapping[str, Any]
    first_passes: FirstPasses
    keep: Keep
    tick: Callable[[], None]


class Executor(Protocol):
    """Executes the work of one run: reads each unit of the plan, takes it through the stages, and has its files kept.

    What a unit becomes follows from its recipe and its frames, so that an executor may do units in any order, and anywhere
    where the stages can be built from the graph.
    """

    def start(self, graph: Graph, plan: Plan, run: RunContext) -> None:
        """Get ready, once the stages are set up in this process, and before anything is written. Raises UsageError."""

    def execute(self, work: Work) -> None:
        """Do the work. It returns, or raises what stopped it, once nothing is in work any more.

        Raises:
            BwpipeError: The run can't continue; a file that fails does not raise.
            BaseException: What interrupted this thread, such as a signal.
        """

    def close(self) -> None:
        """Always called, last."""

    def workers(self) -> Mapping[str, Meter]:
        """The work of each worker, by its name; empty if there is but this process."""


class LocalThreads:
    """Executes a run in threads of this process."""

    def start(self, graph: Graph, plan: Plan, run: RunContext) -> None:
        """Nothing is to be prepared."""

    def execute(self, work: Work) -> None:
        """Run the stages in threads until all have ended."""
        run_stages(
            work.graph,
            work.plan,
            work.run,
            work.meters,
            ready=work.ready,
            prepare=work.first_passes,
            keep=work.keep,
            tick=work.tick,
        )

    def close(self) -> None:
        """Nothing is left."""

    def workers(self) -> Mapping[str, Meter]:
        """None besides this process."""
        return {}
