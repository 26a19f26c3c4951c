"""From a graph to what came of it: plan, set up, run, tell."""

from collections.abc import Mapping
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any

from bwpipe.core.atomic_file import WORK_FOLDER, AtomicFile
from bwpipe.core.console import Progress
from bwpipe.core.context import RunContext
from bwpipe.core.frame import Unit
from bwpipe.core.provenance import Provenance
from bwpipe.core.segments import waiting_fragments
from bwpipe.core.stage import Gather, Sink, Summary
from bwpipe.engine.event_log import EventLog
from bwpipe.engine.ledger import Ledger, open_ledgers
from bwpipe.engine.planner import Plan, make_plan, recipes, total_frames
from bwpipe.engine.result import RunResult
from bwpipe.engine.scheduler import idle_nodes, run_stages
from bwpipe.engine.timing import Meter
from bwpipe.errors import BwpipeError, MediaError, RunAborted, format_error
from bwpipe.graph.graph import Graph, Node, read_graph
from bwpipe.version import __version__

__all__ = ["RunResult", "run", "run_graph"]


def run(
    graph: Graph | Mapping[str, Any] | str | Path,
    *,
    set: Mapping[str, Any] | None = None,  # noqa: A002 (the word of the command line)
    quiet: bool = True,
    restart: bool = False,
) -> RunResult:
    """Run a graph to its end.

    Args:
        graph: A graph file, what stands in one as a dict, or a graph that was read by `bwpipe.read_graph`.
        set: Options to change, e.g. {"colorize.batch": 4}.
        quiet: Show warnings and errors only, no progress.
        restart: Begin a training anew that was stopped, instead of going on with it; do files again that are done.

    Returns:
        What came of it; a file that failed is listed there and does not raise.

    Raises:
        UsageError: The graph, its options or its inputs are wrong; nothing was written.
        RunAborted: The run can't go on; what is finished stays, and the same call goes on from there.
        TooManyErrors: A file failed under `on_error: stop`, or more than `max_errors`.
    """
    return run_graph(graph if isinstance(graph, Graph) else read_graph(graph, set or {}), quiet=quiet, restart=restart)


def run_graph(graph: Graph, *, quiet: bool, restart: bool = False) -> RunResult:
    """Run a graph that was read; see `run`."""
    folders = [node.stage.folder for node in graph.nodes if isinstance(node.stage, Sink)]
    with open_ledgers(folders, lock=True) as ledgers, ExitStack() as stack:
        return _Session(graph, make_plan(graph, ledgers, restart=restart), ledgers, stack, quiet=quiet, restart=restart).run()


class _Session:
    """One run: the plan, and what is kept and told as it goes on."""

    def __init__(
        self, graph: Graph, plan: Plan, ledgers: dict[Path, Ledger], stack: ExitStack, *, quiet: bool, restart: bool
    ) -> None:
        self._graph = graph
        self._plan = plan
        self._ledgers = ledgers
        self._stack = stack
        self._outcome = RunResult(already=plan.done, kept=plan.kept, meters={node.id: Meter() for node in graph.nodes})
        self._progress = Progress(total_frames(plan.todo), quiet=quiet)
        self._journals: list[EventLog] = []
        self._lock = Lock()
        self._last = next((node.id for node in reversed(graph.nodes) if isinstance(node.stage, Sink)), graph.nodes[0].id)
        self._run = RunContext(
            quiet=quiet,
            name=graph.path.stem if graph.path else "graph",
            text=str(graph),
            restart=restart,
            plugins=graph.plugins,
            max_errors=0 if graph.on_error == "stop" else graph.max_errors,
            say=self._progress.say,
            record=self._record,
            provenance=lambda stage: made_by(graph, stage),
            downstream=graph.downstream,
            facts={key: value for ledger in ledgers.values() for key, value in ledger.facts.items()},
        )

    def run(self) -> RunResult:
        """Set up, run, tell."""
        start = perf_counter()
        outcome = self._outcome
        stopped: BaseException | None = None
        try:
            self._set_up()
            self._tell_plan()
            ready = self._ask()
            unread = self._graph.nodes[0].id in idle_nodes(self._graph, ready)
            if unread:
                self._progress.close()
            if not self._plan.idle:
                run_stages(self._graph, self._plan, self._run, outcome.meters, ready=ready, keep=self._keep, tick=self._show)
            if not self._ledgers:  # a graph that writes no files of its units has done with those that it read
                count = len(self._plan.todo) + len(self._plan.broken) - len(self._run.failures)
                outcome.done, outcome.already = (0, count) if unread else (count, 0)
        except BaseException as error:
            stopped = error
            raise
        finally:
            self._progress.close()
            outcome.seconds = perf_counter() - start
            outcome.remarks = dict(self._run.remarks)
            outcome.left_out = dict(self._run.left_out)
            outcome.failed = {unit.path: format_error(error) for unit, error in reversed(self._run.failures.items())}
            with suppress(RunAborted) if stopped else nullcontext():  # what stopped the run is what the user is to read
                self._tell_end(stopped)
        return outcome

    def _set_up(self) -> None:
        for node in self._graph.nodes if not self._plan.idle else ():
            self._stack.callback(node.stage.close)
            with node.error_context():
                node.stage.setup(self._run)
        for folder, ledger in self._ledgers.items():
            ledger.open()
            ledger.keep_facts(self._run.facts)
            self._journals.append(EventLog(folder / WORK_FOLDER / "report.jsonl"))
            self._stack.callback(self._journals[-1].close)
        self._plan.scans.store()
        for node in self._graph.nodes:
            if isinstance(node.stage, Sink):
                folder = node.stage.folder
                self._ledgers[folder].forget(waiting_fragments(folder, self._plan.whole[node.id]))

    def _tell_plan(self) -> None:
        """Say what will not be read, and why."""
        for broken in self._plan.broken:
            self._run.fail(broken, MediaError(broken.error))
        if kept := self._plan.kept:
            others = f" and {len(kept) - 1} more" if len(kept) > 1 else ""
            self._run.warn(f"{kept[0]}{others}: not written by bwpipe, so kept; `overwrite: true` on `write` writes over them")
        for path in kept:
            self._tell("kept", output=str(path))
        if self._plan.own:
            self._progress.note(f"{self._plan.own} files are outputs of earlier runs, so they are not read")

    def _ask(self) -> dict[str, Any]:
        """What gathering stages have already, by their ids."""
        units = {unit: self._plan.stamps[unit] for unit in self._plan.todo}
        ready = {}
        for node in self._graph.nodes if units else ():
            if isinstance(node.stage, Gather):
                recipe = recipes(self._graph, node.id)
                with node.error_context():
                    ready[node.id] = node.stage.ready(units, recipe)
        return {name: thing for name, thing in ready.items() if thing is not None}

    def _keep(self, node: Node, unit: Unit, draft: AtomicFile) -> None:
        assert isinstance(node.stage, Sink)
        ledger, recipe = self._ledgers[node.stage.folder], self._plan.recipes[node.id][unit]
        ledger.keep(unit, draft, recipe, self._plan.stamps[unit], self._run.raise_if_stopped)
        target = node.stage.target(unit)
        if draft.target != target:
            self._tell("segment", path=str(unit.path), part=unit.part, output=str(target))
            return
        film = next((film for film in self._plan.assemblies[node.id] if film.whole is unit), None)
        parts = [ledger.notes(part, node.stage.fragment(part)) for part in film.segments] if film else [draft.notes]
        self._report(unit, target, node.stage.summary(unit, parts))
        if node.stage.assembles:
            ledger.forget(waiting_fragments(ledger.folder, [target]))
        with self._lock:
            self._outcome.done += 1
        self._tell("done", path=str(unit.path), part=unit.part, output=str(target))

    def _report(self, unit: Unit, target: Path, summary: Summary) -> None:
        """Pass on what a sink reports of a finished file."""
        for event, fields in summary.events:
            self._tell(event, path=str(unit.path), output=str(target), **fields)
        for text in summary.warnings:
            self._run.warn(text, unit.media, each=True)
        with self._lock:
            self._outcome.lines.extend(summary.lines)

    def _show(self) -> None:
        self._progress.show(self._outcome.meters[self._last].items)
        if not self._ledgers and self._run.all_read.is_set():  # a training goes on for long, and has a bar of its own
            self._progress.close()

    def _record(self, event: str, path: Path | None, text: str) -> None:
        self._tell(event, **({"path": str(path)} if path else {}), text=text)
        if path and event == "failed":
            for ledger in self._ledgers.values():
                ledger.keep_failure(path, text)

    def _tell(self, event: str, **what: Any) -> None:
        with self._lock:
            for journal in self._journals:
                journal.write(event, **what)

    def _tell_end(self, error: BaseException | None) -> None:
        outcome = self._outcome
        stages = {name: {"items": meter.items, "busy_s": round(meter.busy, 3)} for name, meter in outcome.meters.items()}
        reason = {"error": format_error(error)} if isinstance(error, BwpipeError) else {}
        counts = {"done": outcome.done, "already": outcome.already, "kept": len(outcome.kept), "failed": len(outcome.failed)}
        event = "ended" if error is None else "stopped"
        self._tell(
            event,
            **reason,
            **counts,
            left_out=outcome.left_out,
            seconds=round(outcome.seconds, 3),
            remarks=outcome.remarks,
            stages=stages,
        )


def made_by(graph: Graph, stage: object) -> Provenance | None:
    """What this version makes in a stage of a graph; None if the graph has no such stage. Raises UsageError."""
    nodes = {node.id: node for node in graph.nodes}
    node = next((node for node in graph.nodes if node.stage is stage), None)
    told: list[Mapping[str, Any]] = []
    while node:
        with node.error_context():
            told.insert(0, node.stage.provenance())
        node = nodes.get(node.upstream or "")
    return Provenance(__version__, tuple(told)) if told else None
