"""The folder of corrections, as the page reads and writes it: hints, references, overrides, and what was marked as good.

Its layout is that of `corrections` in a graph. Names come from the ledger, never from a request. Nothing is written through a
link that leads out of the folder, and what a person wrote by hand is not replaced.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from bwpipe.core.atomic_file import write_atomically
from bwpipe.errors import MediaError, UsageError

HINTS, REFERENCES, OVERRIDES, REVIEWED = "hints", "references", "overrides.yaml", "reviewed.yaml"
_TEXTS = (".yaml", ".yml", ".json")
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")
_MOST_BYTES = 1_000_000
_WILD = re.compile(r"([\\*?])")
"""What a pattern of `overrides.yaml` would not take for itself; a backslash before it says that it is meant."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a correction is for: a picture, or a frame of a film.

    Attributes:
        name: The input's path below the folder that is read.
        frame: Index of the frame; None for a picture.
        shot: Number of its shot, from 1; None for a picture.
    """

    name: PurePosixPath
    frame: int | None = None
    shot: int | None = None

    @property
    def stem(self) -> PurePosixPath:
        """The name of its files, without their ending: `a/b.jpg`, or `reel.mp4/000123`."""
        return self.name if self.frame is None else self.name / f"{self.frame:06d}"


class Corrections:
    """A folder of corrections, which need not exist yet."""

    def __init__(self, folder: Path, output: Path) -> None:
        """Use a folder; `output` is the output folder that they are for."""
        self.folder = folder
        self._base = output if folder.is_relative_to(output) else folder

    def hints(self, place: Place) -> Path | None:
        """The file of hints that holds for a place, as `bwpipe.memory.hints` finds it."""
        return _first(self.folder / HINTS, place, (".png", *_TEXTS))

    def points(self, place: Place) -> list[dict[str, Any]]:
        """The points there; none if it is a drawing. Raises MediaError if they can't be read."""
        return list(self._content(place).get("points", []))

    def tint(self, place: Place) -> str | None:
        """The mean colour that the text there gives; None if it gives none. Raises MediaError."""
        found = self._content(place).get("tint")
        return None if found is None else str(found)

    def _content(self, place: Place) -> dict[str, Any]:
        """The content of the text of hints; empty if there is none. Raises MediaError."""
        path = self.hints(place)
        if path is None or path.suffix.lower() not in _TEXTS:
            return {}
        found = _read(path)
        points = found.get("points", []) if isinstance(found, dict) else None
        if not isinstance(points, list) or not all(isinstance(each, dict) for each in points):
            raise MediaError(f"{path} is not a list of points; correct or remove it")
        assert isinstance(found, dict)
        return found

    def write_points(self, place: Place, points: Sequence[Mapping[str, Any]]) -> Path | None:
        """Write points; what else a text says stays. Without points the file goes, unless it says more.

        Raises UsageError, MediaError, OSError.
        """
        found = self.hints(place)
        if found and found.suffix.lower() not in _TEXTS:
            raise UsageError(f"{found} was drawn by hand and comes first; remove it to set points here")
        path = found or self.folder / HINTS / f"{place.stem}.yaml"
        more = {key: value for key, value in self._content(place).items() if key != "points"}
        if points or more:
            head = yaml.safe_dump(more, allow_unicode=True) if more else ""
            text = f"{head}points:\n{''.join(map(_row, points))}" if points else head
            if path.suffix.lower() == ".json":
                text = json.dumps({**more, "points": [dict(each) for each in points]})
            self._write(path, text.encode())
            return path
        if found:
            self._remove(found)
        return None

    def reference(self, place: Place) -> Path | None:
        """The reference for just this place."""
        return _first(self.folder / REFERENCES, place, _PICTURES)

    def write_reference(self, place: Place, png: bytes) -> Path:
        """Write a reference, replacing another one. Raises MediaError, OSError."""
        old, path = self.reference(place), self.folder / REFERENCES / f"{place.stem}.png"
        if place.frame is None:  # references of pictures are found by their stem
            path = self.folder / REFERENCES / place.name.with_suffix(".png")
        self._write(path, png)
        if old and old != path:
            self._remove(old)
        return path

    def remove_reference(self, place: Place) -> None:
        """Remove it. Raises MediaError, OSError."""
        if found := self.reference(place):
            self._remove(found)

    def reviewed(self) -> set[tuple[str, int | None]]:
        """What was marked as good: names, with the number of the shot. Raises MediaError."""
        path = self.folder / REVIEWED
        found = _read(path) if path.is_file() else []
        rows = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
        return {(str(row.get("file")), shot) for row in rows for shot in (row.get("shots") or [None])}

    def mark(self, place: Place, *, good: bool) -> None:
        """Mark a place as good, or no longer. Raises MediaError, OSError."""
        marked, key = self.reviewed(), (str(place.name), place.shot)
        marked = marked | {key} if good else marked - {key}
        shots: dict[str, list[int]] = {}
        for name, shot in sorted(marked, key=lambda each: (each[0], each[1] or 0)):
            shots.setdefault(name, []).extend([] if shot is None else [shot])
        rows = [{"file": name, **({"shots": numbers} if numbers else {})} for name, numbers in shots.items()]
        text = yaml.safe_dump(rows, allow_unicode=True, sort_keys=False) if rows else "[]\n"
        self._write(self.folder / REVIEWED, f"# what was marked as good in `bwpipe review`\n{text}".encode())

    def override(self, place: Place) -> dict[str, Any]:
        """The options that were set on the page for just this picture or shot. Raises MediaError."""
        found = self._own_override(self._overrides(), place)
        return {key: value for key, value in found[2].items() if key not in ("files", "shots")} if found else {}

    def set_override(self, place: Place, options: Mapping[str, Any]) -> None:
        """Set options for just this picture or shot; none removes them. Other entries stay as they are.

        Raises MediaError, OSError.
        """
        text = self._overrides()
        found = self._own_override(text, place)
        lines = text.splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        entry = {"files": _WILD.sub(r"\\\1", str(place.name)), **({"shots": [place.shot]} if place.shot else {}), **options}
        block = yaml.safe_dump([entry], allow_unicode=True, sort_keys=False).splitlines(keepends=True) if options else []
        if found:
            lines[found[0] : found[1]] = block
        else:
            lines.extend(block)
        self._write(self.folder / OVERRIDES, "".join(lines).encode())

    def _overrides(self) -> str:
        path = self.folder / OVERRIDES
        text = _text(path) if path.is_file() else ""
        if text and not isinstance(_parsed(path, text), list | None):
            raise MediaError(f"{path} is not a list; correct it")
        return text

    def _own_override(self, text: str, place: Place) -> tuple[int, int, dict[str, Any]] | None:
        """The last entry for just this place: its first line, the one after its last, and its content."""
        node = yaml.compose(text, yaml.SafeLoader) if text else None
        rows = yaml.safe_load(text) if text else []
        if not isinstance(node, yaml.SequenceNode) or node.flow_style:
            return None
        name = _WILD.sub(r"\\\1", str(place.name))
        found = None
        for item, row in zip(node.value, rows, strict=True):
            own = isinstance(row, dict) and row.get("files") == name and not {"frames", "times"} & row.keys()
            if own and row.get("shots") == ([place.shot] if place.shot else None):
                last = _last_line(item)
                found = (item.start_mark.line, last + 1, row)
        return found

    def _write(self, path: Path, data: bytes) -> None:
        """Write a file below the folder; one that is there stays if that fails. Raises MediaError."""
        with _named(path):
            self._base.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data, folder=self._base)

    def _remove(self, path: Path) -> None:
        """Remove a file below the folder. Raises MediaError."""
        if not Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(self._base)):
            raise MediaError(f"{path.parent} is a link that leads outside {self._base}; remove it")
        with _named(path):
            path.unlink(missing_ok=True)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say what can't be written. Raises MediaError."""
    try:
        yield
    except OSError as error:
        what = f"{path} can't be written ({error.strerror or error})"
        raise MediaError(f"{what}; it stays as it was: free some space or allow writing, and try again") from error


def _first(folder: Path, place: Place, endings: Sequence[str]) -> Path | None:
    """The file for a place: of its name with an ending more, or in place of its own."""
    stems = [place.stem] if place.frame is not None else [place.name, place.name.with_suffix("")]
    for stem in stems:
        for ending in endings:
            path = folder / f"{stem}{ending}"
            if path.is_file() and not path.is_symlink():
                return path
    return None


def _read(path: Path) -> Any:
    """The content of a text. Raises MediaError."""
    return _parsed(path, _text(path))


def _text(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError), path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
        if len(data) <= _MOST_BYTES:
            return data.decode()
    raise MediaError(f"{path} can't be read; correct or remove it")


def _parsed(path: Path, text: str) -> Any:
    try:
        aliases = any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text))
        found = None if aliases else yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise MediaError(f"{path} is no YAML; correct or remove it") from error
    if aliases:  # with them a short text may take forever
        raise MediaError(f"{path} has aliases (`*name`), which are not read; write them out")
    return found


def _last_line(node: yaml.Node) -> int:
    """The last line of a node's content, without the comments and empty lines that follow."""
    if isinstance(node, yaml.ScalarNode):
        return int(node.end_mark.line) if node.end_mark.column else int(node.end_mark.line) - 1
    if getattr(node, "flow_style", False) or not node.value:
        return int(node.end_mark.line)
    last = node.value[-1]
    return max(_last_line(each) for each in (last if isinstance(last, tuple) else (last,)))


def _row(point: Mapping[str, Any]) -> str:
    """A point as a line of YAML."""
    values = {key: f'"{value}"' if isinstance(value, str) else f"{value:g}" for key, value in point.items()}
    return f"  - {{{', '.join(f'{key}: {value}' for key, value in values.items())}}}\n"
