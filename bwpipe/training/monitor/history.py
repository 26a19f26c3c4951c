"""The numbers of a training's steps, few enough to draw however long it is."""

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from bwpipe.core.atomic_file import write_atomically

LIMIT = 1000
"""How many steps are kept at most."""


class History:
    """What was measured at some steps, evenly spread over the training, and kept in a file of JSON lines.

    Attributes:
        points: A dict for each, {"step": 10, "loss": 0.02, ...}, ascending.
    """

    def __init__(self, path: Path, step: int) -> None:
        """Go on from what an earlier start kept in the file, up to a step; later ones are dropped.

        Args:
            path: The file.
            step: How many steps were made.

        Raises:
            OSError: The file can't be written.
        """
        self._path = path
        lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
        self.points = [point for point in map(_parse, lines) if 0 < point.get("step", 0) <= step]
        self._rewrite()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add a step, or leave it out where it is too near to the last. Raises OSError."""
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
    """The point of a line; an empty one where the training was killed, or the disk was full, while it was written."""
    try:
        point: dict[str, float] = json.loads(line)
    except ValueError:
        return {}
    return point
