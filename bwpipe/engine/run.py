"""Run a graph: plan, set up, execute, report."""

from collections.abc import Mapping
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any

from bwpipe.core.atomic_file import WORK_FOLDER, AtomicFile
from bwpipe.core.console import Progress
from bwpipe.core.context import RunContext
from bwpipe.core.frame import Media, Unit, skipped_in_words
from bwpipe.core.memory import as_abort, check_room, give_back, keep_freed_memory
from bwpipe.core.provenance import Provenance
from bwpipe.core.segments import waiting_fragments
from bwpipe.core.stage import Gather, Sink, ask
from bwpipe.core.summary import Summary
from bwpipe.engine.event_log import REPORT, EventLog
from bwpipe.engine.executor import Executor, LocalThreads, Work
from bwpipe.engine.finished_films import forget_rest, keep_outlines, tidy
from bwpipe.engine.first_passes import FirstPasses
from bwpipe.engine.last_run import LastRun
from bwpipe.engine.ledger import Ledger
from bwpipe.engine.outdated import announcement
from bwpipe.engine.planner import Plan, known_facts, make_plan, total_frames
from bwpipe.engine.recipes import recipes
from bwpipe.engine.result import RunResult
from bwpipe.engine.scheduler import idle_nodes
from bwpipe.engine.share_ledger import open_ledgers
from bwpipe.engine.shares import Share, report_name
from bwpipe.engine.timing import Meter
from bwpipe.engine.unmatched import unmatched
from bwpipe.errors import BwpipeError, DamagedRecord, MediaError, RunAborted, UsageError, format_error
from bwpipe.graph.graph import Graph, read_graph
from bwpipe.graph.instances import values
from bwpipe.graph.node import Node
from bwpipe.version import __version__

__all__ = ["RunResult", "run", "run_graph"]


def run(
    graph: Graph | Mapping[str, Any] | str | Path,
    *,
    set: Mapping[str, Any] | None = None,  # noqa: A002 (named like the command-line option)
    quiet: bool = True,
    restart: bool = False,
    update: bool = False,
    share: str | None = None,
) -> RunResult:
    """Run a graph to completion.

    Args:
        graph: A graph file, its content as a dict, or a graph read by `bwpipe.read_graph`.
        set: Options to override, e.g. {"colorize.batch": 4}.
        quiet: Show warnings and errors only, no progress.
        restart: Start an interrupted training over instead of resuming it, and redo files that are done.
        update: Redo finished files that this version of bwpipe would write differently, instead of only saying how many.
        share: Do a share of the work only, "0/3" to "2/3" for three, on several machines or in several processes. A run without
            it takes over what the shares did.

    Returns:
        The result; a file that failed is listed there and does not raise.

    Raises:
        UsageError: The graph, its options or its inputs are wrong; nothing was written.
        RunAborted: The run can't continue; finished outputs are kept, and the same call resumes from there.
        TooManyErrors: A file failed under `on_error: stop`, or more than `max_errors`.
    """
    read = graph.override(set or {}) if isinstance(graph, Graph) else read_graph(graph, set or {})
    part = None if share is None else Share.parse(share)
    return run_graph(read, quiet=quiet, restart=restart, update=update, share=part)


def run_graph(
    graph: Graph,
    *,
    quiet: bool,
    restart: bool = False,
    update: bool = False,
    share: Share | None = None,
    executor: Executor | None = None,
    trial: bool = False,
    ends_process: bool = False,
) -> RunResult:
    """Run a graph that has been read; see `run`. What executes it is threads of this process by default.

    A `trial` run has some of the inputs, under other names: it says nothing of corrections for others. If it `ends_process`,
    memory is not given back afterwards, for which all objects are looked through.
    """
    folders = [node.stage.folder for node in graph.nodes if isinstance(node.stage, Sink)]
    if share and (not folders or any(isinstance(node.stage, Gather) for node in graph.nodes)):
        raise UsageError("--share is for graphs that only write pictures and films; run this one without it")
    try:
        with as_abort(), open_ledgers(folders, lock=True, share=share) as ledgers, ExitStack() as stack:
            plan = make_plan(graph, ledgers, restart=restart, update=update, share=share)
            session = _Session(graph, plan, ledgers, stack, quiet=quiet, restart=restart, share=share, trial=trial)
            return session.run(executor or LocalThreads())
    finally:
        if not ends_process:
            give_back()


class _Session:
    """One run: its plan, and what it records and reports."""

    def __init__(
        self,
        graph: Graph,
        plan: Plan,
        ledgers: dict[Path, Ledger],
        stack: ExitStack,
        *,
        quiet: bool,
        restart: bool,
        share: Share | None,
        trial: bool,
    ) -> None:
        self._graph = graph
        self._trial = trial
        self._plan = plan
        self._ledgers = ledgers
        self._stack = stack
        self._result = RunResult(
            already=plan.done,
            kept=plan.kept,
            meters={node.id: Meter() for node in graph.nodes},
            outdated=[each.target for each in plan.outdated],
            folders=list(ledgers),
            share=str(share) if share else None,
        )
        self._report_file = report_name(share.name, REPORT) if share else REPORT
        films = any(unit.media.has_segments for unit in plan.todo)
        self._progress = Progress(total_frames(plan.todo), quiet=quiet, of="frames" if films else "pictures")
        self._event_logs: list[EventLog] = []
        self._finished: set[tuple[str, Unit]] = set()
        self._lock = Lock()
        self._published = perf_counter()
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
            provenance=lambda stage, unit=None: made_by(graph, stage, unit),
            downstream=graph.downstream,
            facts=known_facts(ledgers),
            frames=total_frames(plan.todo),
        )

    def run(self, executor: Executor) -> RunResult:
        """Set up, execute, report."""
        self._executor = executor
        self._stack.callback(executor.close)
        start = perf_counter()
        result = self._result
        stopped: BaseException | None = None
        try:
            self._set_up()
            self._report_plan()
            ready = self._cached_results()
            unread = self._graph.nodes[0].id in idle_nodes(self._graph, ready)
            if unread:
                self._progress.close()
            self._published = perf_counter()
            if not self._plan.idle:
                check_room()
                keep_freed_memory()
                passes = FirstPasses(self._graph, self._plan, self._ledgers, self._run, result.meters)
                self._executor.execute(
                    Work(
                        self._graph,
                        self._plan,
                        self._run,
                        result.meters,
                        ready=ready,
                        first_passes=passes,
                        keep=self._publish,
                        tick=self._show,
                    )
                )
            if not self._ledgers:  # without sinks, files count as done once they are read
                count = len(self._plan.todo) + len(self._plan.broken) - len(self._run.failures)
                result.done, result.already = (0, count) if unread else (count, 0)
        except BaseException as error:
            stopped = error
            for line in self._plan.restarts(self._finished):
                self._progress.say(f"{line} when the run is started again")
            raise
        finally:
            self._progress.close()
            result.seconds = perf_counter() - start
            result.workers = dict(self._executor.workers())
            result.remarks = dict(self._run.remarks)
            result.left_out = dict(self._run.left_out)
            result.failed = {unit.path: format_error(error) for unit, error in reversed(self._run.failures.items())}
            with suppress(RunAborted) if stopped else nullcontext():  # do not hide the error that stopped the run
                self._log_end(stopped)
                self._forget_damaged()
        return result

    def _forget_damaged(self) -> None:
        """Forget what turned out to be damaged, so that the next run makes it again. Raises RunAborted."""
        for error in self._run.failures.values():
            if isinstance(error, DamagedRecord):
                for folder, ledger in self._ledgers.items():
                    if error.path.is_relative_to(folder):
                        ledger.forget([error.path])

    def _set_up(self) -> None:
        self._stack.callback(self._run.release_shared)
        for node in self._graph.nodes if not self._plan.idle else ():
            for stage in (node.stage, *self._graph.instances.needed(node, self._plan.todo, self._plan.context)):
                self._stack.callback(stage.close)
                with node.error_context():
                    stage.setup(self._run)
        if not self._plan.idle:
            self._executor.start(self._graph, self._plan, self._run)
        for folder, ledger in self._ledgers.items():
            ledger.open()
            ledger.keep_facts(self._run.facts)
            ledger.store_updates()
            self._keep_record(folder)
            self._event_logs.append(EventLog(folder / WORK_FOLDER / self._report_file, idle=self._plan.idle))
            self._stack.callback(self._event_logs[-1].close)
        self._plan.scans.store()
        for node in self._graph.nodes if self._plan.joins else ():
            if isinstance(node.stage, Sink):
                tidy(self._graph, self._ledgers[node.stage.folder], node.stage, self._plan.whole[node.id])
        for folder, ledger in self._ledgers.items() if self._plan.joins else ():
            ledger.forget(ledger.fragments_of_missing(self._plan.roots, self._waiting(folder)))

    def _keep_record(self, folder: Path) -> None:
        """Record how an output folder is made. Raises RunAborted."""
        try:
            LastRun.of(self._graph).write(folder)
        except OSError as error:
            text = f"{folder}: can't be written ({error.strerror}); free some space and run again"
            raise RunAborted(text) from error

    def _waiting(self, folder: Path) -> list[Path]:
        """The fragments in an output folder of the films that this run joins."""
        sinks = {node.id: node.stage for node in self._graph.nodes if isinstance(node.stage, Sink)}
        targets = [
            sinks[name].target(assembly.whole)
            for name, assemblies in self._plan.assemblies.items()
            for assembly in assemblies
            if sinks[name].folder == folder
        ]
        return waiting_fragments(folder, targets)

    def _report_plan(self) -> None:
        """Report the state of the ledgers, files that will not be read or written, and why."""
        ledgers = self._ledgers.values()
        mistakes = () if self._trial else unmatched(self._graph, self._plan.names, ledgers)
        for text in (*(remark for ledger in ledgers for remark in ledger.remarks), *mistakes):
            self._run.warn(text)
        for each in self._plan.outdated:
            self._log("outdated", path=str(each.unit.path), output=str(each.target), text="; ".join(each.reasons))
        if self._plan.outdated:
            self._run.warn(announcement(self._plan.outdated, ledgers))
        if dropped := [each for each in self._plan.changed if each.dropped]:
            count = f"{len(dropped)} finished file{'s' * (len(dropped) > 1)}"
            what = "; ".join(dict.fromkeys(text for each in dropped for text in each.dropped))
            keep = "to keep such an option for some files, put it into `overrides.yaml` of the folder of corrections"
            self._run.warn(f"{count} will be done again without an option that was given before ({what}); {keep}")
        for broken in self._plan.broken:
            self._run.fail(broken, MediaError(broken.error))
        if kept := self._plan.kept:
            others = f" and {len(kept) - 1} more" if len(kept) > 1 else ""
            self._run.warn(f"{kept[0]}{others}: not written by bwpipe, so kept; set `overwrite: true` on `write` to overwrite")
        for path in kept:
            self._log("kept", output=str(path))
        for skipped in self._plan.skipped:
            self._run.exclude(Media(path=skipped.path, name=skipped.name), skipped.why)
        if others := skipped_in_words(self._plan.skipped):
            self._progress.note(others)
        for line in (*self._plan.begun_again, *self._plan.restarts(())):
            self._progress.note(line)
        if self._plan.own:
            self._progress.note(f"{self._plan.own} files are outputs of earlier runs and are not read")

    def _cached_results(self) -> dict[str, Any]:
        """The cached results of gathering stages, by their ids."""
        stamps = {unit: self._plan.stamps[unit] for unit in self._plan.todo}
        units = {unit: stamp.fingerprint if stamp else None for unit, stamp in stamps.items()}
        ready = {}
        for node in self._graph.nodes if units else ():
            if isinstance(node.stage, Gather):
                recipe = recipes(self._graph, node.id)
                with node.error_context():
                    ready[node.id] = node.stage.ready(units, recipe)
        return {name: value for name, value in ready.items() if value is not None}

    def _publish(self, node: Node, unit: Unit, file: AtomicFile, *, worker: str | None = None) -> None:
        assert isinstance(node.stage, Sink)
        ledger, recipe = self._ledgers[node.stage.folder], self._plan.recipes[node.id][unit]
        assembly = next((assembly for assembly in self._plan.assemblies[node.id] if assembly.whole is unit), None)
        seconds: list[float | None] = [self._seconds_since_last()]
        if assembly:
            seconds.extend(ledger.seconds(part, node.stage.fragment(part)) for part in assembly.segments)
        took = None if None in seconds else sum(each or 0.0 for each in seconds)
        notes = [ledger.notes(part, node.stage.fragment(part)) for part in assembly.segments] if assembly else [file.notes]
        if assembly:  # the fragments and their notes go
            file.notes = "\n".join(notes)
        ledger.keep(unit, file, recipe, self._plan.stamps[unit], self._run.raise_if_stopped, seconds=took)
        self._finished.add((node.id, unit))
        target = node.stage.target(unit)
        by = {"worker": worker} if worker else {}
        if file.target != target:
            with self._lock:
                self._result.segments += 1
            self._log("segment", path=str(unit.path), part=unit.part, output=str(target), **by)
            return
        summary = node.stage.summary(unit, notes)
        if assembly and summary.shots and self._plan.shots:
            with self._lock:
                self._plan.shots.keep(unit.media, summary.shots)
                self._plan.scans.store()
        self._report_summary(unit, target, summary)
        if assembly and not node.stage.keeps_fragments(unit):
            outlined = keep_outlines(node.stage, ledger, assembly)
            forget_rest(self._graph, node.stage, ledger, assembly, outlined=outlined)
        with self._lock:
            self._result.done += 1
            self._result.outputs.append(target)
            self._result.inputs.append(unit.path)
            kind = unit.media.kind
            self._result.kinds[kind] = self._result.kinds.get(kind, 0) + 1
        self._log("done", path=str(unit.path), part=unit.part, output=str(target), **by)

    def _seconds_since_last(self) -> float:
        """The time since the last file was finished: what this one took of the run, where many are in work at a time."""
        with self._lock:
            now = perf_counter()
            before, self._published = self._published, now
            return now - before

    def _report_summary(self, unit: Unit, target: Path, summary: Summary) -> None:
        """Pass on what a sink reports about a finished file."""
        for event, fields in summary.events:
            self._log(event, path=str(unit.path), output=str(target), **fields)
        for text in summary.warnings:
            self._run.warn(text, unit.media, each=True)
        with self._lock:
            self._result.lines.extend(summary.lines)

    def _show(self) -> None:
        self._progress.show(self._result.meters[self._last].items)
        if not self._ledgers and self._run.all_read.is_set():  # a training continues, with its own bar
            self._progress.close()

    def _record(self, event: str, path: Path | None, text: str) -> None:
        self._log(event, **({"path": str(path)} if path else {}), text=text)
        if path and event == "failed":
            for ledger in self._ledgers.values():
                ledger.keep_failure(path, text)

    def _log(self, event: str, **fields: Any) -> None:
        with self._lock:
            for event_log in self._event_logs:
                event_log.write(event, **fields)

    def _log_end(self, error: BaseException | None) -> None:
        result = self._result
        reason = {"error": format_error(error)} if isinstance(error, BwpipeError) else {}
        counts = {"done": result.done, "already": result.already, "kept": len(result.kept), "failed": len(result.failed)}
        event = "ended" if error is None else "stopped"
        self._log(
            event,
            **reason,
            **counts,
            left_out=result.left_out,
            seconds=round(result.seconds, 3),
            remarks=result.remarks,
            stages=result.to_json()["stages"],
        )


def made_by(graph: Graph, stage: object, unit: Unit | None = None) -> Provenance | None:
    """The provenance of the output of a stage, for a unit or for any; None if it is not in the graph. Raises UsageError."""
    nodes = {node.id: node for node in graph.nodes}
    node = next((node for node in graph.nodes if node.stage is stage), None)
    stages: list[Mapping[str, Any]] = []
    while node:
        with node.error_context():
            found = values(graph.instances, node, unit, "provenance")[0] if unit else ask(node.stage.provenance, None)
            stages.insert(0, found)
        node = nodes.get(node.upstream or "")
    return Provenance(__version__, tuple(stage for stage in stages if stage)) if stages else None
