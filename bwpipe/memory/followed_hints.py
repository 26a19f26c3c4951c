"""Hints for one frame of a shot, followed along its motion to others."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.first_pass import HINTED, Hinting
from bwpipe.core.frame import Media, Motion
from bwpipe.core.ports import ShotFinder
from bwpipe.memory.hinted import STEP
from bwpipe.motion.optical_flow import SHORT, warp
from bwpipe.motion.tracking import follow
from bwpipe.pixels.orientation import stored, upright
from bwpipe.pixels.resize import fit_short_side

REACH = 480
"""Frames before and after one with hints over which these are followed; beyond, what they coloured is only known again."""
_LEAST = np.float32(0.05)
"""How far a hint must be known at least to be passed on."""
Hints = NDArray[np.float32]


def followed_frames(hinted: Iterable[int], shots: Mapping[int, range]) -> list[int]:
    """The frames that are coloured with hints: those that have some, and every few frames around them in their shots."""
    found: set[int] = set()
    for index in hinted:
        shot = shots[index]
        first, last = max(shot.start, index - REACH), min(shot.stop, index + REACH + 1)
        found.update(range(index, last, STEP), range(index, first - 1, -STEP))
    return sorted(found)


def followed_hints(
    media: Media, hinting: Hinting, hinted: Iterable[int], shots: Mapping[int, range], finder: ShotFinder | None
) -> dict[int, dict[str, Hints]]:
    """The notes with the hints for each of `followed_frames`, followed from the frames that have some. Raises MediaError.

    Args:
        media: The film.
        hinting: Gives the hints.
        hinted: The frames that have some.
        shots: The shots of these.
        finder: Gives motion; None if there is none, so that nothing is followed.
    """
    size = fit_short_side(media.upright_size, SHORT)
    found: dict[int, tuple[int, Hints]] = {}
    for origin in hinted:
        own = hinting.hints_of(media, origin, size)
        _add(found, origin, 0, own)
        as_stored = stored(own, media.orientation)  # as the motion is
        for index, hints in _around(media, as_stored, origin, shots[origin], finder) if finder else ():
            _add(found, index, abs(index - origin), upright(hints, media.orientation))
    return {index: {HINTED: hints} for index, (_, hints) in found.items()}


def _around(media: Media, own: Hints, origin: int, shot: range, finder: ShotFinder) -> Iterator[tuple[int, Hints]]:
    """The hints of a frame at every few frames after it and before it."""
    later = finder.motion(media, range(origin, min(shot.stop, origin + REACH + 1)))
    yield from _along(own, later, backwards=False)
    earlier = list(finder.motion(media, range(max(shot.start, origin - REACH), origin + 1)))
    yield from _along(own, reversed(earlier), backwards=True)


def _along(own: Hints, motions: Iterable[tuple[int, Motion]], *, backwards: bool) -> Iterator[tuple[int, Hints]]:
    indices: list[int] = []

    def noted() -> Iterator[Motion]:
        for index, motion in motions:
            indices.append(index)
            yield motion

    premultiplied = np.dstack([own[0] * own[2], own[1] * own[2], own[2]])
    for number, (offset, valid) in enumerate(follow(noted(), backwards=backwards), 1):
        if number % STEP == 0 and offset.shape[:2] == own.shape[1:]:
            moved = warp(premultiplied, offset)
            known = moved[..., 2] * valid
            colour = moved[..., :2] / np.maximum(moved[..., 2:], np.float32(1e-6))
            planes = np.dstack([colour, np.where(known > _LEAST, known, 0)]).transpose(2, 0, 1)
            yield indices[number], np.ascontiguousarray(planes, np.float32)


def _add(found: dict[int, tuple[int, Hints]], index: int, far: int, hints: Hints) -> None:
    """Add hints for a frame to those that it has: where there are both, those from the nearer frame count."""
    if index not in found:
        found[index] = far, hints
        return
    other_far, other = found[index]
    first, second = (hints, other) if far < other_far else (other, hints)
    merged = np.where((first[2] >= np.minimum(second[2], 0.5))[None], first, second)
    found[index] = min(far, other_far), np.ascontiguousarray(merged, np.float32)
