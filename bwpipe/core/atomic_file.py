"""Atomic writes: a file has a temporary name until it is complete."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from bwpipe.core.inputs import expand_user
from bwpipe.errors import RunAborted, UsageError

WORK_FOLDER = ".bwpipe"
SUFFIX = ".part"
_TRIES = 100
"""How many times in a row the work folder may disappear while a file is being created in it."""


class AtomicFile:
    """A file being written, renamed to its final name only once it is complete and on disk.

    It is created in the output folder's `.bwpipe/`, on the same file system, under a new random name (O_EXCL, so that a
    planted link is not followed).

    Attributes:
        path: The temporary file to write to.
        target: The final name.
        notes: Text that the ledger stores with the file.
    """

    def __init__(self, target: Path, folder: Path) -> None:
        """Create the temporary file. `folder` is the existing output folder, `target` a file in it. Raises OSError."""
        self.target = target
        self.notes = ""
        self._folder = folder
        self.path = folder / WORK_FOLDER / f"{secrets.token_hex(8)}{SUFFIX}{target.suffix}"
        for remaining in reversed(range(_TRIES)):
            with suppress(FileExistsError):
                self.path.parent.mkdir()
            try:
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            except FileNotFoundError:  # another writer has just removed the empty `.bwpipe`
                if not remaining:
                    raise
            else:
                return

    def flush(self) -> os.stat_result:
        """Flush the complete file to disk and return its status, which `publish` does not change. Raises OSError."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
            return os.fstat(file.fileno())

    def publish(self) -> None:
        """Rename the file to its final name. Raises OSError."""
        self._folder.stat()  # fail if it is gone, rather than create it again
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self.path.replace(self.target)
        if os.name == "posix":  # elsewhere folders can't be opened, and the rename is durable as it is
            folder = os.open(self.target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def discard(self) -> None:
        """Remove the unfinished file."""
        self.path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that a killed run left in an output folder. The caller holds the folder's lock.

    Raises UsageError if something else has such a name.
    """
    for path in (folder / WORK_FOLDER).glob(f"*{SUFFIX}*"):
        remove_file(path)


def remove_file(path: Path) -> None:
    """Remove a file of bwpipe's own, if it is there. Raises UsageError if it is a folder, or can't be removed."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        why = "is a folder where bwpipe keeps files of its own" if path.is_dir() else f"can't be removed ({error.strerror})"
        raise UsageError(f"{path} {why}; remove it, or choose another folder") from error


def write_atomically(path: Path, data: bytes | memoryview, *, folder: Path | None = None) -> None:
    """Write a file atomically. Raises OSError, leaving any existing file untouched.

    Args:
        path: The final name.
        data: The content.
        folder: The existing folder whose `.bwpipe` holds the temporary file; by default, the file's own folder.
    """
    file = AtomicFile(path, folder or path.parent)
    try:
        file.path.write_bytes(data)
        file.flush()
        file.publish()
    except BaseException:
        file.discard()
        raise


def unwritable_reason(folder: Path) -> str | None:
    """Why a folder, which need not exist, is not writable; None if it appears writable. Creates nothing."""
    ancestor = next(ancestor for ancestor in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(ancestor))
    if not ancestor.is_dir():
        return f"{ancestor} is not a folder"
    return None if os.access(ancestor, os.W_OK | os.X_OK) else f"{ancestor} is not writable"


def check_writable(path: Path) -> Path:
    """Check that a report can be written to a file, possibly replacing one, and return its absolute path. Raises UsageError."""
    target = expand_user(path).absolute()
    if target.exists() and not target.is_file():
        raise UsageError(f"{path} is not a regular file; choose another name for the report")
    if not target.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {target.parent} for the report; create it, or choose another name")
    return target


def write_output(path: Path, text: str) -> None:
    """Write a text report atomically. Raises RunAborted."""
    write_output_bytes(path, text.encode())


def write_output_bytes(path: Path, data: bytes) -> None:
    """Write a binary report atomically. Raises RunAborted."""
    try:
        write_atomically(path, data)
    except OSError as error:
        raise RunAborted(f"{path}: can't be written ({error.strerror}); free some space and run again") from error
    finally:
        with suppress(OSError):  # it may hold temporary files of other writers
            (path.parent / WORK_FOLDER).rmdir()
