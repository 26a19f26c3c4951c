"""The ledger: which units are done, by which recipe, and which failed, in a SQLite file in the output folder."""

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from urllib.parse import quote

from filelock import FileLock, Timeout

from bwpipe.core.atomic_file import WORK_FOLDER, AtomicFile, remove_leftovers
from bwpipe.core.fingerprint import Fingerprint, digest, fingerprint
from bwpipe.core.frame import Unit
from bwpipe.core.segments import FRAGMENTS
from bwpipe.errors import MediaError, RunAborted, UsageError

_VERSION = 1
_TABLES = f"""
CREATE TABLE IF NOT EXISTS units (
    target BLOB, part INTEGER, recipe TEXT, size INTEGER, mtime_ns INTEGER, digest TEXT,
    made_size INTEGER, made_mtime_ns INTEGER, PRIMARY KEY (target, part)
);
CREATE TABLE IF NOT EXISTS failures (path BLOB PRIMARY KEY, error TEXT);
CREATE TABLE IF NOT EXISTS notes (target BLOB, part INTEGER, text TEXT, PRIMARY KEY (target, part));
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value);
PRAGMA user_version = {_VERSION};
"""
_UNITS = "SELECT target, part, recipe, size, mtime_ns, digest, made_size, made_mtime_ns FROM units"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A finished unit: its recipe, fingerprint and digest of its input, and fingerprint of its output."""

    recipe: str
    source: Fingerprint
    digest: str
    output: Fingerprint


class Ledger:
    """Records which units of one output folder are done. Thread-safe.

    Lookups change nothing; `open` allows writing and locks out other runs.

    Attributes:
        folder: The output folder.
        path: The ledger's file.
        facts: What runs into this folder remembered, see `RunContext.remember`.
    """

    def __init__(self, folder: Path) -> None:
        """Read what an earlier run recorded, if there was one. Raises UsageError."""
        self.folder = folder
        self.facts: dict[str, str | int | float | bool] = {}
        self._entries: dict[tuple[bytes, int], _Entry] = {}
        self._names: set[bytes] = set()
        self._digests: dict[tuple[Path, Fingerprint], str] = {}
        self._lock = Lock()
        self.path = folder / WORK_FOLDER / "ledger.sqlite"
        self._connection: sqlite3.Connection | None = None
        self._folder_lock = FileLock(self.path.with_name("lock"))
        if self.path.exists():
            with translate_errors(self.path), closing(read_only(self.path)) as connection:
                self._read(connection)

    @property
    def exists(self) -> bool:
        """Whether an earlier run left a work folder."""
        return self.path.parent.is_dir()

    def open(self) -> None:
        """Create the ledger's file, or read it again, and lock out other runs until `close`. Raises UsageError, RunAborted."""
        if self._connection:
            return
        for path in (self.path.parent, self.path, self.path.with_name(FRAGMENTS)):
            if path.is_symlink():
                raise UsageError(f"{path} is a link or is reached through one; remove the link, or choose another folder")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._folder_lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(
                f"{self.folder}: another run is writing into it; wait for its end, or choose another folder"
            ) from None
        except OSError as error:
            raise UsageError(f"{self.folder}: can't write into it ({error.strerror}); choose another folder") from error
        try:
            with translate_errors(self.path):
                remove_leftovers(self.folder)
                self._connection = sqlite3.connect(self.path, check_same_thread=False)
                self._connection.executescript(_TABLES)
                self._read(self._connection)
                self._clear_fragments()
        except BaseException:
            self.close()
            raise

    def _read(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != _VERSION:
            raise UsageError(f"{self.path} was written by another version of bwpipe; remove it to start over")
        for target, part, recipe, size, mtime_ns, digest_, made_size, made_mtime_ns in connection.execute(_UNITS):
            self._entries[target, part] = _Entry(
                recipe, Fingerprint(size, mtime_ns), digest_, Fingerprint(made_size, made_mtime_ns)
            )
        self.facts |= dict(connection.execute("SELECT key, value FROM facts"))
        self._names = {target for target, _ in self._entries}

    def owns(self, unit: Unit, target: Path) -> bool:
        """Whether a file is the output that was written for this unit, unchanged since."""
        entry = self._entries.get(self._key(unit, target))
        return entry is not None and fingerprint(target) == entry.output

    def knows(self, path: Path) -> bool:
        """Whether a run wrote a file of this name in the folder."""
        return os.fsencode(path.relative_to(self.folder)) in self._names

    def wrote(self, path: Path) -> bool:
        """Whether a file (absolute path, links resolved) is in the folder and was written by a run."""
        return path.is_relative_to(self.folder) and self.knows(path)

    def is_done(self, unit: Unit, target: Path, recipe: str) -> bool:
        """Whether a file is the current output of this recipe for this unit's input, so that no work is needed."""
        entry = self._entries.get(self._key(unit, target))
        if entry is None or entry.recipe != recipe or not self.owns(unit, target):
            return False
        now = fingerprint(unit.path)
        if now == entry.source:
            return True
        with suppress(OSError):
            return now is not None and self._digest(unit.path, now) == entry.digest
        return False

    def keep(
        self, unit: Unit, file: AtomicFile, recipe: str, source: Fingerprint | None, tick: Callable[[], None] = lambda: None
    ) -> None:
        """Rename a finished file to its final name, and record it.

        It is recorded first, with the fingerprint it will have: a run that is killed in between leaves an entry whose file is
        missing (the unit is redone), never an output that the ledger does not know.

        Args:
            unit: The unit it was produced from.
            file: The finished file, with the notes to store.
            recipe: The recipe it was produced by.
            source: The input's fingerprint before it was read.
            tick: Called while the input is read again for its digest; an exception it raises ends the work.

        Raises:
            MediaError: The input has changed since then.
            RunAborted: The ledger can't be written.
            OSError: The file can't be written.
        """
        if source is None or fingerprint(unit.path) != source:
            raise MediaError("it changed while it was being read; run again")
        status = file.flush()
        entry = _Entry(recipe, source, self._digest(unit.path, source, tick), Fingerprint(status.st_size, status.st_mtime_ns))
        key = self._key(unit, file.target)
        with self._opened() as connection:
            self._entries[key] = entry
            values = (*key, recipe, *source, entry.digest, *entry.output)
            connection.execute("REPLACE INTO units VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
            connection.execute("REPLACE INTO notes VALUES (?, ?, ?)", (*key, file.notes))
            if file.target.parent != self.path.with_name(FRAGMENTS):
                connection.execute("DELETE FROM failures WHERE path = ?", (os.fsencode(unit.path),))
        file.publish()

    def forget(self, paths: Iterable[Path]) -> None:
        """Remove recorded files that are no longer needed, such as the fragments of a finished video. Raises RunAborted."""
        removed = [(os.fsencode(path.relative_to(self.folder)), path) for path in paths]
        with self._opened() as connection:
            for table in ("units", "notes"):
                connection.executemany(f"DELETE FROM {table} WHERE target = ?", [(key,) for key, _ in removed])
        keys = {key for key, _ in removed}
        self._entries = {key: entry for key, entry in self._entries.items() if key[0] not in keys}
        for _, path in removed:
            path.unlink(missing_ok=True)

    def notes(self, unit: Unit, target: Path) -> str:
        """The notes stored with a file when it was written for this unit; empty if there are none."""
        with self._opened() as connection:
            row = connection.execute("SELECT text FROM notes WHERE target = ? AND part = ?", self._key(unit, target)).fetchone()
        return row[0] if row else ""

    def _clear_fragments(self) -> None:
        """Remove unrecorded fragments: a run was killed between removing them from the ledger and from disk."""
        for path in self.path.with_name(FRAGMENTS).glob("*"):
            if os.fsencode(path.relative_to(self.folder)) not in self._names:
                path.unlink()

    def _digest(self, path: Path, now: Fingerprint, tick: Callable[[], None] = lambda: None) -> str:
        """The digest of an input with a known fingerprint, computed once however many segments it has. Raises OSError."""
        if (path, now) not in self._digests:
            self._digests[path, now] = digest(path, tick)
        return self._digests[path, now]

    def keep_failure(self, path: Path, error: str) -> None:
        """Record that an input failed, and why. Raises RunAborted."""
        with self._opened() as connection:
            connection.execute("REPLACE INTO failures VALUES (?, ?)", (os.fsencode(path), error))

    def failures(self) -> dict[Path, str]:
        """The inputs that failed in their last attempt, and why."""
        with self._opened() as connection:
            return {Path(os.fsdecode(path)): error for path, error in connection.execute("SELECT path, error FROM failures")}

    def keep_facts(self, facts: dict[str, str | int | float | bool]) -> None:
        """Record facts before any output depends on them. Raises RunAborted."""
        self.facts |= facts
        with self._opened() as connection:
            connection.executemany("REPLACE INTO facts VALUES (?, ?)", facts.items())

    def close(self) -> None:
        """Close the file and release the lock."""
        with self._lock:
            if self._connection:
                self._connection.close()
                self._connection = None
        self._folder_lock.release()

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The open database, for one thread at a time; changes are committed at the end."""
        with self._lock, translate_errors(self.path):
            if self._connection is None:
                raise RuntimeError("the ledger is not open")
            with self._connection:
                yield self._connection

    def _key(self, unit: Unit, target: Path) -> tuple[bytes, int]:
        return os.fsencode(target.relative_to(self.folder)), unit.part


@contextmanager
def open_ledgers(folders: Iterable[Path], *, lock: bool) -> Iterator[dict[Path, Ledger]]:
    """Open the ledgers of some output folders and close them at the end. Raises UsageError.

    Args:
        folders: The output folders.
        lock: Lock out other runs from folders that already have a ledger.
    """
    with ExitStack() as stack:
        ledgers = {}
        for folder in dict.fromkeys(folders):
            ledgers[folder] = Ledger(folder)
            stack.callback(ledgers[folder].close)
            if lock and ledgers[folder].exists:
                ledgers[folder].open()
        yield ledgers


def read_only(path: Path) -> sqlite3.Connection:
    """Open an existing database read-only. Raises sqlite3.Error."""
    return sqlite3.connect(f"file:{quote(os.fsencode(path))}?mode=ro", uri=True)


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Translate database errors raised inside into UsageError and RunAborted."""
    try:
        yield
    except sqlite3.Error as error:
        if error.sqlite_errorcode in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
            raise UsageError(f"{path}: {error}; remove it to start over") from error
        raise RunAborted(f"{path}: {error}; free some space or choose another folder, and run again") from error
