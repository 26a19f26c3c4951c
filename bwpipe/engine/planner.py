"""What a run has to do: the units of its source that its sinks do not have yet."""

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
    """What a run has to do.

    Attributes:
        todo: The units to be read, in the source's order.
        context: How many frames before and after a unit its stages want to see.
        recipes: For each sink, by its id: what each unit that it is to write or to join is made by.
        assemblies: For each sink, by its id: the films that it is to join, in the source's order.
        whole: For each sink, by its id: the films that are joined already.
        broken: Files that can't be read.
        done: How many files are done already.
        kept: Files that stand where an output would go and that bwpipe did not write: they are left as they are.
        own: How many files were left out of the inputs since they are outputs.
        stamps: What the inputs were like when their headers were read.
        scans: What was found in them, to be kept for the next start.
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
    stamps: dict[Unit, Fingerprint | None] = field(default_factory=dict)
    scans: SqliteScanCache = field(default_factory=SqliteScanCache)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to be read or joined."""
        return not (self.todo or any(self.assemblies.values()))


def make_plan(graph: Graph, ledgers: dict[Path, Ledger], *, restart: bool = False) -> Plan:
    """Find out what is to be done, from the headers of the inputs and the ledgers of the output folders.

    Args:
        graph: The graph.
        ledgers: Those of its output folders.
        restart: Take nothing for done that an earlier execution did.

    Raises:
        UsageError: There is nothing to read; two inputs would become one file, or one the other's.
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
            elif refused := _unwritable(found, sinks.values()):
                plan.broken.append(refused)
            else:
                units.append(found)
                plan.stamps[found] = fingerprint(found.path)  # at once: a file that grows from here on is known to have changed
    if not (units or plan.broken):
        raise UsageError(f"{graph.nodes[0].where}: there is nothing to read; give the stage another `path`")
    names = _Names(units)
    size = graph.segment if sinks and all(sink.assembles for sink in sinks.values()) else None
    pieces = {unit: split_into_segments(unit, size) for unit in units}
    plan.stamps |= {piece: plan.stamps[unit] for unit in units for piece in pieces[unit]}
    for node in graph.nodes:
        if isinstance(node.stage, Sink):
            ledger = ledgers[node.stage.folder]
            wanted = _Wanted(plan, node.id, node.stage, ledger, recipes(graph, node.id), restart=restart)
            for unit in units:
                names.take(node.stage.target(unit), unit, node.id, node.stage.folder)
                wanted.see(unit, pieces[unit])
    asked = {piece for chosen in plan.recipes.values() for piece in chosen}
    plan.todo = [piece for unit in units for piece in pieces[unit] if piece in asked or not sinks]
    return plan


class _Wanted:
    """What one sink is to write, for a plan."""

    def __init__(
        self, plan: Plan, name: str, sink: Sink, ledger: Ledger, told: Sequence[Mapping[str, Any]], *, restart: bool
    ) -> None:
        self._plan, self._name, self._sink, self._told = plan, name, sink, told
        self._ledger, self._restart = ledger, restart

    def see(self, unit: Unit, segments: Sequence[Unit]) -> None:
        """Plan what is to be done of a file, which is in these segments."""
        plan, sink, target = self._plan, self._sink, self._sink.target(unit)
        joined = sink.assembles and unit.media.has_segments
        recipe = _digest([*self._told, {"segments": [frame_range(piece) for piece in segments]}] if joined else self._told)
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
        """Plan to join a film, and to write the segments of which there is no fragment yet."""
        whole = replace(unit)  # another unit than the film's only segment
        self._plan.assemblies[self._name].append(Assembly(whole, tuple(segments)))
        chosen = self._plan.recipes[self._name]
        chosen[whole], self._plan.stamps[whole] = recipe, self._plan.stamps[unit]
        for segment in segments:
            own = _digest([*self._told, {"segment": frame_range(segment)}])
            if not self._is_done(segment, self._sink.fragment(segment), own):
                chosen[segment] = own

    def _is_done(self, unit: Unit, path: Path, recipe: str) -> bool:
        return not self._restart and self._ledger.is_done(unit, path, recipe)


def _unwritable(unit: Unit, sinks: Iterable[Sink]) -> Broken | None:
    """What a sink says of a unit that it can't write, in the place of the unit."""
    try:
        for sink in sinks:
            sink.target(unit)
    except MediaError as error:
        return Broken(unit.path, unit.name, str(error))
    return None


def recipes(graph: Graph, name: str) -> list[dict[str, Any]]:
    """What the stages, from the source to the one of that id, say that their results depend on. Raises UsageError."""
    told = []
    for node in _path(graph, name):
        with node.error_context():
            told.append(node.stage.recipe())
    return told


def _path(graph: Graph, name: str) -> list[Node]:
    """The nodes from the source to the one of that id."""
    nodes = {node.id: node for node in graph.nodes}
    path = [nodes[name]]
    while upstream := path[0].upstream:
        path.insert(0, nodes[upstream])
    return path


def _context(graph: Graph, node: Node) -> int:
    return sum(each.stage.context for each in _path(graph, node.id) if isinstance(each.stage, UnitMap))


def _digest(told: Sequence[Mapping[str, Any]]) -> str:
    """A hash of recipes."""
    text = json.dumps(told, sort_keys=True)
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _is_output(found: Unit | Broken, folder: Path, ledger: Ledger) -> bool:
    """Whether an input was made by a run: it lies in an output folder below the folder that is read, or the ledger knows it."""
    path, folder = found.path.resolve(), folder.resolve()
    root = found.path.parents[len(found.name.parts) - 1].resolve()
    if folder not in path.parents:
        return False
    return folder not in (root, *root.parents) or ledger.knows(ledger.folder / path.relative_to(folder))


class _Names:
    """The names of all outputs: no two are the same, and none is that of an input or leads out of its folder."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self._inputs = {unit.path.resolve(): unit for unit in units}
        self._taken: dict[str, tuple[Unit, str]] = {}
        self._folded: dict[Path, bool] = {}

    def take(self, target: Path, unit: Unit, sink: str, folder: Path) -> None:
        """Give a name to what a sink makes of a unit. Raises UsageError."""
        if folder not in self._folded:
            self._folded[folder] = _folds_case(folder)
        key = unicodedata.normalize("NFC", str(target)).casefold() if self._folded[folder] else str(target)
        other, its_sink = self._taken.setdefault(key, (unit, sink))
        if other is not unit:
            raise UsageError(f"{unit.path} and {other.path} would both become {target}; rename one, or write to another `name`")
        if its_sink != sink:
            raise UsageError(f"{its_sink} and {sink} would both write {target}; give one of them another `path` or `name`")
        if not target.parent.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{target.parent} is a link out of {folder}; remove it, or choose another `path`")
        if victim := self._inputs.get(target.parent.resolve() / target.name):
            raise UsageError(f"{target} would be written over the input {victim.path}; write to another `path`")


def _folds_case(folder: Path) -> bool:
    """Whether names that differ in upper and lower case only are the same, where a folder is or will be."""
    for place in (folder, *folder.parents):
        other = place.with_name(place.name.swapcase())
        if place.exists() and other != place:
            return other.exists() and other.samefile(place)
    return False


def total_frames(units: Sequence[Unit]) -> int | None:
    """How many frames some units have in all; None if a file does not say."""
    counts = list(_counts(units))
    return None if None in counts else sum(count or 0 for count in counts)


def _counts(units: Sequence[Unit]) -> Iterator[int | None]:
    for unit in units:
        start, stop = frame_range(unit)
        yield None if stop is None else stop - start
