"""Numbered files: which of a folder belong together, in which order, and what is wrong with their numbers."""

import os
import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from glob import has_magic
from hashlib import blake2b
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.fingerprint import FileStamp
from bwpipe.core.inputs import expand_user
from bwpipe.errors import MediaError

_NUMBER = re.compile(r"%(?:0(\d{1,2}))?d")
"""Where a pattern such as `reel1_%06d.tif` has its number, as in FFmpeg."""
_LAST_NUMBER = re.compile(r"(.*?)(\d{1,18})(\D*)", re.DOTALL)
_LONGEST = 18
"""Digits of the largest number that 64 bits hold for sure."""
_NAMED = 4
"""The most gaps or duplicates to name in a message."""
_SIGNED = 2**63 - 1
Split = Callable[[str], tuple[str, str, str] | None]
"""Splits a name at its number: what stands before it, its digits, what stands after; None for a name that does not belong."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameFiles:
    """The files of one film in one folder, in the order of their numbers; some 40 bytes for each.

    Attributes:
        folder: The folder, absolute.
        prefix, suffix: What stands before and after the number in each name.
        numbers: (frames,) int64, increasing.
        widths: (frames,) uint8: how many digits each name has.
        sizes, mtimes, ctimes: (frames,) int64: size in bytes and times in nanoseconds when the folder was listed.
        doubles: Names of further files with a number that another one has, which are left out.
    """

    folder: Path
    prefix: str
    suffix: str
    numbers: NDArray[np.int64]
    widths: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    mtimes: NDArray[np.int64]
    ctimes: NDArray[np.int64]
    doubles: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.numbers)

    def path(self, index: int) -> Path:
        """The file of a frame."""
        return self.folder / self.name(index)

    def name(self, index: int) -> str:
        """The name of a frame's file."""
        return f"{self.prefix}{int(self.numbers[index]):0{int(self.widths[index])}d}{self.suffix}"

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from other films: its folder, with links resolved, and what stands before and after the number."""
        return os.path.realpath(self.folder), self.prefix, self.suffix

    @property
    def pattern(self) -> str:
        """Its name with a place for the number, as FFmpeg writes it: `reel1_%06d.tif`."""
        fixed = len(self.widths) > 0 and bool((self.widths == self.widths[0]).all())
        return f"{self.prefix}{f'%0{self.widths[0]}d' if fixed else '%d'}{self.suffix}"

    @property
    def title(self) -> PurePosixPath:
        """What the film is called: the names' common part, or else the folder's name, with the frames' extension."""
        ending = PurePosixPath(f"x{self.suffix}").suffix
        middle = self.suffix.removesuffix(ending)
        stem = f"{self.prefix}{middle}".strip("_-. ") or self.folder.name or "frames"
        return PurePosixPath(f"{stem}{ending}")

    def gaps(self) -> list[tuple[int, int]]:
        """The first and the last number of each run of numbers that are missing."""
        at = np.flatnonzero(np.diff(self.numbers) > 1)
        return [(int(self.numbers[i]) + 1, int(self.numbers[i + 1]) - 1) for i in at]

    def faults(self) -> list[str]:
        """What is wrong with the numbers, as sentences without the name of the film."""
        found = []
        if gaps := self.gaps():
            count = sum(last - first + 1 for first, last in gaps)
            runs = [f"{first}" if first == last else f"{first} to {last}" for first, last in gaps]
            found.append(f"{count} of its numbers {'is' if count == 1 else 'are'} missing: {_list(runs)}")
        if self.doubles:
            found.append(f"{len(self.doubles)} of its files have a number that another one has: {_list(list(self.doubles))}")
        return found

    def stamp(self, start: int, stop: int | None, *, again: bool) -> FileStamp | None:
        """The stamp of some of the files: what differs if a name, a size or a time differs; None if one is gone.

        Its modification time is no time but a hash of all of these. With `again` false the folder's listing is used.
        """
        part = slice(start, stop)
        sizes, mtimes, ctimes = self.sizes[part], self.mtimes[part], self.ctimes[part]
        if again:
            try:
                found = [self.path(index).stat() for index in range(*part.indices(len(self)))]
            except OSError:
                return None
            sizes, mtimes, ctimes = (
                np.array([getattr(each, name) for each in found], np.int64)
                for name in ("st_size", "st_mtime_ns", "st_ctime_ns")
            )
        hasher = blake2b(os.fsencode(f"{self.prefix}\0{self.suffix}"), digest_size=8)
        for values in (self.numbers[part], self.widths[part], sizes, mtimes):
            hasher.update(values.tobytes())
        identity = int.from_bytes(hasher.digest(), "little") & _SIGNED
        return FileStamp(int(sizes.sum()), identity, int(ctimes.max(initial=0)), 0)


@dataclass(slots=True)
class _Group:
    """Files that differ in a number only, in the order in which they were found."""

    numbers: "array[int]" = field(default_factory=lambda: array("q"))
    widths: "array[int]" = field(default_factory=lambda: array("B"))
    stats: "array[int]" = field(default_factory=lambda: array("q"))

    def add(self, digits: str, status: os.stat_result) -> None:
        self.numbers.append(int(digits))
        self.widths.append(len(digits))
        self.stats.extend((status.st_size, status.st_mtime_ns, status.st_ctime_ns))


def list_frames(folder: Path, split: Split, *, links: bool = False) -> dict[tuple[str, str], FrameFiles]:
    """The numbered files of a folder, grouped by what stands before and after their number. Raises OSError.

    Folders and links are left out, unless `links` asks for whatever has such a name.
    """
    groups: dict[tuple[str, str], _Group] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            parts = split(entry.name)
            if parts and not entry.name.startswith(".") and (links or entry.is_file(follow_symlinks=False)):
                prefix, digits, suffix = parts
                groups.setdefault((prefix, suffix), _Group()).add(digits, entry.stat(follow_symlinks=False))
    return {key: _ordered(folder, *key, group) for key, group in sorted(groups.items())}


def _ordered(folder: Path, prefix: str, suffix: str, group: _Group) -> FrameFiles:
    numbers, widths = np.array(group.numbers, np.int64), np.array(group.widths, np.uint8)
    stats = np.array(group.stats, np.int64).reshape(-1, 3)
    usual = np.bincount(widths).argmax()
    order = np.lexsort((widths != usual, numbers))  # of two files with one number, the one named as most are
    first = np.diff(numbers[order], prepend=numbers[order[0]] - 1) > 0
    chosen, left = order[first], order[~first]
    files = FrameFiles(folder, prefix, suffix, numbers[chosen], widths[chosen], *stats[chosen].T.copy())
    others = replace(files, numbers=numbers[left], widths=widths[left])
    return replace(files, doubles=tuple(others.name(index) for index in range(len(left))))


def by_last_number(name: str) -> tuple[str, str, str] | None:
    """Split a name at the last number before its extension."""
    path = PurePosixPath(name)
    found = _LAST_NUMBER.fullmatch(path.stem)
    return (found[1], found[2], f"{found[3]}{path.suffix}") if found else None


def names_frames(path: str) -> bool:
    """Whether a path is a pattern with the place of a number, such as `scans/reel1_%06d.tif`."""
    return bool(_NUMBER.search(Path(path).name)) and not os.path.lexists(expand_user(path))


def find_frames(path: str) -> Iterator[FrameFiles]:
    """The films that a pattern such as `scans/reel1_%06d.tif` or `scans/reel1_*.tif` stands for.

    Raises MediaError if it is no such pattern, or there is nothing, or the folder can't be listed.
    """
    start = Path(os.path.abspath(expand_user(path)))  # noqa: PTH100 (`absolute` keeps "..")
    if has_magic(str(start.parent)) and not start.parent.is_dir():  # "film [1922]" may be a folder's name
        raise MediaError("its folders have wildcards; give the folder itself, with `sequence: true`")
    try:
        groups = list_frames(start.parent, _splitter(start.name))
    except OSError as error:
        raise MediaError(f"its folder can't be listed ({error.strerror})") from error
    if not groups:
        raise MediaError("there are no files that fit it; give `read` another `path`")
    yield from groups.values()


def _splitter(pattern: str) -> Split:
    """What splits the names that fit a pattern with `%06d`, or with wildcards."""
    places = list(_NUMBER.finditer(pattern))
    if len(places) > 1:
        raise MediaError("it has several places for a number; write one as digits, or give the folder with `sequence: true`")
    if places:
        place = places[0]
        width = int(place[1] or 0)
        fixed = re.escape(pattern[: place.start()]), re.escape(pattern[place.end() :])
        digits = rf"\d{{{width}}}|[1-9]\d{{{width},{_LONGEST - 1}}}" if width else rf"0|[1-9]\d{{,{_LONGEST - 1}}}"
        expression = re.compile(f"({fixed[0]})({digits})({fixed[1]})", re.DOTALL)
        return lambda name: _groups(expression, name)
    if pattern.count("*") == 1 and not has_magic(pattern.replace("*", "")):
        before, after = map(re.escape, pattern.split("*"))
        expression = re.compile(rf"({before})(\d{{1,{_LONGEST}}})({after})", re.DOTALL)
        either = re.compile(rf"{before}.*{after}", re.DOTALL)
        return lambda name: _groups(expression, name) or (by_last_number(name) if either.fullmatch(name) else None)
    raise MediaError("it does not say where the number is; write it as `%06d`, or as a single `*`")


def _groups(expression: "re.Pattern[str]", name: str) -> tuple[str, str, str] | None:
    found = expression.fullmatch(name)
    return (found[1], found[2], found[3]) if found else None


def _list(words: list[str]) -> str:
    more = f" and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
    return f"{', '.join(words[:_NAMED])}{more}"
