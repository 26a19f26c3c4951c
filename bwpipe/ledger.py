"""Which units are done, and by which recipe: a SQLite file in the output folder."""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass
from hashlib import blake2b
from pathlib import Path
from threading import Lock

from filelock import FileLock, Timeout

from bwpipe.draft import WORK_FOLDER, Draft, clear
from bwpipe.errors import UsageError
from bwpipe.frame import Unit

_TABLES = """
CREATE TABLE IF NOT EXISTS units (
    target BLOB NOT NULL, part INTEGER NOT NULL, recipe TEXT NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, digest TEXT NOT NULL,
    made_size INTEGER NOT NULL, made_mtime_ns INTEGER NOT NULL,
    PRIMARY KEY (target, part)
);
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is known of a unit that was done: its recipe, the input it was made of, and the file it became."""

    recipe: str
    size: int
    mtime_ns: int
    digest: str
    made_size: int
    made_mtime_ns: int


class Ledger:
    """Remembers which units are done, in one output folder. Safe in threads.

    Looking things up creates nothing; `open` does, and takes the folder's lock.

    Attributes:
        folder: The output folder.
        facts: What executions into this folder found out, see `Run.fact`.
    """

    def __init__(self, folder: Path) -> None:
        """Read what an earlier execution left. Raises UsageError."""
        self.folder = folder
        self.facts: dict[str, str | int | float | bool] = {}
        self._entries: dict[tuple[bytes, int], _Entry] = {}
        self._lock = Lock()
        self._file: sqlite3.Connection | None = None
        self._folder_lock = FileLock(folder / WORK_FOLDER / "lock")
        if (folder / WORK_FOLDER).is_dir():
            self.open()

    def open(self) -> None:
        """Create the ledger's file, or read it, and keep other runs out until `close`. Raises UsageError."""
        if self._file:
            return
        work = self.folder / WORK_FOLDER
        try:
            work.mkdir(parents=True, exist_ok=True)
            self._folder_lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(
                f"{self.folder}: another run is writing into it; wait for its end, or choose another folder"
            ) from None
        except OSError as error:
            raise UsageError(f"{self.folder}: can't write into it ({error.strerror}); choose another folder") from error
        clear(self.folder)
        try:
            self._file = sqlite3.connect(work / "ledger.sqlite", check_same_thread=False)
            self._file.executescript(_TABLES)
            for target, part, *rest in self._file.execute("SELECT * FROM units"):
                self._entries[target, part] = _Entry(*rest)
            self.facts |= dict(self._file.execute("SELECT key, value FROM facts"))
        except sqlite3.DatabaseError as error:
            self._folder_lock.release()
            raise UsageError(f"{work / 'ledger.sqlite'}: {error}; remove it to start over") from error

    def owns(self, unit: Unit, target: Path) -> bool:
        """Whether the file of that name is the one that was written for this unit, unchanged since."""
        entry = self._entries.get(self._key(unit, target))
        return entry is not None and _stamp(target) == (entry.made_size, entry.made_mtime_ns)

    def knows(self, path: Path) -> bool:
        """Whether a file somewhere in the folder has a name that was written by a run."""
        return os.fsencode(path.relative_to(self.folder)) in {target for target, _ in self._entries}

    def is_done(self, unit: Unit, target: Path, recipe: str) -> bool:
        """Whether the file of that name is what this recipe makes of this input, so that nothing is to be done."""
        entry = self._entries.get(self._key(unit, target))
        if entry is None or entry.recipe != recipe or not self.owns(unit, target):
            return False
        return _stamp(unit.media.path) == (entry.size, entry.mtime_ns) or digest(unit.media.path) == entry.digest

    def keep(self, unit: Unit, draft: Draft, recipe: str) -> None:
        """Give a finished file its final name, and remember it. Raises OSError.

        It is remembered first, with what its stamp will be: a run that is killed in between leaves an entry whose file is
        missing (the unit is done again), never a file of ours that we do not know.
        """
        stamp = _stamp(unit.media.path) or (0, 0)
        made = draft.settle()
        entry = _Entry(recipe, *stamp, digest(unit.media.path), made.st_size, made.st_mtime_ns)
        key = self._key(unit, draft.target)
        with self._opened() as file:
            self._entries[key] = entry
            file.execute("REPLACE INTO units VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*key, *astuple(entry)))
        draft.publish()

    def keep_facts(self, facts: dict[str, str | int | float | bool]) -> None:
        """Remember what was found out, before anything is made that depends on it."""
        self.facts |= facts
        with self._opened() as file:
            file.executemany("REPLACE INTO facts VALUES (?, ?)", facts.items())

    def close(self) -> None:
        """Let other runs in."""
        with self._lock:
            if self._file:
                self._file.close()
                self._file = None
        self._folder_lock.release()

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The open file, for one thread at a time; what is done to it inside is committed at the end."""
        with self._lock:
            if self._file is None:
                raise RuntimeError("the ledger is not open")
            with self._file:
                yield self._file

    def _key(self, unit: Unit, target: Path) -> tuple[bytes, int]:
        return os.fsencode(target.relative_to(self.folder)), unit.part


@contextmanager
def open_ledgers(folders: Iterable[Path]) -> Iterator[dict[Path, Ledger]]:
    """The ledgers of some output folders, closed at the end. Raises UsageError."""
    with ExitStack() as stack:
        ledgers = {}
        for folder in dict.fromkeys(folders):
            ledgers[folder] = Ledger(folder)
            stack.callback(ledgers[folder].close)
        yield ledgers


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size in bytes and time of the last change in nanoseconds; None if there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def digest(path: Path) -> str:
    """A hash (BLAKE2b, 128 bits, hexadecimal) of a file's bytes. Raises OSError."""
    with path.open("rb") as file:
        total = blake2b(digest_size=16)
        while block := file.read(1 << 20):
            total.update(block)
        return total.hexdigest()
