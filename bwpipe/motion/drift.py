"""Drift: how far a film's chroma wanders within a shot where nothing moves."""

from typing import Literal, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import FlowField
from bwpipe.pixels.resize import fit_short_side, squash

SHORT = 120
"""Cells along the short side of the grid on which drift is measured."""
STEP = 6
"""Every how many frames of a shot are compared: drift is slow, and a frame that is not compared costs next to nothing."""
Gap: TypeAlias = Literal[12, 48, "half"]
GAPS: tuple[Gap, ...] = (12, 48, "half")
"""How far apart, in frames, the frames are that are compared; "half" stands for half of the shot."""
_PARTS = 4
"""At each quarter of the gap, luma must be as it was at first."""
_LUMA = 0.02
"""Difference of luma, of its range, up to which a cell holds still."""
_SIGMA = 2.0
"""Blur of luma before it is compared, in cells: grain does not count as motion."""
_SHIFT = 1.0
"""Flow from frame to frame, in cells, up to which a cell holds still: more than old film weaves."""
_KEPT = 48
"""Frames kept of a shot to compare those half of it apart; every second one is dropped when there would be more."""


class Drift(NamedTuple):
    """Changes of chroma at cells that hold still, to be added up over frames.

    Attributes:
        change: The sum of the lengths of the changes, over cells and pairs of frames, in units of chroma (0..1).
        length: The sum of the chroma's lengths there, averaged over the two frames.
        cells: The number of cells.
    """

    change: float = 0.0
    length: float = 0.0
    cells: int = 0

    def plus(self, other: "Drift") -> "Drift":
        """The sum."""
        return Drift(self.change + other.change, self.length + other.length, self.cells + other.cells)

    @property
    def share(self) -> float | None:
        """The mean change relative to the mean length of chroma; None where nothing holds still or is in colour."""
        return self.change / self.length if self.length else None

    @property
    def mean(self) -> float | None:
        """The mean change, in units of chroma; None where nothing holds still."""
        return self.change / self.cells if self.cells else None


class _Sample(NamedTuple):
    """A frame to compare.

    Attributes:
        place: Its place in the shot.
        luma: (h, w) its blurred luma, 0..1.
        chroma: (h, w, 2).
        moved: (h, w) the place of the last frame, up to this one, at which a cell moved; -1 if none.
    """

    place: int
    luma: NDArray[np.float32]
    chroma: NDArray[np.float32]
    moved: NDArray[np.int32]


class DriftMeter:
    """Measures the drift of one shot after another, in bounded memory."""

    def __init__(self, step: int = STEP) -> None:
        """Create the meter.

        Args:
            step: Every how many frames of a shot are compared; a divisor of 12.
        """
        self._step = step
        self._place = 0
        self._stride = step
        self._recent: list[_Sample] = []
        self._kept: list[_Sample] = []
        self._moved: NDArray[np.int32] | None = None

    def begin(self) -> Drift:
        """Begin a shot; returns the drift of the one that ends, over half of it."""
        first, last = (self._kept[0].place, self._kept[-1].place) if self._kept else (0, 0)
        gap = (last - first) // 2 // self._stride * self._stride
        total = Drift()
        if gap:
            at = {sample.place: sample for sample in self._kept}
            for place, sample in at.items():
                if place + gap in at:
                    between = [at[each] for each in range(place, place + gap + 1, self._stride)]
                    total = total.plus(self._compared(sample, between[1:]))
        self._place, self._stride, self._moved = 0, self._step, None
        self._recent.clear()
        self._kept.clear()
        return total

    def add(self, luma: NDArray[np.uint8], chroma: NDArray[np.float32] | None, back: FlowField | None) -> dict[Gap, Drift]:
        """Add the next frame of the shot.

        Args:
            luma: (H, W) full range, on any grid.
            chroma: (h, w, 2) Cb and Cr in -0.5..0.5, on any grid; None for a frame without colour.
            back: The flow to the previous frame, on any grid, in its cells; None at the start of a shot or if it is not known.

        Returns:
            The drift between this frame and those 12 and 48 before it, of frames that are compared.
        """
        size = fit_short_side(luma.shape, SHORT)
        if self._moved is None or self._moved.shape != size:
            self._moved = np.full(size, -1, np.int32)
        if back is not None:
            fast = np.hypot(back[..., 0], back[..., 1]) * np.float32(size[1] / back.shape[1]) > _SHIFT
            if fast.any():
                self._moved[squash(fast.astype(np.uint8), *size) > 0] = self._place
        found: dict[Gap, Drift] = {}
        if self._place % self._step == 0 and chroma is not None:
            unit = squash(luma, *size).astype(np.float32) / np.float32(255)
            blurred = np.asarray(cv2.GaussianBlur(unit, (0, 0), _SIGMA), np.float32)
            sample = _Sample(self._place, blurred, squash(chroma, *size), self._moved.copy())
            recent = {each.place: each for each in (*self._recent, sample)}
            for gap in GAPS:
                if gap == "half" or self._place - gap not in recent:
                    continue
                quarter = gap // _PARTS
                places = [place for place in range(self._place - gap + quarter, self._place + 1, quarter) if place in recent]
                found[gap] = self._compared(recent[self._place - gap], [recent[place] for place in places])
            self._recent = [each for each in (*self._recent, sample) if each.place > self._place - 48]
            self._keep(sample)
        self._place += 1
        return found

    def _keep(self, sample: _Sample) -> None:
        """Keep a sample for the comparison over half of the shot, if its place is due."""
        if sample.place % self._stride:
            return
        self._kept.append(sample)
        if len(self._kept) > _KEPT:
            self._stride *= 2
            self._kept = [each for each in self._kept if each.place % self._stride == 0]

    @staticmethod
    def _compared(first: _Sample, others: list[_Sample]) -> Drift:
        """The drift from one sample to the last of others, where all of them show the same luma and nothing moved since."""
        last = others[-1]
        still = last.moved <= first.place
        for other in others:
            still &= np.abs(other.luma - first.luma) < _LUMA
        cells = int(np.count_nonzero(still))
        if not cells:
            return Drift()
        difference = last.chroma - first.chroma
        mask = still.view(np.uint8)
        change = cv2.mean(np.hypot(difference[..., 0], difference[..., 1]), mask)[0]
        lengths = [cv2.mean(np.hypot(each.chroma[..., 0], each.chroma[..., 1]), mask)[0] for each in (first, last)]
        return Drift(change * cells, sum(lengths) / 2 * cells, cells)
