"""The lock of an output folder, on file systems with and without locks."""

import errno
from contextlib import suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from bwpipe.errors import UsageError

_UNSUPPORTED = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}
"""What file systems without locks answer: network shares, some FUSE file systems."""


class FolderLock:
    """Locks other runs out of an output folder.

    Where the file system has no locks, a file that exists stands for the lock. It names its process, so that one that a killed
    run left is removed by the next run on the same computer.

    Attributes:
        soft: Whether the file system has no locks; known once `acquire` was called.
    """

    def __init__(self, path: Path) -> None:
        """Prepare a lock, whose file is `path`, in an output folder's `.bwpipe/`."""
        self.soft = False
        self._path = path
        self._lock: BaseFileLock = FileLock(path, fallback_to_soft=False)

    def acquire(self) -> None:
        """Lock the folder. Raises UsageError if another run holds it, OSError."""
        try:
            try:
                self._lock.acquire(timeout=0)
            except OSError as error:
                if error.errno not in _UNSUPPORTED or isinstance(error, Timeout):
                    raise
                self.soft = True
                self._lock = SoftFileLock(self._path.with_name("lock.soft"))
                self._lock.acquire(timeout=0)
        except Timeout:
            more = f" (if that one is gone, remove {self._lock.lock_file})" if self.soft else ""
            folder = self._path.parent.parent
            raise UsageError(
                f"{folder}: another run is writing into it; wait for its end, or choose another folder{more}"
            ) from None

    def release(self) -> None:
        """Release it, if it is held."""
        self._lock.release()

    def supported(self) -> bool:
        """Whether the file system has locks."""
        with suppress(UsageError, OSError):
            self.acquire()
            self.release()
        return not self.soft
