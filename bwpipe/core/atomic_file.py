"""Atomic writes: a file has a temporary name until it is complete."""

import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from pathlib import Path

from bwpipe.core.inputs import expand_user
from bwpipe.errors import MediaError, RunAborted, UsageError

WORK_FOLDER = ".bwpipe"
SUFFIX = ".part"
_TRIES = 100
"""How many times in a row the work folder may disappear while a file is being created in it."""

_PREFIXES: dict[Path, str] = {}
"""How the temporary files of this process begin, by output folder."""

_HANDLES = {os.open, os.mkdir, os.rename} <= os.supports_dir_fd
"""Whether folders can be opened, and files in them addressed by the folder's handle: on POSIX."""


class AtomicFile:
    """A file being written, renamed to its final name only once it is complete and on disk.

    It is created in the output folder's `.bwpipe/`, on the same file system, under a new random name (O_EXCL, so that a
    planted link is not followed). Nothing is created or renamed through a link: each folder is opened from the one above it.

    Attributes:
        path: The temporary file to write to.
        target: The final name.
        notes: Text that the ledger stores with the file.
    """

    def __init__(self, target: Path, folder: Path) -> None:
        """Create the temporary file. Raises OSError, MediaError.

        Args:
            target: The final name, in `folder` or below it.
            folder: The existing output folder.
        """
        self.target = target
        self.notes = ""
        self._folder = Path(os.path.realpath(folder))
        self._place = target.parent.relative_to(folder)
        prefix = _PREFIXES.get(self._folder, "")
        self.path = folder / WORK_FOLDER / f"{prefix}{secrets.token_hex(8)}{SUFFIX}{target.suffix}"
        for remaining in reversed(range(_TRIES)):
            self._folder.stat()  # fail if it is gone
            try:
                with self._opened(Path(WORK_FOLDER)) as work:
                    os.close(_open_file(self.path, work, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            except FileNotFoundError:  # another writer has just removed the empty `.bwpipe`
                if not remaining:
                    raise
            else:
                return

    def flush(self) -> os.stat_result:
        """Flush the complete file to disk and return its status, which `publish` keeps. Raises OSError, MediaError."""
        with self._opened(Path(WORK_FOLDER)) as work, os.fdopen(_open_file(self.path, work, os.O_RDWR), "rb+") as file:
            os.fsync(file.fileno())
            return os.fstat(file.fileno())

    def publish(self) -> None:
        """Rename the file to its final name. Raises OSError, MediaError."""
        self.publish_all([self])

    def publish_all(self, files: "Iterable[AtomicFile]") -> None:
        """Rename files of this one's folder to their final names. Raises OSError, MediaError."""
        place = self._real_place()
        with self._opened(Path(WORK_FOLDER)) as work, self._opened(place) as folder:
            for file in files:
                if work is None or folder is None:
                    file.path.replace(file.target)
                else:
                    os.rename(file.path.name, file.target.name, src_dir_fd=work, dst_dir_fd=folder)
            if folder is not None:
                os.fsync(folder)

    def _real_place(self) -> Path:
        """The folder of the final name, from the output folder on. Raises MediaError if it is elsewhere."""
        real = Path(os.path.realpath(self._folder / self._place))  # a link inside the output folder is the user's own
        if not real.is_relative_to(self._folder):
            raise MediaError(f"{self.target.parent} is a link that leads outside {self._folder}; remove it, and run again")
        return real.relative_to(self._folder)

    @contextmanager
    def _opened(self, place: Path) -> Iterator[int | None]:
        """The handle of a folder below the output folder, created if missing; None where folders have no handles.

        Raises OSError, and MediaError if a link took the place of a folder.
        """
        if not _HANDLES:
            (self._folder / place).mkdir(parents=True, exist_ok=True)
            yield None
            return
        with ExitStack() as stack:
            handle = _open_folder(self._folder, None, stack)
            for part in place.parts:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=handle)
                try:
                    handle = _open_folder(part, handle, stack)
                except OSError as error:
                    if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
                        raise
                    what = f"{self._folder / place} is reached through a link or a file in the place of a folder"
                    raise MediaError(f"{what}; remove that, and run again") from error
            yield handle

    def discard(self) -> None:
        """Remove the unfinished file."""
        self.path.unlink(missing_ok=True)


def publish_together(files: Iterable[AtomicFile]) -> None:
    """Rename many complete files to their final names; each folder is flushed once, at the end. Raises OSError, MediaError."""
    by_folder: dict[Path, list[AtomicFile]] = {}
    for file in files:
        by_folder.setdefault(file.target.parent, []).append(file)
    for same in by_folder.values():
        same[0].publish_all(same)


def _open_folder(path: Path | str, above: int | None, stack: ExitStack) -> int:
    """Open a folder without following a link, until the stack is closed. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
    stack.callback(os.close, handle)
    return handle


def _open_file(path: Path, folder: int | None, flags: int) -> int:
    """Open a file in an open folder, if folders have handles, without following a link. Raises OSError."""
    if folder is None:
        return os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)
    return os.open(path.name, flags | os.O_NOFOLLOW, 0o666, dir_fd=folder)


def name_parts(folder: Path, prefix: str) -> None:
    """Have this process begin the names of temporary files in an output folder with a prefix; with none, if it is empty.

    Where several processes write into one folder, `remove_leftovers` tells by that which files one left that was killed.
    """
    if prefix:
        _PREFIXES[Path(os.path.realpath(folder))] = prefix
    else:
        _PREFIXES.pop(Path(os.path.realpath(folder)), None)


def remove_leftovers(folder: Path, prefix: str = "") -> None:
    """Remove temporary files that a killed run left in an output folder. The caller holds the folder's lock.

    With a `prefix`, only those whose names begin so (`name_parts`). Raises UsageError if something else has such a name.
    """
    for path in (folder / WORK_FOLDER).glob(f"{escape(prefix)}*{SUFFIX}*"):
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
