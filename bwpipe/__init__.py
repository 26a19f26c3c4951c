"""bwpipe colourises black-and-white photographs and films.

Its names are imported when they are first used, so that a command imports no more than it needs.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bwpipe.core import aliases
from bwpipe.version import __version__

if TYPE_CHECKING:
    from bwpipe.core.context import RunContext
    from bwpipe.core.frame import Broken, End, Frame, Media, Unit
    from bwpipe.core.stage import BatchMap, Count, Gather, Map, NoEffect, Sink, Source, Stage, UnitMap, stage
    from bwpipe.engine.result import RunResult
    from bwpipe.engine.run import run
    from bwpipe.errors import BwpipeError, MediaError, RunAborted, TooManyErrors, UsageError
    from bwpipe.graph.graph import Graph, read_graph
    from bwpipe.tools.colorize import colorize, load_network

_HOMES = {
    "bwpipe.core.context": ("RunContext",),
    "bwpipe.core.frame": ("Broken", "End", "Frame", "Media", "Unit"),
    "bwpipe.core.stage": (
        "BatchMap", "Count", "Gather", "Map", "NoEffect", "Sink", "Source", "Stage", "UnitMap", "stage"
    ),
    "bwpipe.engine.result": ("RunResult",),
    "bwpipe.engine.run": ("run",),
    "bwpipe.errors": ("BwpipeError", "MediaError", "RunAborted", "TooManyErrors", "UsageError"),
    "bwpipe.graph.graph": ("Graph", "read_graph"),
    "bwpipe.tools.colorize": ("colorize", "load_network"),
}  # fmt: skip
"""The modules of the public names."""
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

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
    "colorize",
    "load_network",
    "read_graph",
    "run",
    "stage",
]

if not Path(__path__[0], "stages").is_dir():  # in a checkout, `stages/` and `models/` are next to the package
    __path__.append(str(Path(__path__[0]).parent))

_forward = aliases.forward(__name__)


def __getattr__(name: str) -> Any:
    """Import a public name; names of bwpipe 0.1 are forwarded with a warning."""
    if name not in _HOME_OF:
        return _forward(name)
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value  # found without this function from now on
    return value


aliases.install()
