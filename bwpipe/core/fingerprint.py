"""File fingerprints and digests, to detect changes."""

from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from bwpipe.core.inputs import parts_of


class Fingerprint(NamedTuple):
    """A file's size in bytes and modification time in nanoseconds; it changes when the file does.

    If it stands for several files (`bwpipe.core.inputs.parts_of`), they are the sum and the latest.
    """

    size: int
    mtime_ns: int


class FileStamp(NamedTuple):
    """All that a file system tells of a file's content without reading it: a `Fingerprint`, and what a program can't set.

    A tool that restores a file's modification time leaves the fingerprint as it was, but not the time of the last change of
    its inode. Both fields also differ after harmless events (a copy, a new hard link or owner), so a difference in them alone
    means that the digests have to be compared.
    """

    size: int
    mtime_ns: int
    ctime_ns: int | None
    inode: int | None

    @property
    def fingerprint(self) -> Fingerprint:
        """Size and modification time."""
        return Fingerprint(self.size, self.mtime_ns)


def file_stamp(path: Path) -> FileStamp | None:
    """The stamp of a file, or of those that it stands for; None if one does not exist."""
    try:
        found = [part.stat() for part in parts_of(path)]
    except OSError:
        return None
    inode = sum(status.st_ino for status in found) & (2**63 - 1)  # inodes may have 64 bits, SQLite's integers 63 and a sign
    changed = max(status.st_ctime_ns for status in found)
    return FileStamp(sum(status.st_size for status in found), max(status.st_mtime_ns for status in found), changed, inode)


def fingerprint(path: Path) -> Fingerprint | None:
    """The fingerprint of a file; None if the file does not exist."""
    stamp = file_stamp(path)
    return stamp.fingerprint if stamp else None


def digest(path: Path, tick: Callable[[], None] = lambda: None) -> str:
    """Hash the bytes of a file, or of those that it stands for (BLAKE2b, 128 bits, hexadecimal). Raises OSError.

    `tick` is called before each megabyte; an exception it raises ends the work.
    """
    hasher = blake2b(digest_size=16)
    for part in parts_of(path):
        with part.open("rb") as file:
            while block := file.read(1 << 20):
                tick()
                hasher.update(block)
    return hasher.hexdigest()


def cached_digest(path: Path) -> str:
    """The digest of a file that is asked for again and again, such as weights: hashed again only if its stamp differs."""
    stamp = file_stamp(path)
    if (known := _digests.get(path)) and stamp == known[0]:
        return known[1]
    found = digest(path)
    if stamp:
        _digests[path] = stamp, found
    return found


_digests: dict[Path, tuple[FileStamp, str]] = {}
