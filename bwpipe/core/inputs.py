"""Find the input files of a path, a folder or a pattern, and open them."""

import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator
from glob import has_magic
from itertools import product, takewhile
from pathlib import Path, PurePosixPath
from typing import Annotated, BinaryIO

from pydantic import AfterValidator, Field
from pydantic_core import PydanticKnownError

from bwpipe.errors import MediaError, UsageError

SYSTEM_NAMES = frozenset(
    {"thumbs.db", "desktop.ini", "ehthumbs.db", "__macosx", "@eadir", "$recycle.bin", "system volume information"}
)
"""Lower-case names of operating-system files, which are skipped, as are names that start with a dot."""

_MENU = re.compile(r"(?:VTS_\d\d_0|VIDEO_TS)\.VOB", re.IGNORECASE)
_FIRST_PART = re.compile(r"VTS_\d\d_1\.VOB", re.IGNORECASE)


def _check_not_empty(text: str) -> str:
    if not text:
        raise PydanticKnownError("string_too_short", {"min_length": 1})
    return text


PathText = Annotated[str, AfterValidator(_check_not_empty), Field(json_schema_extra={"minLength": 1})]
"""An option that is a path as text, not empty. Pydantic's own `min_length` refuses names with bytes that are not UTF-8."""


def expand_user(path: str | Path) -> Path:
    """A path in which `~` stands for the home folder; where there is no such user, it is the name of a file."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def find_files(path: str) -> Iterator[tuple[Path, PurePosixPath]]:
    """Find the files that a path stands for, in a stable order.

    Args:
        path: A file; a folder, which is read with its subfolders; or a pattern such as `scans/**/*.tif`. A part of a pattern
            that exists under just that name, such as the folder `film [1922]`, stands for itself.

    Yields:
        Each file's absolute path, and its path relative to the folder that is read (for a pattern: the part before the first
        wildcard). Links are not followed; they, pipes and the like, and folders that can't be listed are yielded as they are.

    Raises:
        UsageError: The file or folder does not exist, can't be listed, or is a pipe or the like.
    """
    start = Path(os.path.abspath(expand_user(path)))  # noqa: PTH100 (`absolute` keeps "..")
    if start.is_dir():
        try:
            entries = _entries(start)
        except OSError as error:
            raise UsageError(f"{start}: can't be listed ({error.strerror}); fix that, or read another folder") from error
        yield from ((file, _relative(file, start)) for file in _walk(entries))
    elif start.is_file():
        yield start, PurePosixPath(start.name)
    elif os.path.lexists(start):
        raise UsageError(f"{start} is {_kind(start)}, not a file or folder; give another path")
    elif has_magic(str(start)):
        root = Path(*_literal_parts(start))
        try:
            found = _glob(root, start.relative_to(root).parts)
        except ValueError as error:
            raise UsageError(f"{path}: {error}; give another pattern") from error
        for file in sorted(found, key=os.fsencode):
            if not file.is_dir() and not any(_is_system(part) for part in file.relative_to(root).parts):
                yield file, _relative(file, root)
    else:
        raise UsageError(f"there is no file or folder {path}; check the name")


def parts_of(path: Path) -> tuple[Path, ...]:
    """The files that hold what a path stands for: itself, and the other parts of a DVD's title if it is the first one.

    A title is a stream that is cut into files of 1 GB, `VTS_01_1.VOB` to at most `VTS_01_9.VOB`.
    """
    if not _FIRST_PART.fullmatch(path.name):
        return (path,)
    others = (path.with_name(f"{path.name[:7]}{number}{path.name[8:]}") for number in range(2, 10))
    return path, *takewhile(lambda other: other.is_file() and not other.is_symlink(), others)


def is_later_part(path: Path) -> bool:
    """Whether a file belongs to a DVD's title whose first part stands for it."""
    first = path.with_name(f"{path.name[:7]}1{path.name[8:]}")
    return path != first and path in parts_of(first) and first.is_file() and not first.is_symlink()


def is_disc_menu(path: Path) -> bool:
    """Whether a file is the menu of a DVD beside its titles: `VTS_01_0.VOB` of one title, `VIDEO_TS.VOB` of all."""
    if not _MENU.fullmatch(path.name):
        return False
    if path.name[:3].upper() == "VTS":
        return path.with_name(f"{path.name[:7]}1{path.name[8:]}").is_file()
    return any(_FIRST_PART.fullmatch(other.name) for other in path.parent.iterdir())


def open_input(path: Path) -> BinaryIO:
    """Open a regular file for reading; anything else, which one could wait for without end, is refused.

    Raises MediaError, OSError.
    """
    if path.is_dir():
        raise MediaError("it is a folder that can't be listed; make it readable, or remove it")
    if stat.S_ISREG(path.stat().st_mode):  # asked first: to open a device can have effects
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        if stat.S_ISREG(os.fstat(descriptor).st_mode):  # it may have been replaced in between
            return os.fdopen(descriptor, "rb")
        os.close(descriptor)
    raise MediaError(f"it is {_kind(path)}, which is not read; copy what it gives into a file")


def output_stem(pattern: str, name: PurePosixPath) -> str:
    """The name of an output without its ending: {stem} and {suffix} in the pattern are those of the input's name."""
    return pattern.format(stem=name.stem, suffix=name.suffix.removeprefix("."))


def _kind(path: Path) -> str:
    """What something that is neither a file nor a folder is."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"a link that can't be followed ({error.strerror})"
    return "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"


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
    folder = Path()
    for part in pattern.parts[:-1]:
        folder /= part
        if has_magic(part) and not folder.is_dir():
            return
        yield part


def _glob(root: Path, parts: tuple[str, ...]) -> set[Path]:
    """The paths below a folder that match a pattern; a bracket in a name is both itself and a wildcard."""
    readings = [{part, part.replace("[", "[[]")} for part in parts]
    return {file for pattern in product(*readings) for file in root.glob("/".join(pattern))}


def _entries(folder: Path) -> Iterator["os.DirEntry[str]"]:
    """The entries of a folder, sorted, without those of the operating system. Raises OSError."""
    with os.scandir(folder) as entries:
        return iter(
            sorted((entry for entry in entries if not _is_system(entry.name)), key=lambda entry: os.fsencode(entry.name))
        )


def _walk(entries: Iterator["os.DirEntry[str]"]) -> Iterator[Path]:
    """The files among some entries and below them."""
    open_folders = [entries]  # not recursive: folders can be nested more deeply than calls
    while open_folders:
        entry = next(open_folders[-1], None)
        if entry is None:
            open_folders.pop()
            continue
        try:
            below = _entries(Path(entry)) if entry.is_dir(follow_symlinks=False) else None
        except OSError:
            below = None
        if below is None:
            yield Path(entry)
        else:
            open_folders.append(below)


def _relative(file: Path, root: Path) -> PurePosixPath:
    return PurePosixPath(*file.relative_to(root).parts)


def _is_system(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM_NAMES
