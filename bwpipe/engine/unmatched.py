"""Corrections that are for no input, since a name is misspelt or the input is gone."""

from collections.abc import Collection, Iterable, Iterator
from pathlib import PurePosixPath

from bwpipe.engine.finished_files import finished_files
from bwpipe.engine.ledger import Ledger
from bwpipe.engine.ledger_file import translate_errors
from bwpipe.graph.graph import Graph


def unmatched(graph: Graph, names: Collection[PurePosixPath], ledgers: Iterable[Ledger]) -> Iterator[str]:
    """A sentence on the hints, and one on the overrides, that are for none of a graph's inputs. Raises UsageError, RunAborted.

    Args:
        graph: The graph.
        names: The names of the inputs, also of those that can't be read.
        ledgers: Those of the output folders: corrections may be for what earlier runs coloured.
    """
    if not any(_of(graph, names)):
        return
    known = set(names)
    for ledger in ledgers:
        if ledger.path.exists():
            with translate_errors(ledger.path):
                known.update(each.name for each in finished_files(ledger))
    yield from _of(graph, known)


def _of(graph: Graph, names: Collection[PurePosixPath]) -> Iterator[str]:
    for node in graph.nodes:
        yield from node.stage.unmatched(names)
    yield from graph.instances.unmatched(names)
