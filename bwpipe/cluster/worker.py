"""A worker: builds the graph once, and does the units that it is handed. It knows no cluster."""

import os
import platform
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

from bwpipe.cluster.checks import check_inputs, check_plugins, check_recipes
from bwpipe.cluster.messages import (
    Aborted,
    Batch,
    Event,
    Failed,
    Finished,
    Introduction,
    News,
    Problem,
    Setup,
    Snapshot,
    Task,
    Warned,
)
from bwpipe.core.atomic_file import AtomicFile, name_parts
from bwpipe.core.context import RunContext
from bwpipe.core.first_pass import TwoPassMap
from bwpipe.core.frame import Media, Unit
from bwpipe.core.memory import OUT_OF_MEMORY, is_out_of_memory, keep_freed_memory
from bwpipe.core.parallel import limit_cores
from bwpipe.core.processor import processor_name
from bwpipe.core.segments import Assembly
from bwpipe.core.stage import Sink, Source, Stage
from bwpipe.engine.first_passes import FirstPasses
from bwpipe.engine.planner import Plan
from bwpipe.engine.recipes import Recipe
from bwpipe.engine.run import made_by
from bwpipe.engine.scan_cache import SqliteScanCache
from bwpipe.engine.scheduler import run_stages
from bwpipe.engine.shot_finder import ShotFinder
from bwpipe.engine.timing import Meter
from bwpipe.errors import BwpipeError, RunAborted, UsageError, format_error
from bwpipe.graph.graph import Graph, read_graph
from bwpipe.graph.node import Node
from bwpipe.version import __version__

_FILES = 4
"""Films whose index a worker keeps for further segments."""
_WRITTEN_ELSEWHERE = Recipe(())
"""Stands for recipes, which the process that runs the graph records."""


def part_prefix(worker: str) -> str:
    """How the temporary files of a worker begin."""
    return f"{worker}-"


class Worker:
    """Does units of one run. Its methods are called one after another, but `news` also while another is at work."""

    def __init__(self, resolve: Callable[[Any], Any] = lambda value: value) -> None:
        """`resolve` fetches what a batch only names, such as the index of a film."""
        self._resolve = resolve
        self._events: list[Event] = []
        self._lock = Lock()
        self._files: OrderedDict[int, Unit] = OrderedDict()
        self._numbers: dict[Media, int] = {}
        self._units: dict[Unit, int] = {}
        self._graph: Graph
        self._shots: ShotFinder
        self._instances: list[Stage] = []
        self._nodes: list[Node] = []
        self._run: RunContext
        self._meters: dict[str, Meter] = {}
        self._context = 0

    def version(self) -> str:
        """The version of bwpipe that is installed here."""
        return __version__

    def open(self, setup: Setup) -> Introduction | Problem:
        """Build the graph and set its stages up, once."""
        try:
            self._open(setup)
        except BwpipeError as error:
            return Problem(str(error))
        except OSError as error:
            return Problem(f"{error.filename or setup.folder}: {error.strerror or error}; workers need the same paths")
        except Exception as error:
            return Problem(OUT_OF_MEMORY if is_out_of_memory(error) else format_error(error))
        new = {key: value for key, value in self._run.facts.items() if key not in setup.facts}
        return Introduction(platform.node(), processor_name(), new)

    def _open(self, setup: Setup) -> None:
        limit_cores(setup.cores)
        os.chdir(setup.folder)
        for place, content in setup.probes.items():
            self._check_folder(Path(place), content)
        check_plugins(setup.plugins)
        check_inputs(setup.inputs)
        self._graph = graph = read_graph(setup.graph)
        self._shots = ShotFinder(graph, SqliteScanCache())
        self._nodes = graph.nodes
        for film in setup.films:
            for node in graph.nodes:
                if isinstance(node.stage, Sink):
                    node.stage.target(film)
        self._run = _WorkerContext(
            self._tell,
            self._numbers.get,
            quiet=True,
            name=setup.title,
            text=setup.text,
            restart=setup.restart,
            plugins=graph.plugins,
            provenance=lambda stage, unit=None: made_by(graph, stage, unit),
            downstream=graph.downstream,
            facts=dict(setup.facts),
        )
        self._context = setup.max_context
        self._meters = {node.id: Meter() for node in graph.nodes}
        for node in graph.nodes:
            if isinstance(node.stage, Sink):
                name_parts(node.stage.folder, part_prefix(setup.name))
            node.stage.recall(setup.facts)
            node.stage.shots_by(self._shots)
        graph.instances.prepare(self._shots, setup.facts)
        for node in graph.nodes:
            with node.error_context():
                node.stage.setup(self._run)
        for warning in check_recipes(graph, setup.recipes):
            self._run.warn(warning)
        keep_freed_memory()

    def _check_folder(self, probe: Path, content: bytes) -> None:
        """Check that an output folder is the one that the run writes into. Raises UsageError."""
        folder = probe.parent.parent
        try:
            found = probe.read_bytes()
        except OSError:
            found = b""
        if found != content:
            raise UsageError(f"the output folder {folder} is another one here; mount the same folder under the same path")
        try:
            AtomicFile(folder / "probe", folder).discard()
        except OSError as error:
            raise UsageError(f"the output folder {folder} can't be written here ({error.strerror}); allow it") from error

    def do(self, batch: Batch) -> News:
        """Do some units, and give what has not been told by `news` yet."""
        plan = Plan(context=self._context, joins=False)
        sinks = {node.id: node.stage for node in self._graph.nodes if isinstance(node.stage, Sink)}
        plan.recipes = {name: {} for name in sinks}
        plan.assemblies = {name: [] for name in sinks}
        for number, tasks in batch.tasks.items():
            self._plan(plan, self._file(number, batch.files[number]), tasks, batch.memories.get(number, {}))
        try:
            run_stages(
                self._graph,
                plan,
                self._run,
                self._meters,
                ready={},
                prepare=lambda unit: None,
                keep=self._keep,
                tick=lambda: None,
            )
        except BaseException as error:
            self._tell(_aborted(error))
        for unit in plan.todo:
            if failure := self._run.failure(unit):
                self._tell(Failed(self._units[unit], format_error(failure)))
            self._run.failures.pop(unit, None)
            del self._units[unit]
        for media in [media for media, number in self._numbers.items() if number not in self._files]:
            del self._numbers[media]
        return self.news()

    def _plan(self, plan: Plan, whole: Unit, tasks: tuple[Task, ...], memories: Mapping[str, Any]) -> None:
        """Add the units of one file to a plan."""
        units = {task: Unit(whole.media, part=task.part, start=task.start, stop=task.stop, since=task.since) for task in tasks}
        for node in self._graph.nodes:
            own = {key: kept for key, kept in memories.items() if key.partition(" ")[0] == node.id}
            if isinstance(node.stage, TwoPassMap) and own:
                found = {key.partition(" ")[2]: self._resolve(kept) for key, kept in own.items()}
                node.stage.use(whole, found, len(units))
        self._set_up_instances(units.values())
        for task, unit in units.items():
            self._units[unit] = task.number
            plan.todo.append(unit)
            plan.files[unit] = whole
            for sink in task.sinks:
                plan.recipes[sink][unit] = _WRITTEN_ELSEWHERE
        for sink, assemblies in plan.assemblies.items():
            if segments := tuple(unit for task, unit in units.items() if sink in task.joined):
                assemblies.append(Assembly(replace(whole), segments))

    def make_first_pass(self, number: int, file: Any, stage: str) -> bytes | Failed | Aborted:
        """What the first pass of a stage over a file keeps."""
        try:
            whole = self._file(number, file)
            plan = Plan(todo=[whole])
            self._set_up_instances([whole])
            passes = FirstPasses(self._graph, plan, {}, self._run, self._meters)
            return passes.make(stage, whole)
        except RunAborted as error:
            return _aborted(error)
        except Exception as error:
            return Failed(number, format_error(error))

    def _set_up_instances(self, units: Collection[Unit]) -> None:
        """Set up the instances of stages with overridden options that some units need, once."""
        for node in self._nodes:
            for stage in self._graph.instances.needed(node, units, self._context):
                if not any(stage is other for other in self._instances):
                    with node.error_context():
                        stage.setup(self._run)
                    self._instances.append(stage)

    def news(self) -> News:
        """What happened since it was asked last."""
        with self._lock:
            events, self._events = tuple(self._events), []
        return News(events, self._counts())

    def close(self) -> None:
        """Release what the stages hold."""
        for stage in (*self._instances, *(node.stage for node in self._nodes)):
            with suppress(Exception):
                stage.close()

    def _file(self, number: int, given: Any) -> Unit:
        """A file, which is the same object for all of its segments: decoders know it by that."""
        if number in self._files:
            self._files.move_to_end(number)
            return self._files[number]
        unit: Unit = self._resolve(given)
        source = self._graph.nodes[0].stage
        assert isinstance(source, Source)
        source.receive(unit)
        self._numbers[unit.media] = number
        self._shots.add(unit)
        if unit.media.has_segments:
            self._files[number] = unit
            while len(self._files) > _FILES:
                _, old = self._files.popitem(last=False)
                del self._numbers[old.media]
        return unit

    def _keep(self, node: Node, unit: Unit, file: AtomicFile) -> None:
        file.flush()
        self._tell(Finished(self._units[unit], node.id, file))

    def _tell(self, event: Event) -> None:
        with self._lock:
            self._events.append(event)

    def _counts(self) -> Snapshot:
        return {name: (meter.items, meter.busy) for name, meter in self._meters.items()}


class _WorkerContext(RunContext):
    """A run's context that passes on what it is told, with the numbers of the files that it concerns."""

    def __init__(self, tell: Callable[[Event], None], number: Callable[[Media], int | None], **settings: Any) -> None:
        super().__init__(**settings)
        self._tell, self._number = tell, number

    def warn(self, text: str, media: Media | None = None, *, each: bool = False) -> None:
        super().warn(text, media, each=each)
        self._tell(Warned(self._number(media) if media else None, text, each))

    def exclude(self, media: Media, why: str) -> None:
        super().exclude(media, why)
        self._tell(Warned(self._number(media), why, left_out=True))


def _aborted(error: BaseException) -> Aborted:
    if is_out_of_memory(error):
        return Aborted(OUT_OF_MEMORY, RunAborted.exit_code)
    return Aborted(format_error(error), error.exit_code if isinstance(error, BwpipeError) else RunAborted.exit_code)
