"""What stages keep of their first passes over files: looked up, made by one worker, and handed to all."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bwpipe.core.frame import Unit
from bwpipe.engine.first_passes import FirstPasses


class Memories:
    """The state of each file's first passes. Files are known by their numbers."""

    def __init__(self, first_passes: FirstPasses, files: Sequence[Unit]) -> None:
        """Nothing is looked up yet."""
        self._first_passes, self._files = first_passes, files
        self._kept: dict[int, dict[str, bytes | None]] = {}
        self._in_work: set[tuple[int, str]] = set()
        self._shared: dict[int, dict[str, Any]] = {}

    def missing(self, file: int) -> str | None:
        """The stage whose first pass a worker should make; empty if others have them all in work; None if none is missing.

        The stage is taken to be in work from now on. Raises MediaError.
        """
        if file not in self._kept:
            self._kept[file] = self._first_passes.kept(self._files[file])
        missing = [stage for stage, kept in self._kept[file].items() if kept is None]
        for stage in missing:
            if (file, stage) not in self._in_work:
                self._in_work.add((file, stage))
                return stage
        return "" if missing else None

    def keep(self, file: int, stage: str, made: bytes) -> None:
        """Record what a worker made. Raises MediaError, RunAborted, OSError."""
        self._in_work.discard((file, stage))
        self._first_passes.keep(stage, self._files[file], made)
        self._kept[file][stage] = made

    def lose(self, file: int, stage: str) -> None:
        """The worker that was making it is gone."""
        self._in_work.discard((file, stage))

    def of(self, file: int, share: Callable[[Any], Any]) -> Mapping[str, Any]:
        """What is kept of a file, by stage, as it is handed to workers; none of it is missing."""
        if file not in self._shared:
            self._shared[file] = {stage: share(kept) for stage, kept in self._kept.get(file, {}).items()}
        return self._shared[file]
