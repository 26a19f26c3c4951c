"""Pictures in files, found and read as the `read` stage does, and brought to the size that a score is made at."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from bwpipe.base import Source, stages
from bwpipe.color import BLUE_SCALE, RED_SCALE, WEIGHTS
from bwpipe.errors import MediaError, UsageError
from bwpipe.execution import Run
from bwpipe.frame import Broken, Frame, Unit
from bwpipe.orientation import upright
from bwpipe.view import squash

P = TypeVar("P", bound=NDArray[Any])


@dataclass(frozen=True, slots=True)
class Sizing:
    """What is done to all pictures before anything else.

    Attributes:
        size: Height and width that they are squashed to; None to leave them as they are.
        crop: Whether the largest square in the middle is cut out first.
    """

    size: int | None = None
    crop: bool = False

    def __call__(self, plane: P) -> P:
        """A plane (H, W) or (H, W, C) in that size."""
        seen: Any = plane
        if self.crop:
            height, width = plane.shape[:2]
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            seen = plane[top : top + side, left : left + side]
        return cast(P, squash(seen, self.size, self.size) if self.size else seen)

    def told(self) -> dict[str, str]:
        """What it does, for people."""
        return {
            "size": f"squashed to {self.size} x {self.size} pixels" if self.size else "each picture's own",
            "crop": "the square in the middle" if self.crop else "none",
        }


class Files:
    """The pictures that a path stands for.

    Attributes:
        path: As it was given.
        names: Their places below the folder, such as "people/anna.jpg", of those whose header can be read.
        films: The films among them, by their places.
        refused: Those whose header can't be read.
    """

    def __init__(self, path: str, run: Run, *, films: bool = False) -> None:
        """Find a file, all in a folder, or all of a pattern; films only where they are asked for, else they are warned of.

        Raises UsageError where there is not one whose header can be read.
        """
        if not (has_magic(path) or Path(path).expanduser().exists()):
            raise UsageError(f"there is no file or folder {path}; give another one")
        reader = stages["read"].model_validate({"path": path})
        assert isinstance(reader, Source)
        self.path = path
        self._reader = reader
        self._units: dict[str, Unit] = {}
        self.refused: list[Broken] = []
        self.films: dict[str, Unit] = {}
        for found in reader.units():
            if isinstance(found, Broken):
                self.refused.append(found)
            elif found.media.kind == "film" and films:
                self.films[str(found.name)] = found
            elif found.media.kind == "film":
                run.warn("it is a film, and only pictures are scored", found.media)
            else:
                self._units[str(found.name)] = found
        self.names = list(self._units)
        if self.films:
            return
        if self.refused and not self.names:
            first = self.refused[0]
            raise UsageError(f"none of the pictures in {path} can be read; {first.name}: {first.error}")
        if not self.names:
            raise UsageError(f"there is no picture{' or film' if films else ''} in {path}; give another folder")

    def unit(self, name: str) -> Unit:
        """The unit of that name."""
        return self._units[name]

    def frame(self, name: str) -> Frame:
        """The picture of that name. Raises MediaError."""
        (frame,) = self._reader.read(self._units[name], 0)
        return cast(Frame, frame)

    def real(self) -> Iterator[Path]:
        """The file of each picture, links followed."""
        return (self._units[name].path.resolve() for name in self.names)

    def in_colour(self, run: Run) -> bool:
        """Whether at least one of the pictures is in colour; they are read until one is. Raises ChannelAborted."""
        for name in self.names:
            run.raise_if_stopped()
            with suppress(MediaError):
                if self.frame(name).chroma is not None:
                    return True
        return False


def luma_of(frame: Frame) -> NDArray[np.uint8]:
    """The luma (H, W) of a picture, upright, in 8 bits."""
    media = frame.unit.media
    return _codes(upright(frame.luma, media.orientation).astype(np.float32) / media.levels[1])


def rgb_of(frame: Frame) -> NDArray[np.uint8]:
    """RGB (H, W, 3) of a picture, upright, in 8 bits, as decoders give it: what leaves the gamut is cut off in each channel."""
    media = frame.unit.media
    luma = upright(frame.luma, media.orientation).astype(np.float32) / media.levels[1]
    if frame.chroma is None:
        return np.repeat(luma_of(frame)[..., None], 3, axis=2)
    cb, cr = upright(frame.chroma, media.orientation).astype(np.float32)
    weights = WEIGHTS[media.matrix]
    red, blue = RED_SCALE * cr, BLUE_SCALE * cb
    green = (weights.red * red + weights.blue * blue) / -weights.green
    return _codes(np.stack([luma + red, luma + green, luma + blue], axis=2))


def _codes(plane: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A plane in 0..1, rounded to 8 bits."""
    return np.asarray(np.rint(255 * plane.clip(0, 1)), np.uint8)
