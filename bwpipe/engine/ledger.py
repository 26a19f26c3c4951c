"""Which units are done, by which recipe, and which failed: a SQLite file in the output folder."""

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
    """What is known of a unit that was done: its recipe, the input it was made of, and the file it became."""

    recipe: str
    source: Fingerprint
    digest: str
    made: Fingerprint


class Ledger:
    """Remembers which units are done, in one output folder. Safe in threads.

    Looking things up changes nothing; `open` lets things be noted, and keeps other runs out.

    Attributes:
        folder: The output folder.
        path: Its file.
        facts: What executions into this folder found out, see `Run.fact`.
    """

    def __init__(self, folder: Path) -> None:
        """Read what an earlier execution left, if there was one. Raises UsageError."""
        self.folder = folder
        self.facts: dict[str, str | int | float | bool] = {}
        self._entries: dict[tuple[bytes, int], _Entry] = {}
        self._names: set[bytes] = set()
        self._digests: dict[tuple[Path, Fingerprint], str] = {}
        self._lock = Lock()
        self.path = folder / WORK_FOLDER / "ledger.sqlite"
        self._file: sqlite3.Connection | None = None
        self._folder_lock = FileLock(self.path.with_name("lock"))
        if self.path.exists():
            with translate_errors(self.path), closing(read_only(self.path)) as file:
                self._read(file)

    @property
    def exists(self) -> bool:
        """Whether an earlier execution left anything in the folder."""
        return self.path.parent.is_dir()

    def open(self) -> None:
        """Create the ledger's file, or read it again, and keep other runs out until `close`. Raises UsageError, RunAborted."""
        if self._file:
            return
        for path in (self.path.parent, self.path, self.path.with_name(FRAGMENTS)):
            if path.is_symlink():
                raise UsageError(f"{path} is, or lies behind, a link; remove that, or choose another folder")
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
                self._file = sqlite3.connect(self.path, check_same_thread=False)
                self._file.executescript(_TABLES)
                self._read(self._file)
                self._clear_fragments()
        except BaseException:
            self.close()
            raise

    def _read(self, file: sqlite3.Connection) -> None:
        (version,) = file.execute("PRAGMA user_version").fetchone()
        if version != _VERSION:
            raise UsageError(f"{self.path} was written by another version of bwpipe; remove it to start over")
        for target, part, recipe, size, mtime_ns, digest_, made_size, made_mtime_ns in file.execute(_UNITS):
            self._entries[target, part] = _Entry(
                recipe, Fingerprint(size, mtime_ns), digest_, Fingerprint(made_size, made_mtime_ns)
            )
        self.facts |= dict(file.execute("SELECT key, value FROM facts"))
        self._names = {target for target, _ in self._entries}

    def owns(self, unit: Unit, target: Path) -> bool:
        """Whether the file of that name is the one that was written for this unit, unchanged since."""
        entry = self._entries.get(self._key(unit, target))
        return entry is not None and fingerprint(target) == entry.made

    def knows(self, path: Path) -> bool:
        """Whether a file somewhere in the folder has a name that was written by a run."""
        return os.fsencode(path.relative_to(self.folder)) in self._names

    def wrote(self, path: Path) -> bool:
        """Whether a file, wherever it is (absolute, links resolved), lies in the folder and was written by a run."""
        return path.is_relative_to(self.folder) and self.knows(path)

    def is_done(self, unit: Unit, target: Path, recipe: str) -> bool:
        """Whether the file of that name is what this recipe makes of this input, so that nothing is to be done."""
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
        self, unit: Unit, draft: AtomicFile, recipe: str, source: Fingerprint | None, tick: Callable[[], None] = lambda: None
    ) -> None:
        """Give a finished file its final name, and remember it.

        It is remembered first, with what its stamp will be: a run that is killed in between leaves an entry whose file is
        missing (the unit is done again), never a file of ours that we do not know.

        Args:
            unit: What it was made of.
            draft: The file, and the notes that are to be kept beside it.
            recipe: How it was made.
            source: The input's stamp before it was read.
            tick: Called while the input is read once more, for its digest; what it raises ends the work.

        Raises:
            MediaError: The input is not what it was then.
            RunAborted: The ledger can't be written.
            OSError: The file can't be.
        """
        if source is None or fingerprint(unit.path) != source:
            raise MediaError("it changed while it was read; run again")
        status = draft.flush()
        entry = _Entry(recipe, source, self._digest(unit.path, source, tick), Fingerprint(status.st_size, status.st_mtime_ns))
        key = self._key(unit, draft.target)
        with self._opened() as file:
            self._entries[key] = entry
            values = (*key, recipe, *source, entry.digest, *entry.made)
            file.execute("REPLACE INTO units VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
            file.execute("REPLACE INTO notes VALUES (?, ?, ?)", (*key, draft.notes))
            if draft.target.parent != self.path.with_name(FRAGMENTS):
                file.execute("DELETE FROM failures WHERE path = ?", (os.fsencode(unit.path),))
        draft.publish()

    def forget(self, paths: Iterable[Path]) -> None:
        """Remove files that were kept and are needed no more, such as the fragments of a finished film. Raises RunAborted."""
        gone = [(os.fsencode(path.relative_to(self.folder)), path) for path in paths]
        with self._opened() as file:
            for table in ("units", "notes"):
                file.executemany(f"DELETE FROM {table} WHERE target = ?", [(key,) for key, _ in gone])
        keys = {key for key, _ in gone}
        self._entries = {key: entry for key, entry in self._entries.items() if key[0] not in keys}
        for _, path in gone:
            path.unlink(missing_ok=True)

    def notes(self, unit: Unit, target: Path) -> str:
        """What was kept beside the file of that name when it was written for this unit; empty if nothing was."""
        with self._opened() as file:
            row = file.execute("SELECT text FROM notes WHERE target = ? AND part = ?", self._key(unit, target)).fetchone()
        return row[0] if row else ""

    def _clear_fragments(self) -> None:
        """Remove fragments that are not known: a run that forgot them was killed before it had removed them."""
        for path in self.path.with_name(FRAGMENTS).glob("*"):
            if os.fsencode(path.relative_to(self.folder)) not in self._names:
                path.unlink()

    def _digest(self, path: Path, now: Fingerprint, tick: Callable[[], None] = lambda: None) -> str:
        """The digest of an input whose stamp is known: read once, however many segments it has. Raises OSError."""
        if (path, now) not in self._digests:
            self._digests[path, now] = digest(path, tick)
        return self._digests[path, now]

    def keep_failure(self, path: Path, error: str) -> None:
        """Remember that an input failed, and why. Raises RunAborted."""
        with self._opened() as file:
            file.execute("REPLACE INTO failures VALUES (?, ?)", (os.fsencode(path), error))

    def failures(self) -> dict[Path, str]:
        """The inputs that failed when they were last tried, and why."""
        with self._opened() as file:
            return {Path(os.fsdecode(path)): error for path, error in file.execute("SELECT path, error FROM failures")}

    def keep_facts(self, facts: dict[str, str | int | float | bool]) -> None:
        """Remember what was found out, before anything is made that depends on it. Raises RunAborted."""
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
        with self._lock, translate_errors(self.path):
            if self._file is None:
                raise RuntimeError("the ledger is not open")
            with self._file:
                yield self._file

    def _key(self, unit: Unit, target: Path) -> tuple[bytes, int]:
        return os.fsencode(target.relative_to(self.folder)), unit.part


@contextmanager
def open_ledgers(folders: Iterable[Path], *, lock: bool) -> Iterator[dict[Path, Ledger]]:
    """The ledgers of some output folders, closed at the end. Raises UsageError.

    Args:
        folders: The output folders.
        lock: Keep other runs out of those in which there was a run before.
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
    """The file, which exists, to look things up in. Raises sqlite3.Error."""
    return sqlite3.connect(f"file:{quote(os.fsencode(path))}?mode=ro", uri=True)


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Say what the database at a path raises inside in our words: UsageError, RunAborted."""
    try:
        yield
    except sqlite3.Error as error:
        if error.sqlite_errorcode in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
            raise UsageError(f"{path}: {error}; remove it to start over") from error
        raise RunAborted(f"{path}: {error}; make room or choose another folder, and run again") from error
