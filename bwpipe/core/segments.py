"""Segments of videos: how a video is split into units, and where their fragments are kept until they are joined."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import blake2b
from pathlib import Path, PurePath

from bwpipe.core.atomic_file import WORK_FOLDER
from bwpipe.core.frame import Frame, Media, Unit

FRAGMENTS = "fragments"
"""The folder, in the output folder's `.bwpipe/`, for finished segments of unfinished videos."""


_FRAMES_FACT = "frames "
"""What begins the key of a fact that says which names in an output folder are those of a film's frames, as a pattern."""
_NUMBER = re.compile(r"%0(\d+)d")

SHARED_DECODER_FRAMES = 1000
"""Shorter segments share one decoder, up to this many frames in total: starting a decoder costs half a GOP on average, and
continuing one that starts earlier costs at most this many frames."""


EARLIER_DEFAULT = 1000
"""Frames in a segment where nothing else was said, until 0.1.0: a film that was begun or finished so goes on so."""
_BY_SIZE = ((1_000_000, 1000), (2_500_000, 500), (6_000_000, 250))
"""Pixels of a frame up to which a segment has that many frames by default; 125 above."""


def default_size(media: Media) -> int:
    """Frames in a segment of a video by default: about a minute of work on two cores."""
    return next((size for pixels, size in _BY_SIZE if media.width * media.height <= pixels), 125)


@dataclass(frozen=True, slots=True, eq=False)
class Assembly:
    """A video that a sink joins from its fragments.

    Attributes:
        whole: The video as one unit.
        segments: The units that it is split into, in order, both pending and done.
    """

    whole: Unit
    segments: tuple[Unit, ...]


def split_into_segments(unit: Unit, size: int | None) -> list[Unit]:
    """Split a video into segments of `size` frames, the last one possibly shorter; None, like an image, gives one unit."""
    start, stop = frame_range(unit)
    if size is None or stop is None or not unit.media.has_segments or stop - start <= size:
        return [unit]
    per_decoder = max(SHARED_DECODER_FRAMES // size, 1)
    starts = range(start, stop, size)
    return [
        replace(unit, part=part, start=first, stop=min(first + size, stop), since=starts[part - part % per_decoder])
        for part, first in enumerate(starts)
    ]


def frame_range(unit: Unit) -> tuple[int, int | None]:
    """The first frame of a unit and the one after its last; None if its file does not declare its number of frames."""
    ends = [end for end in (unit.stop, unit.media.frames) if end is not None]
    return unit.start, min(ends, default=None)


def frames_away(frame: Frame) -> int:
    """How many frames before or after its unit a context frame is; 0 for a frame of the unit itself."""
    if not frame.context:
        return 0
    start, stop = frame_range(frame.unit)
    return start - frame.index if stop is None or frame.index < start else frame.index - stop + 1


def fragment_path(folder: Path, target: Path, part: int) -> Path:
    """The path of a segment's fragment in an output folder, where it is kept until the video `target` is joined."""
    return folder / WORK_FOLDER / FRAGMENTS / f"{_prefix(folder, target)}-{part:06d}"


def first_pass_path(folder: Path, target: Path, stage: str) -> Path:
    """The path of what a stage of this id keeps of its first pass over a video, until the video `target` is joined."""
    return folder / WORK_FOLDER / FRAGMENTS / f"{_prefix(folder, target)}-{blake2b(stage.encode(), digest_size=4).hexdigest()}"


def waiting_fragments(folder: Path, targets: Sequence[Path]) -> list[Path]:
    """The fragments of some videos in an output folder, and what is kept of first passes, including those of other recipes."""
    prefixes = {_prefix(folder, target) for target in targets}
    return sorted(path for path in (folder / WORK_FOLDER / FRAGMENTS).glob("*-*") if path.name.partition("-")[0] in prefixes)


@cache
def _names_of(pattern: str) -> "re.Pattern[str]":
    place = list(_NUMBER.finditer(pattern))[-1]
    before, after = re.escape(pattern[: place.start()]), re.escape(pattern[place.end() :])
    return re.compile(rf"{before}\d{{{place[1]},}}{after}", re.DOTALL)


def frames_fact(pattern: PurePath) -> str:
    """The key of a fact that says how a film's frames are called in an output folder, such as `reels/reel1_%06d.tif`."""
    return f"{_FRAMES_FACT}{_as_text(pattern)}"


def is_frame(path: PurePath, facts: Iterable[str]) -> bool:
    """Whether a path relative to an output folder is that of a film's frame, by the keys of the folder's facts."""
    patterns = (key.removeprefix(_FRAMES_FACT) for key in facts if key.startswith(_FRAMES_FACT))
    return any(_names_of(pattern).fullmatch(_as_text(path)) for pattern in patterns)


def _as_text(path: PurePath) -> str:
    """A path as text that a database takes, whatever bytes it has."""
    return os.fsencode(path).decode("latin-1")


def _prefix(folder: Path, target: Path) -> str:
    """The common prefix of the names of a video's fragments."""
    return blake2b(bytes(target.relative_to(folder)), digest_size=10).hexdigest()
