"""The files that runs have finished in an output folder, for those who look at them."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bwpipe.core.atomic_file import WORK_FOLDER
from bwpipe.core.fingerprint import Fingerprint, fingerprint
from bwpipe.core.segments import FRAGMENTS
from bwpipe.engine.ledger import Ledger
from bwpipe.engine.ledger_file import VERSION, Entry, read_entries, version_of
from bwpipe.engine.recipes import Recipe

_REELS = (WORK_FOLDER, "frames")
"""The place of the files that stand for films as numbered files (`bwpipe.sequence.output`), in an output folder."""


@dataclass(frozen=True, slots=True)
class FinishedFile:
    """A finished file.

    Attributes:
        target: The output, absolute; of a film as numbered files their pattern, such as `reel_%06d.tif`.
        name: The input's path below the folder that was read, on which the patterns of corrections are matched.
        source: The input, absolute; None if an early version wrote it, which did not record it.
        film: Whether it is a film.
        reel: Whether it is one as numbered files.
        stamp: The fingerprint of what stands for it in the ledger.
        options: What the result depends on, by stage.
        notes: What the sink noted, a text for each segment.
        seconds: What it took; None if not measured.
        unchanged: Whether the output is there as it was written.
    """

    target: Path
    name: PurePosixPath
    source: Path | None
    film: bool
    reel: bool
    stamp: Fingerprint
    options: Mapping[str, Mapping[str, Any]]
    notes: tuple[str, ...]
    seconds: float | None
    unchanged: bool


def finished_files(ledger: Ledger) -> Iterator[FinishedFile]:
    """The files, by name. Raises sqlite3.Error."""
    with ledger.reading() as connection:
        version = version_of(connection, ledger.path)
        if version == 0:
            return
        entries = sorted(read_entries(connection, version), key=lambda each: (each[0], each[1]))
        recipes = dict(connection.execute("SELECT digest, text FROM recipes")) if version == VERSION else {}
        notes = {(target, part): text for target, part, text in connection.execute("SELECT target, part, text FROM notes")}
    for target, part, entry in entries:
        if part or not _is_whole(target):
            continue
        reel, shown, name = _names(target, entry)
        yield FinishedFile(
            target=ledger.folder / shown,
            name=name,
            source=Path(os.fsdecode(entry.path)) if entry.path else None,
            film=bool(entry.frames),
            reel=reel,
            stamp=entry.output,
            options=_options(recipes.get(entry.recipe), entry.frames or ""),
            notes=tuple(notes.get((target, part), "").split("\n")) if notes.get((target, part)) else (),
            seconds=entry.seconds,
            unchanged=fingerprint(ledger.folder / os.fsdecode(target)) == entry.output,
        )


def finished_names(ledger: Ledger) -> Iterator[tuple[PurePosixPath, str]]:
    """The name of each finished file, as of its `FinishedFile`, with the kind of medium: "film" or "picture"."""
    for target, part, entry in ledger.entries():
        if not part and _is_whole(target):
            yield _names(target, entry)[2], "film" if entry.frames else "picture"


def recorded_failures(ledger: Ledger) -> dict[Path, str]:
    """The inputs that failed in their last attempt, and why. Raises sqlite3.Error."""
    with ledger.reading() as connection:
        if version_of(connection, ledger.path) == 0:
            return {}
        return {Path(os.fsdecode(path)): text for path, text in connection.execute("SELECT path, error FROM failures")}


def _is_whole(target: bytes) -> bool:
    """Whether a name is that of a whole file, and leads to one in the folder, as all do that bwpipe records."""
    path = Path(os.fsdecode(target))
    return path.parts[:2] != (WORK_FOLDER, FRAGMENTS) and not path.is_absolute() and ".." not in path.parts


def _names(target: bytes, entry: Entry) -> tuple[bool, Path, PurePosixPath]:
    """Whether an entry is of a film as numbered files, its output as users call it, and the name of its input."""
    inside = Path(os.fsdecode(target))
    reel = inside.parts[:2] == _REELS
    shown = Path(*inside.parts[2:]) if reel else inside
    source = Path(os.fsdecode(entry.path)) if entry.path and not reel else shown
    return reel, shown, PurePosixPath(*shown.parent.parts) / source.name


def _options(text: str | None, frames: str) -> Mapping[str, Mapping[str, Any]]:
    """The values of a recipe by stage; none if it is not known."""
    with suppress(ValueError, KeyError, TypeError):
        return {stage.name: stage.values for stage in Recipe.read(text or "", frames).stages if stage.values}
    return {}
