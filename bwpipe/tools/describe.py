"""Human-readable descriptions of stages, networks, losses and graphs."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from bwpipe.core.frame import skipped_in_words
from bwpipe.core.options import format_value, options_of, ordered_fields
from bwpipe.core.stage import Sink, Source, Stage
from bwpipe.engine.ledger import Ledger
from bwpipe.engine.outdated import announcement, estimated_seconds
from bwpipe.engine.planner import Finished, Plan, make_plan
from bwpipe.engine.share_ledger import open_ledgers
from bwpipe.engine.unmatched import unmatched
from bwpipe.graph.graph import Graph

if TYPE_CHECKING:  # they import torch
    from bwpipe.losses.base import Loss
    from bwpipe.nn.network import Network

_WIDTH = 100
_MAX_VALUE_LENGTH = 1000
_MAX_NAMES = 10


def describe_stage(cls: type[Stage]) -> Iterator[str]:
    """Describe a stage: name and ports, docstring, and each option with its type, default and description."""
    yield f"{cls.registered}: {ports(cls)}"
    yield from _about(cls)
    yield from _options(cls)


def describe_network(cls: "type[Network]") -> Iterator[str]:
    """Describe a network: name and what it produces, docstring, and each option with its type, default and description."""
    yield f"{cls.registered}: produces {cls.produces}"
    yield from _about(cls)
    for what, text in cls.published.lines().items() if cls.published else ():
        yield from wrap(f"{what}: {text}", _WIDTH, initial_indent="  ", subsequent_indent="      ")
    yield from _options(cls.Options)


def describe_loss(cls: "type[Loss]") -> Iterator[str]:
    """Describe a loss: name and applicable networks, docstring, and each option with its type, default and description."""
    yield (
        f"{cls.registered}: for networks that produce {cls.needs}"
        if cls.needs != "chroma"
        else f"{cls.registered}: for any network"
    )
    yield from _about(cls)
    yield from _options(cls.Options)


def describe_graph(graph: Graph, *, briefly: bool = False) -> Iterator[str]:
    """Describe each stage of a graph with its ports and options, and what a run would do now.

    Args:
        graph: The graph.
        briefly: Name the stages in one line, and only the options that were overridden.

    Raises:
        UsageError: There is nothing to read, or two files have the same output.
    """
    yield from _stages_in_brief(graph) if briefly else _stages(graph)
    folders = [node.stage.folder for node in graph.nodes if isinstance(node.stage, Sink)]
    with open_ledgers(folders, lock=False) as ledgers:
        plan = make_plan(graph, ledgers)
        yield from _tasks(plan)
        if plan.outdated:
            yield announcement(plan.outdated, ledgers.values())
            yield from _reasons(plan.outdated)
        yield from _remarks(graph, plan, ledgers.values())


def _remarks(graph: Graph, plan: Plan, ledgers: Iterable[Ledger]) -> Iterator[str]:
    """What a run would warn of before it reads anything."""
    source = graph.nodes[0].stage
    if plan.todo and isinstance(source, Source):
        yield from source.remarks()
    yield from unmatched(graph, plan.names, ledgers)


def _stages(graph: Graph) -> Iterator[str]:
    """Each stage with its ports and all its options."""
    for node in graph.nodes:
        name = node.stage.registered if node.id == node.stage.registered else f"{node.id} ({node.stage.registered})"
        after = f", after {node.upstream}" if node.upstream else ""
        yield f"{name}: {ports(type(node.stage))}{after}"
        values = node.stage.model_dump(mode="json")
        fields = type(node.stage).model_fields
        for key in ordered_fields(type(node.stage)):
            yield f"  {fields[key].alias or key}: {format_value(values[key], _MAX_VALUE_LENGTH)}"


def _stages_in_brief(graph: Graph) -> Iterator[str]:
    """The stages in one line, and the options that were overridden."""
    yield f"stages: {', '.join(node.id for node in graph.nodes)}"
    for node in graph.nodes:
        for each in node.overrides:
            yield f"  {node.id}.{each.key}: {format_value(each.value, _MAX_VALUE_LENGTH)}"


def graph_to_json(graph: Graph) -> dict[str, Any]:
    """What `describe_graph` says, as JSON; `bwpipe.tools.json_fields.CHECK` says what each field is.

    Raises:
        UsageError: There is nothing to read, or two files have the same output.
    """
    folders = [node.stage.folder for node in graph.nodes if isinstance(node.stage, Sink)]
    with open_ledgers(folders, lock=False) as ledgers:
        plan = make_plan(graph, ledgers)
        seconds = estimated_seconds(plan.outdated, ledgers.values()) if plan.outdated else None
        remarks = list(_remarks(graph, plan, ledgers.values()))
    files = dict.fromkeys(unit.media for unit in plan.todo)
    return {
        "stages": [
            {
                "id": node.id,
                "use": node.stage.registered,
                "from": node.upstream,
                "options": node.stage.model_dump(mode="json"),
            }
            for node in graph.nodes
        ],
        "would_read": [{"path": str(media.path), "kind": media.kind} for media in files],
        "already": plan.done,
        "changed": [{**_finished_to_json(each), "segments": plan.redone.get(each.unit, [1])[0]} for each in plan.changed],
        "outdated": [_finished_to_json(each) for each in plan.outdated],
        "update_seconds": seconds if seconds is None else round(seconds, 3),
        "kept": list(map(str, plan.kept)),
        "own": plan.own,
        "skipped": {str(each.path): each.why for each in plan.skipped},
        "broken": {str(each.path): each.error for each in plan.broken},
        "remarks": remarks,
    }


def _finished_to_json(file: Finished) -> dict[str, Any]:
    return {"path": str(file.unit.path), "output": str(file.target), "reasons": list(file.reasons)}


def ports(cls: type[Stage]) -> str:
    """The input and output item types of a stage: "Frame -> Frame"."""
    both = cls.ports()
    return " -> ".join(port.__name__ if port else "nothing" for port in (both.takes, both.gives))


def _about(cls: type) -> Iterator[str]:
    for paragraph in (cls.__doc__ or "").strip().split("\n\n"):
        yield from wrap(" ".join(paragraph.split()), _WIDTH, initial_indent="  ", subsequent_indent="  ")


def _options(model: type[BaseModel]) -> Iterator[str]:
    options = options_of(model)
    yield "options:" if options else "no options"
    for option in options:
        default = "required" if option.default is None else f"default {option.default}"
        yield f"  {option.name}: {option.kind} ({default})"
        yield from wrap(option.text, _WIDTH, initial_indent="      ", subsequent_indent="      ")


def _reasons(files: Sequence[Finished]) -> Iterator[str]:
    """Why files would be written differently, with the number of files that each reason holds for."""
    counts = Counter(reason for each in files for reason in each.reasons)
    yield from (f"  {count}: {reason}" for reason, count in counts.most_common())


def _tasks(plan: Plan) -> Iterator[str]:
    kinds = Counter(media.kind for media in dict.fromkeys(unit.media for unit in plan.todo))
    yield "would read: " + (", ".join(f"{count} {kind}{'s' * (count > 1)}" for kind, count in kinds.items()) or "nothing")
    counts = {
        "done already": plan.done,
        "kept, not written by bwpipe": len(plan.kept),
        "skipped, outputs of earlier runs": plan.own,
    }
    yield from (f"{what}: {count}" for what, count in counts.items() if count)
    if plan.changed:
        yield f"finished, but done again because the graph or the input changed: {len(plan.changed)}"
        yield from _reasons(plan.changed)
        whole = [str(each.unit.name) for each in plan.changed if each.unit not in plan.redone]
        yield from (f"  {name}" for name in whole[:_MAX_NAMES])
        if len(whole) > _MAX_NAMES:
            yield f"  and {len(whole) - _MAX_NAMES} more"
        for unit, (count, total) in plan.redone.items():
            yield f"  {unit.name}: {count} of {total} segments"
    if others := skipped_in_words(plan.skipped):
        yield others
    yield from (f"can't be read: {broken.path}: {broken.error}" for broken in plan.broken)
