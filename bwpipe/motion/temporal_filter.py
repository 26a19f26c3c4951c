"""Temporal filter: averages chroma along the optical flow of a shot and measures its flicker."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import hypot
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import FlowField, Frame, Motion
from bwpipe.motion.optical_flow import forward_backward_error, places, resize_flow, sample, warp
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


@dataclass(slots=True, eq=False)
class WindowFrame:
    """A frame in the window, with what is computed for it on the grid of the filter (h, w).

    Attributes:
        frame: The frame; None once it was delivered.
        planes: (h, w, 4) float32: input Cb and Cr, or 0; luma in code values; confidence, 0 where there is no chroma.
        own: (h, w, 2) the input chroma; None if there is none.
        vivid: The vividness of the input chroma on its original grid; None if there is none.
        back, on: (h, w, 2) the flow to the previous and the next frame; None where the shot begins or ends.
        error_back, error_on: (h, w) their squared forward-backward errors, in cells; None until the neighbour is known.
        consistent: (h, w) where the flow to the previous frame and back agrees; None if nowhere, or if there is no flow.
        mean: (h, w, 2) the chroma averaged over nearby frames of the shot.
        input_vividness: The mean vividness of the input chroma of these frames; 0 if none of them has chroma.
        averaged_vividness: The vividness of `mean`.
        output: (h, w, 2) the output chroma.
    """

    frame: Frame | None
    planes: NDArray[np.float32]
    own: NDArray[np.float32] | None
    vivid: float | None
    back: FlowField | None
    on: FlowField | None
    error_back: NDArray[np.float32] | None = None
    error_on: NDArray[np.float32] | None = None
    consistent: NDArray[np.bool_] | None = None
    mean: NDArray[np.float32] | None = None
    input_vividness: float = 0.0
    averaged_vividness: float = 0.0
    output: NDArray[np.float32] | None = None


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
    planes = np.zeros((*size, 4), np.float32)
    own = vivid = None
    if frame.chroma is not None:
        chroma = np.asarray(cv2.merge([*frame.chroma.astype(np.float32)]))
        vivid = vividness(chroma)
        own = resize_area(chroma, size)
        planes[..., 0], planes[..., 1] = own[..., 0], own[..., 1]
        confidence = 1 if frame.confidence is None else resize_area(frame.confidence.astype(np.float32), size)
        planes[..., 3] = np.maximum(confidence, _MIN_CONFIDENCE)
    planes[..., 2] = resize_area(motion.seen, tuple(min(pair) for pair in zip(motion.seen.shape, size, strict=True)))
    back, on = (None if field is None else resize_flow(field, size) for field in (motion.back, motion.on))
    return WindowFrame(frame, planes, own, vivid, back, on)


def join(before: WindowFrame, after: WindowFrame) -> None:
    """Compute the forward-backward errors between two consecutive frames, if they belong to one shot."""
    if before.on is not None and after.back is not None:
        before.error_on, after.error_back = (
            forward_backward_error(before.on, after.back),
            forward_backward_error(after.back, before.on),
        )
        consistent = after.error_back < _ERROR
        after.consistent = consistent if consistent.any() else None


def mean(row: Sequence[WindowFrame], at: int, window: int, *, resting: bool = False) -> NDArray[np.float32]:
    """The chroma (h, w, 2) of the frame at an index of a row, averaged over the frames of its shot up to `window` away.

    Each frame is warped along the flow and weighted by its distance in time, the forward-backward error of every step, the
    difference of luma, and the network's confidence.

    Args:
        row: Consecutive frames.
        at: The index.
        window: The most frames before and after it.
        resting: Whether to take each frame unwarped as well, as much as luma says that nothing moves: over many steps flow
            creeps, most of all near edges and near what moves, and carries their chroma into what rests. It matters where few
            frames have chroma, as then the nearest are some steps away.
    """
    # Cb and Cr are summed separately: numpy takes ten times as long for (h, w, 2) times (h, w, 1)
    here = row[at]
    luma, weight = here.planes[..., 2], here.planes[..., 3].copy()
    cb, cr = here.planes[..., 0] * weight, here.planes[..., 1] * weight

    def add(planes: NDArray[np.float32], factor: NDArray[np.float32]) -> None:
        nonlocal cb, cr, weight
        factor *= planes[..., 3]
        cb += planes[..., 0] * factor
        cr += planes[..., 1] * factor
        weight += factor

    for away, place, planes, error in _neighbours(row, at, window):
        difference = planes[..., 2] - luma
        nearness = np.float32(1 - away / (window + 1))
        factor = np.exp(difference * difference * _PER_LUMA + error * _PER_ERROR)
        if here.own is None:
            factor += _MIN_WEIGHT
        factor *= nearness
        if resting:
            unmoved = row[place].planes
            in_place = unmoved[..., 2] - luma
            rests = _rests(in_place, difference)
            add(unmoved, np.exp(in_place * in_place * _PER_LUMA) * (rests * nearness))
            factor *= 1 - rests
        add(planes, factor)
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
            if (row[place].back if step < 0 else row[place].on) is None or not 0 <= place + step < len(row):
                break
            place += step
    return total / weight if weight else 0.0


def _neighbours(
    row: Sequence[WindowFrame], at: int, window: int
) -> Iterator[tuple[int, int, NDArray[np.float32], NDArray[np.float32]]]:
    """For each nearby frame with chroma: distance, index, its planes warped to this frame, and the accumulated flow error."""
    for step in (-1, 1):
        so_far: tuple[FlowField, NDArray[np.float32], FlowField] | None = None
        for place in range(at + step, _farthest(row, at, step, window) + step, step):
            nearer = row[place - step]
            flow, error = (nearer.back, nearer.error_back) if step < 0 else (nearer.on, nearer.error_on)
            assert flow is not None
            assert error is not None
            if so_far:
                before, error_before, coordinates = so_far
                flow, error = before + sample(flow, coordinates), error_before + sample(error, coordinates)
            coordinates = places(flow)
            so_far = flow, error, coordinates
            if row[place].own is not None:
                yield abs(place - at), place, sample(row[place].planes, coordinates), error


def _farthest(row: Sequence[WindowFrame], at: int, step: int, window: int) -> int:
    """The index of the farthest frame of the shot with chroma, after (`step` is 1) or before (-1) a frame; else its own."""
    farthest = at
    for place in range(at + step, at + step * (window + 1), step):
        nearer = row[place - step]
        if not 0 <= place < len(row) or (nearer.error_back if step < 0 else nearer.error_on) is None:
            break
        if row[place].own is not None:
            farthest = place
    return farthest


def change(before: WindowFrame, after: WindowFrame) -> Change | None:
    """Change between two consecutive frames whose means are known; None if a shot begins in between."""
    if after.back is None or after.consistent is None or before.mean is None or after.mean is None:
        return None
    coordinates = places(after.back)
    difference = sample(before.planes, coordinates) - after.planes
    luma = _average(np.abs(difference[..., 2]), after.consistent)
    own = None if before.own is None or after.own is None else chroma_change(difference, after.consistent)
    return Change(luma, own, chroma_change(sample(before.mean, coordinates) - after.mean, after.consistent))


def output_change(before: WindowFrame, after: WindowFrame) -> float | None:
    """Change of the output chroma between two consecutive frames; None where `change` is None."""
    if before.output is None or after.output is None or after.back is None or after.consistent is None:
        return None
    return chroma_change(warp(before.output, after.back) - after.output, after.consistent)


def chroma_change(difference: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Mean length, in code values, of chroma differences, the first two planes of (h, w, C), over a mask."""
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
