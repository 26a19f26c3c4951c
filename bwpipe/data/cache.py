"""Caches pairs on disk, so that the source images are read only once."""

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.atomic_file import SUFFIX, WORK_FOLDER
from bwpipe.core.context import RunContext
from bwpipe.core.fingerprint import Fingerprint
from bwpipe.core.folder_lock import FolderLock
from bwpipe.core.frame import Unit
from bwpipe.core.inputs import expand_user
from bwpipe.core.json_text import parse_json
from bwpipe.data.dataset import COLOUR, GREY, Pair, map_array
from bwpipe.errors import RunAborted, UsageError, format_error
from bwpipe.metrics.image_metrics import colourfulness

INFO_FILE = "dataset.json"
_POLL = 0.5
"""Seconds between checks whether the run is to stop, while another run holds the lock."""


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """Metadata of cached pairs, stored beside them.

    Attributes:
        names: The name of each, relative to the folder that was read.
        digest: A hash of the pairs and their names.
        colourfulness: The mean over the pairs.
        left_out: The images that were excluded on purpose, and why.
        failed: The files that could not be read, and why.
        recipe: The recipe they were made with.
        checksum: A hash of all other metadata; empty in datasets of 0.1.0.
    """

    names: list[str]
    digest: str
    colourfulness: float
    left_out: dict[str, str]
    failed: dict[str, str]
    recipe: list[dict[str, Any]]
    checksum: str = ""

    def computed_checksum(self) -> str:
        """What `checksum` is if nothing else has changed."""
        content = {key: value for key, value in asdict(self).items() if key != "checksum"}
        return blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class CachedPairs:
    """Pairs from the cache.

    Attributes:
        folder: Their folder; None if they are in memory.
        grey: (N, S, S) uint8, read-only if memory-mapped.
        colour: (N, S, S, 3) uint8, likewise.
        info: Their metadata.
    """

    folder: Path | None
    grey: NDArray[np.uint8]
    colour: NDArray[np.uint8]
    info: DatasetInfo

    def in_memory(self) -> "CachedPairs":
        """A copy in memory, for when the folder is temporary."""
        return CachedPairs(None, np.array(self.grey), np.array(self.colour), self.info)


@dataclass(frozen=True, eq=False)
class CacheKey:
    """Identifies pairs by their source files and their recipe, as passed to `Gather.ready`."""

    units: Mapping[Unit, Fingerprint | None]
    recipe: Sequence[Mapping[str, Any]]

    @cached_property
    def digest(self) -> str:
        """A hash of files and recipe."""
        files = [(str(unit.name), unit.part, unit.start, unit.stop, found) for unit, found in self.units.items()]
        return blake2b(json.dumps([files, self.recipe], sort_keys=True).encode(), digest_size=16).hexdigest()


class Cache:
    """A folder with one subfolder per key; its contents are complete and never modified."""

    def __init__(self, folder: Path) -> None:
        """`folder` need not exist."""
        self._folder = expand_user(folder).absolute()

    def path(self, key: CacheKey) -> Path:
        """The folder of a key's pairs, existing or not."""
        return self._folder / key.digest

    def find(self, key: CacheKey) -> CachedPairs | None:
        """The pairs of a key, read through and compared with their checksums; None if they are missing or damaged."""
        path = self.path(key)
        try:
            info = DatasetInfo(**parse_json((path / INFO_FILE).read_text(encoding="ascii")))
            pairs = CachedPairs(path, map_array(path / GREY), map_array(path / COLOUR), info)
            shape = pairs.grey.shape
            is_valid = (
                pairs.grey.dtype == pairs.colour.dtype == np.uint8
                and pairs.colour.shape == (*shape, 3)
                and shape[:1] == (len(info.names),)
                and info.checksum in ("", info.computed_checksum())
                and _digest(path, pairs) == info.digest
            )
        except (OSError, ValueError, TypeError, EOFError):
            return None
        return pairs if is_valid else None

    def fill(self, key: CacheKey, pairs: Iterable[Pair], run: RunContext) -> CachedPairs:
        """Store the pairs of a key, unless another run has done so in the meantime.

        Raises:
            UsageError: There are no pairs; the folder is not writable.
            RunAborted: The disk is full, or fails otherwise.
        """
        with self._locked(run) as work:
            return self.find(key) or self._write(key, pairs, run, work)

    def others(self, key: CacheKey) -> list[Path]:
        """The folders of other keys."""
        return [file.parent for file in sorted(self._folder.glob(f"*/{INFO_FILE}")) if file.parent != self.path(key)]

    @contextmanager
    def _locked(self, run: RunContext) -> Iterator[Path]:
        """Lock the cache against other runs; yields the folder for unfinished files, without leftovers of killed runs."""
        work = self._folder / WORK_FOLDER
        lock = FolderLock(work / "lock")
        try:
            work.mkdir(parents=True, exist_ok=True)
            if not lock.try_acquire():
                run.note(f"{self._folder}: waiting for another run that is building a dataset there{lock.hint}")
                while not lock.try_acquire(timeout=_POLL):
                    run.raise_if_stopped()
        except OSError as error:
            raise UsageError(
                f"{self._folder}: cannot be written to ({error.strerror}); choose another `dataset.cache`"
            ) from error
        try:
            for leftover in work.glob(f"*{SUFFIX}"):
                shutil.rmtree(leftover, ignore_errors=True)
            yield work
        finally:
            lock.release()

    def _write(self, key: CacheKey, pairs: Iterable[Pair], run: RunContext, work: Path) -> CachedPairs:
        path, part = self.path(key), work / f"{secrets.token_hex(8)}{SUFFIX}"
        try:
            part.mkdir()
            with PairFiles(part) as files:
                for pair in pairs:
                    files.add(pair)
            if not files.names:
                raise UsageError("there are no images to train on; read a folder of colour photographs")
            info = DatasetInfo(
                names=files.names,
                digest=files.digest,
                colourfulness=files.colourfulness,
                left_out={str(unit.name): run.dropped[unit.media] for unit in key.units if unit.media in run.dropped},
                failed={str(unit.name): format_error(error) for unit in key.units if (error := run.failure(unit))},
                recipe=[dict(each) for each in key.recipe],
            )
            info = replace(info, checksum=info.computed_checksum())
            with (part / INFO_FILE).open("x", encoding="ascii") as file:
                json.dump(asdict(info), file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            if path.exists():  # damaged, otherwise `find` would have returned it
                shutil.rmtree(path)
            part.rename(path)
            _sync(path)
            _sync(path.parent)
        except OSError as error:
            raise RunAborted(
                f"{self._folder}: the dataset cannot be written ({error.strerror}); free some space and run again"
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        written = self.find(key)
        if written is None:
            raise RunAborted(f"{path}: the files just written cannot be read back; check the disk and run again")
        return written


def _digest(folder: Path, pairs: CachedPairs) -> str:
    """The digest of pairs as they are on the disk, as by `PairFiles`. Raises OSError.

    The files are read, not the memory that they are mapped to: there, a bad sector would end the process.
    """
    digest = blake2b(digest_size=16)
    with (folder / GREY).open("rb") as grey, (folder / COLOUR).open("rb") as colour:
        files = [(grey, pairs.grey), (colour, pairs.colour)]
        for file, array in files:
            file.seek(os.fstat(file.fileno()).st_size - array.nbytes)
        for name in pairs.info.names:
            _add_name(digest, name)
            for file, array in files:
                digest.update(file.read(array[0].nbytes))
    return digest.hexdigest()


def _add_name(digest: blake2b, name: str) -> None:
    digest.update(name.encode("utf-8", "surrogateescape") + b"\0")


def _sync(folder: Path) -> None:
    """Flush a folder's entries to the disk."""
    if os.name == "posix":  # elsewhere folders cannot be opened, and renames are durable anyway
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


class PairFiles:
    """Writes pairs one after another into two files, which are complete and on the disk at the end of a `with` block.

    Attributes:
        names: The name of each pair's source image.
    """

    def __init__(self, folder: Path) -> None:
        """Create the files in an existing `folder` that has none. Raises OSError."""
        self.names: list[str] = []
        self._grey, self._colour = _ArrayWriter(folder / GREY), _ArrayWriter(folder / COLOUR)
        self._digest = blake2b(digest_size=16)
        self._colourfulness = 0.0

    def add(self, pair: Pair) -> None:
        """Write a pair. Raises OSError; UsageError if its size differs from that of the others."""
        name = str(pair.unit.name)
        size = self._grey.shape or pair.grey.shape
        for array, shape in ((pair.grey, size), (pair.colour, (*size, 3))):
            if array.shape != shape or array.dtype != np.uint8:
                raise UsageError(
                    f"{name}: its pair has an array of {array.shape} {array.dtype}, not {shape} uint8; "
                    "the stage before `dataset` must make all pairs the same size"
                )
        _add_name(self._digest, name)
        for file, array in ((self._grey, pair.grey), (self._colour, pair.colour)):
            self._digest.update(file.add(array))
        self._colourfulness += colourfulness(pair.colour)
        self.names.append(name)

    @property
    def digest(self) -> str:
        """A hash of the pairs so far and their names."""
        return self._digest.hexdigest()

    @property
    def colourfulness(self) -> float:
        """The mean over the pairs so far, at least one."""
        return self._colourfulness / len(self.names)

    def __enter__(self) -> "PairFiles":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Finish the files; after an error, just close them. Raises OSError."""
        with suppress(OSError) if error else nullcontext():
            try:
                self._grey.close()
            finally:
                self._colour.close()


class _ArrayWriter:
    """Writes a uint8 .npy file row by row; the first row determines the shape of all.

    Attributes:
        shape: Shape of a row; empty before the first.
    """

    def __init__(self, path: Path) -> None:
        self.shape: tuple[int, ...] = ()
        self._count = 0
        self._file = path.open("xb")

    def add(self, row: NDArray[np.uint8]) -> memoryview:
        """Write a row and return its bytes."""
        if not self._count:
            self.shape = row.shape
            self._write_header()
        content = np.ascontiguousarray(row).data
        self._file.write(content)
        self._count += 1
        return content

    def close(self) -> None:
        """Write the final count and flush everything to the disk."""
        with self._file:
            self._write_header()
            self._file.flush()
            os.fsync(self._file.fileno())

    def _write_header(self) -> None:
        """Write the header; numpy pads it so that its length does not depend on the number of rows."""
        self._file.seek(0)
        header = {"descr": "|u1", "fortran_order": False, "shape": (self._count, *self.shape)}
        np.lib.format.write_array_header_1_0(self._file, header)
