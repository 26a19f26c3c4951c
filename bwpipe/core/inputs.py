"""Finds the files that a path, a folder or a pattern stands for."""

import os
from collections.abc import Iterator
from glob import has_magic
from pathlib import Path, PurePosixPath

from bwpipe.errors import UsageError

SYSTEM = frozenset(
    {"thumbs.db", "desktop.ini", "ehthumbs.db", "__macosx", "@eadir", "$recycle.bin", "system volume information"}
)
"""Names, in lower case, that operating systems put into folders; those that begin with a dot are skipped too."""


def find_files(path: str) -> Iterator[tuple[Path, PurePosixPath]]:
    """The files that a path stands for, in a lasting order.

    Args:
        path: A file; a folder, of which all files are meant, those of its subfolders too; or a pattern such as
            `scans/**/*.tif`.

    Yields:
        Each file's absolute path, and its place below the folder that is read (of a pattern: its part without wildcards).
        Links are not followed; they, and folders that can't be listed, are given as they are.

    Raises:
        UsageError: There is no such file or folder, or it can't be listed.
    """
    start = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 (`absolute` keeps "..")
    if start.is_dir():
        try:
            yield from ((file, _place(file, start)) for file in _walk(start))
        except OSError as error:
            raise UsageError(f"{start}: can't be listed ({error.strerror}); mend that, or read another folder") from error
    elif start.is_file():
        yield start, PurePosixPath(start.name)
    elif has_magic(str(start)):
        root = Path(*_fixed(start))
        for file in sorted(root.glob(str(start.relative_to(root))), key=os.fsencode):
            if not file.is_dir() and not any(_is_system(part) for part in file.relative_to(root).parts):
                yield file, _place(file, root)
    else:
        raise UsageError(f"there is no file or folder {path}; give `read` another `path`")


def leads_outside(path: Path, name: PurePosixPath) -> bool:
    """Whether a file is a link out of the folder that is read; `path` and `name` are what `find_files` gave."""
    root = path.parents[len(name.parts) - 1]
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def _fixed(pattern: Path) -> Iterator[str]:
    """The parts of a pattern before the first with a wildcard."""
    for part in pattern.parts[:-1]:
        if has_magic(part):
            return
        yield part


def _walk(folder: Path) -> Iterator[Path]:
    for entry in sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name)):
        path = Path(entry)
        if _is_system(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False) and os.access(path, os.R_OK | os.X_OK):
            yield from _walk(path)
        elif entry.is_symlink() or entry.is_file() or entry.is_dir():
            yield path


def _place(file: Path, root: Path) -> PurePosixPath:
    return PurePosixPath(*file.relative_to(root).parts)


def _is_system(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM
