"""Shares of a run: which units each does, and the folders in which they record them until a whole run takes them over."""

import json
import re
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import TypeVar

from bwpipe.core.atomic_file import WORK_FOLDER, write_atomically
from bwpipe.core.folder_lock import FolderLock
from bwpipe.core.frame import Unit
from bwpipe.core.json_text import parse_json
from bwpipe.core.stage import Sink
from bwpipe.engine.ledger_file import connect, connect_to_read, prepare, recover
from bwpipe.errors import UsageError

T = TypeVar("T")
Facts = Mapping[str, str | int | float | bool]

SHARES = "shares"
"""The folder, in the output folder's `.bwpipe/`, with a folder for each share, and for each first pass that they have in
common."""
_FACTS = "facts.json"
_GATE = "lock"
_NAME = re.compile(r"(\d+)-of-(\d+)")
_PATIENCE = 60.0
"""Seconds to wait for other shares that are starting just now."""
_MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the work of a run, the same wherever and whenever it is asked for.

    Attributes:
        index: Which one, from 0.
        count: How many there are.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Share":
        """The share that "0/3" names. Raises UsageError."""
        found = re.fullmatch(r"(\d{1,7})/(\d{1,7})", text.strip(), re.ASCII)
        if not found or not int(found[1]) < int(found[2]) <= _MOST:
            raise UsageError(f"--share {text}: expected I/N with I from 0 to N - 1, such as 0/3, 1/3 and 2/3 for three shares")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def name(self) -> str:
        """Its name in the names of files."""
        return f"{self.index}-of-{self.count}"

    def has(self, name: PurePosixPath, row: int = 0) -> bool:
        """Whether the row of this number of segments of the file of this name, or the picture itself, belongs to it.

        That depends on nothing else, such as which other files there are, so that shares agree whenever they are started. The
        rows of a film are dealt out in turn.
        """
        first = int.from_bytes(blake2b(str(name).encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")
        return (first + row) % self.count == self.index

    def of(self, segments: Sequence[Unit]) -> list[Unit]:
        """Those of the segments of a film, or of the single unit of a picture, that belong to it."""
        rows = {start: number for number, start in enumerate(dict.fromkeys(map(_row, segments)))}
        return [segment for segment in segments if self.has(segment.name, rows[_row(segment)])]

    def in_turn(self, items: Sequence[T]) -> list[T]:
        """Items in an order of its own, so that each share begins with another film."""
        start = len(items) * self.index // self.count
        return [*items[start:], *items[:start]]


def _row(segment: Unit) -> int:
    """What segments that share a decoder have in common; each other segment is a row by itself."""
    return segment.start if segment.since is None else segment.since


def share_folder(folder: Path, name: str) -> Path:
    """The folder for working files of the share, or the first pass, of this name."""
    return folder / WORK_FOLDER / SHARES / name


def share_folders(folder: Path) -> list[Path]:
    """The folders for working files in an output folder that hold what shares have recorded."""
    return sorted(path.parent for path in (folder / WORK_FOLDER / SHARES).glob("*/ledger.sqlite"))


def title(place: Path) -> str:
    """What to call the share with this folder in messages."""
    found = _NAME.fullmatch(place.name)
    return f"share {found[1]}/{found[2]}" if found else "a share"


def require_same_count(folder: Path, share: Share) -> None:
    """Raise UsageError if there are shares of another number: units would be done by two of them."""
    for place in (folder / WORK_FOLDER / SHARES).glob("*-of-*"):
        found = _NAME.fullmatch(place.name)
        if found and int(found[2]) != share.count:
            raise UsageError(
                f"{folder}: {title(place)} was started there, so --share {share} would do its work again; "
                f"give N as {found[2]}, or run once without --share, which takes over what was done"
            )


def require_outside(sinks: Iterable[Sink], roots: Iterable[Path]) -> None:
    """Raise UsageError if outputs are written among the inputs: a share would take the latest ones of another for inputs."""
    for sink in sinks:
        if root := next((root for root in roots if sink.folder in (root, *root.parents)), None):
            raise UsageError(
                f"{sink.folder}: shares can't write into the folder {root} that they read; give `write` another `path`"
            )


@contextmanager
def gate(folder: Path) -> Iterator[None]:
    """Only one share at a time starts into an output folder. Raises UsageError."""
    lock = FolderLock(folder / WORK_FOLDER / SHARES / _GATE)
    if not lock.try_acquire(_PATIENCE):
        raise UsageError(f"{folder}: other shares have been starting for {_PATIENCE:.0f} s; run again{lock.hint}")
    try:
        yield
    finally:
        lock.release()


@contextmanager
def locked_shares(folder: Path) -> Iterator[list[Path]]:
    """The folders of shares, locked, so that they can be taken over. Raises UsageError if one is at work."""
    with ExitStack() as stack:
        places = sorted(path for path in (folder / WORK_FOLDER / SHARES).glob("*") if path.is_dir() and not path.is_symlink())
        for place in places:
            lock = FolderLock(place / "lock")
            if not lock.try_acquire():
                raise UsageError(
                    f"{folder}: {title(place)} is writing into it; wait for its end, or choose another folder{lock.hint}"
                )
            stack.callback(lock.release)
        yield places


def take_over(connection: sqlite3.Connection, folder: Path, places: Iterable[Path]) -> list[str]:
    """Copy what shares recorded into the ledger of an output folder, in one transaction, and say what they disagree on.

    Raises UsageError, sqlite3.Error.
    """
    remarks: list[str] = []
    facts: dict[str, tuple[object, str]] = {}
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        for place in places:
            path = place / "ledger.sqlite"
            if not path.exists():
                continue
            with closing(connect(path, write=True)) as other:
                prepare(other, path)
                for key, value in other.execute("SELECT key, value FROM facts"):
                    before, whose = facts.setdefault(key, (value, title(place)))
                    if before != value:
                        remarks.append(f"{key}: {before} in {whose}, and {value} in {title(place)}; their outputs may differ")
                for table in ("recipes", "units", "notes", "failures", "scans"):
                    _copy(table, other, connection)
        first = {key: value for key, (value, _) in facts.items()} | common_facts(folder)
        connection.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", first.items())
    return remarks


def _copy(table: str, source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copy the rows of a table, replacing those with the same key."""
    rows = source.execute(f"SELECT * FROM {table}")
    names = ", ".join(column[0] for column in rows.description)
    marks = ", ".join("?" * len(rows.description))
    target.executemany(f"REPLACE INTO {table} ({names}) VALUES ({marks})", rows)


def remove_shares(folder: Path) -> None:
    """Remove the folders of shares, which have been taken over."""
    shares = folder / WORK_FOLDER / SHARES
    for path in sorted(shares.glob("*/ledger.sqlite")):  # first, so that whatever is left holds nothing
        path.unlink(missing_ok=True)
    if not shares.is_symlink():
        shutil.rmtree(shares, ignore_errors=True)


@contextmanager
def reading_share(place: Path) -> Iterator[sqlite3.Connection]:
    """The ledger of a share for reading, also while it is at work. Raises UsageError, sqlite3.Error."""
    path, lock = place / "ledger.sqlite", FolderLock(place / "lock")
    recover(path, lock)
    with closing(connect_to_read(path, lock)) as connection:
        yield connection


def common_facts(folder: Path) -> dict[str, str | int | float | bool]:
    """The facts that the first share has established for all."""
    with suppress(OSError, ValueError):
        found = parse_json((folder / WORK_FOLDER / SHARES / _FACTS).read_text("utf-8"))
        if isinstance(found, dict):
            return {key: value for key, value in found.items() if isinstance(value, str | int | float | bool)}
    return {}


def add_common_facts(folder: Path, facts: Facts) -> list[str]:
    """Establish facts for all shares, unless they are, and say which are others. The caller is in the gate. Raises OSError."""
    known = common_facts(folder)
    if new := {key: value for key, value in facts.items() if key not in known}:
        path = folder / WORK_FOLDER / SHARES / _FACTS
        write_atomically(path, json.dumps({**known, **new}, indent=1).encode(), folder=folder)
    return [
        f"{key}: {known[key]} in the first share, and {value} in this one; their outputs may differ"
        for key, value in facts.items()
        if known.get(key, value) != value
    ]


def part_prefix(name: str) -> str:
    """How the temporary files of a share begin, so that it finds what it left when it was killed."""
    return f"share-{name}-"


def report_name(name: str, report: str) -> str:
    """The name of a share's report, from that of a whole run's."""
    path = PurePosixPath(report)
    return f"{path.stem}-{name}{path.suffix}"
