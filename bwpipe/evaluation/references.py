"""Reference images, found and read as by the `read` stage and resized to the size at which they are scored."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.context import RunContext
from bwpipe.core.frame import Broken, Frame, Skipped, Unit
from bwpipe.core.inputs import expand_user
from bwpipe.core.stage import Source, stages
from bwpipe.data.dataset import Dataset
from bwpipe.errors import MediaError, UsageError
from bwpipe.pixels.orientation import upright
from bwpipe.pixels.resize import squash
from bwpipe.pixels.ycbcr import WEIGHTS, offsets

P = TypeVar("P", bound=NDArray[Any])


@dataclass(frozen=True, slots=True)
class Sizing:
    """Cropping and resizing applied to all images first.

    Attributes:
        size: Height and width to which they are squashed; None to keep their size.
        crop: Whether the largest central square is cut out first.
    """

    size: int | None = None
    crop: bool = False

    def __call__(self, plane: P) -> P:
        """Crop and resize a plane (H, W) or (H, W, C)."""
        result: Any = plane
        if self.crop:
            height, width = plane.shape[:2]
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            result = plane[top : top + side, left : left + side]
        return cast(P, squash(result, self.size, self.size) if self.size else result)

    def describe(self) -> dict[str, str]:
        """A human-readable description."""
        return {
            "size": f"squashed to {self.size} x {self.size} pixels" if self.size else "each image's own",
            "crop": "the central square" if self.crop else "none",
        }


class Files:
    """The images and videos under a path.

    Attributes:
        path: The path as given.
        names: Names of the images with a readable header, relative to the folder, such as "people/anna.jpg".
        videos: The videos, by name.
        refused: The files whose header cannot be read.
    """

    def __init__(self, path: str, run: RunContext, *, videos: bool = False) -> None:
        """Find a file, or the files in a folder or of a pattern; unless `videos` is set, videos cause a warning.

        Raises UsageError if there is no file with a readable header.
        """
        if not (has_magic(path) or expand_user(path).exists()):
            raise UsageError(f"there is no file or folder {path}; name another one")
        reader = stages["read"].model_validate({"path": path})
        assert isinstance(reader, Source)
        self.path = path
        self._reader = reader
        self._units: dict[str, Unit] = {}
        self.refused: list[Broken] = []
        self.videos: dict[str, Unit] = {}
        for found in reader.units():
            if isinstance(found, Skipped):
                continue
            if isinstance(found, Broken):
                self.refused.append(found)
            elif found.media.kind == "film" and videos:
                self.videos[str(found.name)] = found
            elif found.media.kind == "film":
                run.warn("this is a film, but only images are scored", found.media)
            else:
                self._units[str(found.name)] = found
        self.names = list(self._units)
        if self.videos:
            return
        if self.refused and not self.names:
            first = self.refused[0]
            raise UsageError(f"none of the images in {path} can be read; {first.name}: {first.error}")
        if not self.names:
            raise UsageError(f"there is no image{' or film' if videos else ''} in {path}; name another folder")

    def unit(self, name: str) -> Unit:
        """The unit of an image."""
        return self._units[name]

    def frame(self, name: str) -> Frame:
        """Read an image. Raises MediaError."""
        (frame,) = self._reader.read(self._units[name], 0)
        return cast(Frame, frame)

    def paths(self) -> Iterator[Path]:
        """The file of each image, symlinks resolved."""
        return (self._units[name].path.resolve() for name in self.names)

    def in_colour(self, run: RunContext) -> bool:
        """Whether any image is in colour; reads images until one is. Raises RunStopped."""
        for name in self.names:
            run.raise_if_stopped()
            with suppress(MediaError):
                if self.frame(name).chroma is not None:
                    return True
        return False


def luma_of(frame: Frame) -> NDArray[np.uint8]:
    """The luma (H, W) of an image, upright, in 8 bits."""
    media = frame.unit.media
    return _to_uint8(upright(frame.luma, media.orientation).astype(np.float32) / media.levels[1])


def rgb_of(frame: Frame) -> NDArray[np.uint8]:
    """RGB (H, W, 3) of an image, upright, in 8 bits, as decoders give it: out-of-gamut values are clipped per channel."""
    media = frame.unit.media
    luma = upright(frame.luma, media.orientation).astype(np.float32) / media.levels[1]
    if frame.chroma is None:
        return np.repeat(luma_of(frame)[..., None], 3, axis=2)
    chroma = upright(frame.chroma, media.orientation).astype(np.float32)
    return _to_uint8(np.stack([luma + offset for offset in offsets(chroma, WEIGHTS[media.matrix])], axis=2))


def _to_uint8(plane: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A plane in 0..1, rounded to 8 bits."""
    return np.asarray(np.rint(255 * plane.clip(0, 1)), np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A reference image in colour.

    Attributes:
        name: Its name relative to the folder, such as "people/anna.jpg".
        luma: (H, W) uint8, the input of a network.
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
    """Reference images that can be read by name, from several threads and repeatedly."""

    names: list[str]

    @property
    def refused(self) -> Sequence[Broken]:
        """Further files, known from their header to be unreadable."""

    def read(self, name: str) -> Reference | None:
        """Read a reference; None if it has no colour. Raises MediaError."""

    def unit(self, name: str) -> Unit | Broken:
        """The unit to report as failed if the image cannot be scored."""

    def describe(self) -> dict[str, str | int]:
        """A human-readable description."""


class Photographs:
    """Reference images in files."""

    def __init__(
        self,
        files: Files,
        sizing: Sizing,
        run: RunContext,
        names: list[str] | None = None,
        refused: Sequence[Broken] | None = None,
    ) -> None:
        """Use some files, or a selection of them.

        Args:
            files: The files.
            sizing: Applied to each image.
            run: Receives what is left out.
            names: The selection; all by default.
            refused: The unreadable files; those of `files` by default.
        """
        self.names = files.names if names is None else names
        self.refused = files.refused if refused is None else refused
        self.unit = files.unit
        self._files, self._sizing, self._run = files, sizing, run

    def read(self, name: str) -> Reference | None:
        """Read a reference; None if it is in black and white. Raises MediaError."""
        frame = self._files.frame(name)
        if frame.chroma is None:
            self._run.exclude(frame.unit.media, "in black and white, so there is no reference colour")
            return None
        return Reference(name, self._sizing(luma_of(frame)), self._sizing(rgb_of(frame)))

    def describe(self) -> dict[str, str | int]:
        """A human-readable description."""
        rgb = "in 8 bits, within 1 code value of a PNG's pixels, since images are read as luma and chroma"
        return {"set": self._files.path, "rgb": rgb, **self._sizing.describe()}


class Validation:
    """The validation images of a dataset as references."""

    refused: Sequence[Broken] = ()

    def __init__(self, data: Dataset, sizing: Sizing) -> None:
        """Use the validation images of a dataset; `sizing` is applied to them."""
        self._data, self._sizing = data, sizing
        self._indices = {data.names[index]: index for index in data.validation.tolist()}
        self.names = list(self._indices)

    def read(self, name: str) -> Reference:
        """Read a reference."""
        index = self._indices[name]
        return Reference(name, self._sizing(self._data.grey[index]), self._sizing(self._data.colour[index]))

    def unit(self, name: str) -> Broken:
        """The file that an image was made from."""
        return Broken(Path(name), PurePosixPath(name), "")

    def describe(self) -> dict[str, str | int]:
        """A human-readable description."""
        data, sizing = self._data, self._sizing.describe()
        if not self._sizing.size:
            sizing["size"] = f"{data.size} x {data.size} pixels, as in the dataset"
        return {"set": "the validation images of the dataset", "dataset": data.digest, **sizing}
