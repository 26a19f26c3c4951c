"""Runs the first passes of stages that look at a whole file before its first unit, and keeps what they made."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any

from bwpipe.core.atomic_file import AtomicFile
from bwpipe.core.context import RunContext
from bwpipe.core.first_pass import FirstPass, TwoPassMap
from bwpipe.core.frame import End, Unit
from bwpipe.core.segments import first_pass_path
from bwpipe.core.stage import BatchMap, Map, Sink, Source
from bwpipe.engine.executors import execute
from bwpipe.engine.ledger import Ledger
from bwpipe.engine.planner import Plan
from bwpipe.engine.recipes import PathRecipes, path_to
from bwpipe.engine.timing import Meter
from bwpipe.graph.graph import Graph, Node


class FirstPasses:
    """The first passes of a run. Thread-safe: one at a time."""

    def __init__(
        self, graph: Graph, plan: Plan, ledgers: Mapping[Path, Ledger], run: RunContext, meters: Mapping[str, Meter]
    ) -> None:
        """Prepare them; nothing is read yet. `meters` measures the stages' work."""
        self._graph, self._plan, self._ledgers, self._run, self._meters = graph, plan, ledgers, run, meters
        self._nodes = [(node, node.stage) for node in graph.nodes if isinstance(node.stage, TwoPassMap)]
        self._units = Counter(plan.files.get(unit, unit) for unit in plan.todo)
        self._done: set[Unit] = set()
        self._failed: dict[Unit, Exception] = {}
        self._lock = Lock()

    def __call__(self, unit: Unit) -> None:
        """Run those of the file that a unit belongs to, unless it was done before. Raises what a stage raised."""
        if not self._nodes:
            return
        whole = self._plan.files.get(unit, unit)
        with self._lock:
            if whole in self._failed:
                raise self._failed[whole]
            if whole in self._done:
                return
            try:
                for node, stage in self._nodes:
                    if (wanted := stage.first_pass(whole)) is not None:
                        kept = self._kept(node, whole)
                        made = self._made(node, stage, whole, wanted) if kept is None else kept
                        stage.use(whole, made, self._units[whole])
            except Exception as error:
                self._failed[whole] = error
                raise
            self._done.add(whole)

    def _made(self, node: Node, stage: TwoPassMap, whole: Unit, wanted: FirstPass) -> bytes:
        """Make what the stage keeps of a file, and record it if the file has segments."""
        own = replace(whole)  # so that a failure is told from those of the file's units
        kept = stage.collect(own, self._items(node, own, wanted))
        if error := self._run.failure(own):
            raise error
        self._run.raise_if_stopped()
        if place := self._place(node, whole):
            ledger, path = place
            file = AtomicFile(path, ledger.folder)
            try:
                file.path.write_bytes(kept)
                recipe = PathRecipes(self._graph, node.id).of(whole)
                ledger.keep(whole, file, recipe, self._plan.stamps[whole], self._run.raise_if_stopped)
            except BaseException:
                file.discard()
                raise
        return kept

    def _items(self, node: Node, unit: Unit, wanted: FirstPass) -> Iterator[Any]:
        """The items of a first pass, as they leave the stages above."""
        source, *steps = path_to(self._graph, node.id)[:-1]
        assert isinstance(source.stage, Source)
        found = source.stage.sample(unit, wanted.indices) if wanted.indices else iter(())
        items: Iterator[Any] = chain(found, (replace(item, unit=unit) for item in wanted.further), [End(unit)])
        for step in steps:
            if isinstance(step.stage, Map | BatchMap):
                items = execute(step.stage, items, self._run, self._meters[step.id])
        for item in items:
            self._run.raise_if_stopped()
            if not isinstance(item, End):
                yield item

    def _kept(self, node: Node, whole: Unit) -> bytes | None:
        """What an earlier run, or another part of this one, kept for a file; None if there is none for this recipe."""
        if self._run.restart or (place := self._place(node, whole)) is None:
            return None
        ledger, path = place
        if ledger.state(whole, path, PathRecipes(self._graph, node.id).of(whole)).kind != "done":
            return None
        return path.read_bytes()

    def _place(self, node: Node, whole: Unit) -> tuple[Ledger, Path] | None:
        """Where a file's result is kept, until the file is finished: in the first output folder below the stage."""
        if not whole.media.has_segments:
            return None
        for stage in self._graph.downstream(node.stage):
            if isinstance(stage, Sink) and stage.assembles:
                return self._ledgers[stage.folder], first_pass_path(stage.folder, stage.target(whole), node.id)
        return None
