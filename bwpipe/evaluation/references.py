"""Pictures in files, found and read as the `read` stage does, and brought to the size that a score is made at."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.context import RunContext
from bwpipe.core.frame import Broken, Frame, Unit
from bwpipe.core.stage import Source, stages
from bwpipe.data.dataset import Dataset
from bwpipe.errors import MediaError, UsageError
from bwpipe.pixels.orientation import upright
from bwpipe.pixels.resize import squash
from bwpipe.pixels.ycbcr import BLUE_SCALE, RED_SCALE, WEIGHTS

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

    def describe(self) -> dict[str, str]:
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

    def __init__(self, path: str, run: RunContext, *, films: bool = False) -> None:
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

    def in_colour(self, run: RunContext) -> bool:
        """Whether at least one of the pictures is in colour; they are read until one is. Raises RunStopped."""
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


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A photograph in colour.

    Attributes:
        name: Its place below the folder, such as "people/anna.jpg".
        luma: (H, W) uint8, what a network is shown.
        rgb: (H, W, 3) uint8.
    """

    name: str
    luma: NDArray[np.uint8]
    rgb: NDArray[np.uint8]

    @property
    def grey(self) -> NDArray[np.uint8]:
        """The luma as RGB (H, W, 3)."""
        return np.repeat(self.luma[..., None], 3, axis=2)


class References(Protocol):
    """Photographs that can be read by name, in several threads, more than once."""

    names: list[str]

    @property
    def refused(self) -> Sequence[Broken]:
        """Further ones, whose header already says that they can't be read."""

    def read(self, name: str) -> Reference | None:
        """The photograph of that name; None where it has no colour. Raises MediaError."""

    def unit(self, name: str) -> Unit | Broken:
        """What fails where it can't be scored."""

    def describe(self) -> dict[str, str | int]:
        """What they are, for people."""


class Photographs:
    """Pictures in colour, in files."""

    def __init__(
        self,
        files: Files,
        sizing: Sizing,
        run: RunContext,
        names: list[str] | None = None,
        refused: Sequence[Broken] | None = None,
    ) -> None:
        """Those of some files, or these of them.

        Args:
            files: The files.
            sizing: What is done to each.
            run: Notes what is left out.
            names: The ones that are meant, if not all.
            refused: What can't be read, if that is not only the files' own.
        """
        self.names = files.names if names is None else names
        self.refused = files.refused if refused is None else refused
        self.unit = files.unit
        self._files, self._sizing, self._run = files, sizing, run

    def read(self, name: str) -> Reference | None:
        """The photograph of that name; None where it is in black and white. Raises MediaError."""
        frame = self._files.frame(name)
        if frame.chroma is None:
            self._run.exclude(frame.unit.media, "in black and white, so nothing to compare with")
            return None
        return Reference(name, self._sizing(luma_of(frame)), self._sizing(rgb_of(frame)))

    def describe(self) -> dict[str, str | int]:
        """What they are."""
        rgb = "in 8 bits, within 1 of what a PNG stores, since pictures are read as luma and chroma"
        return {"set": self._files.path, "rgb": rgb, **self._sizing.describe()}


class Validation:
    """The pictures of a dataset that are not trained on."""

    refused: Sequence[Broken] = ()

    def __init__(self, data: Dataset, sizing: Sizing) -> None:
        """Those of a dataset, whose size they have before the sizing."""
        self._data, self._sizing = data, sizing
        self._places = {data.names[place]: place for place in data.validation.tolist()}
        self.names = list(self._places)

    def read(self, name: str) -> Reference:
        """The photograph of that name."""
        place = self._places[name]
        return Reference(name, self._sizing(self._data.grey[place]), self._sizing(self._data.colour[place]))

    def unit(self, name: str) -> Broken:
        """The file that it was made of."""
        return Broken(Path(name), PurePosixPath(name), "")

    def describe(self) -> dict[str, str | int]:
        """What they are."""
        data, sizing = self._data, self._sizing.describe()
        if not self._sizing.size:
            sizing["size"] = f"{data.size} x {data.size} pixels, as in the dataset"
        return {"set": "the pictures of the dataset that were not trained on", "dataset": data.digest, **sizing}
