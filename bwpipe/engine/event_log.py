"""The machine-readable log of a run: JSON lines, one per event."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from bwpipe.core.json_text import parse_json
from bwpipe.errors import RunAborted, UsageError

REPORT = "report.jsonl"
"""Its name, in the output folder's `.bwpipe/`."""
KEPT = 9
"""How many logs of earlier runs are kept: report.jsonl.1, the latest, to report.jsonl.9."""
_MAX_BYTES = 1 << 24
"""A log to which runs without work have added this much is kept as an earlier one, too."""


class EventLog:
    """A JSON Lines file with one line per event.

    A run with work to do keeps the log of the run before under another name; a run without adds to it, so that it can never
    push out what a run did.
    """

    def __init__(self, path: Path, *, idle: bool = False) -> None:
        """Create the file, or open it to add to it if the run is `idle`. Raises UsageError."""
        self._path = path
        try:
            if not _is_log(path):
                path.unlink(missing_ok=True)  # do not follow a link, nor wait for the reader of a FIFO
            elif not (idle and path.stat().st_size < _MAX_BYTES):
                _rotate(path)
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{path}: can't be written ({error.strerror}); remove it, or choose another folder") from error

    def write(self, event: str, **fields: Any) -> None:
        """Add a line. Raises RunAborted."""
        try:
            self._file.write(json.dumps({"event": event, **fields}) + "\n")
            self._file.flush()
        except OSError as error:
            raise RunAborted(f"{self._path}: can't be written ({error.strerror}); free some space and run again") from error

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # a failed write has been reported
            self._file.close()


def _is_log(path: Path) -> bool:
    """Whether there is a regular file, not a link, with something in it."""
    return path.is_file() and not path.is_symlink() and path.stat().st_size > 0


def _rotate(path: Path) -> None:
    """Give the log and the earlier ones their next names; the oldest goes. Raises OSError."""
    for number in range(KEPT - 1, 0, -1):
        with suppress(FileNotFoundError):
            _earlier(path, number).replace(_earlier(path, number + 1))
    path.replace(_earlier(path, 1))


def _earlier(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def measured_seconds(path: Path, stage: str) -> float | None:
    """The seconds that each item of a stage took in the last run that says so; None if no log does."""
    for log in (path, *(_earlier(path, number) for number in range(1, KEPT + 1))):
        if not _is_log(log):
            continue
        with log.open("rb") as file:
            ends = [line for line in file if line.startswith((b'{"event": "ended"', b'{"event": "stopped"'))]
        for line in reversed(ends):
            with suppress(ValueError, KeyError, TypeError):
                event = parse_json(line)
                if items := event["stages"][stage]["items"]:
                    return float(event["seconds"] / items)
    return None


def read_warnings(folder: Path) -> dict[str, list[str]]:
    """The warnings in the reports of a folder for working files, by the file that they concern; none that can't be read."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("report*.jsonl*")):
        with suppress(OSError), path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                with suppress(ValueError, TypeError, AttributeError):  # a line that was cut short, or is none of ours
                    event = parse_json(line)
                    if event.get("event") == "warning" and event.get("path"):
                        found.setdefault(str(event["path"]), []).append(str(event["text"]))
    return found
