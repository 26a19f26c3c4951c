"""Writes films as numbered frames: each file atomic, a segment at a time, known by the segment's record.

A segment's record is its fragment: it lists the files, with their sizes and times. The ledger knows the record before any frame
has its final name, so that a killed run leaves no file that the next one would take for the user's. The record stays when the
film is finished: it tells whether the film's files are still there, and which segment has to be written again.
"""

import json
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.atomic_file import WORK_FOLDER, AtomicFile, publish_together
from bwpipe.core.frame import Frame
from bwpipe.core.json_text import parse_json
from bwpipe.core.segments import fragment_path, waiting_fragments
from bwpipe.errors import DamagedRecord, MediaError
from bwpipe.sequence.encode import FrameEncoder, FrameTarget, check_target, frame_notes, frame_target
from bwpipe.sequence.file import FrameSequence
from bwpipe.sequence.naming import FrameNames, frame_names, number_of
from bwpipe.sequence.numbering import list_frames
from bwpipe.video.file import VideoFile

_SIGNATURE = b"bwpipe frames 1\n"
_REVISIONS: dict[FrameTarget, int] = {"exr": 2}
"""Increase that of a format when its files become different ones: existing ones are then written again. 1 for the others."""
_ABSENT = -1
_COLUMNS = 5


class FrameRecord:
    """The record of a segment's files, and an `AtomicFile` that gives them their names with its own.

    Attributes:
        names: Their names.
        rows: (files, 5) int64: number, size, modification time, and size and modification time of the file that each replaces;
            -1 where there was none.
    """

    def __init__(self, names: FrameNames, rows: NDArray[np.int64]) -> None:
        self.names, self.rows = names, rows

    @staticmethod
    def read(path: Path) -> "FrameRecord | None":
        """The record in a file; None if it is gone or damaged."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            data = path.read_bytes()
            head, _, body = data.removeprefix(_SIGNATURE).partition(b"\n")
            if data.startswith(_SIGNATURE):
                found = parse_json(head)
                names = FrameNames(PurePosixPath(found["place"]), found["prefix"], found["width"], found["suffix"])
                return FrameRecord(names, np.frombuffer(body, "<i8").reshape(-1, _COLUMNS))
        return None

    def to_bytes(self) -> bytes:
        """What `read` reads."""
        head = json.dumps({**self.names._asdict(), "place": str(self.names.place)}).encode()
        return _SIGNATURE + head + b"\n" + self.rows.astype("<i8").tobytes()

    def is_intact(self, folder: Path) -> bool:
        """Whether all files are there as they were written."""
        place = folder / self.names.place
        return all(_size_and_time(place / self.names.name(int(row[0]))) == (row[1], row[2]) for row in self.rows)


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        status = os.lstat(path)
    except OSError:
        return _ABSENT, _ABSENT
    return status.st_size, status.st_mtime_ns


class FrameFile(AtomicFile):
    """The record of a segment, and the frames that get their final names once it has its own.

    Attributes:
        frames: The frames' files, still under their temporary names.
    """

    def __init__(self, target: Path, folder: Path) -> None:
        """Create the temporary file of the record. Raises OSError, MediaError."""
        super().__init__(target, folder)
        self.frames: list[AtomicFile] = []

    def publish(self) -> None:
        """Rename the record, then the frames. Raises OSError, MediaError."""
        super().publish()
        publish_together(self.frames)

    def discard(self) -> None:
        """Remove what is unfinished."""
        super().discard()
        for file in self.frames:
            file.discard()


class FrameSegment:
    """Writes the frames of one segment, several at a time, under temporary names.

    Attributes:
        lost: As of other writers of segments: nothing.
    """

    def __init__(
        self,
        file: FrameFile,
        folder: Path,
        film: VideoFile,
        names: FrameNames,
        encoder: FrameEncoder,
        *,
        workers: int,
        date: Callable[[Path, AtomicFile], None],
    ) -> None:
        """Nothing is written yet.

        Args:
            file: The record.
            folder: The output folder.
            film: The film.
            names: The names of its frames.
            encoder: Encodes them.
            workers: How many are encoded at a time.
            date: Called with the file that a frame comes from, and the finished one, to set its date.
        """
        self.film, self.lost = film, frozenset[str]()
        self._file, self._folder, self._names, self._encoder, self._date = file, folder, names, encoder, date
        self._pool = ThreadPoolExecutor(workers)
        self._most = workers + 1
        self._pending: deque[Future[tuple[int, ...]]] = deque()
        self._rows: list[tuple[int, ...]] = []

    def write(self, frame: Frame) -> None:
        """Add a frame. Raises MediaError, OSError: those of an earlier frame too."""
        place = self._folder / self._names.place
        file = AtomicFile(place / self._names.name(number_of(self.film, frame.index)), self._folder)
        self._file.frames.append(file)
        self._pending.append(self._pool.submit(self._encode, frame, file))
        while len(self._pending) > self._most or (self._pending and self._pending[0].done()):
            self._rows.append(self._pending.popleft().result())

    def close(self) -> None:
        """Wait for all frames, and write the record. Raises MediaError, OSError."""
        while self._pending:
            self._rows.append(self._pending.popleft().result())
        self._pool.shutdown()
        record = FrameRecord(self._names, np.array(self._rows, np.int64).reshape(-1, _COLUMNS))
        self._file.path.write_bytes(record.to_bytes())

    def abandon(self) -> None:
        """Stop; the record removes the files."""
        for future in self._pending:
            future.cancel()
        self._pool.shutdown()

    def _encode(self, frame: Frame, file: AtomicFile) -> tuple[int, ...]:
        self._encoder.write(file.path, file.target.name, frame)
        self._date(self.film.files.path(frame.index) if isinstance(self.film, FrameSequence) else self.film.path, file)
        status = file.flush()
        return number_of(self.film, frame.index), status.st_size, status.st_mtime_ns, *_size_and_time(file.target)


class FrameOutput:
    """How one film becomes frames in an output folder.

    Attributes:
        film: The film.
        names: The names of its frames.
        target: The file that stands for all frames.
        recipe: What the frames depend on.
    """

    def __init__(
        self, film: VideoFile, folder: Path, *, name: str, requested: FrameTarget | None, quality: int, workers: int
    ) -> None:
        """Nothing is looked at yet.

        Args:
            film: The film.
            folder: The output folder.
            name: `write.name`.
            requested: The format; None for the input's own.
            quality: Of JPEG, 1 to 100.
            workers: How many frames are encoded at a time.

        Raises:
            MediaError: The format can't hold frames of this size.
        """
        self.film = film
        self._format = frame_target(film, requested)
        check_target(film, self._format)
        self.names = frame_names(film, name, self._format)
        self.target = folder / WORK_FOLDER / "frames" / self.names.place / self.names.pattern
        self.recipe: dict[str, Any] = {"revision": _REVISIONS.get(self._format, 1), "as": "frames", "format": self._format}
        if self._format == "jpeg":
            self.recipe["quality"] = quality
        self._folder, self._quality, self._workers = folder, quality, workers

    @property
    def pattern(self) -> Path:
        """The pattern of all files."""
        return self._folder / self.names.place / self.names.pattern

    def losses(self) -> Iterator[str]:
        """Warnings about what the frames can't hold."""
        return frame_notes(self.film, self._format)

    def open(
        self,
        fragment: Path,
        inputs: Collection[tuple[str, str, str]],
        *,
        note: Callable[[Frame], str],
        date: Callable[[Path, AtomicFile], None],
        warn: Callable[[str], None],
    ) -> tuple[FrameFile, FrameSegment]:
        """Begin a segment.

        Args:
            fragment: The path of its record.
            inputs: `FrameFiles.key` of the films that are read.
            note: What a frame's metadata say about how it was made.
            date: Called with the file that a frame comes from, and the finished one.
            warn: Called for each loss.

        Raises:
            MediaError: The frames would have the names of inputs.
            OSError: The output folder can't be written.
        """
        names = self.names
        if (os.path.realpath(self._folder / names.place), names.prefix, names.suffix) in inputs:
            raise MediaError("its frames would get the names of an input's frames; write to another `path` or `name`")
        encoder = FrameEncoder(self.film, self._format, quality=self._quality, note=note, warn=warn)
        file = FrameFile(fragment, self._folder)
        return file, FrameSegment(file, self._folder, self.film, names, encoder, workers=self._workers, date=date)

    def finish(self, records: Sequence[Path]) -> AtomicFile:
        """The file that stands for all frames, once every segment has its record. Raises MediaError, OSError."""
        return finish(self.target, self._folder, records)

    def is_intact(self, path: Path) -> bool:
        """Whether all files of a segment's record, or of the film's if that is its target, are there as they were written."""
        return is_intact(self._folder, path, self.target)

    def in_the_way(self, stop: int | None) -> Path | None:
        """A file with the name of one of its frames, up to `stop`, that no run has written; None if there is none."""
        return in_the_way(self.film, self.names, self._folder, self.target, stop)


def finish(target: Path, folder: Path, records: Sequence[Path]) -> AtomicFile:
    """The file that stands for all frames, once every segment has its record. Raises MediaError, OSError."""
    found = [FrameRecord.read(path) for path in records]
    if None in found:
        raise DamagedRecord("the record of a segment", records[found.index(None)])
    count = sum(len(record.rows) for record in found if record)
    if not count:
        raise MediaError("none of its frames were written")
    file = AtomicFile(target, folder)
    summary = {"frames": count, "segments": len(records), "records": _digest(records)}
    file.path.write_text(json.dumps(summary) + "\n", "utf-8")
    return file


def is_intact(folder: Path, path: Path, target: Path) -> bool:
    """Whether all files of a segment's record, or of the film's if `path` is its `target`, are there as they were written."""
    records = [path]
    if path == target:
        try:
            summary = parse_json(target.read_text("utf-8"))
            records = [fragment_path(folder, target, part) for part in range(summary["segments"])]
            if _digest(records) != summary["records"]:
                return False
        except (OSError, ValueError, KeyError, TypeError):
            return False
    found = (FrameRecord.read(each) for each in records)
    return all(record is not None and record.is_intact(folder) for record in found)


def _digest(paths: Iterable[Path]) -> str:
    """A hash of the bytes of some records. Raises OSError."""
    hasher = blake2b(digest_size=16)
    for path in paths:
        hasher.update(path.read_bytes())
    return hasher.hexdigest()


def in_the_way(film: VideoFile, names: FrameNames, folder: Path, target: Path, stop: int | None) -> Path | None:
    """A file with the name of a frame of a film, up to `stop`, that no run has written; None if there is none."""
    place = folder / names.place
    if not place.is_dir():
        return None
    start, end = len(names.prefix), -len(names.suffix)

    def split(name: str) -> tuple[str, str, str] | None:
        digits = name[start:end]
        fits = name.startswith(names.prefix) and name.endswith(names.suffix) and digits.isascii() and digits.isdecimal()
        return (names.prefix, digits, names.suffix) if fits and names.name(int(digits)) == name else None

    there = list_frames(place, split, links=True).get((names.prefix, names.suffix))
    if there is None:
        return None
    wanted = film.files.numbers if isinstance(film, FrameSequence) else np.arange(len(film.times))
    rows = np.stack([there.numbers, there.sizes, there.mtimes], axis=1)[np.isin(there.numbers, wanted[:stop])]
    known = np.concatenate([*_known(folder, names, target), np.zeros((0, 3), np.int64)])
    foreign = rows[~np.isin(_keys(rows), _keys(known))]
    return place / names.name(int(foreign[0, 0])) if len(foreign) else None


def _known(folder: Path, names: FrameNames, target: Path) -> Iterator[NDArray[np.int64]]:
    """Number, size and time of the files that runs have written, or found in the place of theirs when they were allowed to."""
    for path in waiting_fragments(folder, [target]):
        record = FrameRecord.read(path)
        if record and record.names == names:
            yield record.rows[:, :3]
            yield record.rows[:, [0, 3, 4]]


def _keys(rows: NDArray[np.int64]) -> "NDArray[np.void]":
    """Each row as one value."""
    return np.ascontiguousarray(rows).view([("", np.int64)] * 3).ravel()
