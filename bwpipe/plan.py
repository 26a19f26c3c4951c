"""What a run has to do: the units of its source that its sinks do not have yet."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from bwpipe.base import Sink, Source, UnitMap
from bwpipe.config import Graph, Node
from bwpipe.errors import UsageError
from bwpipe.frame import Broken, Unit
from bwpipe.ledger import Ledger


@dataclass(slots=True)
class Plan:
    """What a run has to do.

    Attributes:
        todo: The units to be read, in the source's order.
        context: How many frames before and after a unit its stages want to see.
        recipes: For each sink, by its id: what each unit that it is to write is made by.
        broken: Files that can't be read.
        done: How many units are done already.
        kept: Files that stand where an output would go and that bwpipe did not write: they are left as they are.
        own: How many files were left out of the inputs since they are outputs.
    """

    todo: list[Unit] = field(default_factory=list)
    context: int = 0
    recipes: dict[str, dict[Unit, str]] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)
    done: int = 0
    kept: list[Path] = field(default_factory=list)
    own: int = 0


def make_plan(graph: Graph, ledgers: dict[Path, Ledger]) -> Plan:
    """Find out what is to be done, from the headers of the inputs and the ledgers of the output folders.

    Raises:
        UsageError: There is nothing to read; two inputs would become one file, or one the other's.
    """
    source = graph.nodes[0].stage
    if not isinstance(source, Source):
        raise TypeError("a graph begins with a source")
    sinks = {node.id: node.stage for node in graph.nodes if isinstance(node.stage, Sink)}
    plan = Plan(context=max(_context(graph, node) for node in graph.nodes), recipes={name: {} for name in sinks})
    units: list[Unit] = []
    with graph.nodes[0].blamed():
        everything = list(source.units())
    for found in everything:
        if any(_is_output(found, sink.folder, ledgers[sink.folder]) for sink in sinks.values()):
            plan.own += 1
        elif isinstance(found, Broken):
            plan.broken.append(found)
        else:
            units.append(found)
    if not (units or plan.broken):
        raise UsageError(f"{graph.nodes[0].where}: there is nothing to read; give the stage another `path`")
    inputs = {unit.path: unit for unit in units}
    targets: dict[Path, Unit] = {}
    wanted: set[Unit] = set(units) if not sinks else set()
    for name, sink in sinks.items():
        ledger = ledgers[sink.folder]
        recipe = _recipe(_path(graph, name))
        for unit in units:
            target = sink.target(unit)
            _check_name(target, unit, targets, inputs)
            targets[target] = unit
            if ledger.is_done(unit, target, recipe):
                plan.done += 1
            elif target.exists() and not (sink.overwrite or ledger.owns(unit, target)):
                plan.kept.append(target)
            else:
                plan.recipes[name][unit] = recipe
                wanted.add(unit)
    plan.todo = [unit for unit in units if unit in wanted]
    return plan


def _path(graph: Graph, name: str) -> list[Node]:
    """The nodes from the source to the one of that id."""
    nodes = {node.id: node for node in graph.nodes}
    path = [nodes[name]]
    while upstream := path[0].upstream:
        path.insert(0, nodes[upstream])
    return path


def _context(graph: Graph, node: Node) -> int:
    return sum(each.stage.context for each in _path(graph, node.id) if isinstance(each.stage, UnitMap))


def _recipe(path: Sequence[Node]) -> str:
    """A hash of what the stages say that their results depend on."""
    recipes = []
    for node in path:
        with node.blamed():
            recipes.append(node.stage.recipe())
    text = json.dumps(recipes, sort_keys=True)
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _is_output(found: Unit | Broken, folder: Path, ledger: Ledger) -> bool:
    """Whether an input was made by a run: it lies in an output folder below the folder that is read, or the ledger knows it."""
    root = found.path.parents[len(found.name.parts) - 1]
    return folder in found.path.parents and (folder not in (root, *root.parents) or ledger.knows(found.path))


def _check_name(target: Path, unit: Unit, targets: dict[Path, Unit], inputs: dict[Path, Unit]) -> None:
    if (other := targets.get(target)) and other.media is not unit.media:
        raise UsageError(f"{unit.path} and {other.path} would both become {target}; give `write` another `name`, or rename one")
    if other := inputs.get(target):
        raise UsageError(f"{target} would be written over the input {other.path}; write to another `path`")


def total_frames(units: Sequence[Unit]) -> int | None:
    """How many frames some units have in all; None if a file does not say."""
    counts = list(_counts(units))
    return None if None in counts else sum(count or 0 for count in counts)


def _counts(units: Sequence[Unit]) -> Iterator[int | None]:
    for unit in units:
        ends = [end for end in (unit.stop, unit.media.frames) if end is not None]
        yield min(ends) - unit.start if ends else None
