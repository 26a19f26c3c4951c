"""How the frames of a film are called as files: by `write.name`, with the numbers of the input."""

import re
from pathlib import Path, PurePosixPath
from typing import NamedTuple, cast, get_args

from bwpipe.core.inputs import output_stem
from bwpipe.image.write import TargetFormat, target_suffix
from bwpipe.sequence.encode import SUFFIXES, FrameTarget, frame_target
from bwpipe.sequence.file import FrameSequence
from bwpipe.sequence.numbering import by_last_number, list_frames
from bwpipe.video.file import VideoFile

FRAME = re.compile(r"\{frame(?::0?(\d{0,2})d)?\}")
"""The place of the number in `write.name`."""
_DEFAULT_WIDTH = 6


class FrameNames(NamedTuple):
    """The names of a film's frames as files.

    Attributes:
        place: Their folder, relative to the output folder.
        prefix, width, suffix: What stands before the number, its least digits, and what stands after it.
    """

    place: PurePosixPath
    prefix: str
    width: int
    suffix: str

    def name(self, number: int) -> str:
        """The name of a file."""
        return f"{self.prefix}{number:0{self.width}d}{self.suffix}"

    @property
    def pattern(self) -> str:
        """All of them, as FFmpeg writes it: `reel1_%06d.tif`."""
        return f"{self.prefix}%0{self.width}d{self.suffix}"


def frame_names(film: VideoFile, name: str, target: FrameTarget) -> FrameNames:
    """The names of a film's frames by `write.name`: with its own place for the number, or with the input's."""
    ending = SUFFIXES[target]
    own = PurePosixPath(film.files.name(0)).suffix if isinstance(film, FrameSequence) else ""
    if isinstance(film, FrameSequence) and film.form == target:
        ending = own
    elif isinstance(film, FrameSequence) and film.first and target in get_args(TargetFormat):
        ending = target_suffix(film.first, cast(TargetFormat, target))
    place = film.name.parent
    if found := FRAME.search(name):
        before, after = (output_stem(part, film.name) for part in (name[: found.start()], name[found.end() :]))
        return FrameNames(place, before, int(found[1] or 1) if found[1] is not None else 1, f"{after}{ending}")
    if not isinstance(film, FrameSequence):
        return FrameNames(place, f"{output_stem(name, film.name)}_", _DEFAULT_WIDTH, ending)
    files = film.files
    width, inner = int(files.widths.min()), files.suffix.removesuffix(own)
    if name == "{stem}":
        return FrameNames(place, files.prefix, width, f"{inner}{ending}")
    return FrameNames(place, f"{output_stem(name, film.name)}_", width, ending)


def without_number(name: str) -> str:
    """`write.name` for what is not written as frames: without the place of the number, and what joins that to the rest."""
    return re.sub(rf"[-_. ]?{FRAME.pattern}", "", name)


def number_of(film: VideoFile, index: int) -> int:
    """The number of a frame: the input's own, or its index."""
    return int(film.files.numbers[index]) if isinstance(film, FrameSequence) else index


def find_output(film: VideoFile, folder: Path, name: str) -> Path | None:
    """The pattern of a film's frames in an output folder, in whatever format; None if there are none."""
    place = folder / film.name.parent
    found = list_frames(place, by_last_number) if place.is_dir() else {}
    for target in dict.fromkeys([frame_target(film, None), *get_args(FrameTarget)]):
        names = frame_names(film, name, target)
        files = found.get((names.prefix, names.suffix))
        if files and place.resolve() != _folder_of(film):
            return place / names.pattern
    return None


def _folder_of(film: VideoFile) -> Path | None:
    """The folder of a film's own frames."""
    return film.files.folder.resolve() if isinstance(film, FrameSequence) else None
