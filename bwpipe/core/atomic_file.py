"""A file under a temporary name until it is whole."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from bwpipe.errors import RunAborted, UsageError

WORK_FOLDER = ".bwpipe"
SUFFIX = ".part"
_TRIES = 100
"""How often in a row the work folder may vanish under a new draft."""


class AtomicFile:
    """A file that is being written: it has its final name only when it is whole and on the disk.

    It lies in the output folder's `.bwpipe/`, on the same file system, under a random name that did not exist (O_EXCL, so
    that a planted link is not followed).

    Attributes:
        path: Where to write.
        target: Its final name.
        notes: What the ledger is to keep beside it, as text.
    """

    def __init__(self, target: Path, folder: Path) -> None:
        """`folder` is the output folder, which exists, `target` a file somewhere in it. Raises OSError."""
        self.target = target
        self.notes = ""
        self._folder = folder
        self.path = folder / WORK_FOLDER / f"{secrets.token_hex(8)}{SUFFIX}{target.suffix}"
        for left in reversed(range(_TRIES)):
            with suppress(FileExistsError):
                self.path.parent.mkdir()
            try:
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            except FileNotFoundError:  # another one, done with a draft of its own, removed the empty `.bwpipe` meanwhile
                if not left:
                    raise
            else:
                return

    def flush(self) -> os.stat_result:
        """Flush the whole file to the disk; what it returns holds of the published file too. Raises OSError."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
            return os.fstat(file.fileno())

    def publish(self) -> None:
        """Give the file its final name. Raises OSError."""
        self._folder.stat()  # where it is gone, it is not made again
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self.path.replace(self.target)
        if os.name == "posix":  # elsewhere a folder can't be opened, and the rename is durable by itself
            folder = os.open(self.target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def discard(self) -> None:
        """Remove the unfinished file."""
        self.path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove the drafts that a killed run left in an output folder. The caller holds the folder's lock."""
    for path in (folder / WORK_FOLDER).glob(f"*{SUFFIX}*"):
        path.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes | memoryview, *, folder: Path | None = None) -> None:
    """Write a file under its final name once it is whole. Raises OSError, with what was there before unharmed.

    Args:
        path: The final name.
        data: What the file is to hold.
        folder: The folder, which exists, in whose `.bwpipe` it is drafted; the one that it is in if not given.
    """
    draft = AtomicFile(path, folder or path.parent)
    try:
        draft.path.write_bytes(data)
        draft.flush()
        draft.publish()
    except BaseException:
        draft.discard()
        raise


def unwritable_reason(folder: Path) -> str | None:
    """Why a folder, which need not exist, can't be written into; None if nothing speaks against it. Nothing is made."""
    place = next(place for place in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(place))
    if not place.is_dir():
        return f"{place} is no folder"
    return None if os.access(place, os.W_OK | os.X_OK) else f"{place} must not be written into"


def check_writable(path: Path) -> Path:
    """The file, absolute, if a report can be written there; an earlier one is written over. Raises UsageError."""
    target = path.expanduser().absolute()
    if target.exists() and not target.is_file():
        raise UsageError(f"{path} is not a plain file; give another name for the report")
    if not target.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {target.parent} for the report; make it, or give another name")
    return target


def write_output(path: Path, text: str) -> None:
    """Write a report, which has its name only when it is whole. Raises RunAborted."""
    write_output_bytes(path, text.encode())


def write_output_bytes(path: Path, data: bytes) -> None:
    """Write a report that is no text. Raises RunAborted."""
    try:
        write_atomically(path, data)
    except OSError as error:
        raise RunAborted(f"{path}: can't be written ({error.strerror}); make room, and run again") from error
    finally:
        with suppress(OSError):  # others may have drafts in it
            (path.parent / WORK_FOLDER).rmdir()
