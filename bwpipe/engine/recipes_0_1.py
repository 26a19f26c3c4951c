"""What bwpipe 0.1.0 wrote into its ledgers: one hash over every option of all stages, so that what it finished stays finished.

It can go once no ledger of 0.1.0 is around. Everything here is as it was then, and never changes.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any

from bwpipe.core.frame import Unit
from bwpipe.core.segments import frame_range, split_into_segments
from bwpipe.core.stage import Stage, ask
from bwpipe.engine.recipes import PathRecipes, Recipe, StageRecipe, frames_of, hash_of, stage_recipe
from bwpipe.graph.node import Node

_STAGES: Mapping[str, tuple[int, Mapping[str, Any]]] = MappingProxyType(
    {
        "read": (1, {"frames": None, "picture": None, "deinterlace": "off"}),
        "grayscale": (
            2,
            {"weights": "source", "colour": "recolour", "levels": "auto", "denoise": "light", "restore": False},
        ),
        "shots": (2, {}),
        "colorize": (1, {"vividness": None, "quality": "normal", "precision": "auto", "every": 1}),
        "steady": (4, {"max_flicker": 0.5, "window": 10}),
        "write": (
            3,
            {
                "format": None,
                "quality": 95,
                "codec": "h264",
                "crf": None,
                "preset": None,
                "pix_fmt": None,
                "threads": 4,
                "options": {},
            },
        ),
    }
)
"""The revision and the options, with their defaults, of the stages that came with it."""
_DIGESTS = MappingProxyType({"colorize": ("weights",)})
"""What their recipes had besides options."""
_WEIGHTS = MappingProxyType({"unet": "8236cc9bf783c4fa197db5c99bcf9bae", "autoencoder": "a24c7fba0ccdef3131d78412601b8ae0"})
"""The digests of the weights that came with it."""
_SEGMENT = 1000
"""The default length of segments."""


class PathRecipes01:
    """The recipes by which 0.1.0 would have made what one sink writes with this graph."""

    def __init__(self, recipes: PathRecipes, *, in_segments: bool) -> None:
        """Prepare them; `in_segments` says whether films are written in segments."""
        self._recipes = recipes
        graph = recipes.graph
        size = graph.segment if "segment" in graph.given and graph.segment != "auto" else _SEGMENT
        self._size = size if in_segments else None
        # the graph that came with it had these stages only
        self._nodes = [node for node in recipes.nodes if not graph.shipped or node.stage.registered in _STAGES]
        self._stages = [_with_old_defaults(node) for node in self._nodes]

    def of(self, unit: Unit, *, segment: bool = False) -> dict[str, Recipe]:
        """The recipe of a picture, a whole video or, if `segment`, a segment, by the hash that 0.1.0 recorded."""
        parts: Sequence[Unit] = ()
        extra: list[Mapping[str, Any]] = []
        if segment:
            extra = [{"segment": frame_range(unit)}]
        elif unit.media.has_segments and self._joins:
            parts = split_into_segments(unit, self._size)
            extra = [{"segments": [frame_range(part) for part in parts]}]
        known = [_known(node, stage, ask(stage.recipe, unit)) for node, stage in zip(self._nodes, self._stages, strict=True)]
        graph = self._recipes.graph
        recipe = Recipe(tuple(known), graph.shipped, "segment" in graph.given, frames_of(unit, parts))
        return {hash_of(json.dumps([*self._combined, *extra], sort_keys=True)): recipe}

    @property
    def _joins(self) -> bool:
        return bool(getattr(self._nodes[-1].stage, "assembles", False))

    @cached_property
    def _combined(self) -> list[Mapping[str, Any]]:
        """Every option of every stage, as 0.1.0 hashed them."""
        found: list[Mapping[str, Any]] = []
        for node, stage in zip(self._nodes, self._stages, strict=True):
            _, defaults = _STAGES.get(stage.registered, (0, {}))
            found.append({**defaults, **_known(node, stage, ask(stage.recipe, None)).values})
        return found


def _with_old_defaults(node: Node) -> Stage:
    """The stage as the graph describes it, with the defaults of 0.1.0."""
    _, defaults = _STAGES.get(node.stage.registered, (0, {}))
    return node.stage.model_copy(update={name: value for name, value in defaults.items() if name not in node.given})


def _known(node: Node, stage: Stage, values: Mapping[str, Any]) -> StageRecipe:
    """A stage's recipe without what 0.1.0 did not know, and with the revision and the weights it had."""
    if stage.registered in _STAGES and values:
        revision, options = _STAGES[stage.registered]
        keys = {"stage", *options, *_DIGESTS.get(stage.registered, ())}
        known = {key: value for key, value in values.items() if key in keys}
        old = {key: _WEIGHTS[name] for key, name in stage.shipped().items() if name in _WEIGHTS}
        values = {**known, **old, "revision": revision}
    return stage_recipe(node, values, node.given)
