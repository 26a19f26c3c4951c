"""The plan of a run: the units of its source that its sinks have not written yet."""

import os
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

from bwpipe.core.fingerprint import FileStamp
from bwpipe.core.frame import Broken, Skipped, Unit, skipped_in_words
from bwpipe.core.segments import EARLIER_DEFAULT, Assembly, default_size, frame_range, split_into_segments
from bwpipe.core.stage import Sink, Source, UnitMap
from bwpipe.engine.ledger import Ledger
from bwpipe.engine.ledger_file import State
from bwpipe.engine.outputs import EarlierOutputs, OutputNames, root_of
from bwpipe.engine.recipes import PathRecipes, Recipe
from bwpipe.engine.recipes_0_1 import PathRecipes01
from bwpipe.engine.scan_cache import SqliteScanCache
from bwpipe.engine.shares import Share, require_outside
from bwpipe.engine.shot_finder import ShotFinder
from bwpipe.errors import MediaError, UsageError
from bwpipe.graph.graph import Graph
from bwpipe.graph.node import Node


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished file that another version of bwpipe, or the user with another graph, would write differently.

    Attributes:
        unit: The file.
        sink: The id of its sink.
        target: Its output.
        reasons: What differs, in a few words each.
        seconds: What it took, if that was measured.
        dropped: Options with which it was made, and which are not given any more.
    """

    unit: Unit
    sink: str
    target: Path
    reasons: tuple[str, ...]
    seconds: float | None
    dropped: tuple[str, ...] = ()


@dataclass(slots=True)
class Plan:
    """The plan of a run.

    Attributes:
        todo: The units to read, in the source's order.
        context: Number of context frames that stages need before and after a unit.
        recipes: By sink id: the recipe of each unit that the sink has to write or join.
        assemblies: By sink id: the videos that the sink has to join, in the source's order.
        joins: Whether this run joins them.
        whole: By sink id: the videos that are already joined, with their segments.
        broken: Files that can't be read.
        skipped: Files of kinds that are not read.
        done: Number of files that are already done.
        outdated: Those of them that this version of bwpipe would write differently.
        changed: Finished files that are done again, because the graph or the input changed.
        redone: Of the finished films that are done again: how many of their segments, and of how many.
        begun_again: Films that start over although they were begun, a line each, with the reason.
        kept: Files in the place of an output that bwpipe did not write: they are left unchanged.
        own: Number of files skipped as inputs because they are outputs.
        roots: The folders that were read.
        names: The names of the inputs, with the kind of medium; empty for those that can't be read.
        files: The unit of the whole file that each unit is a part of, by the unit.
        stamps: Stamps of the inputs when their headers were read.
        scans: Results of scanning them, to be stored for the next run.
        shots: Finds their shots; None before they were planned.
    """

    todo: list[Unit] = field(default_factory=list)
    context: int = 0
    recipes: dict[str, dict[Unit, Recipe]] = field(default_factory=dict)
    assemblies: dict[str, list[Assembly]] = field(default_factory=dict)
    joins: bool = True
    whole: dict[str, list[Assembly]] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    done: int = 0
    outdated: list[Finished] = field(default_factory=list)
    changed: list[Finished] = field(default_factory=list)
    redone: dict[Unit, tuple[int, int]] = field(default_factory=dict)
    begun_again: list[str] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    own: int = 0
    roots: set[Path] = field(default_factory=set)
    names: dict[PurePosixPath, str] = field(default_factory=dict)
    files: dict[Unit, Unit] = field(default_factory=dict)
    stamps: dict[Unit, FileStamp | None] = field(default_factory=dict)
    scans: SqliteScanCache = field(default_factory=SqliteScanCache)
    shots: ShotFinder | None = None

    def restarts(self, published: Container[tuple[str, Unit]]) -> Iterator[str]:
        """Where films go on that have begun: each film's name and the first frame that is not in a finished segment.

        `published` has the ids of sinks and the units that they have finished since.
        """
        for sink, assemblies in self.assemblies.items() if self.joins else ():
            for assembly in assemblies:
                if any(unit.media is assembly.whole.media for unit in self.redone):
                    continue
                missing = [unit for unit in assembly.segments if unit in self.recipes[sink] and (sink, unit) not in published]
                if missing and len(missing) < len(assembly.segments):
                    start, total = missing[0].start, assembly.whole.media.frames
                    yield f"{assembly.whole.name}: it goes on at frame {start} of {total}"

    def restrict(self, units: Collection[Unit]) -> None:
        """Write only these units, and leave the joining of videos to another run."""
        self.recipes = {
            sink: {unit: recipe for unit, recipe in chosen.items() if unit in units} for sink, chosen in self.recipes.items()
        }
        self.joins = False

    @property
    def idle(self) -> bool:
        """Whether there is nothing to read or join."""
        return not (self.todo or (self.joins and any(self.assemblies.values())))


def make_plan(
    graph: Graph, ledgers: dict[Path, Ledger], *, restart: bool = False, update: bool = False, share: Share | None = None
) -> Plan:
    """Determine what has to be done, from the headers of the inputs and the ledgers of the output folders.

    Args:
        graph: The graph.
        ledgers: The ledgers of its output folders.
        restart: Redo what earlier runs did.
        update: Redo what this version of bwpipe would write differently.
        share: The share of the units to do; None for all.

    Raises:
        UsageError: There is nothing to read, two stages would write one file, or an output would overwrite an input.
    """
    source = graph.nodes[0].stage
    if not isinstance(source, Source):
        raise TypeError("a graph begins with a source")
    sinks = {node.id: node.stage for node in graph.nodes if isinstance(node.stage, Sink)}
    plan = Plan(
        context=context_below(graph, graph.nodes[0]),
        recipes={name: {} for name in sinks},
        assemblies={name: [] for name in sinks},
        whole={name: [] for name in sinks},
        scans=SqliteScanCache(ledgers.values()),
    )
    shots = plan.shots = ShotFinder(graph, plan.scans)
    remind(graph, ledgers, shots)
    source.remember(plan.scans)
    known = EarlierOutputs(ledgers.values(), graph.corrections)
    units = list(_found(graph, known, plan))
    for unit in units:
        shots.add(unit)
    if not (units or plan.broken):
        others = f" ({skipped_in_words(plan.skipped)})" if plan.skipped else ""
        raise UsageError(f"{graph.nodes[0].where_is('path')}: there is nothing to read{others}; give another path")
    plan.names = {broken.name: "" for broken in plan.broken} | {unit.name: unit.media.kind for unit in units}
    names = OutputNames([*units, *plan.broken])
    for name, sink in sinks.items():
        for unit in units:
            names.claim(sink.target(unit), name, sink.folder)
    clashes = names.clashes(units, sinks.values())
    plan.broken.extend(clashes.values())
    units = [unit for unit in units if unit not in clashes]
    if share:
        require_outside(sinks.values(), plan.roots)
        plan.broken = [broken for broken in plan.broken if share.has(broken.name)]
    in_segments = bool(sinks) and all(sink.assembles for sink in sinks.values())
    size = graph.segment if in_segments else None
    planners = {
        node.id: _sink_planner(graph, node, plan, ledgers, in_segments=in_segments, restart=restart, update=update)
        for node in graph.nodes
        if isinstance(node.stage, Sink)
    }
    segments = {unit: _segments(unit, size, planners.values()) for unit in units}
    if share:
        units = [unit for unit in share.in_turn(units) if share.of(segments[unit])]
    plan.files = {segment: unit for unit in units for segment in segments[unit]}
    plan.stamps |= {segment: _segment_stamp(plan.stamps[unit], segment) for unit in units for segment in segments[unit]}
    for planner in planners.values():
        for unit in units:
            planner.add(unit, segments[unit])
    if share:
        plan.restrict({segment for unit in units for segment in share.of(segments[unit])})
    pending = {segment for chosen in plan.recipes.values() for segment in chosen}
    plan.todo = [segment for unit in units for segment in segments[unit] if segment in pending or not sinks]
    return plan


def _found(graph: Graph, known: EarlierOutputs, plan: Plan) -> Iterator[Unit]:
    """The units of a graph's source that can be read and written; the plan gets what is to be known of the others."""
    for found in _units(graph.nodes[0]):
        plan.roots.add(root_of(found))
        if found in known:
            plan.own += not known.corrects(found)
        elif isinstance(found, Skipped):
            plan.skipped.append(found)
        elif isinstance(found, Broken):
            plan.broken.append(found)
        elif unwritable := _unwritable(found, graph):
            plan.broken.append(unwritable)
        else:
            # right away, so that any later change is detected
            plan.stamps[found] = found.media.stamp(found.start, found.stop, again=False)
            yield found


def _units(node: Node) -> Iterator[Unit | Broken | Skipped]:
    """What a source finds. Its errors say where it is defined; those of who takes the units are not its own."""
    assert isinstance(node.stage, Source)
    units = iter(node.stage.units())
    while True:
        with node.error_context():
            found = next(units, None)
        if found is None:
            return
        yield found


def known_facts(ledgers: Mapping[Path, Ledger]) -> dict[str, str | int | float | bool]:
    """What earlier runs into the output folders remembered."""
    return {key: value for ledger in ledgers.values() for key, value in ledger.facts.items()}


def remind(graph: Graph, ledgers: Mapping[Path, Ledger], shots: ShotFinder) -> None:
    """Tell the stages what earlier runs remembered, and give them what finds shots."""
    facts = known_facts(ledgers)
    graph.instances.prepare(shots, facts)
    for node in graph.nodes:
        node.stage.recall(facts)
        node.stage.shots_by(shots)


def _segment_stamp(whole: FileStamp | None, segment: Unit) -> FileStamp | None:
    """The stamp of a segment: that of the file, or of its own frames where each has a file."""
    media = segment.media
    return media.stamp(segment.start, segment.stop, again=False) if media.has_frame_files else whole


def _sink_planner(
    graph: Graph, node: Node, plan: Plan, ledgers: dict[Path, Ledger], *, in_segments: bool, restart: bool, update: bool
) -> "_SinkPlanner":
    """The planner of a node that is a sink."""
    assert isinstance(node.stage, Sink)
    recipes = PathRecipes(graph, node.id)
    earlier = PathRecipes01(recipes, in_segments=in_segments)
    ledger = ledgers[node.stage.folder]
    return _SinkPlanner(plan, node.id, node.stage, ledger, recipes=recipes, earlier=earlier, restart=restart, update=update)


def _segments(unit: Unit, size: int | Literal["auto"] | None, planners: Iterable["_SinkPlanner"]) -> list[Unit]:
    """The segments of a unit. By default they follow from its size, unless it was begun or finished by the earlier default."""
    if size != "auto":
        return split_into_segments(unit, size)
    segments = split_into_segments(unit, default_size(unit.media))
    earlier = split_into_segments(unit, EARLIER_DEFAULT)
    if len(earlier) != len(segments) and any(planner.has_begun(unit, earlier) for planner in planners):
        return earlier
    return segments


class _SinkPlanner:
    """Plans what one sink has to write."""

    def __init__(
        self,
        plan: Plan,
        name: str,
        sink: Sink,
        ledger: Ledger,
        *,
        recipes: PathRecipes,
        earlier: PathRecipes01,
        restart: bool,
        update: bool,
    ) -> None:
        self._plan, self._name, self._sink, self._recipes, self._earlier = plan, name, sink, recipes, earlier
        self._ledger, self._restart, self._update = ledger, restart, update

    def add(self, unit: Unit, segments: Sequence[Unit]) -> None:
        """Plan the work on a file, which is split into these segments."""
        plan, sink, target = self._plan, self._sink, self._sink.target(unit)
        joined = sink.assembles and unit.media.has_segments
        recipe = self._recipes.of(unit, segments if joined else ())
        state = self._state(unit, target, recipe, segment=False)
        if state.kind == "done" or (state.kind == "outdated" and not self._update):
            plan.done += 1
            plan.whole[self._name].extend([Assembly(unit, tuple(segments))] if joined else [])
            plan.outdated.extend([self._finished(unit, target, state)] if state.kind == "outdated" else [])
        elif os.path.lexists(target) and not (sink.overwrite or self._ledger.owns(unit, target)):
            plan.kept.append(target)
        elif not sink.overwrite and (other := sink.in_the_way(unit)):
            plan.kept.append(other)
        else:
            plan.changed.extend([self._finished(unit, target, state)] if state.kind in ("changed", "outdated") else [])
            if joined:
                self._join(unit, segments, recipe, again=state.kind in ("changed", "outdated"))
            else:
                plan.recipes[self._name][unit] = recipe

    def has_begun(self, unit: Unit, segments: Sequence[Unit]) -> bool:
        """Whether a video is done in these segments, or one of them is."""
        whole = self._state(unit, self._sink.target(unit), self._recipes.of(unit, segments), segment=False)
        return whole.kind == "done" or any(map(self._is_done, segments))

    def _is_done(self, segment: Unit) -> bool:
        """Whether there is a fragment of a segment."""
        return self._segment_state(segment).kind == "done"

    def _segment_state(self, segment: Unit) -> State:
        """The state of a segment's fragment."""
        return self._state(segment, self._sink.fragment(segment), self._recipes.of(segment), segment=True)

    def _join(self, unit: Unit, segments: Sequence[Unit], recipe: Recipe, *, again: bool) -> None:
        """Plan to join a video, and to write the segments that have no fragment yet; all are made by one version of bwpipe."""
        whole = replace(unit)  # distinct from the video's only segment
        self._plan.assemblies[self._name].append(Assembly(whole, tuple(segments)))
        chosen = self._plan.recipes[self._name]
        chosen[whole], self._plan.stamps[whole] = recipe, self._plan.stamps[unit]
        reasons: dict[str, None] = {}
        for segment in segments:
            state = self._segment_state(segment)
            if state.kind != "done":
                chosen[segment] = self._recipes.of(segment)
                reasons |= dict.fromkeys(state.reasons)
        count = sum(segment in chosen for segment in segments)
        if reasons and count < len(segments):
            some = f"{count} of its {len(segments)} segments are" if count > 1 else f"1 of its {len(segments)} segments is"
            self._plan.begun_again.append(f"{unit.name}: {some} done again, since this changed: {'; '.join(reasons)}")
        elif reasons:
            self._plan.begun_again.append(f"{unit.name}: it starts over, since this changed: {'; '.join(reasons)}")
        if again:
            self._plan.redone[unit] = count, len(segments)

    def _state(self, unit: Unit, path: Path, recipe: Recipe, *, segment: bool) -> State:
        if self._restart:
            return State("missing")
        state = self._ledger.state(unit, path, recipe, partial(self._earlier.of, unit, segment=segment))
        if state.kind in ("done", "outdated") and not self._sink.is_intact(unit, path):
            return State("missing")
        return state

    def _finished(self, unit: Unit, target: Path, state: State) -> Finished:
        return Finished(unit, self._name, target, state.reasons, state.seconds, state.dropped)


def _unwritable(unit: Unit, graph: Graph) -> Broken | None:
    """A Broken in place of a unit that a sink can't write, with the sink's error; None if all can."""
    try:
        for node in graph.nodes:
            if isinstance(node.stage, Sink):
                with node.error_context():
                    node.stage.target(unit)
    except MediaError as error:
        return Broken(unit.path, unit.name, str(error))
    return None


def context_below(graph: Graph, node: Node) -> int:
    """Number of context frames that the stages below a node need before and after a unit."""
    consumers = [other for other in graph.nodes if other.upstream == node.id]
    own = [other.stage.context if isinstance(other.stage, UnitMap) else 0 for other in consumers]
    return max((each + context_below(graph, other) for each, other in zip(own, consumers, strict=True)), default=0)


def total_frames(units: Sequence[Unit]) -> int | None:
    """The total number of frames of some units; None if a file does not declare its number."""
    counts = list(_counts(units))
    return None if None in counts else sum(count or 0 for count in counts)


def _counts(units: Sequence[Unit]) -> Iterator[int | None]:
    for unit in units:
        start, stop = frame_range(unit)
        yield None if stop is None else stop - start
