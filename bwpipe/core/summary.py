"""What a sink reports about a finished file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Summary:
    """What a sink reports about a finished file.

    Attributes:
        lines: Lines for the end of the run.
        warnings: One sentence each, without the file's name.
        events: For `report.jsonl`: each event's name and its JSON-serialisable fields.
        shots: The frames at which the shots of a film start; empty if they are not known.
    """

    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    events: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    shots: tuple[int, ...] = ()
