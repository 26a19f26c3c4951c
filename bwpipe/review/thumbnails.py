"""Small pictures of inputs and outputs, for the page, kept in the output folder so that each is made once."""

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.core.atomic_file import WORK_FOLDER
from bwpipe.core.context import RunContext
from bwpipe.core.fingerprint import Fingerprint, fingerprint
from bwpipe.core.frame import Frame, Unit
from bwpipe.core.stage import Source, stages
from bwpipe.engine.finished_files import FinishedFile
from bwpipe.errors import BwpipeError, MediaError, UsageError
from bwpipe.pixels.resize import squash
from bwpipe.pixels.ycbcr import rgb_to_ycbcr
from bwpipe.sequence.numbering import names_frames
from bwpipe.tools.preview import CELL, small

Pixels = NDArray[np.uint8]

QUALITY = 76
"""Quality of the WebP files: 20 kB for a photograph of 480 pixels."""
LARGE = 1600
"""Longer side of a picture that is looked at alone, in pixels."""
_REVISION = 2
"""Rises when the small pictures become different ones."""
_ALIKE = 2.0
"""Mean difference, in code values, up to which an input looks like the luma of its output, so that the page shows that."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An output and its input, as WebP files.

    Attributes:
        after: The output.
        before: The input; None if it looks like the luma of the output, or is gone.
    """

    after: bytes
    before: bytes | None


class Store:
    """Files in `.bwpipe/review/` of an output folder, each under a name that follows from what it shows.

    Where the folder can't be written, nothing is kept.
    """

    def __init__(self, folder: Path) -> None:
        """Look into a folder. Raises UsageError if a link stands in its place."""
        self.place = folder / WORK_FOLDER / "review"
        for path in (self.place.parent, self.place):
            if path.is_symlink():
                raise UsageError(f"{path} is a link; remove it, or choose another folder")

    def read(self, name: str) -> bytes | None:
        """A file; None if it is not there."""
        path = self.place / name
        with suppress(OSError):
            return None if path.is_symlink() else path.read_bytes()
        return None

    def keep(self, name: str, data: bytes) -> None:
        """Write a file, under its name once it is complete."""
        part = self.place / f"{secrets.token_hex(8)}.part"
        with suppress(OSError):
            self.place.mkdir(parents=True, exist_ok=True)
            with part.open("xb") as file:
                file.write(data)
            part.replace(self.place / name)

    def remove_others(self, names: set[str]) -> None:
        """Remove what is not among these names: small pictures of files that have been done again."""
        with suppress(OSError):
            for path in self.place.iterdir():
                if path.name not in names and path.suffix in (".webp", ".part"):
                    path.unlink(missing_ok=True)


def key_of(file: FinishedFile) -> str:
    """What the names of a file's small pictures begin with: it changes with the file, and with its input."""
    source = fingerprint(file.source) if file.source else None
    text = f"{_REVISION} {os.fsencode(file.target)!r} {file.stamp} {source}"
    return blake2b(text.encode(), digest_size=12).hexdigest()


def pair_of(file: FinishedFile, store: Store) -> Pair:
    """A picture and its input, made or found. Raises MediaError, OSError."""
    key = key_of(file)
    if after := store.read(f"{key}.webp"):
        return Pair(after, store.read(f"{key}-before.webp"))
    coloured = small(read_picture(file.target))
    before = _differing(file, coloured)
    made = Pair(encoded(coloured), None if before is None else encoded(before))
    if made.before:
        store.keep(f"{key}-before.webp", made.before)
    store.keep(f"{key}.webp", made.after)
    return made


def _differing(file: FinishedFile, coloured: Pixels) -> Pixels | None:
    """The input for display, if it does not look like the luma of the output."""
    try:
        grey = small(read_picture(file.source)) if file.source else None
    except (BwpipeError, OSError):  # moved since; the luma of the output is what it was
        return None
    if grey is None:
        return None
    if grey.shape != coloured.shape:
        planes = squash(grey, *coloured.shape[:2])
        grey = np.ascontiguousarray(planes.reshape(coloured.shape)).astype(np.uint8)
    luma = rgb_to_ycbcr(coloured, "bt601")[0].astype(np.float32)
    return grey if float(np.abs(grey - luma[..., None]).mean()) > _ALIKE else None


def read_picture(path: Path) -> Frame:
    """The single frame of a picture, or the first of several. Raises MediaError, OSError."""
    source, unit = open_file(path)
    try:
        frame = next(iter(source.read(unit, 0)), None)
    finally:
        source.close()
    if not isinstance(frame, Frame):
        raise MediaError("there is no picture in it")
    return frame


def open_file(path: Path) -> tuple[Source, Unit]:
    """A source that reads one file, and the file; the last few stay open, since a film takes long to index.

    Raises MediaError.
    """
    return _opened(path, fingerprint(path))


@lru_cache(maxsize=8)
def _opened(path: Path, stamp: Fingerprint | None) -> tuple[Source, Unit]:
    """The same, of a file with this fingerprint."""
    if stamp is None and names_frames(str(path)):
        source = stages["read"](path=str(path), rate=24)  # type: ignore[call-arg]
    else:
        source = stages["read"](path=str(path), sequence=False)  # type: ignore[call-arg]
    assert isinstance(source, Source)
    source.setup(RunContext())
    found = next(iter(source.units()), None)
    if not isinstance(found, Unit):
        raise MediaError(getattr(found, "error", "it is neither a picture nor a film"))
    return source, found


def encoded(rgb: Pixels) -> bytes:
    """An image (h, w, 3) in RGB as a WebP file."""
    return cv2.imencode(".webp", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1].tobytes()


__all__ = ["CELL", "LARGE", "Pair", "Store", "encoded", "key_of", "open_file", "pair_of", "read_picture"]
