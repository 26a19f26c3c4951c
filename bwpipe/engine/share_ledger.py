"""The ledgers of a run: whole ones, or those of a share, which the next whole run takes over."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from time import sleep

from bwpipe.core.atomic_file import WORK_FOLDER, name_parts, remove_leftovers
from bwpipe.core.folder_lock import FolderLock
from bwpipe.engine.ledger import Ledger
from bwpipe.engine.shares import (
    Share,
    add_common_facts,
    common_facts,
    gate,
    part_prefix,
    require_same_count,
    share_folder,
    title,
)
from bwpipe.errors import UsageError

_POLL = 0.5
"""Seconds between two attempts to get a first pass that another share is making."""


class _MainLedger(Ledger):
    """What whole runs have recorded, without what shares have, which may be at work."""

    def _read_others(self) -> None:
        pass


class ShareLedger(Ledger):
    """The ledger of one share: it knows what whole runs have recorded, but records in a file of its own.

    Attributes:
        main: The ledger of the output folder, for looking up.
    """

    main: Ledger

    def __init__(self, folder: Path, share: Share) -> None:
        """Read what earlier runs recorded. Raises UsageError."""
        self._share = share
        super().__init__(folder, share_folder(folder, share.name))

    def _read_others(self) -> None:
        self.main = _MainLedger(self.folder)
        self._add_main()

    def _add_main(self) -> None:
        """Add what whole runs have recorded where this share has recorded nothing."""
        for target, parts in self.main._entries.items():
            self._entries[target] = {**parts, **self._entries.get(target, {})}
        self._recipes = {**self.main._recipes, **self._recipes}
        self.facts = {**common_facts(self.folder), **self.facts, **self.main.facts}

    def _lock_others_out(self) -> None:
        """Lock out a whole run, and the same share. Raises UsageError, OSError."""
        for place in (self.folder / WORK_FOLDER, self.path.parent.parent):
            if place.is_symlink():
                raise UsageError(f"{place} is a link; remove it, or choose another folder")
        with gate(self.folder):
            require_same_count(self.folder, self._share)
            whole = FolderLock(self.folder / WORK_FOLDER / "lock")
            if not whole.try_acquire():
                what = "a run without --share is writing into it; wait for its end, or choose another folder"
                raise UsageError(f"{self.folder}: {what}{whole.hint}")
            try:
                if not self._folder_lock.try_acquire():
                    what = f"{title(self.path.parent)} is at work in it; wait for its end, or start another share"
                    raise UsageError(f"{self.folder}: {what}{self._folder_lock.hint}")
            finally:
                whole.release()

    def _others_to_take_over(self) -> AbstractContextManager[list[Path]]:
        return nullcontext([])

    def _remove_leftovers(self) -> None:
        """Remove temporary files of this share only, and begin those of this process with its name."""
        name_parts(self.folder, part_prefix(self._share.name))
        remove_leftovers(self.folder, part_prefix(self._share.name))

    def _finish_opening(self) -> None:
        self._add_main()

    def keep_facts(self, facts: dict[str, str | int | float | bool]) -> None:
        """Record facts, and establish them for shares that start later. Raises RunAborted, UsageError, OSError."""
        super().keep_facts(facts)
        with gate(self.folder):
            self.remarks.extend(add_common_facts(self.folder, facts))

    def close(self) -> None:
        """Close the file and release the lock."""
        name_parts(self.folder, "")
        super().close()


class FirstPassLedger(Ledger):
    """The ledger of one first pass, which one share makes, while others wait for it."""

    def __init__(self, folder: Path, path: Path) -> None:
        """Prepare that of a first pass that is kept under this path. Raises UsageError."""
        super().__init__(folder, share_folder(folder, path.name))

    def open_in_turn(self, tick: Callable[[], None]) -> bool:
        """Open it once no other share has it; False if that can't be known, since the file system has no locks.

        `tick` is called while it waits; its exceptions end that. Raises UsageError, RunAborted.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while not self._folder_lock.try_acquire():
            if self._folder_lock.soft:
                return False
            tick()
            sleep(_POLL)
        self.open()
        return True

    def _lock_others_out(self) -> None:
        pass  # `open_in_turn` did

    def _read_others(self) -> None:
        pass

    def _others_to_take_over(self) -> AbstractContextManager[list[Path]]:
        return nullcontext([])

    def _remove_leftovers(self) -> None:
        pass

    def _finish_opening(self) -> None:
        pass


@contextmanager
def open_ledgers(folders: Iterable[Path], *, lock: bool, share: Share | None = None) -> Iterator[dict[Path, Ledger]]:
    """Open the ledgers of some output folders and close them at the end. Raises UsageError.

    Args:
        folders: The output folders.
        lock: Lock out other runs from folders that already have a ledger.
        share: The share whose ledgers they are; None for those of whole runs.
    """
    with ExitStack() as stack:
        ledgers: dict[Path, Ledger] = {}
        for folder in dict.fromkeys(folders):
            ledgers[folder] = ledger = ShareLedger(folder, share) if share else Ledger(folder)
            stack.enter_context(closing(ledger))
            if lock and ledger.exists:
                ledger.open()
        yield ledgers
