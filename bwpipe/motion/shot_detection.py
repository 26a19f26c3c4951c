"""Shot detection: hard cuts, dissolves and fades, from motion-compensated differences of neighbouring frames."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import FlowField
from bwpipe.motion.optical_flow import consistency_mask, warp
from bwpipe.pixels.resize import resize_area

REACH = 9
"""Number of frames on either side of a frame that decide whether a shot begins with it."""
_LAG = 8
"""Frames from the middle of a dissolve to those that count as its ends."""
_FLASH = 3
"""If an image reappears within this many frames, there was a flash and no cut."""
_BLANK = 5.0
"""Standard deviation, in code values, below which a frame is blank: the dark between two fades."""
_MIN_CORRELATION, _MIN_CONSISTENT = 0.7, 0.6
"""Correlation, and share of consistent flow, below which a frame does not continue the one before.

Measured on two films of 1922 and the 1950s: cuts have at most 0.54 and 0.36; of 1,537 other pairs, none that is not blank has
less than 0.84.
"""
_SAME = 0.8
"""Least correlation of the frames before and after a flash."""
_MAX_ALIKE, _MIN_EXPLAINED, _MIN_WEIGHT, _MAX_CONTRAST = 0.6, 0.65, 0.25, 0.8
"""In a dissolve: the highest correlation of its two ends, the least share of variance in between that they explain, the least
weight of either in the middle, and the highest contrast there as a share of the ends': a mixture of unlike images loses
contrast, a pan does not."""
_THUMB = (12, 16)


@dataclass(frozen=True, slots=True, eq=False)
class FrameSignature:
    """The features of a frame that decide about cuts.

    Attributes:
        thumb: (192,) float32, the frame on a grid of 12 x 16, less its mean.
        spread: The standard deviation of the frame, in code values.
        follows: Correlation with the previous frame, warped to this one.
        followed: Share of the frame where the flow to the previous frame and back is consistent, 0..1.
    """

    thumb: NDArray[np.float32]
    spread: float
    follows: float = 1.0
    followed: float = 1.0


def frame_signature(
    seen: NDArray[np.uint8], before: NDArray[np.uint8] | None = None, back: FlowField | None = None, on: FlowField | None = None
) -> FrameSignature:
    """Compute the signature of a frame (h, w), given the previous frame and the flow to it (`back`) and from it (`on`).

    Every second cell of every second row is enough.
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


def begins_shot(signatures: Sequence[FrameSignature], at: int) -> bool:
    """Whether a shot begins with the frame at an index of consecutive frames; frames beyond `REACH` do not matter."""
    if at == 0:
        return False
    here, before = signatures[at], signatures[at - 1]
    if here.spread < _BLANK:
        return False
    if before.spread < _BLANK:
        return True
    return _is_cut(signatures, at) or (_is_dissolved(signatures, at) and not _is_dissolved(signatures, at - 1))


def _is_cut(signatures: Sequence[FrameSignature], at: int) -> bool:
    here = signatures[at]
    return here.follows < _MIN_CORRELATION and here.followed < _MIN_CONSISTENT and not _is_flash(signatures, at)


def _is_flash(signatures: Sequence[FrameSignature], at: int) -> bool:
    """Whether the previous frame reappears soon, or this frame appeared shortly before."""
    before, here = signatures[at - 1], signatures[at]
    soon, recent = signatures[at + 1 : at + 1 + _FLASH], signatures[max(0, at - 1 - _FLASH) : at - 1]
    return any(_similarity(before, other) > _SAME for other in soon) or any(
        _similarity(here, other) > _SAME for other in recent
    )


def _is_dissolved(signatures: Sequence[FrameSignature], at: int) -> bool:
    """Whether a frame lies in the second half of a dissolve, where the new image prevails."""
    if at < _LAG or at + _LAG >= len(signatures):
        return False
    old, new = signatures[at - _LAG], signatures[at + _LAG]
    if min(old.spread, new.spread) < _BLANK or _similarity(old, new) > _MAX_ALIKE:
        return False
    early, now, late = (_blend(signatures[at + step], old, new) for step in (-_LAG // 2, 0, _LAG // 2))
    return (
        min(early[2], now[2], late[2]) > _MIN_EXPLAINED
        and early[0] > now[0] > late[0]
        and early[1] < now[1] < late[1]
        and min(now[0], now[1]) > _MIN_WEIGHT
        and _energy(signatures[at]) < _MAX_CONTRAST * (now[0] * _energy(old) + now[1] * _energy(new)) / (now[0] + now[1])
        and now[1] > now[0]
    )


def _blend(signature: FrameSignature, old: FrameSignature, new: FrameSignature) -> tuple[float, float, float]:
    """The least-squares weights of two images that reproduce a third, and how much of its variance they explain."""
    ends = np.stack([old.thumb, new.thumb])
    weights = np.linalg.lstsq(ends @ ends.T, ends @ signature.thumb, rcond=None)[0]
    residual = signature.thumb - weights @ ends
    total = float(signature.thumb @ signature.thumb)
    return float(weights[0]), float(weights[1]), 1 - float(residual @ residual) / total if total else 0.0


def _energy(signature: FrameSignature) -> float:
    return float(signature.thumb @ signature.thumb)


def _similarity(one: FrameSignature, other: FrameSignature) -> float:
    """The correlation of two frames without motion compensation."""
    lengths = float(np.linalg.norm(one.thumb) * np.linalg.norm(other.thumb))
    return float(one.thumb @ other.thumb) / lengths if lengths else 1.0


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Pearson correlation of two planes; 1 for planes without contrast."""
    a, b = (plane.ravel() - plane.mean() for plane in (one, other))
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths else 1.0
