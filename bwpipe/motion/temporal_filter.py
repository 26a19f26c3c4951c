"""Chroma averaged along the motion of a shot, and how much it flickers."""

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

FINEST = 96
"""Cells of the short side of the finest grid on which chroma is steadied: finer chroma is averaged onto it."""
_STRAY = np.float32(0.5)
"""Squared cells by which a way there and back may miss its start until it weighs a third; one that agrees misses by less."""
_LUMA = np.float32(24)
"""Code values by which luma may differ along a way until its weight is a third: grain and flicker of the lamp are below."""
_PER_STRAY, _PER_LUMA = -1 / _STRAY, -1 / (_LUMA * _LUMA)
_LEAST_SURE = np.float32(0.05)
_LAST = np.float32(1e-4)
"""The weight of the worst way, where there is no chroma of the frame's own to fall back on."""


@dataclass(slots=True, eq=False)
class WindowFrame:
    """A frame of a film in a row, and what is computed of it on the grid of its chroma (h, w).

    Attributes:
        frame: The frame.
        planes: (h, w, 4) float32: Cb and Cr as they came, or 0; luma in code values; confidence, 0 where there is no chroma.
        own: (h, w, 2) the chroma as it came; None if it did not.
        vivid: The vividness of the chroma as it came, on the grid it came on; None if it did not.
        back, on: (h, w, 2) the motion to the frame before and after; None where the shot begins or ends.
        strayed_back, strayed_on: (h, w) the squared cells by which the way there and the one back miss their start; None until
            the neighbour is known.
        agreed: (h, w) where the ways to the frame before and back agree; None if nowhere, or if there is none.
        mean: (h, w, 2) the chroma averaged over the shot's frames nearby.
        usual: How vivid these came, on average; 0 where none of them has chroma.
        left: How vivid `mean` is.
        made: (h, w, 2) the chroma that it leaves with.
    """

    frame: Frame
    planes: NDArray[np.float32]
    own: NDArray[np.float32] | None
    vivid: float | None
    back: FlowField | None
    on: FlowField | None
    strayed_back: NDArray[np.float32] | None = None
    strayed_on: NDArray[np.float32] | None = None
    agreed: NDArray[np.bool_] | None = None
    mean: NDArray[np.float32] | None = None
    usual: float = 0.0
    left: float = 0.0
    made: NDArray[np.float32] | None = None


class Change(NamedTuple):
    """How much changes from a frame to the next along the motion, in code values: means over where both ways agree.

    Attributes:
        luma: Of luma.
        own: Of the network's chroma; None where one of the two frames has none.
        mean: Of the averaged chroma.
    """

    luma: float
    own: float | None
    mean: float


def grid(frame: Frame) -> tuple[int, int]:
    """The grid on which a frame with chroma is steadied."""
    assert frame.chroma is not None
    return fit_short_side(frame.chroma.shape[1:], FINEST)


def window_frame(frame: Frame, motion: Motion, size: tuple[int, int]) -> WindowFrame:
    """Bring a frame onto a grid."""
    planes = np.zeros((*size, 4), np.float32)
    own = vivid = None
    if frame.chroma is not None:
        came = np.asarray(cv2.merge([*frame.chroma.astype(np.float32)]))
        vivid = vividness(came)
        own = resize_area(came, size)
        planes[..., 0], planes[..., 1] = own[..., 0], own[..., 1]
        sure = 1 if frame.confidence is None else resize_area(frame.confidence.astype(np.float32), size)
        planes[..., 3] = np.maximum(sure, _LEAST_SURE)
    planes[..., 2] = resize_area(motion.seen, tuple(min(pair) for pair in zip(motion.seen.shape, size, strict=True)))
    back, on = (None if field is None else resize_flow(field, size) for field in (motion.back, motion.on))
    return WindowFrame(frame, planes, own, vivid, back, on)


def join(before: WindowFrame, after: WindowFrame) -> None:
    """Compare the ways between two frames in a row, if they are of one shot."""
    if before.on is not None and after.back is not None:
        before.strayed_on, after.strayed_back = (
            forward_backward_error(before.on, after.back),
            forward_backward_error(after.back, before.on),
        )
        agreed = after.strayed_back < _STRAY
        after.agreed = agreed if agreed.any() else None


def mean(row: Sequence[WindowFrame], at: int, window: int) -> NDArray[np.float32]:
    """The chroma (h, w, 2) of the frame at a place in a row, averaged over those of its shot up to `window` away.

    Each is brought here along the motion, and weighs by how near it is, how well the ways there and back agree at every step,
    how little luma differs, and how sure the network is.
    """
    # Cb and Cr are added up each by itself: on (h, w, 2) times (h, w, 1) numpy takes ten times as long
    here = row[at]
    luma, weight = here.planes[..., 2], here.planes[..., 3].copy()
    cb, cr = here.planes[..., 0] * weight, here.planes[..., 1] * weight
    for away, planes, stray in _neighbours(row, at, window):
        miss = planes[..., 2] - luma
        share = np.exp(miss * miss * _PER_LUMA + stray * _PER_STRAY)
        if here.own is None:
            share += _LAST
        share *= np.float32(1 - away / (window + 1))
        share *= planes[..., 3]
        cb += planes[..., 0] * share
        cr += planes[..., 1] * share
        weight += share
    weight = np.maximum(weight, np.finfo(np.float32).tiny)
    return np.asarray(cv2.merge([cb / weight, cr / weight]))


def usual(row: Sequence[WindowFrame], at: int, window: int) -> float:
    """How vivid the chroma came that `mean` averages, weighted by how near it is.

    Not how vivid that of the frame itself came: this changes from frame to frame, and what follows it flickers.
    """
    total = weight = 0.0
    for step in (-1, 1):
        place = at
        while abs(place - at) <= window:
            vivid, share = row[place].vivid, 1 - abs(place - at) / (window + 1)
            if vivid is not None:
                total, weight = total + share * vivid, weight + share
            if (row[place].back if step < 0 else row[place].on) is None or not 0 <= place + step < len(row):
                break
            place += step
    return total / weight if weight else 0.0


def _neighbours(
    row: Sequence[WindowFrame], at: int, window: int
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
    """For each frame with chroma: how far away it is, its planes brought here, and by how much the ways to it strayed."""
    for step in (-1, 1):
        so_far: tuple[FlowField, NDArray[np.float32], FlowField] | None = None
        place = at
        while 0 <= place + step < len(row) and abs(place + step - at) <= window:
            seat = row[place]
            way, stray = (seat.back, seat.strayed_back) if step < 0 else (seat.on, seat.strayed_on)
            if way is None or stray is None:
                break
            if so_far:
                nearer, before, ends = so_far
                way, stray = nearer + sample(way, ends), before + sample(stray, ends)
            ends = places(way)
            so_far = way, stray, ends
            place += step
            if row[place].own is not None:
                yield abs(place - at), sample(row[place].planes, ends), stray


def change(before: WindowFrame, after: WindowFrame) -> Change | None:
    """How much changes between two frames in a row that have their means; None if a shot begins in between."""
    if after.back is None or after.agreed is None or before.mean is None or after.mean is None:
        return None
    ends = places(after.back)
    apart = sample(before.planes, ends) - after.planes
    luma = _average(np.abs(apart[..., 2]), after.agreed)
    own = None if before.own is None or after.own is None else chroma_change(apart, after.agreed)
    return Change(luma, own, chroma_change(sample(before.mean, ends) - after.mean, after.agreed))


def left(before: WindowFrame, after: WindowFrame) -> float | None:
    """How much the chroma with which two frames in a row leave changes; None where `change` knows none."""
    if before.made is None or after.made is None or after.back is None or after.agreed is None:
        return None
    return chroma_change(warp(before.made, after.back) - after.made, after.agreed)


def chroma_change(apart: NDArray[np.float32], where: NDArray[np.bool_]) -> float:
    """The mean length of differences of chroma, the first two planes of (h, w, C), in some places, in code values."""
    cb, cr = apart[..., 0], apart[..., 1]
    return 255 * _average(np.sqrt(cb * cb + cr * cr), where)


def _average(plane: NDArray[Any], where: NDArray[np.bool_]) -> float:
    """Of a plane (h, w) in some places, as OpenCV adds it up: numpy takes ten times as long to pick them out."""
    return cv2.mean(plane, where.view(np.uint8))[0]


def vividness(chroma: NDArray[np.float32]) -> float:
    """How vivid chroma (h, w, 2) is: how far it spreads, and 0.3 of the length of its mean.

    As Hasler and Suesstrunk 2003 have it for cr - green and yellow - cb. By its mean length, an average of patches that
    came and went would be made too vivid: 3 % more colourful than the network on a film of 1922.
    """
    mean, spread = (each.ravel().tolist() for each in cv2.meanStdDev(chroma))
    return hypot(*spread) + 0.3 * hypot(*mean)
