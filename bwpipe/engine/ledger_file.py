"""The ledger's SQLite file: its tables, and how it is opened, whatever state an earlier run left it in."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from bwpipe.core.fingerprint import FileStamp, Fingerprint
from bwpipe.core.folder_lock import FolderLock
from bwpipe.errors import RunAborted, UsageError

VERSION = 2
_TABLES = (
    """CREATE TABLE units (
        target BLOB, part INTEGER, recipe TEXT, size INTEGER, mtime_ns INTEGER, digest TEXT,
        made_size INTEGER, made_mtime_ns INTEGER,
        frames TEXT, ctime_ns INTEGER, inode INTEGER, source BLOB, seconds REAL, PRIMARY KEY (target, part)
    )""",
    "CREATE TABLE recipes (digest TEXT PRIMARY KEY, text TEXT)",
    "CREATE TABLE failures (path BLOB PRIMARY KEY, error TEXT)",
    "CREATE TABLE notes (target BLOB, part INTEGER, text TEXT, PRIMARY KEY (target, part))",
    "CREATE TABLE facts (key TEXT PRIMARY KEY, value)",
    """CREATE TABLE scans (
        path BLOB, what TEXT, size INTEGER, mtime_ns INTEGER, found BLOB, ctime_ns INTEGER, inode INTEGER,
        PRIMARY KEY (path, what)
    )""",
)
_NAMES = {"units", "recipes", "failures", "notes", "facts", "scans"}
_OPTIONAL = {"frames", "ctime_ns", "inode", "source", "seconds"}
"""Columns of which entries by bwpipe 0.1.0 have no value."""
_PATHS = {"target", "source", "path"}
"""Columns of paths, which have any bytes but 0."""
_FROM_1 = (
    "CREATE TABLE IF NOT EXISTS scans (path BLOB, what TEXT, size INTEGER, mtime_ns INTEGER, found BLOB, "
    "PRIMARY KEY (path, what))",
    "ALTER TABLE scans ADD COLUMN ctime_ns INTEGER",
    "ALTER TABLE scans ADD COLUMN inode INTEGER",
    "ALTER TABLE units ADD COLUMN frames TEXT",
    "ALTER TABLE units ADD COLUMN ctime_ns INTEGER",
    "ALTER TABLE units ADD COLUMN inode INTEGER",
    "ALTER TABLE units ADD COLUMN source BLOB",
    "ALTER TABLE units ADD COLUMN seconds REAL",
    _TABLES[1],
)
"""What makes a ledger of version 1, by bwpipe 0.1.0, one of version 2."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A finished unit, as recorded.

    Attributes:
        recipe: The hash of the recipe's text; of an entry by bwpipe 0.1.0, that of all options of all stages.
        frames: The recipe's frames; None in an entry by bwpipe 0.1.0.
        source: The stamp of its input.
        digest: The digest of its input.
        output: The fingerprint of its output.
        path: Its input, as bytes; None in an entry by bwpipe 0.1.0.
        seconds: Its share of the time of the run; None if not measured.
    """

    recipe: str
    frames: str | None
    source: FileStamp
    digest: str
    output: Fingerprint
    path: bytes | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class State:
    """What the ledger knows of a unit.

    Attributes:
        kind: "done"; "outdated" if the user changed nothing, but this version of bwpipe would write it differently; "changed"
            if the user changed the graph or the input; "missing" if it was not done, or the output is gone or is not ours now.
        reasons: What differs in the recipe.
        seconds: What it took, if it was measured.
        dropped: Those of the reasons that are options which were given before, and are not given now.
    """

    kind: Literal["done", "outdated", "changed", "missing"]
    reasons: tuple[str, ...] = ()
    seconds: float | None = None
    dropped: tuple[str, ...] = ()


_COLUMNS_1 = "target, part, recipe, size, mtime_ns, digest, made_size, made_mtime_ns"
_COLUMNS = f"{_COLUMNS_1}, frames, ctime_ns, inode, source, seconds"


def read_entries(connection: sqlite3.Connection, version: int) -> Iterator[tuple[bytes, int, Entry]]:
    """Each entry of a ledger of this version, with the name of its output and the index of its segment."""
    columns = _COLUMNS if version == VERSION else f"{_COLUMNS_1}, NULL, NULL, NULL, NULL, NULL"
    for row in connection.execute(f"SELECT {columns} FROM units"):
        target, part, recipe, size, mtime_ns, digest, made_size, made_mtime_ns, frames, ctime_ns, inode, path, seconds = row
        source = FileStamp(size, mtime_ns, ctime_ns, inode)
        yield target, part, Entry(recipe, frames, source, digest, Fingerprint(made_size, made_mtime_ns), path, seconds)


def store_entry(connection: sqlite3.Connection, key: tuple[bytes, int], entry: Entry) -> None:
    """Write an entry, replacing an earlier one."""
    source = entry.source
    values = (*key, entry.recipe, *source.fingerprint, entry.digest, *entry.output)
    more = (entry.frames, source.ctime_ns, source.inode, entry.path, entry.seconds)
    marks = ", ".join("?" * len(values + more))
    connection.execute(f"REPLACE INTO units ({_COLUMNS}) VALUES ({marks})", values + more)


def require_regular_file(path: Path) -> None:
    """Raise UsageError if a file of the ledger is there and is no regular file: opening a FIFO would never end."""
    for each in (path, *journals(path)):
        try:
            mode = each.lstat().st_mode
        except OSError:
            continue
        if not stat.S_ISREG(mode):
            raise UsageError(f"{each} is not a regular file; remove it, or choose another folder")


def journals(path: Path) -> list[Path]:
    """The files that SQLite keeps beside a database while it is being changed."""
    return [path.with_name(path.name + ending) for ending in ("-journal", "-wal", "-shm")]


def recover(path: Path, lock: FolderLock) -> None:
    """Roll back what a killed run had not finished, which is not possible by reading only. Raises UsageError, sqlite3.Error."""
    if not any(each.exists() for each in journals(path)):
        return
    try:
        if not lock.try_acquire():
            return  # a run is writing just now
    except OSError as error:
        raise UsageError(
            f"{path}: a run that was killed has to be undone first, but the folder can't be written ({error.strerror})"
        ) from error
    try:
        with closing(connect(path, write=True, locks=not lock.soft)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    finally:
        lock.release()


def connect(path: Path, *, write: bool, locks: bool = True) -> sqlite3.Connection:
    """Connect to a database; `locks` is False where the file system has none. Raises sqlite3.Error."""
    options = f"mode={'rwc' if write else 'ro'}{'' if locks else '&nolock=1'}"
    return sqlite3.connect(f"file:{quote(os.fsencode(path))}?{options}", uri=True, check_same_thread=False)


def connect_to_read(path: Path, lock: FolderLock) -> sqlite3.Connection:
    """Connect to an existing database, to read it. Raises sqlite3.Error."""
    connection = connect(path, write=False)
    try:
        connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        if lock.supported():
            raise
        return connect(path, write=False, locks=False)
    return connection


def version_of(connection: sqlite3.Connection, path: Path) -> int:
    """The version of a ledger; 0 if it was never finished. Raises UsageError, also if it holds what no run writes."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    known = version in (1, VERSION) or (version == 0 and _is_unfinished(connection))
    if not known:
        raise UsageError(f"{path} was written by another version of bwpipe; remove it to start over")
    for name in _NAMES if version == VERSION else ():
        wrong = _wrong(connection, name)
        if wrong and connection.execute(f"SELECT 1 FROM {name} WHERE {wrong} LIMIT 1").fetchone():
            raise UsageError(f"{path} is damaged: its table {name} holds what no run writes; remove it to start over")
    return int(version)


def _wrong(connection: sqlite3.Connection, name: str) -> str:
    """A condition for rows of a table with a value of another type than its column's, since SQLite keeps any, or no path."""
    columns = [(column, kind) for _, column, kind, *_ in connection.execute(f"PRAGMA table_info({name})") if kind]
    types = (
        f"typeof({column}) NOT IN ('{kind.lower()}', '{'null' if column in _OPTIONAL else ''}')" for column, kind in columns
    )
    return " OR ".join([*types, *(f"instr({column}, x'00')" for column, _ in columns if column in _PATHS)])


def _is_unfinished(connection: sqlite3.Connection) -> bool:
    """Whether a database without a version is a ledger that was never finished: it holds nothing."""
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return names <= _NAMES and not any(connection.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() for name in names)


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Create or migrate the tables, all in one transaction. Raises UsageError, sqlite3.Error."""
    version = version_of(connection, path)
    if version == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        if version == 0:
            names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            statements = [*(f"DROP TABLE {name}" for name in names), *_TABLES]
        else:
            statements = list(_FROM_1)
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Translate database errors raised inside into UsageError and RunAborted."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the details
        if code in {0, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:  # 0: Python's own, of text that is not UTF-8
            raise UsageError(f"{path}: {error}; remove it to start over") from error
        remedy = "free some space or choose another folder, and run again"
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            remedy = "close the program that has it open, and run again"
        elif code == sqlite3.SQLITE_IOERR:
            remedy = "check the disk or choose another folder, and run again"
        raise RunAborted(f"{path}: {error}; {remedy}") from error
