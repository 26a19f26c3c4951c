"""Find the input files of a path, a folder or a pattern."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from glob import has_magic
from itertools import takewhile
from pathlib import Path, PurePosixPath

from bwpipe.errors import UsageError

SYSTEM_NAMES = frozenset(
    {"thumbs.db", "desktop.ini", "ehthumbs.db", "__macosx", "@eadir", "$recycle.bin", "system volume information"}
)
"""Lower-case names of operating-system files, which are skipped, as are names that start with a dot."""

_FIRST_PART = re.compile(r"VTS_\d\d_1\.VOB", re.IGNORECASE)


def expand_user(path: str | Path) -> Path:
    """A path in which `~` stands for the home folder; where there is no such user, it is the name of a file."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def find_files(path: str) -> Iterator[tuple[Path, PurePosixPath]]:
    """Find the files that a path stands for, in a stable order.

    Args:
        path: A file; a folder, which is read with its subfolders; or a pattern such as `scans/**/*.tif`.

    Yields:
        Each file's absolute path, and its path relative to the folder that is read (for a pattern: the part before the first
        wildcard). Links are not followed; they and folders that can't be listed are yielded as they are.

    Raises:
        UsageError: The file or folder does not exist, or can't be listed.
    """
    start = Path(os.path.abspath(expand_user(path)))  # noqa: PTH100 (`absolute` keeps "..")
    if start.is_dir():
        try:
            yield from ((file, _relative(file, start)) for file in _walk(start))
        except OSError as error:
            raise UsageError(f"{start}: can't be listed ({error.strerror}); fix that, or read another folder") from error
    elif start.is_file():
        yield start, PurePosixPath(start.name)
    elif has_magic(str(start)):
        root = Path(*_literal_parts(start))
        for file in sorted(root.glob(str(start.relative_to(root))), key=os.fsencode):
            if not file.is_dir() and not any(_is_system(part) for part in file.relative_to(root).parts):
                yield file, _relative(file, root)
    else:
        raise UsageError(f"there is no file or folder {path}; give `read` another `path`")


def parts_of(path: Path) -> tuple[Path, ...]:
    """The files that hold what a path stands for: itself, and the other parts of a DVD's title if it is the first one.

    A title is a stream that is cut into files of 1 GB, `VTS_01_1.VOB` to at most `VTS_01_9.VOB`; `VTS_01_0.VOB` is its menu.
    """
    if not _FIRST_PART.fullmatch(path.name):
        return (path,)
    others = (path.with_name(f"{path.name[:7]}{number}{path.name[8:]}") for number in range(2, 10))
    return path, *takewhile(lambda other: other.is_file() and not other.is_symlink(), others)


def is_later_part(path: Path) -> bool:
    """Whether a file belongs to a DVD's title whose first part stands for it."""
    first = path.with_name(f"{path.name[:7]}1{path.name[8:]}")
    return path != first and path in parts_of(first) and first.is_file() and not first.is_symlink()


def leads_outside(path: Path, name: PurePosixPath) -> bool:
    """Whether a file is a link that leads outside the folder that is read; `path` and `name` are as yielded by `find_files`."""
    root = path.parents[len(name.parts) - 1]
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


class StemIndex:
    """Names of files, to find the one that belongs to another file of the same name, whatever their extensions are."""

    def __init__(self, names: Iterable[PurePosixPath]) -> None:
        self._names: defaultdict[PurePosixPath, list[PurePosixPath]] = defaultdict(list)
        for name in names:
            self._names[name.with_suffix("")].append(name)

    def find(self, name: PurePosixPath) -> list[PurePosixPath]:
        """The name itself if it is there, else all that differ from it in their extensions only."""
        alike = self._names.get(name.with_suffix(""), [])
        return [name] if name in alike else list(alike)


def _literal_parts(pattern: Path) -> Iterator[str]:
    """The parts of a pattern before its first wildcard."""
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


def _relative(file: Path, root: Path) -> PurePosixPath:
    return PurePosixPath(*file.relative_to(root).parts)


def _is_system(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM_NAMES
