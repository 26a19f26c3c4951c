"""What is kept of a finished film, so that parts of it can be done again: outlines of its segments, and its memory."""

from collections.abc import Sequence
from pathlib import Path

from bwpipe.core.atomic_file import AtomicFile
from bwpipe.core.first_pass import TwoPassMap
from bwpipe.core.frame import Unit
from bwpipe.core.segments import Assembly, first_pass_path, waiting_fragments
from bwpipe.core.stage import Sink
from bwpipe.engine.ledger import Ledger
from bwpipe.errors import MediaError
from bwpipe.graph.graph import Graph

_SEVERAL = 2
"""Segments from which on some can be done again without the others."""


def keep_outlines(sink: Sink, ledger: Ledger, assembly: Assembly) -> bool:
    """Put outlines in the place of a finished film's fragments, if they can be cut out of it; returns whether they can.

    Raises RunAborted, RunStopped.
    """
    fragments = [sink.fragment(segment) for segment in assembly.segments]
    if len(fragments) < _SEVERAL or not all(path.exists() for path in fragments):
        return False
    if sink.outlined(assembly.whole, fragments):
        return True
    try:
        for segment, path, outline in zip(assembly.segments, fragments, sink.outlines(assembly.whole, fragments), strict=True):
            _put(ledger, segment, path, outline)
    except (MediaError, OSError, KeyError):
        return False
    return True


def _put(ledger: Ledger, segment: Unit, path: Path, outline: bytes) -> None:
    """Put an outline in the place of a fragment. Raises RunAborted, OSError."""
    file = AtomicFile(path, ledger.folder)
    try:
        file.path.write_bytes(outline)
        ledger.renew(segment, file)
    except BaseException:
        file.discard()
        raise


def forget_rest(graph: Graph, sink: Sink, ledger: Ledger, assembly: Assembly, *, outlined: bool) -> None:
    """Remove what is no longer needed of a finished film. Raises RunAborted."""
    target = sink.target(assembly.whole)
    kept: set[Path] = {sink.fragment(segment) for segment in assembly.segments} if outlined else set()
    for node in graph.nodes:
        if outlined and isinstance(node.stage, TwoPassMap):
            sole = {graph.instances.sole(other, assembly.whole.media) for other in graph.nodes}
            kept |= {first_pass_path(ledger.folder, target, f"{node.id} {key}" if key else node.id) for key in {"", *sole}}
    ledger.forget([path for path in waiting_fragments(ledger.folder, [target]) if path not in kept])


def tidy(graph: Graph, ledger: Ledger, sink: Sink, finished: Sequence[Assembly]) -> None:
    """Finish what a run that was killed after it had joined films left to be done. Raises RunAborted."""
    waiting = set(waiting_fragments(ledger.folder, [sink.target(each.whole) for each in finished])) if finished else set()
    for assembly in finished if waiting else ():
        fragments = [sink.fragment(segment) for segment in assembly.segments]
        if sink.keeps_fragments(assembly.whole) or not waiting.intersection(fragments):
            continue
        if len(fragments) < _SEVERAL or not (waiting.issuperset(fragments) and sink.outlined(assembly.whole, fragments)):
            forget_rest(graph, sink, ledger, assembly, outlined=keep_outlines(sink, ledger, assembly))
