"""The machine-readable log of a run: JSON lines, one per event."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from bwpipe.errors import RunAborted, UsageError


class EventLog:
    """A JSON Lines file with one line per event."""

    def __init__(self, path: Path) -> None:
        """Create the file, replacing an earlier one. Raises UsageError."""
        self._path = path
        try:
            path.unlink(missing_ok=True)  # do not follow a link
            self._file = path.open("x", encoding="utf-8")
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
