"""One run of a graph, as its stages see it."""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from threading import Event, Lock
from typing import Any, TypeVar

from bwpipe.core.frame import Broken, Media, Unit
from bwpipe.core.provenance import Provenance
from bwpipe.errors import RunStopped, TooManyErrors, UsageError, format_error

T = TypeVar("T", bound=str | int | float | bool)
S = TypeVar("S")


class RunContext:
    """State shared by the stages of one run: warnings, remembered facts, and failed units. Thread-safe."""

    def __init__(
        self,
        *,
        max_errors: int | None = None,
        quiet: bool = False,
        name: str = "graph",
        text: str = "",
        restart: bool = False,
        plugins: Sequence[Path] = (),
        say: Callable[[str], None] = lambda text: None,
        record: Callable[[str, Path | None, str], None] = lambda event, path, text: None,
        facts: dict[str, str | int | float | bool] | None = None,
        provenance: Callable[..., Provenance | None] = lambda stage, unit=None: None,
        downstream: Callable[[object], Sequence[Any]] = lambda stage: (),
        frames: int | None = None,
    ) -> None:
        """Create the context of a run.

        Args:
            max_errors: How many units may fail before the run ends with TooManyErrors; None for no limit.
            quiet: Show warnings and errors only: for stages with their own progress display.
            name: The graph's name: its file's stem.
            text: The graph as YAML, including the options changed for this run.
            restart: Start long work over instead of resuming what an earlier run left unfinished.
            plugins: The graph's plug-in folders, for processes that a stage starts.
            say: Shows the user a line.
            record: Logs an event ("warning", "left out", "failed") and the file it concerns, including repeats not shown.
            facts: What earlier runs remembered; updated in place.
            provenance: Returns what the metadata of outputs say about a stage's result for a unit, or, without a unit, for any.
            downstream: Returns the stages downstream of a stage, in order.
            frames: How many pictures and frames of films are read; None if that is not known.
        """
        self.facts = {} if facts is None else facts
        self.quiet = quiet
        self.name = name
        self.text = text
        self.restart = restart
        self.plugins = tuple(plugins)
        self.provenance = provenance
        self.downstream = downstream
        self.frames = frames
        self.dropped: dict[Media, str] = {}
        self.remarks: Counter[str] = Counter()
        self._said: dict[Path, dict[str, None]] = {}
        self._max_errors = max_errors
        self._say = say
        self._record = record
        self.failures: dict[Unit | Broken, Exception] = {}
        self._failed: dict[Path, set[str]] = {}
        self._claimed: set[str] = set()
        self._asked: set[tuple[Hashable, ...]] = set()
        self._shared: dict[Hashable, Any] = {}
        self._skip_requests: list[tuple[object, str, str]] = []
        self.all_read = Event()
        self._lock = Lock()
        self._stopping = Event()

    def warn(self, text: str, media: Media | None = None, *, each: bool = False) -> None:
        """Warn the user once, however often it occurs; the report counts occurrences and names every file.

        Args:
            text: One sentence that holds for every file it concerns.
            media: The file it concerns, which the message names.
            each: Show it for every file, not only the first: for losses in a film.
        """
        with self._lock:
            self.remarks[text] += 1
            first = self.remarks[text] == 1
            if media:
                self._said.setdefault(media.path, {})[text] = None
        if first or each:
            self._say(f"warning: {media.name}: {text}" if media else f"warning: {text}")
        self._record("warning", media.path if media else None, text)

    def first(self, *what: Hashable) -> bool:
        """Whether this is asked for the first time in the run: of many threads that ask, one is told so."""
        with self._lock:
            new = what not in self._asked
            self._asked.add(what)
            return new

    def said(self, media: Media) -> tuple[str, ...]:
        """The warnings that this run has given about a file."""
        with self._lock:
            return tuple(self._said.get(media.path, ()))

    def shared(self, key: Hashable, make: Callable[[], S]) -> tuple[S, bool]:
        """What instances of a stage share, made by the first that asks for it in its `setup`, and whether it was made now."""
        made = key not in self._shared
        if made:
            self._shared[key] = make()
        found: S = self._shared[key]
        return found, made

    def release_shared(self) -> None:
        """Let go of what instances of stages share."""
        self._shared.clear()

    def note(self, text: str) -> None:
        """Show an informational line, unless the run is quiet."""
        if not self.quiet:
            self._say(text)

    def exclude(self, media: Media, why: str) -> None:
        """Record that a stage drops a file on purpose: counted by reason, and named in the report.

        Args:
            media: The file.
            why: A short reason, the same for every such file, such as "next to no colour".
        """
        with self._lock:
            if media in self.dropped:
                return
            self.dropped[media] = why
        self._record("left out", media.path, why)

    def skip_kind(self, stage: object, kind: str, why: str) -> None:
        """Skip a kind of media before it is read, if everything that is read passes through this stage. Call it in `setup`.

        Args:
            stage: The stage that would exclude it otherwise.
            kind: "picture" or "film".
            why: As in `exclude`.
        """
        self._skip_requests.append((stage, kind, why))

    def skipped_kinds(self, source: object) -> dict[str, str]:
        """The kinds of media to skip, with reasons: all output of the source passes through a stage that excludes them."""
        rest = self.downstream(source)
        return {
            kind: why
            for stage, kind, why in self._skip_requests
            if _contains(stage, rest)
            and all(
                each is stage or _contains(stage, self.downstream(each)) or _contains(each, self.downstream(stage))
                for each in rest
            )
        }

    @property
    def left_out(self) -> Counter[str]:
        """Number of excluded files, by reason."""
        with self._lock:
            return Counter(self.dropped.values())

    def claim(self, thing: str, remedy: str) -> None:
        """Claim a resource that only one stage of a graph can use, such as a folder. Call it in `setup`. Raises UsageError.

        Args:
            thing: The resource's name in the error message for a second stage.
            remedy: What the message tells the user to do.
        """
        if thing in self._claimed:
            raise UsageError(f"{thing} would be used by two stages; {remedy}")
        self._claimed.add(thing)

    def remember(self, key: str, find: Callable[[], T]) -> T:
        """The value that an earlier run into the same folder stored under this key, or else the result of `find`.

        For choices that are measured in `setup`, such as a precision: a resumed run must make the same choice.
        """
        if key not in self.facts:
            self.facts[key] = find()
        return self.facts[key]  # type: ignore[return-value]

    def stop(self) -> None:
        """Ask every stage to stop."""
        self._stopping.set()

    def raise_if_stopped(self) -> None:
        """Raise RunStopped if the run is stopping: for stages that work for long without receiving or yielding an item."""
        if self._stopping.is_set():
            raise RunStopped

    def fail(self, unit: Unit | Broken, error: Exception) -> None:
        """Record that a unit failed; its remaining items are dropped. Raises TooManyErrors if that exceeds `max_errors`."""
        with self._lock:
            if unit in self.failures:
                return
            self.failures[unit] = error
            self._failed.setdefault(unit.path, set())
            shown = format_error(error) in self._failed[unit.path]  # for another segment
            self._failed[unit.path].add(format_error(error))
            count = len(self._failed)
        prefix = _frame_range_prefix(unit)
        if not shown:
            self._say(f"error: {unit.path}: {prefix}{format_error(error)}")
        self._record("failed", unit.path, f"{prefix}{format_error(error)}")
        if self._max_errors is not None and count > self._max_errors:
            failed = "1 file failed" if count == 1 else f"{count} files failed"
            raise TooManyErrors(f"stopped: {failed} (limit {self._max_errors}); the last was {unit.path}") from error

    def failure(self, unit: Unit | None) -> Exception | None:
        """The error that failed a unit; None if it has not failed."""
        return self.failures.get(unit) if unit is not None else None


def _contains(stage: object, others: Sequence[object]) -> bool:
    """Whether a stage is one of the others, by identity."""
    return any(stage is other for other in others)


def _frame_range_prefix(unit: Unit | Broken) -> str:
    """The frame range of a segment as a message prefix; empty for a whole file."""
    if isinstance(unit, Broken) or unit.stop is None or (unit.start == 0 and unit.stop == unit.media.frames):
        return ""
    return f"frames {unit.start} to {unit.stop - 1}: "
