"""A cache in the ledgers for the results of scanning whole inputs, so that the next run need not scan them again."""

import os
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import TypeVar

from bwpipe.core.fingerprint import FileStamp, file_stamp
from bwpipe.engine.ledger import Ledger
from bwpipe.engine.ledger_file import translate_errors
from bwpipe.engine.share_ledger import ShareLedger

T = TypeVar("T")


class SqliteScanCache:
    """A `ScanCache` whose entries are valid while the input's stamp is unchanged.

    New entries stay in memory until `store`: nothing is written before a run has started.
    """

    def __init__(self, ledgers: Iterable[Ledger] = ()) -> None:
        """Create the cache; nothing is read yet."""
        self._ledgers = tuple(ledgers)
        self._new: dict[tuple[Path, str], tuple[FileStamp, bytes]] = {}

    def find(self, path: Path, what: str, look: Callable[[], bytes], read: Callable[[bytes], T]) -> T:
        """See `ScanCache.find`."""
        now = file_stamp(path)  # taken first, so that a change during the scan causes a new scan
        if (known := self.known(path, what, read)) is not None:
            return known
        found = look()
        if now:
            self._new[path, what] = now, found
        return read(found)

    def known(self, path: Path, what: str, read: Callable[[bytes], T]) -> T | None:
        """The result of a scan in this run or an earlier one; None if there was none, or it is damaged."""
        now = file_stamp(path)
        if now is None:
            return None
        before, found = self._new.get((path, what), (None, b""))
        kept = found if before == now else self._lookup(path, what, now)
        try:
            return None if kept is None else read(kept)
        except Exception:  # libraries raise anything on damaged bytes
            return None

    def put(self, path: Path, what: str, found: bytes) -> None:
        """Take over the result of a scan, as if it had been looked for."""
        if now := file_stamp(path):
            self._new[path, what] = now, found

    def store(self) -> None:
        """Store the new entries in the ledgers, which are open. Raises RunAborted."""
        rows = [(os.fsencode(path), what, *now, found) for (path, what), (now, found) in self._new.items()]
        query = "REPLACE INTO scans (path, what, size, mtime_ns, ctime_ns, inode, found) VALUES (?, ?, ?, ?, ?, ?, ?)"
        for ledger in self._ledgers if rows else ():
            with ledger.writing() as connection:
                connection.executemany(query, rows)
        self._new.clear()

    def _lookup(self, path: Path, what: str, now: FileStamp) -> bytes | None:
        for ledger in chain(self._ledgers, (each.main for each in self._ledgers if isinstance(each, ShareLedger))):
            if not ledger.path.exists():
                continue
            with translate_errors(ledger.path), ledger.reading() as connection:
                columns = {row[1] for row in connection.execute("PRAGMA table_info(scans)")}
                if not columns:
                    continue
                query = "SELECT found FROM scans WHERE path = ? AND what = ? AND size = ? AND mtime_ns = ?"
                values: tuple[bytes | str | int | None, ...] = (os.fsencode(path), what, *now.fingerprint)
                if "inode" in columns:  # bwpipe 0.1.0 did not record it
                    query += " AND (inode IS NULL OR (ctime_ns = ? AND inode = ?))"
                    values = (*values, now.ctime_ns, now.inode)
                if row := connection.execute(query, values).fetchone():
                    return bytes(row[0])
        return None
