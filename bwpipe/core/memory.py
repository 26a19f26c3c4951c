"""Main memory: whether an error means that there is too little, and giving back what is free."""

import ctypes
import errno
import gc
import mmap
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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


def keep_freed_memory(*, of_any_size: bool = False) -> None:
    """Make GNU's C library reuse freed memory for the next frame or step, instead of returning large blocks to the system.

    Otherwise every 4 KiB of a new block costs a page fault: a film of 720p had 3,700 to 15,000 of them a frame, and 15 % of its
    CPU time was the system's. The setting applies to the whole process; with other C libraries nothing is done.

    Args:
        of_any_size: Also for blocks above 32 MiB, as in a training: the loss `chroma_bins` takes 45 ms of a core instead of
            125 (32 images, 407 bins). Such blocks are then all cut from one heap, so that the process may grow more.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    settings = _ANY_SIZE if of_any_size else _COMMON_SIZES
    for option, value in settings:
        library.mallopt(option, value)


_ARENA_MAX, _MMAP_MAX, _MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -8, -4, -3, -1, -2
"""Options of `mallopt`, from malloc.h."""
_ANY_SIZE = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 1 << 30), (_TOP_PAD, 1 << 28))
_COMMON_SIZES = ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, 32 * _MIB), (_TRIM_THRESHOLD, 256 * _MIB))
"""32 MiB is the most that the library accepts. With one heap for all threads, what a stage frees serves the next frame of any:
otherwise each of the twenty threads of a film has a heap of its own, which grows to what its stage once needed. Stages take few
and large blocks, most of them while they hold Python's lock, so that they do not wait for each other."""


def available() -> int | None:
    """Bytes of memory that the system can still give to this process, its control group included; None where it can't say."""
    found = []
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")))
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / name).read_text(encoding="ascii") for name in ("memory.max", "memory.current"))
        found.append(max(int(limit) - int(used), 0))
    return min(found, default=None)


def give_back() -> None:
    """Give memory that is free back to the system.

    A process grows from run to run although nothing is lost: the stages of a run and its context refer to each other, weights
    and all, until Python looks for such circles, and GNU's C library keeps what the heaps of ended threads once used.
    """
    gc.collect()
    trim_heap()


def trim_heap() -> None:
    """Give what the heap holds free back to the system, as after a segment of a film.

    The buffers of the next encoder need not fit between the frames of the segments: without this, a film of 720p took 738 MB in
    its second segment instead of 715, and 785 instead of 648 on a busy machine (when frames were views of the decoder's).
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
