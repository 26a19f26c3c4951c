"""Where shots begin: hard cuts, dissolves and fades, from how neighbouring frames differ when motion is taken off."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import FlowField
from bwpipe.motion.optical_flow import consistency_mask, warp
from bwpipe.pixels.resize import resize_area

REACH = 9
"""How many frames on either side of a frame decide whether a shot begins with it."""
_LAG = 8
"""Frames from the middle of a dissolve to what it is taken to lead from and to."""
_FLASH = 3
"""A picture that comes back within so many frames was not cut, but lit up."""
_FLAT = 5.0
"""Standard deviation, in code values, below which a frame shows nothing: the dark between two fades."""
_ALIKE, _FOLLOWED = 0.7, 0.6
"""Below this correlation, and this share of motion that agrees both ways, a frame does not go on from the one before.

Measured on two films of 1922 and the 1950s: cuts have at most 0.54 and 0.36; of 1,537 other pairs none that shows something
has less than 0.84.
"""
_RETURNS = 0.8
"""From this correlation on, the frame after a flash is that before it."""
_APART, _BLENDED, _SHARE, _DIP = 0.6, 0.65, 0.25, 0.8
"""In a dissolve: the most that its two ends correlate, how much of what is between they explain, the least share of either in
its middle, and the most contrast there, as a share of the ends': unlike pictures dim each other, a pan goes on as it is."""
_THUMB = (12, 16)


@dataclass(frozen=True, slots=True, eq=False)
class FrameSignature:
    """What of a frame decides about cuts.

    Attributes:
        thumb: (192,) float32, it on a grid of 12 x 16, less its mean.
        spread: The standard deviation of the frame, in code values.
        follows: Correlation with the frame before, once that is brought here along the motion.
        followed: Of how much of it the motion to the frame before and back agrees, 0..1.
    """

    thumb: NDArray[np.float32]
    spread: float
    follows: float = 1.0
    followed: float = 1.0


def frame_signature(
    seen: NDArray[np.uint8], before: NDArray[np.uint8] | None = None, back: FlowField | None = None, on: FlowField | None = None
) -> FrameSignature:
    """Look at a frame (h, w), the one before, and the motion from this one to it and from it to this one.

    Every second cell of every second row is enough to tell.
    """
    thumb = resize_area(seen.astype(np.float32), tuple(min(sides) for sides in zip(seen.shape, _THUMB, strict=True))).ravel()
    thumb = thumb - thumb.mean()
    here = seen[::2, ::2].astype(np.float32)
    spread = float(here.std())
    if before is None or back is None or on is None:
        return FrameSignature(thumb, spread)
    back, on = (np.ascontiguousarray(field[::2, ::2]) / np.float32(2) for field in (back, on))
    there = warp(before[::2, ::2].astype(np.float32), back)
    return FrameSignature(thumb, spread, _correlation(there, here), float(consistency_mask(back, on).mean()))


def begins_shot(looks: Sequence[FrameSignature], at: int) -> bool:
    """Whether a shot begins with the frame at a place among frames in a row; those further off than `REACH` do not matter."""
    if at == 0:
        return False
    here, before = looks[at], looks[at - 1]
    if here.spread < _FLAT:
        return False
    if before.spread < _FLAT:
        return True
    return _is_cut(looks, at) or (_turns(looks, at) and not _turns(looks, at - 1))


def _is_cut(looks: Sequence[FrameSignature], at: int) -> bool:
    here = looks[at]
    return here.follows < _ALIKE and here.followed < _FOLLOWED and not _is_flash(looks, at)


def _is_flash(looks: Sequence[FrameSignature], at: int) -> bool:
    """Whether what was seen before comes back soon, or what is seen now was there shortly before."""
    before, here = looks[at - 1], looks[at]
    soon, lately = looks[at + 1 : at + 1 + _FLASH], looks[max(0, at - 1 - _FLASH) : at - 1]
    return any(_alike(before, other) > _RETURNS for other in soon) or any(_alike(here, other) > _RETURNS for other in lately)


def _turns(looks: Sequence[FrameSignature], at: int) -> bool:
    """Whether a frame lies in a dissolve, in that half where the new picture prevails."""
    if at < _LAG or at + _LAG >= len(looks):
        return False
    old, new = looks[at - _LAG], looks[at + _LAG]
    if min(old.spread, new.spread) < _FLAT or _alike(old, new) > _APART:
        return False
    early, now, late = (_blend(looks[at + step], old, new) for step in (-_LAG // 2, 0, _LAG // 2))
    return (
        min(early[2], now[2], late[2]) > _BLENDED
        and early[0] > now[0] > late[0]
        and early[1] < now[1] < late[1]
        and min(now[0], now[1]) > _SHARE
        and _power(looks[at]) < _DIP * (now[0] * _power(old) + now[1] * _power(new)) / (now[0] + now[1])
        and now[1] > now[0]
    )


def _blend(look: FrameSignature, old: FrameSignature, new: FrameSignature) -> tuple[float, float, float]:
    """The shares of two pictures that make a third best, and how much of its variance they explain."""
    ends = np.stack([old.thumb, new.thumb])
    shares = np.linalg.lstsq(ends @ ends.T, ends @ look.thumb, rcond=None)[0]
    rest = look.thumb - shares @ ends
    total = float(look.thumb @ look.thumb)
    return float(shares[0]), float(shares[1]), 1 - float(rest @ rest) / total if total else 0.0


def _power(look: FrameSignature) -> float:
    return float(look.thumb @ look.thumb)


def _alike(one: FrameSignature, other: FrameSignature) -> float:
    """The correlation of two frames where they are."""
    lengths = float(np.linalg.norm(one.thumb) * np.linalg.norm(other.thumb))
    return float(one.thumb @ other.thumb) / lengths if lengths else 1.0


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Pearson's, of two planes; that of planes without any contrast is 1."""
    a, b = (plane.ravel() - plane.mean() for plane in (one, other))
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths else 1.0
