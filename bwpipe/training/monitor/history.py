"""Per-step figures of a training, thinned so that a chart of any length stays small."""

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from bwpipe.core.atomic_file import write_atomically
from bwpipe.core.json_text import parse_json

LIMIT = 1000
"""Maximum number of steps kept."""


class History:
    """Figures of evenly spaced steps, stored in a JSON Lines file.

    Attributes:
        points: One dict per step, {"step": 10, "loss": 0.02, ...}, ascending.
    """

    def __init__(self, path: Path, step: int) -> None:
        """Load the file of an earlier start up to a step, and drop later steps.

        Args:
            path: The file.
            step: Number of steps done.

        Raises:
            OSError: The file cannot be written.
        """
        self._path = path
        lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
        self.points = [point for point in map(_parse, lines) if 0 < point.get("step", 0) <= step]
        self._rewrite()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add a step, unless it is too close to the last one. Raises OSError."""
        if self.points and step < self.points[-1]["step"] + self._gap:
            return
        point = {"step": step, **{name: float(value) for name, value in values.items()}}
        self.points.append(point)
        if len(self.points) > LIMIT:
            self.points = self.points[::2]
            self._rewrite()
        else:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(point) + "\n")

    def _rewrite(self) -> None:
        self._gap = min((after["step"] - before["step"] for before, after in pairwise(self.points)), default=0)
        lines = (json.dumps(point) + "\n" for point in self.points)
        write_atomically(self._path, "".join(lines).encode())


def _parse(line: str) -> dict[str, float]:
    """The point in a line; empty if the line is incomplete, because the training was killed or the disk was full."""
    try:
        point: dict[str, float] = parse_json(line)
    except ValueError:
        return {}
    return point
