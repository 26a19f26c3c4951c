"""The `pairs` stage."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from bwpipe import Count, Frame, Media, NoEffect, RunContext, Unit, UnitMap, stage
from bwpipe.core.frame import Luma
from bwpipe.data.dataset import Pair, checks_of
from bwpipe.data.grayscale_partners import GrayscalePartners, folder_fingerprint
from bwpipe.data.near_duplicates import DuplicateIndex
from bwpipe.pixels.levels import full_range
from bwpipe.pixels.orientation import upright
from bwpipe.pixels.resize import squash
from bwpipe.pixels.tint_detection import has_one_hue
from bwpipe.pixels.ycbcr import ycbcr_to_rgb

P = TypeVar("P", bound=np.generic)

_FILMS = "films"
"""The reason for leaving out films."""


@stage("pairs")
class Pairs(UnitMap):
    """Makes a training pair, grey and colour, of each colour photograph.

    Leaves out, and counts, what is no use for learning colours: photographs in black and white or of one hue, duplicates, and
    films.
    """

    revision: ClassVar[int] = 2

    size: Count = 150
    """Height and width of a pair, in pixels."""
    crop: bool = False
    """Cut out the largest central square instead of squashing the whole photograph into a square."""
    least: Annotated[float, Field(ge=0, lt=0.5)] = 0.01
    """Minimum amount of colour: photographs whose mean length of (Cb, Cr), full range -0.5..0.5, is below this are left out."""
    toned: bool = False
    """Keep photographs of one hue, such as sepia, too."""
    duplicates: bool = False
    """Keep duplicates, including resized or re-encoded ones, too."""
    gray: NoEffect[Path | None] = None
    """A folder of grey photographs to use instead of the luma of the colour photographs, matched by their names relative to the
    folder (extensions may differ). Colour photographs without a grey partner are left out."""
    max_pixels: NoEffect[Count] = 250_000_000
    """Photographs in `gray` with more pixels than this are refused on reading their header."""

    _run: RunContext = PrivateAttr()
    _partners: GrayscalePartners | None = PrivateAttr()
    _unpaired: list[PurePosixPath] = PrivateAttr()
    _seen: DuplicateIndex = PrivateAttr()

    def setup(self, run: RunContext) -> None:
        """List the grey partners, and tell `fit` the size. Raises UsageError if there are none."""
        self._run = run
        run.skip_kind(self, "film", _FILMS)
        self._seen = DuplicateIndex()
        self._unpaired = []
        for each in checks_of(run, self, between=1):  # `dataset`
            each.expect_size(self.size)
        self._partners = GrayscalePartners(self.gray, max_pixels=self.max_pixels) if self.gray else None

    def recipe(self, unit: Unit | None = None) -> dict[str, Any]:
        """The options and a fingerprint of the grey partners, not of their path. Raises UsageError without a folder."""
        return {**super().recipe(unit), "gray": folder_fingerprint(self.gray) if self.gray else None}

    def apply(self, frames: Iterator[Frame]) -> Iterator[Pair]:
        """Yield the pairs of usable photographs. Raises MediaError if a grey partner cannot be read."""
        for frame in frames:
            output = self._exclusion(frame) or self._pair(frame)
            if isinstance(output, Pair):
                yield output
            else:
                self._run.exclude(frame.unit.media, output)

    def finish(self) -> None:
        """Clear the index of duplicates, and warn of photographs without a partner."""
        self._seen = DuplicateIndex()
        if self._partners:
            unmatched = self._partners.others(unit.name for unit in list(self._run.failures))
            warnings = [
                *_listed(self._unpaired, f"without a grey partner in {self.gray}"),
                *_listed(unmatched, f"in {self.gray} without a colour partner"),
            ]
            if warnings:
                self._run.warn("; ".join(warnings))

    def _exclusion(self, frame: Frame) -> str | None:
        """The reason for leaving out a frame; None if there is none."""
        media = frame.unit.media
        if media.kind == "film":
            return _FILMS
        if self._partners and not self._partners.has(media.name):
            self._unpaired.append(media.name)
            return "without a grey partner"
        return "in black and white" if frame.chroma is None else None

    def _pair(self, frame: Frame) -> Pair | str:
        """The pair of a frame with chroma, or the reason for leaving it out."""
        media = frame.unit.media
        assert frame.chroma is not None
        planes = frame.chroma.astype(np.float32)
        chroma = np.stack([self._resized(plane, media) for plane in planes])
        if cv2.magnitude(*chroma).mean() < self.least:
            return "next to no colour"
        if not self.toned and has_one_hue(frame.luma, planes):
            return "of one hue"
        luma = self._full_range_luma(frame)
        grey = self._full_range_luma(self._partners.read(media)) if self._partners else luma
        colour = np.asarray(ycbcr_to_rgb(luma, chroma, media.matrix), np.uint8)
        if not self.duplicates and self._seen.seen_before(colour):
            return "duplicates"
        return Pair(frame.unit, grey, colour)

    def _full_range_luma(self, frame: Frame) -> NDArray[np.uint8]:
        """A frame's luma in full range, (size, size)."""
        media = frame.unit.media
        return full_range(cast(Luma, self._resized(frame.luma, media)), media.levels)

    def _resized(self, plane: NDArray[P], media: Media) -> NDArray[P]:
        """A plane (h, w) on any grid, turned upright and resized to (size, size)."""
        if self.crop:
            plane = _central_square(plane, media.height / media.width)
        return squash(upright(plane, media.orientation), self.size, self.size)


def _central_square(plane: NDArray[P], ratio: float) -> NDArray[P]:
    """The central square of an image whose height is `ratio` of its width, cut from a plane (h, w) on any grid."""
    height, width = plane.shape
    rows, columns = max(1, round(height * min(1, 1 / ratio))), max(1, round(width * min(1, ratio)))
    top, left = (height - rows) // 2, (width - columns) // 2
    return plane[top : top + rows, left : left + columns]


def _listed(names: Sequence[PurePosixPath], what: str) -> Iterator[str]:
    """A line with the number and the names of some images; none if there are none."""
    if names:
        images = "image" if len(names) == 1 else "images"
        yield f"{len(names)} {images} {what}: {', '.join(map(str, names))}"
