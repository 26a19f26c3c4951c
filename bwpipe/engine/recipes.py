"""Recipes: what the result for a unit depends on, and who changed it, the user or bwpipe."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any, Literal

from bwpipe.core.frame import Unit
from bwpipe.core.json_text import parse_json
from bwpipe.core.segments import frame_range
from bwpipe.core.stage import ask
from bwpipe.graph.graph import Graph
from bwpipe.graph.instances import values
from bwpipe.graph.node import Node


@dataclass(frozen=True)
class StageRecipe:
    """What a result depends on of one stage.

    Attributes:
        name: The stage's registered name.
        values: Its `Stage.recipe` for the unit; empty if it passes the unit on as it is.
        free: The keys of it that the user did not choose: the revision, and options with their default.
        shipped: Its `Stage.shipped`.
    """

    name: str
    values: Mapping[str, Any]
    free: frozenset[str]
    shipped: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """As the ledger stores it."""
        return {"name": self.name, "values": self.values, "free": sorted(self.free), "shipped": dict(self.shipped)}


@dataclass(frozen=True)
class Recipe:
    """What the result for a unit depends on, besides the bytes of its input.

    Attributes:
        stages: What it depends on of each stage, from the source to the sink.
        shipped: Whether the graph comes with bwpipe, so that its list of stages is not the user's.
        segment_given: Whether the user chose the length of segments.
        frames: The frames of a film or segment, and the length of the segments it is joined from: "0-499", "0-1499/500"; "*"
            stands for an end that the file does not declare. Empty for a picture.
    """

    stages: tuple[StageRecipe, ...]
    shipped: bool = False
    segment_given: bool = False
    frames: str = ""

    @cached_property
    def text(self) -> str:
        """All but the frames, as JSON: the same for all units of a kind."""
        stages = [stage.to_json() for stage in self.stages]
        return json.dumps({"stages": stages, "shipped": self.shipped, "segment_given": self.segment_given}, sort_keys=True)

    @cached_property
    def digest(self) -> str:
        """A hash of the text."""
        return hash_of(self.text)

    @classmethod
    def read(cls, text: str, frames: str) -> "Recipe":
        """The recipe with this text, and these frames. Raises ValueError, KeyError or TypeError if it is damaged."""
        found = parse_json(text)
        stages = [
            StageRecipe(stage["name"], stage["values"], frozenset(stage["free"]), stage["shipped"]) for stage in found["stages"]
        ]
        return cls(tuple(stages), found["shipped"], found["segment_given"], frames)


@dataclass(frozen=True)
class Difference:
    """How two recipes differ: `ours` lists what a new version of bwpipe or of a plug-in did, `users` what the user did.

    `dropped` has those of `users` that are options which were given before, and are not given now.
    """

    ours: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def compare(old: Recipe, new: Recipe) -> Difference:
    """How the recipe of a result differs from the one that would be used now."""
    new = Recipe.read(new.text, new.frames)  # as it would come back from a ledger: lists for tuples
    before, after = ([stage for stage in recipe.stages if stage.values] for recipe in (old, new))
    same_stages = [stage.name for stage in old.stages] == [stage.name for stage in new.stages]
    found: list[tuple[Literal["ours", "users"], str]] = []
    if [stage.name for stage in before] != [stage.name for stage in after] and not same_stages:
        names = [", ".join(stage.name for stage in stages) for stages in (before, after)]
        found.append(("ours" if old.shipped and new.shipped else "users", f"the stages were {names[0]}, and are {names[1]}"))
    else:
        pairs = zip(old.stages, new.stages, strict=True) if same_stages else zip(before, after, strict=True)
        for one, other in pairs:
            found.extend(_differences(one, other))
    if old.frames != new.frames:
        another_count = old.frames.partition("/")[0] != new.frames.partition("/")[0]  # of equal bytes, by another reader
        free = another_count or not (old.segment_given or new.segment_given)
        found.append(("ours" if free else "users", f"its frames were {old.frames}, and are {new.frames}"))
    ours, users = (tuple(text for whose, text in found if whose == which) for which in ("ours", "users"))
    return Difference(ours, users, tuple(_dropped(before, after)))


def _dropped(old: Sequence[StageRecipe], new: Sequence[StageRecipe]) -> Iterator[str]:
    """The options that were given and are not given now, of stages that are in both recipes."""
    now = {stage.name: stage for stage in new}
    for stage in old:
        other = now.get(stage.name)
        for key in sorted(stage.values.keys() - stage.free) if other else ():
            before, value = stage.values[key], other.values.get(key, _ABSENT) if other else _ABSENT
            default = value is _ABSENT and isinstance(before, int | float)  # such as a factor of 1, which changes nothing
            if other and (default or key in other.free) and value != before:
                yield f"{stage.name}.{key} was {_word(before)}, and is {'its default' if default else _word(value)}"


def _differences(old: StageRecipe, new: StageRecipe) -> Iterator[tuple[Literal["ours", "users"], str]]:
    """What differs in one stage, and who did it."""
    for key in sorted(old.values.keys() | new.values.keys()):
        one, other = old.values.get(key, _ABSENT), new.values.get(key, _ABSENT)
        if one == other:
            continue
        name = old.shipped.get(key)
        free = all(
            stage.values.get(key, _ABSENT) is _ABSENT or key in stage.free or (name and stage.shipped.get(key) == name)
            for stage in (old, new)
        )
        yield "ours" if free else "users", f"{new.name}.{key} was {_word(one)}, and is {_word(other)}"


_ABSENT = object()


def _word(value: Any) -> str:
    return "not there" if value is _ABSENT else json.dumps(value)


def hash_of(text: str) -> str:
    """The hash by which recipes are known."""
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


class PathRecipes:
    """The recipes of the units that one sink writes."""

    def __init__(self, graph: Graph, name: str) -> None:
        """Prepare those of the node with this id."""
        self.graph = graph
        self.nodes = path_to(graph, name)

    def of(self, unit: Unit, segments: Sequence[Unit] = ()) -> Recipe:
        """The recipe of a unit: a picture, a segment, or a whole video that is joined from segments. Raises UsageError."""
        stages = []
        for node in self.nodes:
            with node.error_context():
                stages.append(stage_recipe(node, *values(self.graph.instances, node, unit)))
        return Recipe(tuple(stages), self.graph.shipped, "segment" in self.graph.given, frames_of(unit, segments))

    def of_nothing(self, whole: Unit, instance: str = "", further: Mapping[str, Any] | None = None) -> Recipe:
        """The recipe for none of a file's frames: without what concerns some of them only.

        Args:
            whole: The file.
            instance: The key of the instance of stages.
            further: What a result depends on beside it.
        """
        none, stages = replace(whole, stop=whole.start), []
        for node in self.nodes:
            with node.error_context():
                stage, given = self.graph.instances.stage(node, instance), self.graph.instances.given(node, instance)
                stages.append(stage_recipe(node, ask(stage.recipe, none), given))
        more = [StageRecipe("first pass", further, frozenset(), {})] if further else []
        return Recipe((*stages, *more), self.graph.shipped, "segment" in self.graph.given, frames_of(whole, ()))


def stage_recipe(node: Node, values: Mapping[str, Any], given: frozenset[str]) -> StageRecipe:
    """The recipe of a node's stage, with what the user chose of it."""
    defaults = type(node.stage).model_fields.keys() - given
    return StageRecipe(node.stage.registered, values, frozenset({"revision", *defaults} & values.keys()), node.stage.shipped())


def frames_of(unit: Unit, segments: Sequence[Unit]) -> str:
    """The frames of a unit, see `Recipe.frames`."""
    if not unit.media.has_segments:
        return ""
    start, stop = frame_range(unit)
    size = f"/{segments[0].stop - segments[0].start}" if len(segments) > 1 and segments[0].stop else ""
    return f"{start}-{'*' if stop is None else stop - 1}{size}"


def recipes(graph: Graph, name: str) -> list[dict[str, Any]]:
    """The recipes, for units of any kind, of the stages from the source to the one with this id. Raises UsageError."""
    recipe = []
    for node in path_to(graph, name):
        with node.error_context():
            recipe.append(node.stage.recipe())
    return recipe


def path_to(graph: Graph, name: str) -> list[Node]:
    """The nodes from the source to the one with this id."""
    nodes = {node.id: node for node in graph.nodes}
    path = [nodes[name]]
    while upstream := path[0].upstream:
        path.insert(0, nodes[upstream])
    return path
