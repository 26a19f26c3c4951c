"""Finds films of numbered files in a folder or by a pattern, and says what looks like one."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import Broken, Skipped, Unit
from bwpipe.core.inputs import SYSTEM_NAMES, expand_user
from bwpipe.core.ports import ScanCache
from bwpipe.errors import MediaError, UsageError
from bwpipe.image.file import ImageFile
from bwpipe.image.open import open_image
from bwpipe.image.read import read_image
from bwpipe.sequence.file import FrameSequence
from bwpipe.sequence.numbering import FrameFiles, by_last_number, find_frames, list_frames
from bwpipe.sequence.open import Gaps, open_sequence
from bwpipe.sequence.transfer import Transfer

ALONE = "DPX and OpenEXR files are read as numbered frames of a film only; set `sequence: true` and `rate`, such as `rate: 24`"
"""Why such a file is not read as a picture."""
_FRAMES = frozenset({".tif", ".tiff", ".png", ".jpg", ".jpeg", ".dpx", ".exr", ".bmp", ".jp2", ".webp", ".ppm", ".pgm"})
"""Extensions of files that can be frames."""
_RATE = re.compile(r"\d+(?:\.\d+)?(?:/\d+)?")
_NTSC = tuple(Fraction(number * 1000, 1001) for number in (24, 30, 48, 60, 120))
_FEWEST = 24
"""The fewest files that look like a film: a second of it."""
_PAIRS, _ALIKE = 5, 0.9
"""How many pairs of neighbours are compared, and from which correlation on they look like frames of one shot."""
_CAMERA = re.compile(
    r"(?:_?IMG|_?DSC|DSCN|DSCF|DSC_|_MG|MVI|PICT|P\d*|GOPR|DJI|PXL|SAM|CIMG|IMGP|HPIM|\d{3})[-_]?", re.IGNORECASE
)
"""What cameras write before the number of a photograph."""


def parse_rate(rate: int | float | str | None) -> str | None:
    """A frame rate as a fraction in text: `23.976` is 24000/1001. Raises ValueError."""
    if rate is None:
        return None
    text = str(rate)
    try:
        value = Fraction(text) if _RATE.fullmatch(text) else Fraction(0)
    except ZeroDivisionError:
        value = Fraction(0)
    if not 0 < value <= 1000:
        raise ValueError(f"expected frames per second, such as 24 or 24000/1001, not {text}")
    near = next((known for known in _NTSC if abs(known - value) < Fraction(1, 1000)), value)
    return str(near.limit_denominator(1001))


class _Options(TypedDict):
    rate: Fraction
    gaps: Gaps
    transfer: Transfer | None
    sound: str | None
    max_pixels: int
    stop: int | None
    scans: ScanCache | None


class SequenceFinder:
    """Finds the films of numbered frames that a path stands for: a pattern, or a folder with its subfolders."""

    def __init__(
        self,
        path: str,
        *,
        rate: Fraction,
        gaps: Gaps,
        transfer: Transfer | None,
        sound: str | None,
        max_pixels: int,
        stop: int | None,
        scans: ScanCache | None,
    ) -> None:
        """The options are those of `open_sequence`; nothing is listed yet."""
        self._path = path
        self._options: _Options = {
            "rate": rate,
            "gaps": gaps,
            "transfer": transfer,
            "sound": sound,
            "max_pixels": max_pixels,
            "stop": stop,
            "scans": scans,
        }
        self._films: set[tuple[Path, str, str]] = set()

    def units(self) -> Iterator[Unit | Broken]:
        """Each film. Raises UsageError if a pattern fits nothing, or one sound would belong to several films."""
        root = Path(os.path.abspath(expand_user(self._path)))  # noqa: PTH100 (`absolute` keeps "..")
        found = list(self._below(root) if root.is_dir() else self._fitting())
        if len(found) > 1 and self._options["sound"]:
            raise UsageError(
                f"`sound` belongs to one film, but {self._path} holds {len(found)}; read each by a pattern of its own"
            )
        for files, parent in found:
            self._films.add((files.folder, files.prefix, files.suffix))
            try:
                film = open_sequence(files, parent=parent, **self._options)
            except MediaError as error:
                yield Broken(files.path(0), parent / files.title, str(error))
            else:
                yield Unit(film, stop=self._options["stop"])

    def owns(self, path: Path) -> bool:
        """Whether a file is a frame of a film that was found."""
        parts = by_last_number(path.name)
        return parts is not None and (path.parent, parts[0], parts[2]) in self._films

    def _fitting(self) -> Iterator[tuple[FrameFiles, PurePosixPath]]:
        try:
            for files in find_frames(self._path):
                yield files, PurePosixPath()
        except MediaError as error:
            raise UsageError(f"{self._path}: {error}") from error

    def _below(self, root: Path) -> Iterator[tuple[FrameFiles, PurePosixPath]]:
        for folder, folders, _ in os.walk(root):
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name.lower() not in SYSTEM_NAMES)
            place = Path(folder)
            try:
                groups = list_frames(place, by_last_number)
            except OSError:  # finding the other files reports it
                continue
            parent = PurePosixPath(*place.relative_to(root).parts)
            for files in groups.values():
                if len(files) > 1 and Path(files.name(0)).suffix.lower() in _FRAMES:
                    yield files, parent


def open_frames(pattern: Path, *, rate: Fraction | int, max_pixels: int) -> FrameSequence:
    """The film of a pattern such as `reel1_%06d.tif`; gaps and damaged frames are left out of it. Raises MediaError."""
    files = next(find_frames(str(pattern)))
    return open_sequence(files, rate=Fraction(rate), gaps="hold", max_pixels=max_pixels)


@dataclass(slots=True)
class _Series:
    """Pictures of one size whose names differ in a number only."""

    first: int
    last: int
    width: int
    count: int = 1


class SequenceHints:
    """Watches which files are found, to say which look like the frames of a film."""

    def __init__(self) -> None:
        self._series: dict[tuple[Path, str, str, str], _Series] = {}

    def see(self, found: Unit | Broken | Skipped) -> None:
        """Look at a file that was found."""
        if isinstance(found, Unit) and isinstance(found.media, ImageFile):
            media = found.media
            kind = f"{media.width}x{media.height} {media.mode}"
        elif isinstance(found, Broken) and found.error == ALONE:
            kind = ALONE
        else:
            return
        if (parts := by_last_number(found.path.name)) is None:
            return
        number, key = int(parts[1]), (found.path.parent, parts[0], parts[2], kind)
        if series := self._series.get(key):
            series.first, series.last = min(series.first, number), max(series.last, number)
            series.count += 1
        else:
            self._series[key] = _Series(number, number, len(parts[1]))

    def texts(self) -> Iterator[str]:
        """A sentence for each series that looks like a film: contiguous numbers, and neighbours that look alike."""
        for (folder, prefix, suffix, kind), series in self._series.items():
            contiguous = series.count >= _FEWEST and series.last - series.first + 1 == series.count
            if not contiguous or _CAMERA.fullmatch(prefix):
                continue
            numbers = np.linspace(series.first, series.last - 1, _PAIRS).astype(int)
            pairs = [
                [folder / f"{prefix}{number:0{series.width}d}{suffix}" for number in (start, start + 1)] for start in numbers
            ]
            if kind == ALONE or sum(_alike(*pair) for pair in pairs) > _PAIRS // 2:
                name = f"{prefix}{series.first:0{series.width}d}{suffix}"
                yield (
                    f"{series.count} files look like one film ({folder / name} and so on): to colour them as one, set "
                    "`read.sequence: true` and `read.rate`, such as `rate: 24`"
                )


def _alike(one: Path, other: Path) -> bool:
    """Whether two pictures look like neighbours of one shot."""
    try:
        first, second = _thumbnail(one), _thumbnail(other)
    except (MediaError, OSError):
        return False
    spread = float(first.std() * second.std())
    return spread > 0 and float(np.mean((first - first.mean()) * (second - second.mean()))) / spread >= _ALIKE


def _thumbnail(path: Path) -> NDArray[np.float32]:
    frame = read_image(Unit(open_image(path, PurePosixPath(path.name), max_pixels=2**28)))
    return cv2.resize(frame.luma, (32, 24), interpolation=cv2.INTER_AREA).astype(np.float32)
