"""The folder of corrections: options for some files or shots only, and where hints and references are."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

from bwpipe.core.inputs import SYSTEM_NAMES
from bwpipe.core.options import Loc, format_value
from bwpipe.core.registry import hint
from bwpipe.errors import UsageError
from bwpipe.graph.document import Document

CORRECTIONS = "corrections"
"""The folder of corrections in an output folder of `bwpipe colorize`."""
OVERRIDES = "overrides.yaml"
_FOLDERS = ("hints", "references")
_KNOWN = (*_FOLDERS, OVERRIDES, "reviewed.yaml")
_PLACES = ("shots", "frames", "times")
_NUMBERS = re.compile(r"([0-9]{1,12})(?:-([0-9]{1,12}))?")
_CLOCK = r"(?:(?:([0-9]{1,4}):)?([0-9]{1,4}):)?([0-9]{1,6}(?:\.[0-9]{1,9})?)"
_TIMES = re.compile(rf"{_CLOCK}-{_CLOCK}")
_PATTERN = re.compile(r"\\(.)|(\*\*/)|(\*\*)|(\*)|(\?)|(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Correction:
    """An entry of `overrides.yaml`.

    Attributes:
        where: Its position, for messages: `corrections/overrides.yaml:3:5`.
        pattern: The pattern of the files that it concerns.
        files: The same as a regular expression.
        options: The options that it sets, by their names.
        shots: The shots of a film that it concerns, by number from 1, the ends included.
        frames: The frames, by index from 0, the ends included.
        times: The times, in seconds from the start of the film, the ends excluded. It concerns a film as a whole if none of
            these three is given.
    """

    where: str
    pattern: str
    files: "re.Pattern[str]"
    options: Mapping[str, Any]
    shots: tuple[tuple[int, int], ...] = ()
    frames: tuple[tuple[int, int], ...] = ()
    times: tuple[tuple[float, float], ...] = ()

    def concerns(self, name: PurePosixPath) -> bool:
        """Whether it concerns a file, by its path below the folder that is read."""
        return self.files.fullmatch(str(name)) is not None

    @property
    def whole(self) -> bool:
        """Whether it concerns films as a whole."""
        return not (self.shots or self.frames or self.times)


def subfolder(folder: Path, name: str) -> Path | None:
    """A folder within that of corrections; None if it is not there, or there is no file in it, at whatever depth."""
    path = folder / name
    files = (file for _, _, found in os.walk(path) for file in found)
    return path if any(not file.startswith(".") and file.lower() not in SYSTEM_NAMES for file in files) else None


def read_corrections(folder: Path, known: Sequence[str]) -> list[Correction]:
    """Read `overrides.yaml` of a folder of corrections, which need not exist.

    Args:
        folder: The folder.
        known: The options that may be overridden.

    Raises:
        UsageError: There is something else in the folder that looks like a misspelt name.
        ConfigError: A line per error of the file.
    """
    _check_names(folder)
    path = folder / OVERRIDES
    if not os.path.lexists(path):
        return []
    document = Document.read(path)
    entries = document.data
    if entries is None:
        return []
    if not isinstance(entries, list):
        document.add_error('expected a list; write `- files: "PATTERN"`, and options below')
    found = [_correction(document, (i,), entry, known) for i, entry in enumerate(entries if isinstance(entries, list) else ())]
    document.raise_errors()
    return [each for each in found if each is not None]


def _check_names(folder: Path) -> None:
    """Refuse names that are likely meant to be one that is known. Raises UsageError."""
    try:
        names = [each.name for each in folder.iterdir() if not each.name.startswith(".")]
    except NotADirectoryError:
        raise UsageError(f"`corrections`: {folder} is no folder; give another, or rename it") from None
    except OSError:
        return
    for name in _FOLDERS:
        if name in names and not (folder / name).is_dir():
            raise UsageError(f"{folder / name} is no folder; put it into one of that name, or move it away")
    for name in sorted(set(names) - set(_KNOWN)):
        if close := get_close_matches(name, _KNOWN, n=1, cutoff=0.75):
            raise UsageError(f"{folder / name} is not looked at; rename it to {close[0]}, or move it away")


def _correction(document: Document, at: Loc, entry: Any, known: Sequence[str]) -> Correction | None:
    """An entry; None, with errors recorded, if it is wrong."""
    if not isinstance(entry, dict):
        document.add_error('an entry is a mapping; write `files: "PATTERN"`, and options below', *at)
        return None
    words = ["files", *_PLACES, *known]
    for key in entry:
        if key not in words:
            document.add_error(f"unknown key {key!r}; {hint(key, words)}", *at, key, key=True)
    files = entry.get("files")
    if not isinstance(files, str) or not files:
        what = "`files` is missing" if files is None else f"files: expected a pattern, not {format_value(files)}"
        document.add_error(f'{what}; write `files: "holiday/*.jpg"`', *at, *(["files"] if "files" in entry else []))
        return None
    options = {key: entry[key] for key in known if key in entry}
    if not options:
        document.add_error(f"it sets nothing; add an option: {', '.join(known)}", *at)
    shots = _numbers(document, at, entry, "shots", least=1)
    frames = _numbers(document, at, entry, "frames", least=0)
    times = tuple(_times(document, at, entry))
    return Correction(document.where(*at), files, _expression(files), options, shots, frames, times)


def _listed(document: Document, at: Loc, entry: Mapping[str, Any], key: str) -> Iterator[tuple[Loc, Any]]:
    """The items of a list, which may be given as its only one."""
    if key not in entry:
        return
    items = entry[key]
    if items is None or items == []:
        document.add_error(f"{key}: nothing is listed; list some, or leave it out", *at, key)
    elif isinstance(items, list):
        yield from (((*at, key, i), item) for i, item in enumerate(items))
    else:
        yield (*at, key), items


def _numbers(document: Document, at: Loc, entry: Mapping[str, Any], key: str, *, least: int) -> tuple[tuple[int, int], ...]:
    """Numbers and ranges of them, such as [3, 5-7]."""
    found = []
    for loc, item in _listed(document, at, entry, key):
        match = _NUMBERS.fullmatch(str(item)) if isinstance(item, int | str) and not isinstance(item, bool) else None
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (least, least - 1)
        if last < first or first < least:
            example = f"write such as `{key}: [3, 5-7]`, counted from {least}"
            document.add_error(f"{key}: {format_value(item)} is neither a number nor a range; {example}", *loc)
        else:
            found.append((first, last))
    return tuple(found)


def _times(document: Document, at: Loc, entry: Mapping[str, Any]) -> Iterator[tuple[float, float]]:
    """Ranges of times, such as "1:05-1:20"."""
    for loc, item in _listed(document, at, entry, "times"):
        match = _TIMES.fullmatch(item) if isinstance(item, str) else None
        first, last = (_seconds(match.groups()[:3]), _seconds(match.groups()[3:])) if match else (0.0, 0.0)
        if last <= first:
            document.add_error(f'times: {format_value(item)} is no range of times; write such as `times: ["1:05-1:20"]`', *loc)
        else:
            yield first, last


def _seconds(parts: Sequence[str | None]) -> float:
    hours, minutes, seconds = (float(part or 0) for part in parts)
    return 3600 * hours + 60 * minutes + seconds


def _expression(pattern: str) -> "re.Pattern[str]":
    """A pattern as a regular expression: `*` and `?` stay within a folder, `**` does not, a backslash quotes."""
    parts = []
    for literal, folders, any_, some, one, plain in _PATTERN.findall(pattern):
        if literal or plain:
            parts.append(re.escape(literal or plain))
        else:
            parts.append("(?:.*/)?" if folders else ".*" if any_ else "[^/]*" if some else "[^/]" if one else "")
    return re.compile("".join(parts), re.DOTALL)


def key_of(options: Mapping[str, Any]) -> str:
    """What identifies an instance with these options overridden; empty for none."""
    return json.dumps(options, sort_keys=True) if options else ""
