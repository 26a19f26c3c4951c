"""The `pairs` stage."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from bwpipe import Count, Frame, Media, NoEffect, RunContext, UnitMap, stage
from bwpipe.core.frame import Luma
from bwpipe.data.dataset import Pair
from bwpipe.data.grayscale_partners import GrayscalePartners, folder_fingerprint
from bwpipe.data.near_duplicates import DuplicateIndex
from bwpipe.pixels.levels import full_range
from bwpipe.pixels.orientation import upright
from bwpipe.pixels.resize import squash
from bwpipe.pixels.tint_detection import has_one_hue
from bwpipe.pixels.ycbcr import ycbcr_to_rgb

P = TypeVar("P", bound=np.generic)

_FILMS = "films"
"""Why a film is left out."""


@stage("pairs")
class Pairs(UnitMap):
    """Makes a pair, grey and colour, of each colour photograph.

    Leaves out, and counts, what colour can't be learnt from: pictures in black and white or of one hue, photographs that come
    again, and films.
    """

    revision: ClassVar[int] = 2

    size: Count = 150
    """Height and width of a pair, in pixels."""
    crop: bool = False
    """Cut out the largest square in the middle, instead of squashing all of the picture into one."""
    least: Annotated[float, Field(ge=0, lt=0.5)] = 0.01
    """The least colour: a picture is left out if the mean length of its (Cb, Cr), full range -0.5..0.5, is below this."""
    toned: bool = False
    """Keep pictures of one hue, too, such as sepia."""
    duplicates: bool = False
    """Keep a photograph that comes again, too, be it smaller or compressed anew."""
    gray: NoEffect[Path | None] = None
    """A folder of grey pictures, each named like its colour picture in the folder that is read (endings may differ), and used
    instead of that one's luma. Colour pictures without such a partner are left out."""
    max_pixels: NoEffect[Count] = 250_000_000
    """Grey pictures in `gray` with more pixels than this are refused by their header."""

    _run: RunContext = PrivateAttr()
    _partners: GrayscalePartners | None = PrivateAttr()
    _alone: list[PurePosixPath] = PrivateAttr()
    _seen: DuplicateIndex = PrivateAttr()

    def setup(self, run: RunContext) -> None:
        """List the grey pictures. Raises UsageError where there are none."""
        self._run = run
        run.skip_kind(self, "film", _FILMS)
        self._seen = DuplicateIndex()
        self._alone = []
        self._partners = GrayscalePartners(self.gray, max_pixels=self.max_pixels) if self.gray else None

    def recipe(self) -> dict[str, Any]:
        """What its results depend on: also the grey pictures, wherever they are. Raises UsageError where there is no folder."""
        return {**super().recipe(), "gray": folder_fingerprint(self.gray) if self.gray else None}

    def apply(self, frames: Iterator[Frame]) -> Iterator[Pair]:
        """The pair of a picture that colour can be learnt from. Raises MediaError where its grey partner can't be read."""
        for frame in frames:
            made = self._unfit(frame) or self._pair(frame)
            if isinstance(made, Pair):
                yield made
            else:
                self._run.exclude(frame.unit.media, made)

    def finish(self) -> None:
        """Forget the pictures that came, and tell which have no partner."""
        self._seen = DuplicateIndex()
        if self._partners:
            strangers = self._partners.others(unit.name for unit in list(self._run.failures))
            told = [
                *_told(self._alone, f"without a grey partner in {self.gray}"),
                *_told(strangers, f"in {self.gray} without a colour partner"),
            ]
            if told:
                self._run.warn("; ".join(told))

    def _unfit(self, frame: Frame) -> str | None:
        """Why there can be no pair of a frame; None if there can."""
        media = frame.unit.media
        if media.kind == "film":
            return _FILMS
        if self._partners and not self._partners.has(media.name):
            self._alone.append(media.name)
            return "without a grey partner"
        return "in black and white" if frame.chroma is None else None

    def _pair(self, frame: Frame) -> Pair | str:
        """The pair of a frame with chroma, or why there is none."""
        media = frame.unit.media
        assert frame.chroma is not None
        planes = frame.chroma.astype(np.float32)
        chroma = np.stack([self._sized(plane, media) for plane in planes])
        if cv2.magnitude(*chroma).mean() < self.least:
            return "next to no colour"
        if not self.toned and has_one_hue(frame.luma, planes):
            return "of one hue"
        luma = self._grey(frame)
        grey = self._grey(self._partners.read(media)) if self._partners else luma
        colour = np.asarray(ycbcr_to_rgb(luma, chroma, media.matrix), np.uint8)
        if not self.duplicates and self._seen.again(colour):
            return "seen before"
        return Pair(frame.unit, grey, colour)

    def _grey(self, frame: Frame) -> NDArray[np.uint8]:
        """A frame's luma in full range, (size, size)."""
        media = frame.unit.media
        return full_range(cast(Luma, self._sized(frame.luma, media)), media.levels)

    def _sized(self, plane: NDArray[P], media: Media) -> NDArray[P]:
        """A plane (h, w), of any grid, of a picture: upright, (size, size)."""
        if self.crop:
            plane = _middle(plane, media.height / media.width)
        return squash(upright(plane, media.orientation), self.size, self.size)


def _middle(plane: NDArray[P], ratio: float) -> NDArray[P]:
    """The middle square of a picture whose height is `ratio` of its width, on the grid (h, w) of a plane."""
    height, width = plane.shape
    rows, columns = max(1, round(height * min(1, 1 / ratio))), max(1, round(width * min(1, ratio)))
    top, left = (height - rows) // 2, (width - columns) // 2
    return plane[top : top + rows, left : left + columns]


def _told(names: Sequence[PurePosixPath], what: str) -> Iterator[str]:
    """That so many pictures are this, and which; nothing if there are none."""
    if names:
        pictures = "picture" if len(names) == 1 else "pictures"
        yield f"{len(names)} {pictures} {what}: {', '.join(map(str, names))}"
