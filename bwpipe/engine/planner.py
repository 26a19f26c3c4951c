"""The plan of a run: the units of its source that its sinks have not written yet."""

import json
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from bwpipe.core.fingerprint import Fingerprint, fingerprint
from bwpipe.core.frame import Broken, Unit
from bwpipe.core.segments import Assembly, frame_range, split_into_segments
from bwpipe.core.stage import Sink, Source, UnitMap
from bwpipe.engine.ledger import Ledger
from bwpipe.engine.scan_cache import SqliteScanCache
from bwpipe.errors import MediaError, UsageError
from bwpipe.graph.graph import Graph, Node


@dataclass(slots=True)
class Plan:
    """The plan of a run.

    Attributes:
        todo: The units to read, in the source's order.
        context: Number of context frames that stages need before and after a unit.
        recipes: By sink id: the recipe of each unit that the sink has to write or join.
        assemblies: By sink id: the videos that the sink has to join, in the source's order.
        whole: By sink id: the videos that are already joined.
        broken: Files that can't be read.
        done: Number of files that are already done.
        kept: Files in the place of an output that bwpipe did not write: they are left unchanged.
        own: Number of files skipped as inputs because they are outputs.
        fingerprints: Fingerprints of the inputs when their headers were read.
        scans: Results of scanning them, to be stored for the next run.
    """

    todo: list[Unit] = field(default_factory=list)
    context: int = 0
    recipes: dict[str, dict[Unit, str]] = field(default_factory=dict)
    assemblies: dict[str, list[Assembly]] = field(default_factory=dict)
    whole: dict[str, list[Path]] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)
    done: int = 0
    kept: list[Path] = field(default_factory=list)
    own: int = 0
    fingerprints: dict[Unit, Fingerprint | None] = field(default_factory=dict)
    scans: SqliteScanCache = field(default_factory=SqliteScanCache)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to read or join."""
        return not (self.todo or any(self.assemblies.values()))


def make_plan(graph: Graph, ledgers: dict[Path, Ledger], *, restart: bool = False) -> Plan:
    """Determine what has to be done, from the headers of the inputs and the ledgers of the output folders.

    Args:
        graph: The graph.
        ledgers: The ledgers of its output folders.
        restart: Redo what earlier runs did.

    Raises:
        UsageError: There is nothing to read, two inputs have the same output, or an output would overwrite an input.
    """
    source = graph.nodes[0].stage
    if not isinstance(source, Source):
        raise TypeError("a graph begins with a source")
    sinks = {node.id: node.stage for node in graph.nodes if isinstance(node.stage, Sink)}
    plan = Plan(
        context=max(_context(graph, node) for node in graph.nodes),
        recipes={name: {} for name in sinks},
        assemblies={name: [] for name in sinks},
        whole={name: [] for name in sinks},
        scans=SqliteScanCache(ledgers.values()),
    )
    source.remember(plan.scans)
    units: list[Unit] = []
    with graph.nodes[0].error_context():
        for found in source.units():
            if any(_is_output(found, sink.folder, ledgers[sink.folder]) for sink in sinks.values()):
                plan.own += 1
            elif isinstance(found, Broken):
                plan.broken.append(found)
            elif unwritable := _unwritable(found, sinks.values()):
                plan.broken.append(unwritable)
            else:
                units.append(found)
                plan.fingerprints[found] = fingerprint(found.path)  # right away, so that any later change is detected
    if not (units or plan.broken):
        raise UsageError(f"{graph.nodes[0].where}: there is nothing to read; give the stage another `path`")
    names = _OutputNames(units)
    size = graph.segment if sinks and all(sink.assembles for sink in sinks.values()) else None
    segments = {unit: split_into_segments(unit, size) for unit in units}
    plan.fingerprints |= {segment: plan.fingerprints[unit] for unit in units for segment in segments[unit]}
    for node in graph.nodes:
        if isinstance(node.stage, Sink):
            ledger = ledgers[node.stage.folder]
            planner = _SinkPlanner(plan, node.id, node.stage, ledger, recipes(graph, node.id), restart=restart)
            for unit in units:
                names.claim(node.stage.target(unit), unit, node.id, node.stage.folder)
                planner.add(unit, segments[unit])
    pending = {segment for chosen in plan.recipes.values() for segment in chosen}
    plan.todo = [segment for unit in units for segment in segments[unit] if segment in pending or not sinks]
    return plan


class _SinkPlanner:
    """Plans what one sink has to write."""

    def __init__(
        self, plan: Plan, name: str, sink: Sink, ledger: Ledger, recipe: Sequence[Mapping[str, Any]], *, restart: bool
    ) -> None:
        self._plan, self._name, self._sink, self._recipe = plan, name, sink, recipe
        self._ledger, self._restart = ledger, restart

    def add(self, unit: Unit, segments: Sequence[Unit]) -> None:
        """Plan the work on a file, which is split into these segments."""
        plan, sink, target = self._plan, self._sink, self._sink.target(unit)
        joined = sink.assembles and unit.media.has_segments
        recipe = _digest(
            [*self._recipe, {"segments": [frame_range(segment) for segment in segments]}] if joined else self._recipe
        )
        if self._is_done(unit, target, recipe):
            plan.done += 1
            plan.whole[self._name].extend([target] if joined else [])
        elif os.path.lexists(target) and not (sink.overwrite or self._ledger.owns(unit, target)):
            plan.kept.append(target)
        elif joined:
            self._join(unit, segments, recipe)
        else:
            plan.recipes[self._name][unit] = recipe

    def _join(self, unit: Unit, segments: Sequence[Unit], recipe: str) -> None:
        """Plan to join a video, and to write the segments that have no fragment yet."""
        whole = replace(unit)  # distinct from the video's only segment
        self._plan.assemblies[self._name].append(Assembly(whole, tuple(segments)))
        chosen = self._plan.recipes[self._name]
        chosen[whole], self._plan.fingerprints[whole] = recipe, self._plan.fingerprints[unit]
        for segment in segments:
            own = _digest([*self._recipe, {"segment": frame_range(segment)}])
            if not self._is_done(segment, self._sink.fragment(segment), own):
                chosen[segment] = own

    def _is_done(self, unit: Unit, path: Path, recipe: str) -> bool:
        return not self._restart and self._ledger.is_done(unit, path, recipe)


def _unwritable(unit: Unit, sinks: Iterable[Sink]) -> Broken | None:
    """A Broken in place of a unit that a sink can't write, with the sink's error; None if all can."""
    try:
        for sink in sinks:
            sink.target(unit)
    except MediaError as error:
        return Broken(unit.path, unit.name, str(error))
    return None


def recipes(graph: Graph, name: str) -> list[dict[str, Any]]:
    """The recipes of the stages from the source to the one with this id. Raises UsageError."""
    recipe = []
    for node in _path(graph, name):
        with node.error_context():
            recipe.append(node.stage.recipe())
    return recipe


def _path(graph: Graph, name: str) -> list[Node]:
    """The nodes from the source to the one with this id."""
    nodes = {node.id: node for node in graph.nodes}
    path = [nodes[name]]
    while upstream := path[0].upstream:
        path.insert(0, nodes[upstream])
    return path


def _context(graph: Graph, node: Node) -> int:
    return sum(each.stage.context for each in _path(graph, node.id) if isinstance(each.stage, UnitMap))


def _digest(recipe: Sequence[Mapping[str, Any]]) -> str:
    """A hash of recipes."""
    text = json.dumps(recipe, sort_keys=True)
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _is_output(found: Unit | Broken, folder: Path, ledger: Ledger) -> bool:
    """Whether an input is an output of a run: in an output folder inside the folder that is read, or known to the ledger."""
    path, folder = found.path.resolve(), folder.resolve()
    root = found.path.parents[len(found.name.parts) - 1].resolve()
    if folder not in path.parents:
        return False
    return folder not in (root, *root.parents) or ledger.knows(ledger.folder / path.relative_to(folder))


class _OutputNames:
    """Checks the names of all outputs: they are unique, overwrite no input and stay in their folder."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self._inputs = {unit.path.resolve(): unit for unit in units}
        self._claimed: dict[str, tuple[Unit, str]] = {}
        self._case_insensitive: dict[Path, bool] = {}

    def claim(self, target: Path, unit: Unit, sink: str, folder: Path) -> None:
        """Claim a name for the output of a unit. Raises UsageError."""
        if folder not in self._case_insensitive:
            self._case_insensitive[folder] = _is_case_insensitive(folder)
        key = unicodedata.normalize("NFC", str(target)).casefold() if self._case_insensitive[folder] else str(target)
        other, other_sink = self._claimed.setdefault(key, (unit, sink))
        if other is not unit:
            raise UsageError(f"{unit.path} and {other.path} would both become {target}; rename one, or write to another `name`")
        if other_sink != sink:
            raise UsageError(f"{other_sink} and {sink} would both write {target}; give one of them another `path` or `name`")
        if not target.parent.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{target.parent} is a link that leads outside {folder}; remove it, or choose another `path`")
        if overwritten := self._inputs.get(target.parent.resolve() / target.name):
            raise UsageError(f"{target} would overwrite the input {overwritten.path}; write to another `path`")


def _is_case_insensitive(folder: Path) -> bool:
    """Whether the file system of a folder, which need not exist, is case-insensitive."""
    for place in (folder, *folder.parents):
        other = place.with_name(place.name.swapcase())
        if place.exists() and other != place:
            return other.exists() and other.samefile(place)
    return False


def total_frames(units: Sequence[Unit]) -> int | None:
    """The total number of frames of some units; None if a file does not declare its number."""
    counts = list(_counts(units))
    return None if None in counts else sum(count or 0 for count in counts)


def _counts(units: Sequence[Unit]) -> Iterator[int | None]:
    for unit in units:
        start, stop = frame_range(unit)
        yield None if stop is None else stop - start
