"""Coloured stills whose colours films and photographs take where they show the same things."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.fingerprint import cached_digest
from bwpipe.core.frame import Frame, Luma, Media, Unit
from bwpipe.core.inputs import expand_user, find_files
from bwpipe.core.registry import closest
from bwpipe.errors import MediaError, UsageError
from bwpipe.image.file import ImageFile
from bwpipe.image.open import open_image
from bwpipe.image.read import read_image
from bwpipe.pixels.cropping import uncropped
from bwpipe.pixels.orientation import stored, upright
from bwpipe.pixels.resize import fit_short_side, squash

COLOURS = "reference"
"""Key of the note on a frame of a still that holds its chroma, (2, h, w): `grayscale` would drop it."""
_SHORT = 512
"""Short side up to which a still is looked at."""
_MAX_PIXELS = 250_000_000
_DIGITS = 12
"""Digits from which on a name is no number of a frame."""


@dataclass(frozen=True, slots=True)
class Still:
    """A coloured picture.

    Attributes:
        path: The file, absolute.
        name: Its path relative to the folder that was given.
    """

    path: Path
    name: PurePosixPath

    @property
    def frame(self) -> int | None:
        """The frame of the film that it is of, if it is in the folder of one, and its name says so."""
        stem = self.name.stem
        inside = self.name.parent != PurePosixPath()
        return int(stem) if inside and stem.isascii() and stem.isdigit() and len(stem) < _DIGITS else None

    @property
    def digest(self) -> str:
        """A hash of its bytes. Raises UsageError."""
        try:
            return cached_digest(self.path)
        except OSError as error:
            raise UsageError(f"the reference {self.path} can't be read ({error.strerror}); fix that, or remove it") from error


class References:
    """The stills that were given, and which of them concern a file."""

    def __init__(self, paths: Sequence[str]) -> None:
        """Find them; nothing is decoded. Raises UsageError if there are none."""
        self._stills: list[Still] = []
        for path in paths:
            try:
                found = list(find_files(path))
            except UsageError:
                raise UsageError(f"`reference`: there is no file or folder {expand_user(path)}; correct the path") from None
            stills = [Still(file, name) for file, name in found if name.suffix.lower() in _ENDINGS]
            if not stills:
                raise UsageError(f"`reference`: {path} holds no picture; put coloured PNG, JPEG or TIFF files there")
            self._stills.extend(stills)

    def of(self, media: Media) -> list[Still]:
        """Those that concern a file.

        Of a film: those in a folder named like it, with or without its ending, and those in no folder, which are for all films.
        Of a picture: that of the same name, or, if only one still was given, that one. Raises UsageError for a still of a frame
        that the film does not have.
        """
        name, stem = media.name, media.name.with_suffix("")
        if media.kind == "film":
            found = [each for each in self._stills if each.name.parent in {PurePosixPath(), name, stem}]
            for each in found:
                if media.frames is not None and each.frame is not None and each.frame >= media.frames:
                    last = f"{media.name} ends with frame {media.frames - 1}"
                    raise UsageError(f"the reference {each.path} is for frame {each.frame}, and {last}; correct the number")
            return found
        own = [each for each in self._stills if each.name.with_suffix("") == stem]
        return own or (self._stills if len(self._stills) == 1 else [])

    def unmatched(self, names: Mapping[PurePosixPath, str]) -> Iterator[str]:
        """A sentence on the stills that concern none of these inputs, given with the kind of each medium.

        Those in no folder are for all films, and one that is the only one is for all pictures. What can't be read, whose kind
        is empty, may be either.
        """
        pictures = {name.with_suffix("") for name, kind in names.items() if kind != "film"}
        films = {each for name, kind in names.items() if kind != "picture" for each in (name, name.with_suffix(""))}
        folders = films | {PurePosixPath()} if films else films
        found = [each for each in self._stills if not (each.name.parent in folders or each.name.with_suffix("") in pictures)]
        if not found or (pictures and len(self._stills) == 1):
            return
        first, more = found[0], f" and {len(found) - 1} more" if len(found) > 1 else ""
        film = closest(str(first.name.parent), sorted(map(str, films)))
        picture = closest(str(first.name.with_suffix("")), sorted(map(str, pictures)))
        name_them = "name it like the picture, or its folder like the film"
        yield f"no input is shown by the reference {first.path}{more}; {film or picture or name_them}"

    def all(self) -> Iterable[Still]:
        """All of them."""
        return self._stills


_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"})


def still_frame(still: Still, unit: Unit) -> Frame:
    """A still as a frame of a unit, in its luma codes and orientation, with its colours in a note.

    Raises:
        MediaError: It can't be read, or is grey.
    """
    try:
        media = open_image(still.path, still.name, max_pixels=_MAX_PIXELS)
        frame = read_image(Unit(media))
    except (MediaError, OSError) as error:
        raise MediaError(f"the reference {still.path} can't be read: {error}") from error
    if frame.chroma is None:
        raise MediaError(f"the reference {still.path} has no colours; give a picture in colour")
    height, width = fit_short_side(frame.luma.shape, _SHORT)
    chroma = np.stack([squash(plane.astype(np.float32), height, width) for plane in frame.chroma])
    size = upright(frame.luma, media.orientation).shape

    def turned(planes: NDArray[Any]) -> NDArray[Any]:
        """Planes of the still as the unit stores them."""
        whole = uncropped(upright(planes, media.orientation), unit.media, size, "edge")
        return np.ascontiguousarray(stored(whole, unit.media.orientation))

    planes = turned(chroma.astype(np.float16))
    luma: Luma = turned(_in_levels(frame, media, unit.media))
    luma.flags.writeable = False
    return Frame(luma, unit, index=-1, notes=MappingProxyType({COLOURS: planes}))


def with_own_colours(still: Frame) -> Frame:
    """The frame of a still with its own colours, in place of those that the network gave it."""
    return replace(still, chroma=still.notes[COLOURS], confidence=None)


def _in_levels(frame: Frame, media: ImageFile, target: Media) -> Luma:
    """The luma of a frame in the codes of another media, of `_SHORT` rows or columns."""
    height, width = fit_short_side(frame.luma.shape, _SHORT)
    (black, white), (low, high) = media.levels, target.levels
    small = squash(frame.luma.astype(np.float32), height, width)
    codes = np.rint((small - black) / (white - black) * (high - low) + low).clip(0, (1 << target.depth) - 1)
    return codes.astype(np.uint8) if target.depth == 8 else codes.astype(np.uint16)
