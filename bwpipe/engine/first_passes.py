"""Runs the first passes of stages that look at a whole file before its first unit, and keeps what they made."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any

from bwpipe.core.atomic_file import AtomicFile
from bwpipe.core.context import RunContext
from bwpipe.core.first_pass import INSTANCE, FirstPass, TwoPassMap
from bwpipe.core.frame import End, Unit
from bwpipe.core.segments import first_pass_path, frame_range
from bwpipe.core.stage import BatchMap, Map, Sink, Source
from bwpipe.engine.executors import execute
from bwpipe.engine.ledger import Ledger
from bwpipe.engine.overridden import with_overrides
from bwpipe.engine.planner import Plan
from bwpipe.engine.recipes import PathRecipes, Recipe, path_to
from bwpipe.engine.share_ledger import FirstPassLedger, ShareLedger
from bwpipe.engine.timing import Meter
from bwpipe.graph.graph import Graph
from bwpipe.graph.node import Node


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
                    wanted = stage.first_passes(whole, self._instances(whole))
                    if kept := {each.name: self._found_or_made(node, stage, whole, each) for each in wanted}:
                        stage.use(whole, kept, self._units[whole])
            except Exception as error:
                self._failed[whole] = error
                raise
            self._done.add(whole)

    def kept(self, whole: Unit) -> dict[str, bytes | None]:
        """Of a file: what earlier runs kept, by `key_of_pass`; None if it is to be made. Raises MediaError."""
        return {
            key_of_pass(node.id, each.name): self._kept(node, stage, whole, each, self._place(node, whole, each))
            for node, stage in self._nodes
            for each in stage.first_passes(whole, self._instances(whole))
        }

    def make(self, key: str, whole: Unit) -> bytes:
        """Make what a first pass keeps of a file, for another process to `keep`. Raises what a stage raises."""
        return self._collect(*self._pass(key, whole))

    def keep(self, key: str, whole: Unit, made: bytes) -> None:
        """Record what another process made of a file. Raises MediaError, RunAborted, OSError."""
        node, _, whole, wanted = self._pass(key, whole)
        if place := self._place(node, whole, wanted):
            self._record(node, whole, wanted, made, place)

    def _pass(self, key: str, whole: Unit) -> tuple[Node, TwoPassMap, Unit, FirstPass]:
        """The stage and the first pass with a key."""
        name, _, which = key.partition(" ")
        node, stage = next((node, stage) for node, stage in self._nodes if node.id == name)
        wanted = next(each for each in stage.first_passes(whole, self._instances(whole)) if each.name == which)
        return node, stage, whole, wanted

    def _found_or_made(self, node: Node, stage: TwoPassMap, whole: Unit, wanted: FirstPass) -> bytes:
        """What the stage keeps of a file, by an earlier run or made now; of several shares that need it, one makes it."""
        place = self._place(node, whole, wanted)
        if (kept := self._kept(node, stage, whole, wanted, place)) is not None:
            return kept
        if place is None or not isinstance(place[0], ShareLedger):
            return self._made(node, stage, whole, wanted, place)
        with closing(FirstPassLedger(place[0].folder, place[1])) as ledger:
            if not ledger.open_in_turn(self._run.raise_if_stopped):
                return self._made(node, stage, whole, wanted, None)
            kept = self._kept(node, stage, whole, wanted, (ledger, place[1]))
            return self._made(node, stage, whole, wanted, (ledger, place[1])) if kept is None else kept

    def _made(self, node: Node, stage: TwoPassMap, whole: Unit, wanted: FirstPass, place: tuple[Ledger, Path] | None) -> bytes:
        """Make what the stage keeps of a file, and record it if there is a place for it."""
        made = self._collect(node, stage, whole, wanted)
        if place:
            self._record(node, whole, wanted, made, place)
        return made

    def _collect(self, node: Node, stage: TwoPassMap, whole: Unit, wanted: FirstPass) -> bytes:
        own = replace(whole)  # so that a failure is told from those of the file's units
        made = stage.collect(own, wanted, items_of_pass(self._graph, node, own, wanted, run=self._run, meters=self._meters))
        if error := self._run.failure(own):
            raise error
        self._run.raise_if_stopped()
        return made

    def _record(self, node: Node, whole: Unit, wanted: FirstPass, made: bytes, place: tuple[Ledger, Path]) -> None:
        ledger, path = place
        file = AtomicFile(path, ledger.folder)
        try:
            file.path.write_bytes(made)
            recipe = self._recipe(node, whole, wanted)
            ledger.keep(whole, file, recipe, self._plan.stamps[whole], self._run.raise_if_stopped)
        except BaseException:
            file.discard()
            raise

    def _kept(
        self, node: Node, stage: TwoPassMap, whole: Unit, wanted: FirstPass, place: tuple[Ledger, Path] | None
    ) -> bytes | None:
        """What an earlier run, or another share of this one, kept for a file; None if there is none for this recipe."""
        if self._run.restart or place is None:
            return None
        ledger, path = place
        if ledger.state(whole, path, self._recipe(node, whole, wanted)).kind != "done":
            return None
        kept = path.read_bytes()
        if stage.is_whole(wanted.name, kept):
            return kept
        self._run.warn(f"what an earlier run kept for `{node.id}` is damaged, and is made again", whole.media, each=True)
        return None

    def _recipe(self, node: Node, whole: Unit, wanted: FirstPass) -> Recipe:
        """What a first pass over a file depends on."""
        return PathRecipes(self._graph, node.id).of_nothing(whole, wanted.instance, wanted.recipe)

    def _instances(self, whole: Unit) -> dict[str, list[range]]:
        """The instances of stages that the units to read of a file need, with all of the frames that each processes."""
        instances = self._graph.instances
        parts = instances.parts(whole.media)
        if not parts:
            return {"": [_frames(whole)]}
        units = [unit for unit in self._plan.todo if self._plan.files.get(unit, unit) is whole]
        needed = {part.key for unit in units for part in instances.within(unit, self._plan.context)}
        return {key: [part.frames for part in parts if part.key == key] for key in sorted(needed)}

    def _place(self, node: Node, whole: Unit, wanted: FirstPass) -> tuple[Ledger, Path] | None:
        """Where a file's result is kept: in the first output folder below the stage."""
        if not whole.media.has_segments:
            return None
        for stage in self._graph.downstream(node.stage):
            if isinstance(stage, Sink) and stage.assembles:
                return self._ledgers[stage.folder], first_pass_path(
                    stage.folder, stage.target(whole), key_of_pass(node.id, wanted.name)
                )
        return None


def items_of_pass(
    graph: Graph, node: Node, unit: Unit, wanted: FirstPass, *, run: RunContext, meters: Mapping[str, Meter]
) -> Iterator[Any]:
    """The items of a first pass over a file, as they leave the stages above a node; `meters` measures these stages' work."""
    source, *steps = path_to(graph, node.id)[:-1]
    assert isinstance(source.stage, Source)
    found = source.stage.sample(unit, wanted.indices) if wanted.indices else iter(())
    own = {INSTANCE: wanted.instance}
    again = wanted.again()
    looks = (
        replace(item, notes={**item.notes, **own, **notes})
        for item in found
        for notes in ({}, *([again[item.index]] if item.index in again else ()))
    )
    further = (replace(item, unit=unit, notes={**item.notes, **own}) for item in wanted.further)
    items: Iterator[Any] = chain(looks, further, [End(unit)])
    for step in steps:
        if isinstance(step.stage, Map | BatchMap):
            items = execute(with_overrides(step, graph.instances), items, run, meters[step.id])
    for item in items:
        run.raise_if_stopped()
        if not isinstance(item, End):
            yield item


def _frames(whole: Unit) -> range:
    """The frames of a file."""
    start, stop = frame_range(whole)
    return range(start, start + 1 if stop is None else stop)


def key_of_pass(node: str, name: str) -> str:
    """What identifies a first pass of a node: its id, which has no space in it, and the name of the pass, if it has one."""
    return f"{node} {name}" if name else node
