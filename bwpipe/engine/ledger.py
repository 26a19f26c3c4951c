"""The ledger: which units are done, by which recipe, and which failed, in a SQLite file in the output folder."""

import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock

from bwpipe.core.atomic_file import WORK_FOLDER, AtomicFile, remove_file, remove_leftovers
from bwpipe.core.fingerprint import FileStamp, Fingerprint, fingerprint
from bwpipe.core.folder_lock import FolderLock
from bwpipe.core.frame import Unit
from bwpipe.core.segments import FRAGMENTS, is_frame
from bwpipe.engine.ledger_file import (
    VERSION,
    Entry,
    State,
    connect,
    connect_to_read,
    prepare,
    read_entries,
    recover,
    require_regular_file,
    store_entry,
    translate_errors,
    version_of,
)
from bwpipe.engine.recipes import Difference, Recipe, compare
from bwpipe.engine.shares import locked_shares, reading_share, remove_shares, share_folders, take_over
from bwpipe.errors import MediaError, UsageError


class Ledger:
    """Records which units of one output folder are done. Thread-safe.

    Lookups change nothing; `open` allows writing and locks out other runs.

    Attributes:
        folder: The output folder.
        path: The ledger's file.
        facts: What runs into this folder remembered, see `RunContext.remember`.
        remarks: What the user should know about the state it was found in, one sentence each.
    """

    def __init__(self, folder: Path, work: Path | None = None) -> None:
        """Read what an earlier run recorded, if there was one. `work` holds the ledger's own files. Raises UsageError."""
        self.folder = folder
        self.facts: dict[str, str | int | float | bool] = {}
        self.remarks: list[str] = []
        self._entries: dict[bytes, dict[int, Entry]] = {}
        self._recipes: dict[str, str] = {}
        self._stored: set[str] = set()
        self._updates: dict[tuple[bytes, int], Entry] = {}
        self._compared: dict[tuple[str, str | None, str, str], Difference] = {}
        self._digests: dict[Path, tuple[FileStamp, str]] = {}
        self._lock = Lock()
        self.path = (work or folder / WORK_FOLDER) / "ledger.sqlite"
        self._fragments = folder / WORK_FOLDER / FRAGMENTS
        self._connection: sqlite3.Connection | None = None
        self._folder_lock = FolderLock(self.path.with_name("lock"))
        require_regular_file(self.path)
        with translate_errors(self.path):
            if self.path.exists():
                recover(self.path, self._folder_lock)
                with self.reading() as connection:
                    self._read(connection)
            self._read_others()

    @property
    def exists(self) -> bool:
        """Whether an earlier run left a work folder."""
        return self.path.parent.is_dir()

    def open(self) -> None:
        """Create the ledger's file, or read it again, and lock out other runs until `close`. Raises UsageError, RunAborted."""
        if self._connection:
            return
        for path in (self.path.parent, self.path, self._fragments):
            if path.is_symlink():
                raise UsageError(f"{path} is a link or is reached through one; remove the link, or choose another folder")
        require_regular_file(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock_others_out()
        except OSError as error:
            raise UsageError(f"{self.folder}: can't write into it ({error.strerror}); choose another folder") from error
        if self._folder_lock.soft:
            self.remarks.append(
                f"{self.folder}: its file system has no locks, so a file stands for the lock; don't start a second run into it"
            )
        try:
            with translate_errors(self.path), self._others_to_take_over() as shares:
                self._remove_leftovers()
                existed = self.path.exists()
                self._connection = connect(self.path, write=True, locks=not self._folder_lock.soft)
                if existed and version_of(self._connection, self.path) == 0:
                    self.remarks.append(f"{self.path} was never finished, so it starts over")
                prepare(self._connection, self.path)
                if shares:
                    self.remarks.extend(take_over(self._connection, self.folder, shares))
                self._read(self._connection)
            self._finish_opening()
        except BaseException:
            self.close()
            raise

    def _lock_others_out(self) -> None:
        """Lock other runs out. Raises UsageError, OSError."""
        if not self._folder_lock.try_acquire():
            other = "another run is writing into it; wait for its end, or choose another folder"
            raise UsageError(f"{self.folder}: {other}{self._folder_lock.hint}")

    def _others_to_take_over(self) -> AbstractContextManager[list[Path]]:
        """The shares that this ledger takes over. Raises UsageError if one is at work."""
        return locked_shares(self.folder)

    def _remove_leftovers(self) -> None:
        """Remove temporary files of runs that were killed. Raises UsageError."""
        remove_leftovers(self.folder)

    def _finish_opening(self) -> None:
        """Remove what is in this ledger now, or in none. Raises UsageError."""
        remove_shares(self.folder)
        for path in self._fragments.glob("*"):  # a run was killed between removing them from the ledger and from disk
            if self._name(path) not in self._entries or path.is_dir():
                remove_file(path)

    def entries(self) -> Iterator[tuple[bytes, int, Entry]]:
        """Each entry, with the name of its output and the index of its segment."""
        return ((target, part, entry) for target, parts in self._entries.items() for part, entry in parts.items())

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The database for reading. Raises sqlite3.Error."""
        if self._connection:
            with self._lock:
                yield self._connection
        else:
            with closing(connect_to_read(self.path, self._folder_lock)) as connection:
                yield connection

    def _read(self, connection: sqlite3.Connection) -> None:
        """Read the ledger itself, in place of what was read before."""
        self._entries.clear()
        self._recipes.clear()
        self._stored = self._add(connection)

    def _add(self, connection: sqlite3.Connection) -> set[str]:
        """Add what a ledger records, and return the hashes of the recipes in it."""
        version = version_of(connection, self.path)
        if version == 0:
            return set()
        for target, part, entry in read_entries(connection, version):
            self._entries.setdefault(target, {})[part] = entry
        recipes = dict(connection.execute("SELECT digest, text FROM recipes")) if version == VERSION else {}
        self._recipes |= recipes
        self.facts |= dict(connection.execute("SELECT key, value FROM facts"))
        return set(recipes)

    def _read_others(self) -> None:
        """Add what shares have recorded and the next run takes over. Raises UsageError, sqlite3.Error."""
        for place in share_folders(self.folder):
            with reading_share(place) as connection:
                self._add(connection)

    def owns(self, unit: Unit, target: Path) -> bool:
        """Whether a file is the output that was written for this unit, unchanged since."""
        entry = self._entry(unit, target)
        return entry is not None and fingerprint(target) == entry.output

    def knows(self, path: Path) -> bool:
        """Whether a run wrote a file of this name in the folder."""
        return self._name(path) in self._entries or is_frame(path.relative_to(self.folder), self.facts)

    def wrote(self, path: Path) -> bool:
        """Whether a file (absolute path, links resolved) is in the folder and was written by a run."""
        return path.is_relative_to(self.folder) and self.knows(path)

    def state(self, unit: Unit, target: Path, recipe: Recipe, earlier: Callable[[], Mapping[str, Recipe]] = dict) -> State:
        """Whether a file is the current output of this recipe for this unit's input.

        If its input was touched or moved and holds the same bytes, or the entry was written by bwpipe 0.1.0, the entry is
        brought up to date by the next `store_updates`.

        Args:
            unit: The unit.
            target: Its output.
            recipe: The recipe by which it would be made now.
            earlier: The recipes by which earlier versions would have made it, by the hashes they recorded.
        """
        entry = self._entry(unit, target)
        if entry is None or not self.owns(unit, target):
            return State("missing")
        known = entry
        if entry.frames is None:
            old = earlier().get(entry.recipe)
            if old is None:
                return State("changed", ("its recipe",), entry.seconds)
            self._recipes.setdefault(old.digest, old.text)
            entry = replace(entry, recipe=old.digest, frames=old.frames)
        difference = self._compare(entry, recipe)
        if difference.users:
            return State("changed", difference.users + difference.ours, entry.seconds, difference.dropped)
        now = unit.media.stamp(unit.start, unit.stop, again=False)
        if not self._same_input(unit, now, entry):
            return State("changed", ("its input",), entry.seconds)
        assert now
        entry = replace(entry, source=now, path=os.fsencode(unit.path))
        if entry != known:
            self._updates[self._key(unit, target)] = entry
        return State("outdated" if difference.ours else "done", difference.ours, entry.seconds)

    def _compare(self, entry: Entry, recipe: Recipe) -> Difference:
        """How the recipe of an entry differs from one."""
        if (entry.recipe, entry.frames) == (recipe.digest, recipe.frames):
            return Difference()
        key = (entry.recipe, entry.frames, recipe.digest, recipe.frames)
        if key not in self._compared:
            try:
                old = Recipe.read(self._recipes[entry.recipe], entry.frames or "")
                self._compared[key] = compare(old, recipe)
            except (ValueError, KeyError, TypeError):
                self._compared[key] = Difference(users=("its recipe",))
        return self._compared[key]

    def _same_input(self, unit: Unit, now: FileStamp | None, entry: Entry) -> bool:
        """Whether an input holds the bytes that an entry was made of: by its stamp or else by its digest."""
        if now is None:
            return False
        if now == entry.source or (entry.source.ctime_ns is None and now.fingerprint == entry.source.fingerprint):
            return True
        with suppress(OSError):
            return now.size == entry.source.size and self._digest(unit, now) == entry.digest
        return False

    def store_updates(self) -> None:
        """Store what `state` found to be as before under another stamp, and drop recipes of no entry. Raises RunAborted."""
        used = {entry.recipe for parts in self._entries.values() for entry in parts.values()}
        with self.writing() as connection:
            if unused := self._stored - used:
                connection.executemany("DELETE FROM recipes WHERE digest = ?", [(recipe,) for recipe in unused])
                self._stored -= unused
            updates = {key: entry for key, entry in self._updates.items() if self._entries.get(key[0], {}).get(key[1])}
            for (target, part), entry in updates.items():
                self._entries[target][part] = entry
                self._store(connection, (target, part), entry)
            self._updates.clear()

    def keep(
        self,
        unit: Unit,
        file: AtomicFile,
        recipe: Recipe,
        source: FileStamp | None,
        tick: Callable[[], None] = lambda: None,
        *,
        seconds: float | None = None,
    ) -> None:
        """Rename a finished file to its final name, and record it.

        It is recorded first: a run that is killed in between leaves an entry whose file is missing (the unit is redone), never
        an output that the ledger does not know.

        Args:
            unit: The unit it was produced from.
            file: The finished file, with the notes to store.
            recipe: The recipe it was produced by.
            source: The input's stamp before it was read.
            tick: Called while the input is read again for its digest; an exception it raises ends the work.
            seconds: What it took.

        Raises:
            MediaError: The input has changed since then.
            RunAborted: The ledger can't be written.
            OSError: The file can't be written.
        """
        now = unit.media.stamp(unit.start, unit.stop)
        if source is None or now is None or now.fingerprint != source.fingerprint:
            raise MediaError("it changed while it was being read; run again")
        before, found = self._digests.get(unit.path), self._digest(unit, now, tick)
        if before and before[0].fingerprint == now.fingerprint and before[1] != found:
            raise MediaError("it changed while it was being read; run again")
        status = file.flush()
        made, path = Fingerprint(status.st_size, status.st_mtime_ns), os.fsencode(unit.path)
        entry = Entry(recipe.digest, recipe.frames, now, found, made, path, seconds)
        target, part = key = self._key(unit, file.target)
        with self.writing() as connection:
            self._recipes.setdefault(recipe.digest, recipe.text)
            self._entries.setdefault(target, {})[part] = entry
            self._store(connection, key, entry)
            connection.execute("REPLACE INTO notes VALUES (?, ?, ?)", (*key, file.notes))
            if file.target.parent != self._fragments:
                connection.execute("DELETE FROM failures WHERE path = ?", (path,))
        file.publish()

    def renew(self, unit: Unit, file: AtomicFile) -> None:
        """Put a file in the place of a recorded one that stands for the same result. Raises RunAborted, OSError."""
        target, part = key = self._key(unit, file.target)
        status = file.flush()
        entry = replace(self._entries[target][part], output=Fingerprint(status.st_size, status.st_mtime_ns))
        with self.writing() as connection:
            self._entries[target][part] = entry
            self._store(connection, key, entry)
        file.publish()

    def _store(self, connection: sqlite3.Connection, key: tuple[bytes, int], entry: Entry) -> None:
        """Write an entry and its recipe, within a transaction."""
        if entry.recipe not in self._stored and entry.recipe in self._recipes:
            connection.execute("REPLACE INTO recipes VALUES (?, ?)", (entry.recipe, self._recipes[entry.recipe]))
            self._stored.add(entry.recipe)
        store_entry(connection, key, entry)

    def forget(self, paths: Iterable[Path]) -> None:
        """Remove recorded files that are no longer needed, such as the fragments of a finished video. Raises RunAborted."""
        removed = {self._name(path): path for path in paths}
        if not removed:
            return
        with self.writing() as connection:
            for table in ("units", "notes"):
                connection.executemany(f"DELETE FROM {table} WHERE target = ?", [(name,) for name in removed])
            for name in removed:
                self._entries.pop(name, None)
        for path in removed.values():
            with suppress(OSError):  # it is not recorded any more, so the next run removes it
                path.unlink()

    def fragments_of_missing(self, roots: Collection[Path], waiting: Collection[Path]) -> list[Path]:
        """The recorded fragments of films that are gone.

        Args:
            roots: Folders that were read just now, and had something to read in them: films that were below them and are not
                there any more are gone, not on a disk that is not mounted.
            waiting: Fragments to leave alone: the films of which are read now, from another place.
        """
        found = []
        for name, parts in self._entries.items():
            path = self.folder / os.fsdecode(name)
            if path.parent != self._fragments or path in waiting:
                continue
            sources = {Path(os.fsdecode(entry.path)) for entry in parts.values() if entry.path is not None}
            if sources and all(any(source.is_relative_to(root) for root in roots) for source in sources):
                found.extend([path] if not any(map(os.path.lexists, sources)) else [])
        return found

    def notes(self, unit: Unit, target: Path) -> str:
        """The notes stored with a file when it was written for this unit; empty if there are none."""
        with self.writing() as connection:
            row = connection.execute("SELECT text FROM notes WHERE target = ? AND part = ?", self._key(unit, target)).fetchone()
        return row[0] if row else ""

    def seconds(self, unit: Unit, target: Path) -> float | None:
        """What a recorded file took to make; None if not measured."""
        return entry.seconds if (entry := self._entry(unit, target)) else None

    def _digest(self, unit: Unit, now: FileStamp, tick: Callable[[], None] = lambda: None) -> str:
        """The digest of an input with a known stamp, computed once however many segments it has. Raises OSError."""
        known = self._digests.get(unit.path)
        if known is None or known[0] != now:
            known = self._digests[unit.path] = now, unit.media.digest(now, tick)
        return known[1]

    def keep_failure(self, path: Path, error: str) -> None:
        """Record that an input failed, and why. Raises RunAborted."""
        with self.writing() as connection:
            connection.execute("REPLACE INTO failures VALUES (?, ?)", (os.fsencode(path), error))

    def keep_facts(self, facts: dict[str, str | int | float | bool]) -> None:
        """Record facts before any output depends on them. Raises RunAborted."""
        self.facts |= facts
        with self.writing() as connection:
            connection.executemany("REPLACE INTO facts VALUES (?, ?)", facts.items())

    def close(self) -> None:
        """Close the file and release the lock."""
        with self._lock:
            if self._connection:
                self._connection.close()
                self._connection = None
        self._folder_lock.release()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The open database, for one thread at a time; changes are committed at the end. Raises RunAborted."""
        with self._lock, translate_errors(self.path):
            if self._connection is None:
                raise RuntimeError("the ledger is not open")
            with self._connection:
                yield self._connection

    def _entry(self, unit: Unit, target: Path) -> Entry | None:
        return self._entries.get(self._name(target), {}).get(unit.part)

    def _key(self, unit: Unit, target: Path) -> tuple[bytes, int]:
        return self._name(target), unit.part

    def _name(self, path: Path) -> bytes:
        return os.fsencode(path.relative_to(self.folder))
