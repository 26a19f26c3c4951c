"""The grey pictures that come with colour pictures: a second folder with the same names."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from bwpipe.core.frame import Frame, Media, Unit
from bwpipe.core.inputs import find_files, leads_outside
from bwpipe.errors import MediaError, UsageError
from bwpipe.image.file import HEAD, sniff
from bwpipe.image.open import open_image
from bwpipe.image.read import read_image

_STRAY = 0.02
"""How far the shapes of two copies of one picture may differ, as a share, beside the pixel that rounding takes."""


class _File(NamedTuple):
    """A file's absolute path, and its place below the folder."""

    path: Path
    name: PurePosixPath

    @property
    def stem(self) -> PurePosixPath:
        return self.name.with_suffix("")


class GrayscalePartners:
    """The pictures of a folder, each the grey partner of the colour picture of the same name; endings may differ."""

    def __init__(self, folder: Path, *, max_pixels: int) -> None:
        """List a folder.

        Args:
            folder: Relative to the current one, or absolute.
            max_pixels: Refuse larger pictures before anything is allocated for them.

        Raises:
            UsageError: It is missing, can't be listed, or holds no picture.
        """
        self.folder = folder
        self._max_pixels = max_pixels
        self._wanted: set[PurePosixPath] = set()
        self._files: defaultdict[PurePosixPath, list[_File]] = defaultdict(list)
        for file in _files(folder):
            self._files[file.stem].append(file)
        if not any(map(_is_picture, self._all())):
            raise UsageError(f"{folder} holds no picture; give `gray` the folder of the grey pictures")

    def has(self, name: PurePosixPath) -> bool:
        """Whether there is a partner for the colour picture of that name, which counts as asked for from now on."""
        stem = name.with_suffix("")
        self._wanted.add(stem)
        return stem in self._files

    def read(self, media: Media) -> Frame:
        """The partner of a colour picture that has one.

        Raises:
            MediaError: There are several; it can't be read, has too many pixels or another shape, or is a link elsewhere.
            UsageError: It is the colour picture itself.
        """
        file = self._partner(media.name)
        if file.path == media.path:
            raise UsageError(f"{self.folder} is the folder that is read; give `gray` the folder of the grey pictures")
        try:
            frame = self._read(file)
        except MediaError as error:
            raise MediaError(f"its grey partner {file.path} {error}") from error
        own, other = _shown(media), _shown(frame.unit.media)
        if not _alike(own, other):
            raise MediaError("its grey partner {} has another shape: {}x{}, not {}x{}".format(file.path, *other, *own))
        return frame

    def others(self, known: Iterable[PurePosixPath]) -> list[PurePosixPath]:
        """The pictures that were not asked for and have none of these names either, endings aside."""
        wanted = self._wanted | {name.with_suffix("") for name in known}
        return [file.name for file in self._all() if file.stem not in wanted and _is_picture(file)]

    def _all(self) -> Iterator[_File]:
        return (file for same in self._files.values() for file in same)

    def _partner(self, name: PurePosixPath) -> _File:
        """The file of the same name, or else the one that is the same without the ending. Raises MediaError."""
        found = self._files[name.with_suffix("")]
        if same := [file for file in found if file.name == name]:
            return same[0]
        if len(found) > 1:
            found = list(filter(_is_picture, found)) or found
        if len(found) > 1:
            raise MediaError(f"has several grey partners, {found[0].path} and {found[1].path}; keep one of them")
        return found[0]

    def _read(self, file: _File) -> Frame:
        if leads_outside(*file):
            raise MediaError("is a link out of its folder")
        return read_image(Unit(open_image(*file, max_pixels=self._max_pixels)))


def folder_fingerprint(folder: Path) -> str:
    """A hash of the names, sizes and times of change of a folder's files. Raises UsageError."""
    told = blake2b(digest_size=16)
    for path, name in _files(folder):
        try:
            found = path.stat()
        except OSError:  # it is gone by now, or a link to nothing: whoever reads it will say so
            continue
        told.update(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    return told.hexdigest()


def _files(folder: Path) -> Iterator[_File]:
    if not folder.expanduser().is_dir():
        raise UsageError(f"there is no folder {folder}; give `gray` the folder of the grey pictures")
    return (_File(*found) for found in find_files(str(folder)))


def _is_picture(file: _File) -> bool:
    try:
        with file.path.open("rb") as opened:
            return sniff(opened.read(HEAD))
    except OSError:
        return False


def _shown(media: Media) -> tuple[int, int]:
    """Width and height of a picture when it is upright."""
    return (media.height, media.width) if media.orientation >= 5 else (media.width, media.height)


def _alike(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes, width and height, can be those of one picture."""
    (width, height), large = sorted((one, other))
    return abs(height - width * large[1] / large[0]) <= 1 + _STRAY * height
