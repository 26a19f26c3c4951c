"""What tells whether a file has changed."""

from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple


class Fingerprint(NamedTuple):
    """What tells that a file has changed: its size in bytes and the time of its last change in nanoseconds."""

    size: int
    mtime_ns: int


def fingerprint(path: Path) -> Fingerprint | None:
    """The stamp of a file; None if there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return Fingerprint(status.st_size, status.st_mtime_ns)


def digest(path: Path, tick: Callable[[], None] = lambda: None) -> str:
    """A hash (BLAKE2b, 128 bits, hexadecimal) of a file's bytes. Raises OSError.

    `tick` is called before each megabyte; what it raises ends the work.
    """
    with path.open("rb") as file:
        total = blake2b(digest_size=16)
        while block := file.read(1 << 20):
            tick()
            total.update(block)
        return total.hexdigest()
