"""bwpipe colourises black-and-white photographs and films."""

from pathlib import Path

from bwpipe.core import aliases
from bwpipe.core.context import RunContext
from bwpipe.core.frame import Broken, End, Frame, Media, Unit
from bwpipe.core.stage import BatchMap, Count, Gather, Map, NoEffect, Sink, Source, Stage, UnitMap, stage
from bwpipe.engine.result import RunResult
from bwpipe.engine.run import run
from bwpipe.errors import BwpipeError, MediaError, RunAborted, TooManyErrors, UsageError
from bwpipe.graph.graph import Graph, read_graph
from bwpipe.version import __version__

__all__ = [
    "BatchMap",
    "Broken",
    "BwpipeError",
    "Count",
    "End",
    "Frame",
    "Gather",
    "Graph",
    "Map",
    "Media",
    "MediaError",
    "NoEffect",
    "RunAborted",
    "RunContext",
    "RunResult",
    "Sink",
    "Source",
    "Stage",
    "TooManyErrors",
    "Unit",
    "UnitMap",
    "UsageError",
    "__version__",
    "read_graph",
    "run",
    "stage",
]

if not Path(__path__[0], "stages").is_dir():  # in a checkout, `stages/` and `models/` are next to the package
    __path__.append(str(Path(__path__[0]).parent))

__getattr__ = aliases.forward(__name__)
aliases.install()
