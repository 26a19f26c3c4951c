"""Corrections that are for no input, since a name is misspelt or the input is gone."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from bwpipe.engine.finished_files import finished_names
from bwpipe.engine.ledger import Ledger
from bwpipe.graph.graph import Graph


def unmatched(graph: Graph, names: Mapping[PurePosixPath, str], ledgers: Iterable[Ledger]) -> Iterator[str]:
    """A sentence each on the hints, the references and the overrides that are for none of a graph's inputs. Raises UsageError.

    Args:
        graph: The graph.
        names: The names of the inputs, with the kind of medium; empty for those that can't be read.
        ledgers: Those of the output folders: corrections may be for what earlier runs coloured.
    """
    if any(_of(graph, names)):  # only then are the ledgers asked, which may know hundreds of thousands of names
        yield from _of(graph, {**{name: kind for ledger in ledgers for name, kind in finished_names(ledger)}, **names})


def _of(graph: Graph, names: Mapping[PurePosixPath, str]) -> Iterator[str]:
    for node in graph.nodes:
        yield from node.stage.unmatched(names)
    yield from graph.instances.unmatched(names)
