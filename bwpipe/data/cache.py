"""Pairs kept as files, so that the pictures they come from are read once."""

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from bwpipe.core.atomic_file import SUFFIX, WORK_FOLDER
from bwpipe.core.context import RunContext
from bwpipe.core.fingerprint import Fingerprint
from bwpipe.core.frame import Unit
from bwpipe.data.dataset import COLOUR, GREY, Pair, map_array
from bwpipe.errors import RunAborted, UsageError, format_error
from bwpipe.metrics.image_metrics import colourfulness

STORY = "dataset.json"
_POLL = 0.5
"""Seconds between two looks at whether the run is to end, while another one writes."""


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """What is told of some pairs beside them.

    Attributes:
        names: The name of each, below the folder that was read.
        digest: A hash of the pairs and their names.
        colourfulness: The mean over the pairs.
        left_out: The pictures that are not among them on purpose, and why.
        failed: The files that could not be read, and why.
        recipe: How they were made.
    """

    names: list[str]
    digest: str
    colourfulness: float
    left_out: dict[str, str]
    failed: dict[str, str]
    recipe: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class CachedPairs:
    """Pairs that are kept.

    Attributes:
        folder: Where; None for some in memory.
        grey: (N, S, S) uint8, read-only where it is mapped.
        colour: (N, S, S, 3) uint8, likewise.
        story: What is told of them.
    """

    folder: Path | None
    grey: NDArray[np.uint8]
    colour: NDArray[np.uint8]
    story: DatasetInfo

    def loaded(self) -> "CachedPairs":
        """The same in memory, for when the folder goes."""
        return CachedPairs(None, np.array(self.grey), np.array(self.colour), self.story)


@dataclass(frozen=True, eq=False)
class CacheKey:
    """What pairs are wanted: of which files, made how. Both are as `Gather.ready` is told."""

    units: Mapping[Unit, Fingerprint | None]
    recipe: Sequence[Mapping[str, Any]]

    @cached_property
    def key(self) -> str:
        """A hash of it all."""
        files = [(str(unit.name), unit.part, unit.start, unit.stop, found) for unit, found in self.units.items()]
        return blake2b(json.dumps([files, self.recipe], sort_keys=True).encode(), digest_size=16).hexdigest()


class Cache:
    """A folder with a folder for each wish that was fulfilled; what is in there is whole, and never changed."""

    def __init__(self, folder: Path) -> None:
        """`folder` need not exist."""
        self._folder = folder.expanduser().absolute()

    def place(self, wish: CacheKey) -> Path:
        """Where the pairs of a wish are, or will be."""
        return self._folder / wish.key

    def find(self, wish: CacheKey) -> CachedPairs | None:
        """The pairs that are wanted; None where they are not there, or damaged."""
        place = self.place(wish)
        try:
            story = DatasetInfo(**json.loads((place / STORY).read_text(encoding="ascii")))
            kept = CachedPairs(place, map_array(place / GREY), map_array(place / COLOUR), story)
        except (OSError, ValueError, TypeError, EOFError):
            return None
        shape = kept.grey.shape
        fits = (
            kept.grey.dtype == kept.colour.dtype == np.uint8
            and kept.colour.shape == (*shape, 3)
            and shape[:1] == (len(story.names),)
        )
        return kept if fits else None

    def fill(self, wish: CacheKey, pairs: Iterable[Pair], run: RunContext) -> CachedPairs:
        """Keep the pairs that were wanted, or find that another run has done so by now.

        Raises:
            UsageError: There is none; the folder can't be written into.
            RunAborted: The disk is full, or fails otherwise.
        """
        with self._alone(run) as work:
            return self.find(wish) or self._write(wish, pairs, run, work)

    def others(self, wish: CacheKey) -> list[Path]:
        """The folders of other wishes."""
        return [file.parent for file in sorted(self._folder.glob(f"*/{STORY}")) if file.parent != self.place(wish)]

    @contextmanager
    def _alone(self, run: RunContext) -> Iterator[Path]:
        """Keep other runs from writing into the cache. The folder for unfinished files, without those of killed runs."""
        work = self._folder / WORK_FOLDER
        lock = FileLock(work / "lock")
        try:
            work.mkdir(parents=True, exist_ok=True)
            if not _acquired(lock, timeout=0):
                run.note(f"{self._folder}: waiting for another run, which makes a dataset there")
                while not _acquired(lock, timeout=_POLL):
                    run.raise_if_stopped()
        except OSError as error:
            raise UsageError(
                f"{self._folder}: can't write into it ({error.strerror}); choose another `dataset.cache`"
            ) from error
        try:
            for left in work.glob(f"*{SUFFIX}"):
                shutil.rmtree(left, ignore_errors=True)
            yield work
        finally:
            lock.release()

    def _write(self, wish: CacheKey, pairs: Iterable[Pair], run: RunContext, work: Path) -> CachedPairs:
        place, part = self.place(wish), work / f"{secrets.token_hex(8)}{SUFFIX}"
        try:
            part.mkdir()
            with PairFiles(part) as files:
                for pair in pairs:
                    files.add(pair)
            if not files.names:
                raise UsageError("there is no picture to train on; read a folder of colour photographs")
            story = DatasetInfo(
                names=files.names,
                digest=files.digest,
                colourfulness=files.colourfulness,
                left_out={str(unit.name): run.dropped[unit.media] for unit in wish.units if unit.media in run.dropped},
                failed={str(unit.name): format_error(error) for unit in wish.units if (error := run.failure(unit))},
                recipe=[dict(each) for each in wish.recipe],
            )
            with (part / STORY).open("x", encoding="ascii") as file:
                json.dump(asdict(story), file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            if place.exists():  # damaged, else it would have been found
                shutil.rmtree(place)
            part.rename(place)
            _sync(place)
            _sync(place.parent)
        except OSError as error:
            raise RunAborted(
                f"{self._folder}: the dataset can't be written ({error.strerror}); make room, and run again"
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        kept = self.find(wish)
        if kept is None:
            raise RunAborted(f"{place}: what was just written can't be read; check the disk, and run again")
        return kept


def _acquired(lock: FileLock, timeout: float) -> bool:
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        return False
    return True


def _sync(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
    if os.name == "posix":  # elsewhere a folder can't be opened, and a rename is durable by itself
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


class PairFiles:
    """Writes pairs into two files, one after another; at the end of a `with` they are whole and on the disk.

    Attributes:
        names: The name of each pair's picture.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` exists and has no such files. Raises OSError."""
        self.names: list[str] = []
        self._grey, self._colour = _Rows(folder / GREY), _Rows(folder / COLOUR)
        self._digest = blake2b(digest_size=16)
        self._colourfulness = 0.0

    def add(self, pair: Pair) -> None:
        """Write one. Raises OSError, and UsageError for one that is not of the size of the others."""
        name = str(pair.unit.name)
        size = self._grey.shape or pair.grey.shape
        for array, shape in ((pair.grey, size), (pair.colour, (*size, 3))):
            if array.shape != shape or array.dtype != np.uint8:
                raise UsageError(
                    f"{name}: its pair has an array of {array.shape} {array.dtype}, not {shape} uint8; "
                    "let the stage before `dataset` make all pairs of one size"
                )
        self._digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
        for file, array in ((self._grey, pair.grey), (self._colour, pair.colour)):
            self._digest.update(file.add(array))
        self._colourfulness += colourfulness(pair.colour)
        self.names.append(name)

    @property
    def digest(self) -> str:
        """A hash of the pairs so far, and of their names."""
        return self._digest.hexdigest()

    @property
    def colourfulness(self) -> float:
        """The mean over the pairs so far, of which there is one."""
        return self._colourfulness / len(self.names)

    def __enter__(self) -> "PairFiles":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Finish the files; where there was an error, close them as they are. Raises OSError."""
        with suppress(OSError) if error else nullcontext():
            try:
                self._grey.close()
            finally:
                self._colour.close()


class _Rows:
    """An .npy file of uint8 that gets one row after another; the first one decides on the shape of all.

    Attributes:
        shape: Of a row; empty before the first.
    """

    def __init__(self, path: Path) -> None:
        self.shape: tuple[int, ...] = ()
        self._count = 0
        self._file = path.open("xb")

    def add(self, row: NDArray[np.uint8]) -> memoryview:
        """Write one. Its bytes."""
        if not self._count:
            self.shape = row.shape
            self._head()
        content = np.ascontiguousarray(row).data
        self._file.write(content)
        self._count += 1
        return content

    def close(self) -> None:
        """Write how many there are, and flush all to the disk."""
        with self._file:
            self._head()
            self._file.flush()
            os.fsync(self._file.fileno())

    def _head(self) -> None:
        """Write the header, which numpy makes of one length however many rows there are."""
        self._file.seek(0)
        what = {"descr": "|u1", "fortran_order": False, "shape": (self._count, *self.shape)}
        np.lib.format.write_array_header_1_0(self._file, what)
