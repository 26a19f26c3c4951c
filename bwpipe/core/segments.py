"""Segments of films: how a film is cut into units, and where their fragments wait to be joined."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from bwpipe.core.atomic_file import WORK_FOLDER
from bwpipe.core.frame import Unit

FRAGMENTS = "fragments"
"""The folder, in the output folder's `.bwpipe/`, of finished segments of films that are not finished."""


ROW = 1000
"""Segments that are shorter are decoded in one go, as many as have this many frames: to begin a decoder takes half a group of
pictures on average, and to go on with one that begins further ahead takes this many at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Assembly:
    """A film that a sink is to join from its fragments.

    Attributes:
        whole: The film as one unit.
        segments: The units that it is cut into, in order: those still to be done, and those done already.
    """

    whole: Unit
    segments: tuple[Unit, ...]


def split_into_segments(unit: Unit, size: int | None) -> list[Unit]:
    """Cut a film into segments of `size` frames, the last one shorter; None leaves it in one, as a picture always is."""
    start, stop = frame_range(unit)
    if size is None or stop is None or not unit.media.has_segments or stop - start <= size:
        return [unit]
    row = max(ROW // size, 1)
    places = range(start, stop, size)
    return [
        replace(unit, part=part, start=first, stop=min(first + size, stop), since=places[part - part % row])
        for part, first in enumerate(places)
    ]


def frame_range(unit: Unit) -> tuple[int, int | None]:
    """The first frame of a unit and the one after its last; None where its file does not say how many it has."""
    ends = [end for end in (unit.stop, unit.media.frames) if end is not None]
    return unit.start, min(ends, default=None)


def fragment_path(folder: Path, target: Path, part: int) -> Path:
    """Where the fragment of a segment waits, in an output folder, until the film `target` is joined."""
    return folder / WORK_FOLDER / FRAGMENTS / f"{_mark(folder, target)}-{part:06d}"


def waiting_fragments(folder: Path, targets: Sequence[Path]) -> list[Path]:
    """The fragments of some films that lie in an output folder, also those of other recipes."""
    marks = {_mark(folder, target) for target in targets}
    return sorted(path for path in (folder / WORK_FOLDER / FRAGMENTS).glob("*-*") if path.name.partition("-")[0] in marks)


def _mark(folder: Path, target: Path) -> str:
    """What the names of a film's fragments begin with."""
    return blake2b(bytes(target.relative_to(folder)), digest_size=10).hexdigest()
