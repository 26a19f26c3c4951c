"""Writes reports to where the user wants them."""

from contextlib import suppress
from pathlib import Path

from bwpipe.draft import WORK_FOLDER, publish
from bwpipe.errors import RunAborted, UsageError


def check(path: Path) -> Path:
    """The file, absolute, if a report can be written there; an earlier one is written over. Raises UsageError."""
    target = path.expanduser().absolute()
    if target.exists() and not target.is_file():
        raise UsageError(f"{path} is not a plain file; give another name for the report")
    if not target.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {target.parent} for the report; make it, or give another name")
    return target


def write(path: Path, text: str) -> None:
    """Write a report, which has its name only when it is whole. Raises RunAborted."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a report that is no text. Raises RunAborted."""
    try:
        publish(path, data)
    except OSError as error:
        raise RunAborted(f"{path}: can't be written ({error.strerror}); make room, and run again") from error
    finally:
        with suppress(OSError):  # others may have drafts in it
            (path.parent / WORK_FOLDER).rmdir()
