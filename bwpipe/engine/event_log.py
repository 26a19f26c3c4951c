"""The file of a run that programs read: JSON lines, one for each thing that happened."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from bwpipe.errors import RunAborted, UsageError


class EventLog:
    """A file of JSON lines, one for each thing that happened."""

    def __init__(self, path: Path) -> None:
        """Start it anew. Raises UsageError."""
        self._path = path
        try:
            path.unlink(missing_ok=True)  # a link that stands there is not followed
            self._file = path.open("x", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{path}: can't be written ({error.strerror}); remove it, or choose another folder") from error

    def write(self, event: str, **what: Any) -> None:
        """Add a line. Raises RunAborted."""
        try:
            self._file.write(json.dumps({"event": event, **what}) + "\n")
            self._file.flush()
        except OSError as error:
            raise RunAborted(f"{self._path}: can't be written ({error.strerror}); make room, and run again") from error

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # what could not be written has been said
            self._file.close()
