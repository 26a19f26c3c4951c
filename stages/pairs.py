"""The `pairs` stage."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field, PrivateAttr

from bwpipe import Count, End, Frame, Run, Stage, stage
from bwpipe.color import to_rgb
from bwpipe.orientation import upright
from bwpipe.training import Pair
from bwpipe.view import squash, view


@stage("pairs")
class Pairs(Stage):
    """Makes a pair, grey and colour, of each colour picture; leaves out, and counts, those in black and white."""

    size: Count = 150
    """Height and width in pixels, to which every picture is squashed."""
    least: Annotated[float, Field(ge=0, lt=0.5)] = 0.01
    """The least colour: a picture is left out if the mean length of its (Cb, Cr), full range -0.5..0.5, is below this."""

    _run: Run = PrivateAttr()

    def setup(self, run: Run) -> None:
        """Remember whom to tell."""
        self._run = run

    def stream(self, items: Iterator[Frame | End]) -> Iterator[Pair | End]:
        """Make a pair of each frame that is in colour."""
        for item in items:
            if isinstance(item, End):
                yield item
            elif pair := self._pair(item):
                yield pair

    def _pair(self, frame: Frame) -> Pair | None:
        media = frame.unit.media
        if frame.chroma is None:
            self._run.warn("in black and white, so it is left out", media)
            return None
        planes = upright(frame.chroma, media.orientation).transpose(1, 2, 0).astype(np.float32)
        chroma = squash(planes, self.size, self.size)
        if np.hypot(chroma[..., 0], chroma[..., 1]).mean() < self.least:
            self._run.warn("next to no colour, so it is left out", media)
            return None
        grey = np.round(255 * view(replace(frame, guide=None), self.size, self.size)).astype(np.uint8)
        colour = to_rgb(grey, chroma.transpose(2, 0, 1), media.matrix)
        return Pair(frame.unit, grey, colour.astype(np.uint8, copy=False))
