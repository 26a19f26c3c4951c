"""Locks of folders that are written to, on file systems with and without locks."""

import errno
from contextlib import suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

_UNSUPPORTED = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}
"""What file systems without locks answer: network shares, some FUSE file systems."""


class FolderLock:
    """Locks other processes out of a folder.

    Where the file system has no locks, a file that exists stands for the lock. It names its process, so that one that a killed
    run left is removed by the next run on the same computer.

    Attributes:
        soft: Whether the file system has no locks; known once `try_acquire` was called.
    """

    def __init__(self, path: Path) -> None:
        """Prepare a lock, whose file is `path`, in the folder's `.bwpipe/`."""
        self.soft = False
        self._path = path
        self._lock: BaseFileLock = FileLock(path, fallback_to_soft=False)

    def try_acquire(self, timeout: float = 0) -> bool:
        """Lock the folder, waiting for at most `timeout` seconds; False if another process holds it. Raises OSError."""
        try:
            try:
                self._lock.acquire(timeout=timeout)
            except OSError as error:
                if error.errno not in _UNSUPPORTED or isinstance(error, Timeout):
                    raise
                self.soft = True
                self._lock = SoftFileLock(self._path.with_name("lock.soft"))
                self._lock.acquire(timeout=timeout)
        except Timeout:
            return False
        return True

    @property
    def hint(self) -> str:
        """What a refusal adds: how to remove the lock of a process that is gone; empty where locks end with their process."""
        return f" (if that one is gone, remove {self._lock.lock_file})" if self.soft else ""

    def release(self) -> None:
        """Release it, if it is held."""
        self._lock.release()

    def supported(self) -> bool:
        """Whether the file system has locks."""
        with suppress(OSError):
            if self.try_acquire():
                self.release()
        return not self.soft
