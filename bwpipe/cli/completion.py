"""What a shell completes: names of stages, networks and losses, and `--set STAGE.OPTION=`.

An error here would be printed into the user's command line, so there is nothing to complete where something can't be read.
"""

import os
import shlex
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

DEFAULT_GRAPH = "pipeline.yaml"
"""The graph whose stages are completed where a command has none of its own."""

_COMMAND_LINE = ("COMP_WORDS", "_TYPER_COMPLETE_ARGS")
"""Environment variables in which shells hand over the command line: bash, and the others."""


def complete_stage(incomplete: str) -> list[str]:
    """The names of stages that begin with a text."""
    return _beginning(_stages, incomplete)


def complete_network(incomplete: str) -> list[str]:
    """The names of networks that begin with a text."""
    from bwpipe.core.plugins import NETWORKS, built_in_names

    return _beginning(lambda: built_in_names(NETWORKS), incomplete)


def complete_loss(incomplete: str) -> list[str]:
    """The names of losses that begin with a text."""

    def names() -> Iterable[str]:
        import bwpipe.losses.combined  # noqa: F401 (importing each loss registers it)
        from bwpipe.losses.base import losses

        return losses

    return _beginning(names, incomplete)


def complete_set(ctx: typer.Context, incomplete: str) -> list[str]:
    """The options of a stage of a command's graph, as `STAGE.OPTION=`; of several that begin with a text, `STAGE.` only."""
    given = ctx.params.get("graph") or ctx.params.get("graph_file") or _typed_graph()

    def names() -> Iterable[str]:
        begins = incomplete.partition(".")[0]
        stages = {label: name for label, name in _stages_of(given).items() if label.startswith(begins)}
        if "." in incomplete or len(stages) == 1:  # a shell adds a space after the only choice
            return [option for label, name in stages.items() for option in _options(name, label)]
        return [f"{label}." for label in stages]

    return _beginning(names, incomplete)


def _typed_graph() -> str | None:
    """The graph file in the command line, which click does not parse after an option whose value is being typed."""
    with suppress(ValueError):  # quotes that are still open
        words = shlex.split(next((os.environ[name] for name in _COMMAND_LINE if name in os.environ), ""))
        return next((word for word in words if word.endswith((".yaml", ".yml"))), None)
    return None


def _beginning(names: Callable[[], Iterable[str]], incomplete: str) -> list[str]:
    with suppress(Exception):
        return [name for name in names() if name.startswith(incomplete)]
    return []


def _stages() -> Iterable[str]:
    from bwpipe.core import plugins
    from bwpipe.core.stage import stages

    plugins.load()
    return stages


def _stages_of(graph: Any) -> dict[str, str]:
    """The stages of a graph file, or of the default one: the name of each by its id."""
    from bwpipe.graph.templates import template
    from bwpipe.graph.yaml_loader import parse

    path = Path(graph) if graph else template(DEFAULT_GRAPH)
    entries = parse(path.read_bytes()).data["stages"]
    return {str(entry.get("id", entry["use"])): str(entry["use"]) for entry in entries}


def _options(stage: str, label: str) -> Iterable[str]:
    from bwpipe.core import plugins
    from bwpipe.core.options import options_of
    from bwpipe.core.stage import stages

    plugins.load()
    return [f"{label}.{option.name}=" for option in options_of(stages[stage])]
