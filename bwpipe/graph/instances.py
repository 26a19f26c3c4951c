"""Instances of stages: those of the graph, and one more for each set of options that corrections override for some files."""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

from bwpipe.core.frame import Media, Unit
from bwpipe.core.options import build
from bwpipe.core.ports import ShotFinder
from bwpipe.core.registry import closest
from bwpipe.core.segments import frame_range
from bwpipe.core.stage import Stage, ask
from bwpipe.errors import UsageError
from bwpipe.graph.corrections import Correction, key_of
from bwpipe.graph.node import Node


@dataclass(frozen=True, slots=True)
class Part:
    """Frames of a file that one instance processes.

    Attributes:
        frames: The frames.
        touched: The frames whose result depends on it: these, and those near that stages below see at the same time.
        key: The key of the instance; empty for the stages of the graph.
    """

    frames: range
    touched: range
    key: str


@dataclass(slots=True, eq=False)
class Instances:
    """The instances of the stages of a graph. Which one processes a frame follows from the corrections alone.

    Attributes:
        corrections: The corrections, of which later ones win.
        context: Number of frames before and after one whose colours stages look at together with its own.
        places: The stages above a node, and those on each path below it.
    """

    corrections: Sequence[Correction] = ()
    context: int = 0
    places: Callable[[Node], tuple[Sequence[Stage], Sequence[Sequence[Stage]]]] = lambda node: ((), ())
    _facts: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    _stages: dict[tuple[str, str], Stage] = field(default_factory=dict)
    _options: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _parts: dict[Media, list[Part]] = field(default_factory=dict)
    _finder: ShotFinder | None = None

    def prepare(self, finder: ShotFinder, facts: Mapping[str, str | int | float | bool]) -> None:
        """Take what finds shots, and what earlier runs remembered."""
        self._finder, self._facts = finder, facts
        self._parts.clear()
        self._stages.clear()

    def concern(self, node: Node) -> bool:
        """Whether there are corrections of a stage's options."""
        return any(correction.options.keys() & node.stage.correctable for correction in self.corrections)

    def stage(self, node: Node, key: str) -> Stage:
        """The instance of a node's stage with this key. Raises UsageError for options that are wrong together."""
        own = {name: value for name, value in self._options.get(key, {}).items() if name in node.stage.correctable}
        if not own:
            return node.stage
        at = node.id, key_of(own)
        if at not in self._stages:
            made = self._stages[at] = changed(node, own)
            made.placed(*self.places(node))
            made.recall(self._facts)
            if self._finder:
                made.shots_by(self._finder)
        return self._stages[at]

    def given(self, node: Node, key: str) -> frozenset[str]:
        """The options of an instance that the user gave."""
        return node.given | (self._options.get(key, {}).keys() & node.stage.correctable)

    def is_of(self, node: Node, stage: object) -> bool:
        """Whether a stage is the node's, or an instance of it."""
        return node.stage is stage or any(name == node.id and each is stage for (name, _), each in self._stages.items())

    def needed(self, node: Node, units: Iterable[Unit], context: int) -> list[Stage]:
        """The further instances of a node that process some units, and so many frames before and after each."""
        keys = {part.key for unit in units for part in self.within(unit, context) if part.key}
        found = {id(stage): stage for key in sorted(keys) if (stage := self.stage(node, key)) is not node.stage}
        return list(found.values())

    def unmatched(self, names: Collection[PurePosixPath]) -> Iterator[str]:
        """A sentence on the corrections that concern none of these inputs."""
        found = [each for each in self.corrections if not any(map(each.concerns, names))]
        if found:
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            what = closest(found[0].pattern, sorted(map(str, names))) or "correct the pattern, or remove the entry"
            yield f"{found[0].where}{more}: no input fits {found[0].pattern!r}; {what}"

    def at(self, media: Media, index: int) -> str:
        """The key of the instance that processes a frame."""
        parts = self.parts(media)
        if not parts:
            return ""
        place = bisect_right([part.frames.start for part in parts], index) - 1
        return parts[max(place, 0)].key

    def within(self, unit: Unit, more: int = 0) -> list[Part]:
        """The parts of a unit's file of which it has frames, or else of so many frames before and after it."""
        start, stop = frame_range(unit)
        start, stop = start - more, (start + 1 if stop is None else stop) + more
        return [part for part in self.parts(unit.media) if part.frames.start < stop and start < part.frames.stop]

    def touching(self, node: Node, unit: Unit) -> list[Part]:
        """The parts with an instance of their own of this node on which the result for a unit depends."""
        if not self.concern(node):
            return []
        start, stop = frame_range(unit)
        stop = start + 1 if stop is None else stop
        parts = [part for part in self.parts(unit.media) if self.stage(node, part.key) is not node.stage]
        return [part for part in parts if part.touched.start < stop and start < part.touched.stop]

    def sole(self, node: Node, media: Media) -> str:
        """The key of the instance that processes all of a file; empty for the node's stage, and if there are several."""
        parts = self.parts(media) if self.concern(node) else []
        return parts[0].key if len(parts) == 1 else ""

    def parts(self, media: Media) -> list[Part]:
        """The parts of a file, in order; none if nothing of it is overridden. Raises UsageError."""
        if not self.corrections:
            return []
        if media not in self._parts:
            self._parts[media] = list(self._parts_of(media))
        return self._parts[media]

    def _parts_of(self, media: Media) -> Iterator[Part]:
        chosen = [each for each in self.corrections if each.concerns(media.name)]
        count = media.frames if media.has_segments and media.frames else 1
        if media.kind != "film":
            chosen = [each for each in chosen if each.whole]
        if not chosen:
            return
        ranges = [(each, list(self._ranges(each, media, count))) for each in chosen]
        borders = {0, count}.union(*({frames.start, frames.stop} for _, found in ranges for frames, _ in found))
        pieces: list[tuple[range, Mapping[str, Any], bool]] = []
        for start, stop in pairwise(sorted(borders)):
            options: dict[str, Any] = {}
            exact = True
            for each, found in ranges:
                for frames, at_cuts in found:
                    if frames.start <= start and stop <= frames.stop:
                        options |= each.options
                        exact = exact and at_cuts
            if pieces and pieces[-1][1] == options:
                before, _, was = pieces.pop()
                pieces.append((range(before.start, stop), options, was and exact))
            else:
                pieces.append((range(start, stop), options, exact))
        for frames, found_options, exact in pieces:
            key = key_of(found_options)
            self._options[key] = found_options
            more = 0 if exact else self.context
            yield Part(frames, range(frames.start - more, frames.stop + more), key)

    def _ranges(self, correction: Correction, media: Media, count: int) -> Iterator[tuple[range, bool]]:
        """The frames of a film that a correction concerns, and whether they begin and end at cuts. Raises UsageError."""
        if correction.whole:
            yield range(count), True
        for first, last in correction.frames:
            if last >= count:
                raise UsageError(f"{correction.where}: {media.name} ends with frame {count - 1}, so it has no frame {last}")
            yield range(first, last + 1), False
        for begin, end in correction.times:
            start, stop = media.index_at(begin), media.index_at(end)
            if start >= count:
                raise UsageError(f"{correction.where}: {media.name} ends before {begin:g} s; correct the times")
            yield range(start, max(stop, start + 1)), False
        shots = self._finder.all(media) if correction.shots and self._finder else []
        for first, last in correction.shots:
            if last > len(shots):
                raise UsageError(f"{correction.where}: {media.name} has {len(shots)} shots, so it has no shot {last}")
            yield range(shots[first - 1].start, shots[last - 1].stop), True


def changed(node: Node, options: Mapping[str, Any]) -> Stage:
    """Another instance of a node's stage, with some options changed. Raises UsageError."""
    own = node.stage.model_dump(mode="json", by_alias=True, exclude_unset=True)
    built = build(type(node.stage), {**own, **options}, of=repr(node.stage.registered))
    if isinstance(built, list):
        raise UsageError(built[0].text)
    return built


def values(instances: Instances, node: Node, unit: Unit, method: str = "recipe") -> tuple[dict[str, Any], frozenset[str]]:
    """What a result for a unit depends on of a node, with the options that override its own, and what the user gave.

    Args:
        instances: The instances.
        node: The node.
        unit: The unit.
        method: "recipe", or "provenance".
    """
    if sole := instances.sole(node, unit.media):
        return ask(getattr(instances.stage(node, sole), method), unit), instances.given(node, sole)
    found: dict[str, Any] = ask(getattr(node.stage, method), unit)
    by_key: dict[str, list[list[int]]] = {}
    touching = instances.touching(node, unit)
    for part in instances.parts(unit.media) if touching else ():
        if any(part.key == each.key for each in touching):  # all of its frames: they share a memory
            by_key.setdefault(part.key, []).append([part.frames.start, part.frames.stop])
    overrides = []
    for key, frames in by_key.items():
        other = ask(instances.stage(node, key).recipe, unit)
        overrides.append({"frames": frames, **{name: value for name, value in other.items() if found.get(name) != value}})
    return {**found, **({"overrides": overrides} if overrides else {})}, node.given
