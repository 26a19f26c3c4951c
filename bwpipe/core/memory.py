"""Main memory: whether an error means that there is too little, and giving back what is free."""

import ctypes
import errno
import gc
import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bwpipe.errors import BwpipeError, RunAborted

try:
    import resource
except ImportError:  # not on POSIX
    _HAS_LIMITS = False
else:
    _HAS_LIMITS = True

OUT_OF_MEMORY = "out of memory; use a smaller `batch` or `queue`, smaller frames, or more memory"
"""The sentence for the user; a prefix says where."""
_PHRASES = (
    "can't start new thread",  # Python
    "can't allocate memory",  # PyTorch
    "Insufficient memory",  # OpenCV
    "Cannot allocate memory",  # the C library
    "failed to map segment",  # the loader of shared libraries
    "std::bad_alloc",
)
_MIB = 1 << 20
_ROOM = 640 * _MIB
"""Address space that the threads of a run take at least, in stacks and heaps: one small picture took 680 MiB, a film of 320x240
900 MiB (two cores, glibc)."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that it follows from, means that memory ran out; libraries say so in ways of their own."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, MemoryError) or getattr(cause, "errno", None) == errno.ENOMEM:
            return True
        if any(phrase in str(cause) for phrase in _PHRASES):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def is_short(size: int = 64 * _MIB) -> bool:
    """Whether not even that many bytes can be had, so that libraries fail in any way: as on an encoder's "generic error"."""
    try:
        mmap.mmap(-1, size).close()
    except (OSError, MemoryError):
        return True
    return False


def address_space() -> float:
    """The limit of this process's address space in bytes; infinite if there is none."""
    if not _HAS_LIMITS:
        return float("inf")
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return float("inf") if soft == resource.RLIM_INFINITY else soft


def peak() -> int | None:
    """Peak memory of this process in bytes; None where the system does not say."""
    if not _HAS_LIMITS:
        return None
    peak_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak_rss if sys.platform == "darwin" else peak_rss * 1024


def check_room() -> None:
    """Check that threads have room before they are started: libraries may crash where it runs out. Raises RunAborted."""
    if is_short(_ROOM):
        raise RunAborted(f"out of memory: a run needs {_ROOM // _MIB} MB more than there are; add memory, or raise its limit")


@contextmanager
def as_abort() -> Iterator[None]:
    """Turn errors that mean that memory ran out, and that no file is to blame for, into RunAborted."""
    try:
        yield
    except BwpipeError:
        raise
    except Exception as error:
        if is_out_of_memory(error) or is_short():
            raise RunAborted(OUT_OF_MEMORY) from error
        raise


def give_back() -> None:
    """Give memory that is free back to the system.

    A process grows from run to run although nothing is lost: the stages of a run and its context refer to each other, weights
    and all, until Python looks for such circles, and GNU's C library keeps what the heaps of ended threads once used.
    """
    gc.collect()
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
