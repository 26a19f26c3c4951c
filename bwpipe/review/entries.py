"""What there is to look at in an output folder: each picture, and each shot of each film, with all that is known of it."""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bwpipe.core.atomic_file import WORK_FOLDER
from bwpipe.core.console import printable
from bwpipe.core.inputs import expand_user
from bwpipe.engine.event_log import read_warnings
from bwpipe.engine.finished_files import FinishedFile, finished_files, recorded_failures
from bwpipe.engine.ledger import Ledger
from bwpipe.engine.ledger_file import translate_errors
from bwpipe.errors import UsageError
from bwpipe.image.picture_note import PictureNote
from bwpipe.motion.shot_report import Shot, ShotList

_HIDDEN = {"stage", "revision"}
"""Keys of a stage's recipe that say nothing to a reader."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture, or a shot of a film.

    Attributes:
        number: Its place in `Album.entries`.
        file: The file.
        shot: The number of the shot in its film, from 1; None for a picture, and for a film of which no shots are known.
        figures: What is known of it: `doubt`, and where they are known `confidence`, `drift`, `flicker`, and of a shot `first`,
            `length` in frames, `start` and `seconds`.
        kept: Whether it keeps its own colours.
    """

    number: int
    file: FinishedFile
    shot: int | None
    figures: Mapping[str, float]
    kept: bool = False


@dataclass(slots=True)
class Album:
    """What there is to look at in an output folder.

    Attributes:
        folder: The folder, absolute.
        entries: The pictures and shots, by file and time.
        warnings: The warnings of its runs, by input.
        failures: Why inputs failed, by input.
        gone: Number of files that are not there any more, or were changed by somebody else.
    """

    folder: Path
    entries: list[Entry] = field(default_factory=list)
    warnings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    failures: Mapping[Path, str] = field(default_factory=dict)
    gone: int = 0


def read_album(folder: Path) -> Album:
    """Read what is recorded of an output folder; no picture is opened.

    Raises:
        UsageError: It is no folder that a run has written into, or there is nothing to look at.
        RunAborted: The ledger can't be read.
    """
    place = Path(os.path.realpath(expand_user(folder)))
    if not place.is_dir():
        raise UsageError(f"there is no folder {folder}; give the output folder of a run")
    ledger = Ledger(place)
    if not ledger.path.exists():
        raise UsageError(f"{folder}: no run has written into this folder; give the output folder of a run")
    with translate_errors(ledger.path):
        found = list(finished_files(ledger))
        failures = recorded_failures(ledger)
    warnings = {path: list(dict.fromkeys(texts)) for path, texts in read_warnings(place / WORK_FOLDER).items()}
    album = Album(place, warnings=warnings, failures=failures)
    for file in found:
        if file.unchanged:
            album.entries.extend(_entries(file, len(album.entries)))
        else:
            album.gone += 1
    if not album.entries and not failures:
        raise UsageError(f"{folder}: none of the files that runs wrote is there any more; run again")
    return album


def _entries(file: FinishedFile, first: int) -> list[Entry]:
    """The entries of a file."""
    if not file.film:
        note = PictureNote.read(file.notes)
        known = {} if note.confidence is None else {"confidence": round(note.confidence, 4)}
        return [Entry(first, file, None, {**known, "doubt": round(note.doubt, 4)}, note.kept)]
    shots: list[Shot] = []
    with suppress(ValueError, TypeError):  # notes of another version
        shots = ShotList(file.notes).shots
    if not shots:
        return [Entry(first, file, None, {"doubt": 0.0})]
    return [Entry(first + number, file, number + 1, _figures(shot)) for number, shot in enumerate(shots)]


def _figures(shot: Shot) -> dict[str, float]:
    """What is known of a shot."""
    found = shot.to_json()
    known = {name: found[name] for name in ("first", "start", "seconds", "confidence", "flicker", "doubt")}
    known["length"] = shot.frames
    known["drift"] = None if shot.drifting is None else round(shot.drifting, 4)
    return {name: value for name, value in known.items() if value is not None}


def to_json(album: Album) -> dict[str, Any]:
    """The album for the page: files, and entries that refer to them by their number."""
    numbers: dict[Path, int] = {}
    files: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    for entry in album.entries:
        file = entry.file
        if file.target not in numbers:
            numbers[file.target] = len(files)
            files.append(
                {
                    "name": printable(str(file.name)),
                    "film": file.film,
                    "options": _options(file),
                    "warnings": list(map(printable, album.warnings.get(str(file.source), ()))),
                }
            )
        entries.append(
            {
                "file": numbers[file.target],
                **({"shot": entry.shot} if entry.shot else {}),
                **entry.figures,
                **({"kept": True} if entry.kept else {}),
            }
        )
    failed = [{"name": printable(path.name), "text": printable(text)} for path, text in sorted(album.failures.items())]
    return {"title": printable(album.folder.name), "files": files, "entries": entries, "failed": failed, "gone": album.gone}


def _options(file: FinishedFile) -> dict[str, str]:
    """The options that the result depends on, as text."""
    found = {}
    for stage, values in file.options.items():
        for key, value in values.items():
            if key not in _HIDDEN and value is not None and value not in ({}, []):
                found[f"{stage}.{key}"] = printable(value if isinstance(value, str) else json.dumps(value))
    return found
