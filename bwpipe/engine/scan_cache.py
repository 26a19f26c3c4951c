"""A cache in the ledgers for the results of scanning whole inputs, so that the next run need not scan them again."""

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
    """A `ScanCache` whose entries are valid while the input's fingerprint is unchanged.

    New entries stay in memory until `store`: nothing is written before a run has started.
    """

    def __init__(self, ledgers: Iterable[Ledger] = ()) -> None:
        """Create the cache; nothing is read yet."""
        self._ledgers = tuple(ledgers)
        self._new: dict[tuple[Path, str], tuple[Fingerprint, bytes]] = {}

    def find(self, path: Path, what: str, look: Callable[[], bytes]) -> bytes:
        """See `ScanCache.find`."""
        now = fingerprint(path)  # taken first, so that a change during the scan causes a new scan
        known = self._lookup(path, what, now) if now else None
        if known is not None:
            return known
        found = look()
        if now:
            self._new[path, what] = now, found
        return found

    def store(self) -> None:
        """Store the new entries in the ledgers, which are open. Raises RunAborted."""
        rows = [(os.fsencode(path), what, *now, found) for (path, what), (now, found) in self._new.items()]
        for ledger in self._ledgers if rows else ():
            with translate_errors(ledger.path), closing(sqlite3.connect(ledger.path)) as connection, connection:
                connection.execute(_TABLE)
                connection.executemany("REPLACE INTO scans VALUES (?, ?, ?, ?, ?)", rows)
        self._new.clear()

    def _lookup(self, path: Path, what: str, now: Fingerprint) -> bytes | None:
        for ledger in self._ledgers:
            if not ledger.path.exists():
                continue
            with translate_errors(ledger.path), closing(read_only(ledger.path)) as connection:
                if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'scans'").fetchone():
                    continue
                query = "SELECT found FROM scans WHERE path = ? AND what = ? AND size = ? AND mtime_ns = ?"
                if row := connection.execute(query, (os.fsencode(path), what, *now)).fetchone():
                    return bytes(row[0])
        return None
