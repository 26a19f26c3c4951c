"""Separate grey partners of colour images: a second folder with the same names."""

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from bwpipe.core.frame import Frame, Media, Unit
from bwpipe.core.inputs import StemIndex, expand_user, find_files, leads_outside
from bwpipe.errors import MediaError, UsageError
from bwpipe.image.file import HEAD, sniff
from bwpipe.image.open import open_image
from bwpipe.image.read import read_image

_TOLERANCE = 0.02
"""Relative tolerance for the aspect ratios of two copies of an image, in addition to one pixel of rounding."""


class _File(NamedTuple):
    """A file's absolute path, and its name relative to the folder."""

    path: Path
    name: PurePosixPath

    @property
    def stem(self) -> PurePosixPath:
        return self.name.with_suffix("")


class GrayscalePartners:
    """The images of a folder, each the grey partner of the colour image of the same name; extensions may differ."""

    def __init__(self, folder: Path, *, max_pixels: int) -> None:
        """List a folder.

        Args:
            folder: Absolute, or relative to the current folder.
            max_pixels: Refuse larger images before allocating memory for them.

        Raises:
            UsageError: It is missing, cannot be listed, or contains no images.
        """
        self.folder = folder
        self._max_pixels = max_pixels
        self._requested: set[PurePosixPath] = set()
        self._files = {file.name: file for file in _files(folder)}
        self._index = StemIndex(self._files)
        if not any(map(_is_image, self._files.values())):
            raise UsageError(f"{folder} contains no images; set `gray` to the folder of the grey images")

    def has(self, name: PurePosixPath) -> bool:
        """Whether a colour image has a partner; records that the partner was requested."""
        self._requested.add(name.with_suffix(""))
        return bool(self._index.find(name))

    def read(self, media: Media) -> Frame:
        """The partner of a colour image that has one.

        Raises:
            MediaError: There are several; it cannot be read, has too many pixels or a different shape, or is a link elsewhere.
            UsageError: It is the colour image itself.
        """
        file = self._partner(media.name)
        if file.path == media.path:
            raise UsageError(f"{self.folder} is the folder being read; set `gray` to the folder of the grey images")
        try:
            frame = self._read(file)
        except MediaError as error:
            raise MediaError(f"its grey partner {file.path} {error}") from error
        own, other = media.upright_size[::-1], frame.unit.media.upright_size[::-1]
        if not _same_shape(own, other):
            raise MediaError("its grey partner {} has a different shape: {}x{}, not {}x{}".format(file.path, *other, *own))
        return frame

    def others(self, known: Iterable[PurePosixPath]) -> list[PurePosixPath]:
        """The images that were not requested and match none of these names, ignoring extensions."""
        requested = self._requested | {name.with_suffix("") for name in known}
        return [file.name for file in self._files.values() if file.stem not in requested and _is_image(file)]

    def _partner(self, name: PurePosixPath) -> _File:
        """The file of the same name, or else the only one that differs just in its extension. Raises MediaError."""
        found = [self._files[each] for each in self._index.find(name)]
        if len(found) > 1:
            found = list(filter(_is_image, found)) or found
        if len(found) > 1:
            raise MediaError(f"has several grey partners, {found[0].path} and {found[1].path}; keep one of them")
        return found[0]

    def _read(self, file: _File) -> Frame:
        if leads_outside(*file):
            raise MediaError("is a link out of its folder")
        return read_image(Unit(open_image(*file, max_pixels=self._max_pixels)))


def folder_fingerprint(folder: Path) -> str:
    """A hash of the names, sizes and modification times of a folder's files. Raises UsageError."""
    digest = blake2b(digest_size=16)
    for path, name in _files(folder):
        try:
            found = path.stat()
        except OSError:  # deleted meanwhile, or a broken link: reported when it is read
            continue
        digest.update(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[_File]:
    if not expand_user(folder).is_dir():
        raise UsageError(f"there is no folder {folder}; set `gray` to the folder of the grey images")
    return (_File(*found) for found in find_files(str(folder)))


def _is_image(file: _File) -> bool:
    try:
        with file.path.open("rb") as opened:
            return sniff(opened.read(HEAD))
    except OSError:
        return False


def _same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes, width and height, can belong to the same image."""
    (width, height), large = sorted((one, other))
    return abs(height - width * large[1] / large[0]) <= 1 + _TOLERANCE * height
