"""One execution of a graph, as its stages see it."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Lock
from typing import Any, TypeVar

from bwpipe.core.frame import Broken, Media, Unit
from bwpipe.core.provenance import Provenance
from bwpipe.errors import RunStopped, TooManyErrors, UsageError, format_error

T = TypeVar("T", bound=str | int | float | bool)


class RunContext:
    """What the stages of one execution share: remarks, facts to remember, and which units failed. Safe in threads."""

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
        provenance: Callable[[object], Provenance | None] = lambda stage: None,
        downstream: Callable[[object], Sequence[Any]] = lambda stage: (),
    ) -> None:
        """Make a run.

        Args:
            max_errors: How many units may fail before the run ends with TooManyErrors; None for any number.
            quiet: Show warnings and errors only: for stages that show progress of their own.
            name: The graph's: its file's, without the ending.
            text: The graph as YAML, with the options as they were changed for this execution.
            restart: Begin long work anew that an earlier execution left unfinished.
            plugins: Folders that the graph loads stages and networks from, for processes that a stage starts.
            say: Shows a line to the user.
            record: Notes an event ("warning", "left out", "failed") with the file it is about, also where it is shown no more.
            facts: What earlier executions remembered; added to.
            provenance: What the metadata of outputs are to say, of what comes out of a stage.
            downstream: The stages that what comes out of a stage goes through, in their order.
        """
        self.facts = {} if facts is None else facts
        self.quiet = quiet
        self.name = name
        self.text = text
        self.restart = restart
        self.plugins = tuple(plugins)
        self.provenance = provenance
        self.downstream = downstream
        self.dropped: dict[Media, str] = {}
        self.remarks: Counter[str] = Counter()
        self._max_errors = max_errors
        self._say = say
        self._record = record
        self.failures: dict[Unit | Broken, Exception] = {}
        self._failed: dict[Path, set[str]] = {}
        self._claimed: set[str] = set()
        self._unwanted: list[tuple[object, str, str]] = []
        self.all_read = Event()
        self._lock = Lock()
        self._stopping = Event()

    def warn(self, text: str, media: Media | None = None, *, each: bool = False) -> None:
        """Tell the user something once, however often it is the case; the report counts it and names every file.

        Args:
            text: One sentence that holds of every file it is said of.
            media: The file it is said of, named when it is said.
            each: Say it of every file, not of the first one only: for what is lost of a film.
        """
        with self._lock:
            self.remarks[text] += 1
            first = self.remarks[text] == 1
        if first or each:
            self._say(f"warning: {media.name}: {text}" if media else f"warning: {text}")
        self._record("warning", media.path if media else None, text)

    def note(self, text: str) -> None:
        """Show a line that is no warning, unless the run is quiet."""
        if not self.quiet:
            self._say(text)

    def exclude(self, media: Media, why: str) -> None:
        """Note that a stage drops a file on purpose: counted by reason, and named in the report.

        Args:
            media: The file.
            why: A few words that hold of every file left out for this reason, such as "next to no colour".
        """
        with self._lock:
            if media in self.dropped:
                return
            self.dropped[media] = why
        self._record("left out", media.path, why)

    def skip_kind(self, stage: object, kind: str, why: str) -> None:
        """Let a kind of media be left out before it is read, where all that is read goes through this stage: in `setup`.

        Args:
            stage: The one that leaves it out otherwise.
            kind: "picture" or "film".
            why: As in `leave_out`.
        """
        self._unwanted.append((stage, kind, why))

    def skipped_kinds(self, source: object) -> dict[str, str]:
        """The kinds of media that need not be read, since all that a source gives goes through a stage without use for them."""
        rest = self.downstream(source)
        return {
            kind: why
            for stage, kind, why in self._unwanted
            if _among(stage, rest)
            and all(
                each is stage or _among(stage, self.downstream(each)) or _among(each, self.downstream(stage)) for each in rest
            )
        }

    @property
    def left_out(self) -> Counter[str]:
        """How many files were left out, by reason."""
        with self._lock:
            return Counter(self.dropped.values())

    def claim(self, thing: str, remedy: str) -> None:
        """Take something that only one stage of a graph can have, such as a folder: in `setup`. Raises UsageError.

        Args:
            thing: What it is called in the refusal of a second stage.
            remedy: What to do then.
        """
        if thing in self._claimed:
            raise UsageError(f"{thing} would be used by two stages; {remedy}")
        self._claimed.add(thing)

    def remember(self, key: str, find: Callable[[], T]) -> T:
        """What was found out under this key by an earlier execution into the same folder, or else what `find` finds now.

        For choices that are measured in `setup`, such as a precision: a resumed run must not choose anew.
        """
        if key not in self.facts:
            self.facts[key] = find()
        return self.facts[key]  # type: ignore[return-value]

    def stop(self) -> None:
        """Ask every stage to end its work."""
        self._stopping.set()

    def raise_if_stopped(self) -> None:
        """Raise RunStopped if the run is to end: for stages that work long without taking or giving an item."""
        if self._stopping.is_set():
            raise RunStopped

    def fail(self, unit: Unit | Broken, error: Exception) -> None:
        """Note that a unit failed: its remaining items are dropped. Raises TooManyErrors, if it was one too many."""
        with self._lock:
            if unit in self.failures:
                return
            self.failures[unit] = error
            self._failed.setdefault(unit.path, set())
            said = format_error(error) in self._failed[unit.path]  # of another segment
            self._failed[unit.path].add(format_error(error))
            count = len(self._failed)
        where = _place(unit)
        if not said:
            self._say(f"error: {unit.path}: {where}{format_error(error)}")
        self._record("failed", unit.path, f"{where}{format_error(error)}")
        if self._max_errors is not None and count > self._max_errors:
            raise TooManyErrors(f"stopped after {count} failed: {unit.path} was the last") from error

    def failure(self, unit: Unit | None) -> Exception | None:
        """Why a unit failed; None if it has not."""
        return self.failures.get(unit) if unit is not None else None


def _among(stage: object, others: Sequence[object]) -> bool:
    """Whether it is one of them, not just equal to one."""
    return any(stage is other for other in others)


def _place(unit: Unit | Broken) -> str:
    """Which frames of its film a segment has, for a message; nothing for what is whole."""
    if isinstance(unit, Broken) or unit.stop is None or (unit.start == 0 and unit.stop == unit.media.frames):
        return ""
    return f"frames {unit.start} to {unit.stop - 1}: "
