"""Small pictures of the shots of a film: three frames of each, and a strip of frames that the page shows as a short loop."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bwpipe.core.frame import Frame
from bwpipe.errors import MediaError
from bwpipe.review.entries import Entry
from bwpipe.review.thumbnails import Pixels, Store, encoded, key_of, open_file
from bwpipe.tools.preview import small
from bwpipe.video.file import VideoFile

LOOP = 12
"""Frames of a loop."""
LOOP_CELL = 288
"""Longer side of a frame of a loop, in pixels."""
LOOP_SECONDS = 1.5
"""How much of a shot a loop shows."""


@dataclass(frozen=True, slots=True)
class ShotPictures:
    """The small pictures of a shot, as WebP files.

    Attributes:
        frames: Its first, middle and last frame.
        loop: Frames side by side; None if none was asked for.
        count: How many.
    """

    frames: tuple[bytes, ...]
    loop: bytes | None = None
    count: int = 0


def pictures_of_shots(shots: Sequence[Entry], looped: set[int], store: Store) -> Iterator[tuple[Entry, ShotPictures]]:
    """The small pictures of shots of one film, made or found; the film is decoded once, from keyframe to keyframe.

    Args:
        shots: Entries of one film, in its order.
        looped: The numbers of the entries that get a loop.
        store: Where the pictures are kept.

    Raises:
        MediaError, OSError: The film can't be read.
    """
    missing = []
    for entry in shots:
        if found := _stored(entry, store, loop=entry.number in looped):
            yield entry, found
        else:
            missing.append(entry)
    if not missing:
        return
    source, unit = open_file(missing[0].file.target)
    try:
        film = unit.media
        if not isinstance(film, VideoFile):
            raise MediaError("it is recorded as a film, and is none")
        total = len(film.times)
        wanted = {entry.number: _indices(entry, total, film, loop=entry.number in looped) for entry in missing}
        indices = sorted({index for three, strip in wanted.values() for index in (*three, *strip)})
        seen: dict[int, Frame] = {}
        waiting = list(missing)
        for frame in source.sample(unit, indices):
            seen[frame.index] = frame
            while waiting and frame.index >= max(map(max, filter(None, wanted[waiting[0].number]))):
                entry = waiting.pop(0)
                yield entry, _made(entry, wanted[entry.number], seen, store, loop=entry.number in looped)
                ahead = min((index for later in waiting for each in wanted[later.number] for index in each), default=total)
                seen = {index: kept for index, kept in seen.items() if index >= ahead}
        for entry in waiting:
            yield entry, _made(entry, wanted[entry.number], seen, store, loop=entry.number in looped)
    finally:
        source.close()


def _stored(entry: Entry, store: Store, *, loop: bool) -> ShotPictures | None:
    """What is kept of a shot; None if something is missing."""
    prefix = prefix_of(entry)
    frames = [store.read(f"{prefix}-{number}.webp") for number in range(3)]
    strip = store.read(f"{prefix}-loop.webp") if loop else None
    whole = tuple(frame for frame in frames if frame)
    if not whole or (loop and strip is None):
        return None
    return ShotPictures(whole, strip or None, LOOP if strip else 0)


def _made(
    entry: Entry, wanted: tuple[Sequence[int], Sequence[int]], seen: Mapping[int, Frame], store: Store, *, loop: bool
) -> ShotPictures:
    """The small pictures of a shot from its frames; frames that can't be decoded are left out."""
    prefix = prefix_of(entry)
    three = [small(seen[index]) for index in wanted[0] if index in seen]
    strip = [small(seen[index], longer=LOOP_CELL) for index in wanted[1] if index in seen]
    frames = tuple(map(encoded, three))
    looped = encoded(_beside(strip)) if len(strip) == LOOP else b""
    for number, data in enumerate(frames):
        store.keep(f"{prefix}-{number}.webp", data)
    if loop:  # an empty one says that the shot is too short for one
        store.keep(f"{prefix}-loop.webp", looped)
    return ShotPictures(frames, looped or None, LOOP if looped else 0)


def prefix_of(entry: Entry) -> str:
    """What the names of a shot's pictures begin with."""
    return f"{key_of(entry.file)}-{entry.shot or 0}"


def extent(entry: Entry, total: int) -> range:
    """The frames of a shot, in a film of `total` frames."""
    first = min(int(entry.figures.get("first", 0)), max(total - 1, 0))
    return range(first, max(min(first + int(entry.figures.get("length", total)), total), first + 1))


def _indices(entry: Entry, total: int, film: VideoFile, *, loop: bool) -> tuple[list[int], list[int]]:
    """The frames that are shown of a shot, and those of its loop."""
    frames = extent(entry, total)
    three = list(dict.fromkeys((frames[0], frames[len(frames) // 2], frames[-1])))
    if not loop or len(frames) < LOOP:
        return three, []
    seconds = float(film.times[frames[-1]] - film.times[frames[0]]) * float(film.time_base) or 1.0
    step = max(1, min(round(len(frames) / seconds * LOOP_SECONDS / LOOP), len(frames) // LOOP))
    start = (len(frames) - step * LOOP) // 2
    return three, [frames[start + step * number] for number in range(LOOP)]


def _beside(images: Iterable[Pixels]) -> Pixels:
    return np.ascontiguousarray(np.hstack(list(images)))
