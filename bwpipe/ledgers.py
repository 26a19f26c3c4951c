"""The ledgers of several output folders at a time."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bwpipe.ledger import Ledger


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
