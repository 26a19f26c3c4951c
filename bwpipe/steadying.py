"""Chroma averaged along the motion of a shot, and how much it flickers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bwpipe.frame import Frame
from bwpipe.motion import Field, Motion, brought, regridded, strayed
from bwpipe.shrink import averaged, sides

FINEST = 96
"""Cells of the short side of the finest grid on which chroma is steadied: finer chroma is averaged onto it."""
_STRAY = np.float32(0.5)
"""Squared cells by which a way there and back may miss its start until it weighs a third; one that agrees misses by less."""
_LUMA = np.float32(24)
"""Code values by which luma may differ along a way until its weight is a third: grain and flicker of the lamp are below."""
_LEAST_SURE = np.float32(0.05)
_LAST = np.float32(1e-4)
"""The weight of the worst way, where there is no chroma of the frame's own to fall back on."""


@dataclass(slots=True, eq=False)
class Seat:
    """A frame of a film in a row, and what is computed of it on the grid of its chroma (h, w).

    Attributes:
        frame: The frame.
        planes: (h, w, 4) float32: Cb and Cr as they came, or 0; luma in code values; confidence, 0 where there is no chroma.
        vivid: The vividness of the chroma as it came, on the grid it came on; None if it did not.
        back, on: (h, w, 2) the motion to the frame before and after; None where the shot begins or ends.
        way_back, way_on: (h, w, 3) these, and the squared cells by which the way there and the one back miss their start; None
            until the neighbour is known.
        mean: (h, w, 2) the chroma averaged over the shot's frames nearby.
        usual: How vivid these came, on average; 0 where none of them has chroma.
        left: How vivid `mean` is.
        made: (h, w, 2) the chroma that it leaves with.
    """

    frame: Frame
    planes: NDArray[np.float32]
    vivid: float | None
    back: Field | None
    on: Field | None
    way_back: NDArray[np.float32] | None = None
    way_on: NDArray[np.float32] | None = None
    mean: NDArray[np.float32] | None = None
    usual: float = 0.0
    left: float = 0.0
    made: NDArray[np.float32] | None = None

    @property
    def own(self) -> NDArray[np.float32] | None:
        """(h, w, 2) the chroma as it came; None if it did not."""
        return None if self.frame.chroma is None else self.planes[..., :2]


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
    return sides(frame.chroma.shape[1:], FINEST)


def seat(frame: Frame, motion: Motion, size: tuple[int, int]) -> Seat:
    """Bring a frame onto a grid."""
    planes = np.zeros((*size, 4), np.float32)
    vivid = None
    if frame.chroma is not None:
        vivid = vividness(frame.chroma.astype(np.float32).transpose(1, 2, 0))
        for place, plane in enumerate(frame.chroma.astype(np.float32)):
            planes[..., place] = averaged(plane, size)
        sure = 1 if frame.confidence is None else averaged(frame.confidence.astype(np.float32), size)
        planes[..., 3] = np.maximum(sure, _LEAST_SURE)
    planes[..., 2] = averaged(motion.seen, tuple(min(pair) for pair in zip(motion.seen.shape, size, strict=True)))
    back, on = (None if field is None else regridded(field, size) for field in (motion.back, motion.on))
    return Seat(frame, planes, vivid, back, on)


def join(before: Seat, after: Seat) -> None:
    """Compare the ways between two frames in a row, if they are of one shot."""
    if before.on is not None and after.back is not None:
        before.way_on = np.dstack([before.on, strayed(before.on, after.back)])
        after.way_back = np.dstack([after.back, strayed(after.back, before.on)])


def mean(row: Sequence[Seat], at: int, window: int) -> NDArray[np.float32]:
    """The chroma (h, w, 2) of the frame at a place in a row, averaged over those of its shot up to `window` away.

    Each is brought here along the motion, and weighs by how near it is, how well the ways there and back agree at every step,
    how little luma differs, and how sure the network is.
    """
    here = row[at]
    luma, alone = here.planes[..., 2], here.own is None
    weight = here.planes[..., 3].copy()
    total = here.planes[..., :2] * weight[..., None]
    for away, planes, trust in _neighbours(row, at, window):
        miss = (planes[..., 2] - luma) / _LUMA
        share = trust * np.exp(-miss * miss)
        if alone:
            share += _LAST
        share *= planes[..., 3] * (1 - away / (window + 1))
        total += planes[..., :2] * share[..., None]
        weight += share
    return np.asarray(total / np.maximum(weight, np.finfo(np.float32).tiny)[..., None])


def usual(row: Sequence[Seat], at: int, window: int) -> float:
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


def _neighbours(row: Sequence[Seat], at: int, window: int) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
    """For each frame with chroma: how far away it is, its planes brought here, and how much the way to it is to be trusted."""
    for step in (-1, 1):
        way: NDArray[np.float32] | None = None
        place = at
        while 0 <= place + step < len(row) and abs(place + step - at) <= window:
            further = row[place].way_back if step < 0 else row[place].way_on
            if further is None:
                break
            way = further if way is None else way + brought(further, way[..., :2])
            place += step
            if row[place].frame.chroma is not None:
                yield abs(place - at), brought(row[place].planes, way[..., :2]), np.exp(way[..., 2] / -_STRAY)


def change(before: Seat, after: Seat) -> Change | None:
    """How much changes between two frames in a row that have their means; None if a shot begins in between."""
    if after.back is None or after.way_back is None or before.mean is None or after.mean is None:
        return None
    agreed = after.way_back[..., 2] < _STRAY
    if not agreed.any():
        return None
    moved = brought(before.planes[..., :3], after.back)
    luma = float(np.abs(moved[..., 2] - after.planes[..., 2])[agreed].mean())
    own = None if before.own is None or after.own is None else chroma_change(after.own, moved[..., :2], agreed)
    return Change(luma, own, chroma_change(after.mean, brought(before.mean, after.back), agreed))


def left(before: Seat, after: Seat) -> float | None:
    """How much the chroma with which two frames in a row leave changes; None where `change` knows none."""
    if before.made is None or after.made is None or after.back is None or after.way_back is None:
        return None
    agreed = after.way_back[..., 2] < _STRAY
    return chroma_change(after.made, brought(before.made, after.back), agreed) if agreed.any() else None


def chroma_change(one: NDArray[np.float32], other: NDArray[np.float32], where: NDArray[np.bool_]) -> float:
    """The mean distance of chroma (h, w, 2) in some places, in code values."""
    apart = (one - other)[where]
    return 255 * float(np.hypot(apart[:, 0], apart[:, 1]).mean(dtype=np.float64))


def vividness(chroma: NDArray[np.float32]) -> float:
    """How vivid chroma (h, w, 2) is: how far it spreads, and 0.3 of the length of its mean.

    As Hasler and Suesstrunk 2003 have it for red - green and yellow - blue. By its mean length, an average of patches that
    came and went would be made too vivid: 3 % more colourful than the network on a film of 1922.
    """
    cb, cr = chroma[..., 0].astype(np.float64), chroma[..., 1].astype(np.float64)
    return float(np.hypot(cb.std(), cr.std()) + 0.3 * np.hypot(cb.mean(), cr.mean()))
