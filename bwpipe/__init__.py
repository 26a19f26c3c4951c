"""bwpipe colourises black-and-white photographs and films."""

from pathlib import Path

from bwpipe.base import BatchMap, Count, Gather, Map, NoEffect, Sink, Source, Stage, UnitMap, stage
from bwpipe.errors import BwpipeError, MediaError, RunAborted, UsageError
from bwpipe.execution import Run
from bwpipe.frame import Broken, End, Frame, Media, Unit

__version__ = "0.1.0"

__all__ = [
    "BatchMap",
    "Broken",
    "BwpipeError",
    "Count",
    "End",
    "Frame",
    "Gather",
    "Map",
    "Media",
    "MediaError",
    "NoEffect",
    "Run",
    "RunAborted",
    "Sink",
    "Source",
    "Stage",
    "Unit",
    "UnitMap",
    "UsageError",
    "stage",
]

if not Path(__path__[0], "stages").is_dir():  # a checkout: `stages/` and `models/` stand beside the package
    __path__.append(str(Path(__path__[0]).parent))
