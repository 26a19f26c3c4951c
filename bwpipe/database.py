"""The SQLite file of a ledger: looking things up in it, and what it raises in our words."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from bwpipe.errors import RunAborted, UsageError


def read_only(path: Path) -> sqlite3.Connection:
    """The file, which exists, to look things up in. Raises sqlite3.Error."""
    return sqlite3.connect(f"file:{quote(os.fsencode(path))}?mode=ro", uri=True)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say what the database at a path raises inside in our words: UsageError, RunAborted."""
    try:
        yield
    except sqlite3.Error as error:
        if error.sqlite_errorcode in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
            raise UsageError(f"{path}: {error}; remove it to start over") from error
        raise RunAborted(f"{path}: {error}; make room or choose another folder, and run again") from error
