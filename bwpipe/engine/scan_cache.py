"""What was found in an input by reading it through, kept in ledgers so that the next start need not read it again."""

import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

from bwpipe.core.fingerprint import Fingerprint, fingerprint
from bwpipe.engine.ledger import Ledger, read_only, translate_errors

_TABLE = """
CREATE TABLE IF NOT EXISTS scans (path BLOB, what TEXT, size INTEGER, mtime_ns INTEGER, found BLOB, PRIMARY KEY (path, what))
"""


class SqliteScanCache:
    """What was found in inputs, as long as their stamps stay what they were before that: a `ScanCache`.

    It is kept in memory until `store`: before a run has begun, nothing is written.
    """

    def __init__(self, ledgers: Iterable[Ledger] = ()) -> None:
        """Nothing is read yet."""
        self._ledgers = tuple(ledgers)
        self._new: dict[tuple[Path, str], tuple[Fingerprint, bytes]] = {}

    def find(self, path: Path, what: str, look: Callable[[], bytes]) -> bytes:
        """See `ScanCache.find`."""
        now = fingerprint(path)  # before: what changes while it is read is read again
        known = self._recalled(path, what, now) if now else None
        if known is not None:
            return known
        found = look()
        if now:
            self._new[path, what] = now, found
        return found

    def store(self) -> None:
        """Keep what is new in the ledgers, which are open. Raises RunAborted."""
        rows = [(os.fsencode(path), what, *now, found) for (path, what), (now, found) in self._new.items()]
        for ledger in self._ledgers if rows else ():
            with translate_errors(ledger.path), closing(sqlite3.connect(ledger.path)) as file, file:
                file.execute(_TABLE)
                file.executemany("REPLACE INTO scans VALUES (?, ?, ?, ?, ?)", rows)
        self._new.clear()

    def _recalled(self, path: Path, what: str, now: Fingerprint) -> bytes | None:
        for ledger in self._ledgers:
            if not ledger.path.exists():
                continue
            with translate_errors(ledger.path), closing(read_only(ledger.path)) as file:
                if not file.execute("SELECT 1 FROM sqlite_master WHERE name = 'scans'").fetchone():
                    continue
                query = "SELECT found FROM scans WHERE path = ? AND what = ? AND size = ? AND mtime_ns = ?"
                if row := file.execute(query, (os.fsencode(path), what, *now)).fetchone():
                    return bytes(row[0])
        return None
