"""Temporal filter: averages chroma along the optical flow of a shot and measures its flicker."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import hypot
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import FlowField, Frame, Motion
from bwpipe.motion.optical_flow import forward_backward_error, places, resize_flow, sample
from bwpipe.pixels.resize import fit_short_side, resize_area

MAX_GRID_SIDE = 96
"""Cells along the short side of the finest grid on which chroma is filtered: finer chroma is averaged onto it."""
_ERROR = np.float32(0.5)
"""Squared forward-backward error, in cells, at which the weight falls to 1/e; below it, flow counts as consistent."""
_LUMA = np.float32(24)
"""Difference of luma along the flow, in code values, at which the weight falls to 1/e: grain and lamp flicker are below."""
_PER_ERROR, _PER_LUMA = -1 / _ERROR, -1 / (_LUMA * _LUMA)
_PATCH = (13, 13)
"""Cells over which it is judged whether something rests or moves."""
_RESTING, _UNSURE = np.float32(2), np.float32(4)
"""Luma of a patch, in code values, by which it may fit better along the flow and count as resting as much as moving; and how
gradually that changes: a sharp limit makes chroma flicker."""
_MIN_CONFIDENCE = np.float32(0.05)
_MIN_WEIGHT = np.float32(1e-4)
"""Least weight along the flow where the frame has no chroma of its own to fall back on."""


class _Way(NamedTuple):
    """Where a frame's cells are in another frame of the shot: (h, w, 2) x and y, and (h, w) the squared errors of all steps."""

    places: FlowField
    error: NDArray[np.float32]

    def then(self, way: "_Way") -> "_Way":
        """This way and another one from where it leads."""
        return _Way(sample(way.places, self.places), self.error + sample(way.error, self.places))


class _Seen(NamedTuple):
    """What the network saw and predicted, (h, w) each, and all of it: numpy takes several times as long for (h, w, 4)."""

    cb: NDArray[np.float32]
    cr: NDArray[np.float32]
    luma: NDArray[np.float32]
    confidence: NDArray[np.float32]
    together: NDArray[np.float32]

    @classmethod
    def of(cls, together: NDArray[np.float32]) -> "_Seen":
        """From (h, w, 4): Cb, Cr, luma in code values, confidence."""
        cb, cr, luma, confidence = (np.asarray(plane, np.float32) for plane in cv2.split(together))
        return cls(cb, cr, luma, confidence, together)

    def at(self, places: FlowField) -> "_Seen":
        """The same at other places."""
        return _Seen.of(sample(self.together, places))

    def add(self, sums: NDArray[np.float32], factor: NDArray[np.float32]) -> None:
        """Add the chroma, weighted by a factor (h, w) and the confidence, to sums."""
        weight = factor * self.confidence
        sums[0] += self.cb * weight
        sums[1] += self.cr * weight
        sums[2] += weight


@dataclass(slots=True, eq=False)
class WindowFrame:
    """A frame in the window, with what is computed for it on the grid of the filter (h, w).

    Attributes:
        frame: The frame; None once it was delivered.
        luma: (h, w) float32: luma in code values.
        seen: Input chroma, luma and confidence; None if there is no chroma.
        own: (h, w, 2) the input chroma; None if there is none.
        vivid: The vividness of the input chroma on its original grid; None if there is none.
        back, on: (h, w, 2) the flow to the previous and the next frame; None where the shot begins or ends, and once it is in
            `step_back` or `step_on`.
        step_back, step_on: The ways to these frames, once they are known.
        first, last: Whether the shot begins or ends here, as far as is known.
        consistent: (h, w) where the flow to the previous frame and back agrees; None if nowhere, or if there is no flow.
        sums: (3, h, w) Cb and Cr, multiplied by weights, and the weights, added up so far; None if no mean is needed.
        mean: (h, w, 2) the chroma averaged over nearby frames of the shot.
        input_vividness: The mean vividness of the input chroma of these frames; 0 if none of them has chroma.
        averaged_vividness: The vividness of `mean`.
        output: (h, w, 2) the output chroma.
    """

    frame: Frame | None
    luma: NDArray[np.float32]
    seen: _Seen | None
    own: NDArray[np.float32] | None
    vivid: float | None
    back: FlowField | None
    on: FlowField | None
    step_back: _Way | None = None
    step_on: _Way | None = None
    first: bool = True
    last: bool = True
    consistent: NDArray[np.bool_] | None = None
    sums: NDArray[np.float32] | None = None
    mean: NDArray[np.float32] | None = None
    input_vividness: float = 0.0
    averaged_vividness: float = 0.0
    output: NDArray[np.float32] | None = None

    def release(self) -> None:
        """Free what is only needed until the next frame has its output."""
        self.seen = self.own = self.step_back = self.step_on = self.consistent = self.mean = self.output = None


class Change(NamedTuple):
    """Change from one frame to the next along the flow, in code values: means over where forward and backward flow agree.

    Attributes:
        luma: Of luma.
        own: Of the network's chroma; None if one of the two frames has none.
        mean: Of the averaged chroma.
    """

    luma: float
    own: float | None
    mean: float


def grid(frame: Frame) -> tuple[int, int]:
    """The grid on which a frame with chroma is filtered."""
    assert frame.chroma is not None
    return fit_short_side(frame.chroma.shape[1:], MAX_GRID_SIDE)


def window_frame(frame: Frame, motion: Motion, size: tuple[int, int]) -> WindowFrame:
    """Resample a frame, its chroma and its flow to a grid."""
    small = resize_area(motion.seen, tuple(min(pair) for pair in zip(motion.seen.shape, size, strict=True)))
    luma = np.ascontiguousarray(np.broadcast_to(small, size), np.float32)
    seen = own = vivid = None
    if frame.chroma is not None:
        chroma = np.asarray(cv2.merge([*frame.chroma.astype(np.float32)]))
        vivid = vividness(chroma)
        own = resize_area(chroma, size)
        confidence = np.ones(size, np.float32)
        if frame.confidence is not None:
            confidence = resize_area(frame.confidence.astype(np.float32), size)
        seen = _Seen.of(np.asarray(cv2.merge([own, luma, np.maximum(confidence, _MIN_CONFIDENCE)])))
    back, on = (None if field is None else resize_flow(field, size) for field in (motion.back, motion.on))
    return WindowFrame(frame, luma, seen, own, vivid, back, on)


def join(before: WindowFrame, after: WindowFrame) -> None:
    """Compute the forward-backward errors between two consecutive frames, if they belong to one shot."""
    if before.on is not None and after.back is not None:
        before.step_on = _Way(places(before.on), forward_backward_error(before.on, after.back))
        after.step_back = _Way(places(after.back), forward_backward_error(after.back, before.on))
        before.on = after.back = None
        before.last = after.first = False
        consistent = after.step_back.error < _ERROR
        after.consistent = consistent if consistent.any() else None


class _Path(NamedTuple):
    """The way from a frame to one with chroma, several steps away."""

    to: _Seen
    steps: int
    way: _Way


class MovingAverage:
    """Averages the chroma of each frame over the frames of its shot up to `window` away, as they come.

    Each frame is warped along the flow and weighted by its distance in time, the forward-backward error of every step, the
    difference of luma, and the network's confidence. The way to a frame several steps away is one step, and the neighbour's
    way from where that leads: so no path is followed to its end again for each frame.
    """

    def __init__(self, window: int, *, resting: bool = False) -> None:
        """Begin a film.

        Args:
            window: The most frames before and after a frame.
            resting: Whether to take each frame unwarped as well, as much as luma says that nothing moves: over many steps
                flow creeps, most of all near edges and near what moves, and carries their chroma into what rests. It matters
                where few frames have chroma, as then the nearest are some steps away.
        """
        self._window = window
        self._resting = resting
        self._behind = list[_Path]()

    def add(self, row: Sequence[WindowFrame], *, needed: bool = True) -> None:
        """Take in the last frame of a row, joined with the one before, whose mean is `needed` or not."""
        here = row[-1]
        if needed:
            here.sums = np.zeros((3, *here.luma.shape), np.float32)
            if here.seen:
                here.seen.add(here.sums, np.ones_like(here.luma))
        self._behind = [] if here.step_back is None else self._from(here.step_back, row[-2])
        for path in self._behind:
            self._add(here, path)
        if here.seen:
            for path in self._ahead(row, here.seen):
                self._add(row[-1 - path.steps], path)

    def _from(self, step: _Way, before: WindowFrame) -> list[_Path]:
        """The paths from a frame to those behind it, from those of the frame before."""
        paths = [_Path(to, steps + 1, step.then(way)) for to, steps, way in self._behind if steps < self._window]
        return [*paths, _Path(before.seen, 1, step)] if before.seen else paths

    def _ahead(self, row: Sequence[WindowFrame], seen: _Seen) -> Iterator[_Path]:
        """The paths from the frames before the last one of a row to what was seen there, from the nearest on."""
        way = None
        for steps in range(1, min(self._window, len(row) - 1) + 1):
            step = row[-1 - steps].step_on
            if step is None:
                return
            way = step.then(way) if way else step
            yield _Path(seen, steps, way)

    def _add(self, here: WindowFrame, path: _Path) -> None:
        """Add a frame with chroma to the sums of another."""
        if here.sums is None:
            return
        moved = path.to.at(path.way.places)
        difference = moved.luma - here.luma
        nearness = np.float32(1 - path.steps / (self._window + 1))
        factor = np.exp(difference * difference * _PER_LUMA + path.way.error * _PER_ERROR)
        if here.seen is None:
            factor += _MIN_WEIGHT
        factor *= nearness
        if self._resting:
            in_place = path.to.luma - here.luma
            rests = _rests(in_place, difference)
            path.to.add(here.sums, np.exp(in_place * in_place * _PER_LUMA) * (rests * nearness))
            factor *= 1 - rests
        moved.add(here.sums, factor)


def mean(here: WindowFrame) -> NDArray[np.float32]:
    """The chroma (h, w, 2) of a frame averaged over what was added to its sums."""
    assert here.sums is not None
    cb, cr, weight = here.sums
    weight = np.maximum(weight, np.finfo(np.float32).tiny)
    return np.asarray(cv2.merge([cb / weight, cr / weight]))


def _rests(in_place: NDArray[np.float32], moved: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far each cell seems to rest, 0..1, by the differences of luma from another frame in place and along the flow."""
    worse = cv2.boxFilter(np.abs(in_place) - np.abs(moved), -1, _PATCH)
    return np.asarray(1 / (1 + np.exp((worse - _RESTING) / _UNSURE)), np.float32)


def input_vividness(row: Sequence[WindowFrame], at: int, window: int) -> float:
    """Mean vividness of the input chroma that `mean` averages, weighted by distance in time.

    The vividness of the frame's own chroma would not do: it varies from frame to frame, and following it causes flicker.
    """
    total = weight = 0.0
    for step in (-1, 1):
        place = at
        while abs(place - at) <= window:
            vivid, factor = row[place].vivid, 1 - abs(place - at) / (window + 1)
            if vivid is not None:
                total, weight = total + factor * vivid, weight + factor
            if (row[place].first if step < 0 else row[place].last) or not 0 <= place + step < len(row):
                break
            place += step
    return total / weight if weight else 0.0


def change(before: WindowFrame, after: WindowFrame) -> Change | None:
    """Change between two consecutive frames whose means are known; None if a shot begins in between."""
    if after.step_back is None or after.consistent is None or before.mean is None or after.mean is None:
        return None
    coordinates = after.step_back.places
    luma = _average(np.abs(sample(before.luma, coordinates) - after.luma), after.consistent)
    own = None
    if before.own is not None and after.own is not None:
        own = chroma_change(sample(before.own, coordinates) - after.own, after.consistent)
    return Change(luma, own, chroma_change(sample(before.mean, coordinates) - after.mean, after.consistent))


def output_change(before: WindowFrame, after: WindowFrame) -> float | None:
    """Change of the output chroma between two consecutive frames; None where `change` is None."""
    if before.output is None or after.output is None or after.step_back is None or after.consistent is None:
        return None
    return chroma_change(sample(before.output, after.step_back.places) - after.output, after.consistent)


def chroma_change(difference: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Mean length, in code values, of chroma differences (h, w, 2) over a mask."""
    cb, cr = difference[..., 0], difference[..., 1]
    return 255 * _average(np.sqrt(cb * cb + cr * cr), mask)


def _average(plane: NDArray[Any], mask: NDArray[np.bool_]) -> float:
    """Mean of a plane (h, w) over a mask, by OpenCV: numpy takes ten times as long to select the cells."""
    return cv2.mean(plane, mask.view(np.uint8))[0]


def vividness(chroma: NDArray[np.float32]) -> float:
    """Vividness of chroma (h, w, 2): its spread, plus 0.3 times the length of its mean.

    After Hasler and Suesstrunk 2003, who take red - green and yellow - blue. By the mean length of chroma, an average of
    patches that come and go would be made too vivid: 3 % more colourful than the network on a film of 1922.
    """
    mean, spread = (each.ravel().tolist() for each in cv2.meanStdDev(chroma))
    return hypot(*spread) + 0.3 * hypot(*mean)
