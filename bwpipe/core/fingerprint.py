"""File fingerprints and digests, to detect changes."""

from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple


class Fingerprint(NamedTuple):
    """A file's size in bytes and modification time in nanoseconds; it changes when the file does."""

    size: int
    mtime_ns: int


def fingerprint(path: Path) -> Fingerprint | None:
    """The fingerprint of a file; None if the file does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return Fingerprint(status.st_size, status.st_mtime_ns)


def digest(path: Path, tick: Callable[[], None] = lambda: None) -> str:
    """Hash a file's bytes (BLAKE2b, 128 bits, hexadecimal). Raises OSError.

    `tick` is called before each megabyte; an exception it raises ends the work.
    """
    with path.open("rb") as file:
        hasher = blake2b(digest_size=16)
        while block := file.read(1 << 20):
            tick()
            hasher.update(block)
        return hasher.hexdigest()
