"""The workers of a run as seen from the process that runs it: started, introduced, called, and replaced when they are lost."""

from collections.abc import Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from bwpipe.cluster.messages import Aborted, Failed, Introduction, News, Problem, Setup
from bwpipe.cluster.pool import WorkerLost, WorkerPool
from bwpipe.core.context import RunContext
from bwpipe.engine.timing import Meter
from bwpipe.errors import RunAborted, UsageError
from bwpipe.version import __version__

_TRIES = 5
"""How many workers in a row may be lost before one has built the graph."""
_WAIT = 0.1
"""Seconds to wait for an answer before other things are looked after."""


@dataclass(slots=True, eq=False)
class Hand:
    """A worker, as seen from here.

    Attributes:
        name: The name that its temporary files begin with.
        handle: What the pool knows it by.
        setup: What it was told to build.
        title: What users know it by; empty until it has built the graph.
        piece: The units that it has in work, by number.
        first_pass: The file, by number, and the id of the stage whose first pass it makes.
        asked, asking: When it was asked last what is new, and whether it has yet to answer.
        since: When it was given what it has in work.
        counts: Items and seconds by stage, as it said last, and `before` its piece.
        publishing: What it wrote and is being published.
    """

    name: str
    handle: Hashable
    setup: Setup
    title: str = ""
    piece: tuple[int, ...] = ()
    first_pass: tuple[int, str] | None = None
    asked: float = 0.0
    asking: bool = False
    since: float = 0.0
    counts: dict[str, tuple[int, float]] = field(default_factory=dict)
    before: dict[str, tuple[int, float]] = field(default_factory=dict)
    publishing: list["Future[None]"] = field(default_factory=list)

    @property
    def idle(self) -> bool:
        """Whether it can be given something."""
        return bool(self.title) and not self.piece and self.first_pass is None


class Listener(Protocol):
    """Hears of what workers have done."""

    def take(self, hand: Hand, news: News) -> None:
        """Something is new."""

    def end_piece(self, hand: Hand) -> None:
        """Its piece is done, and all news of it were taken."""

    def end_first_pass(self, hand: Hand, answer: bytes | Failed | Aborted) -> None:
        """It has made what a first pass keeps, or has failed."""

    def lose(self, hand: Hand, error: WorkerLost) -> None:
        """It is gone."""


class Workforce:
    """Starts workers, calls them, and hears what they answer.

    Attributes:
        hands: The workers that there are.
        setup: What the next workers are told to build; their names are added.
        meters: The work of each worker that there was, by its title.
        listener: Hears of what they do; None while the run is getting ready.
    """

    def __init__(self, pool: WorkerPool, run: RunContext, setup: Setup, token: str) -> None:
        """Nothing is started yet; `token` begins the names of all workers."""
        self.hands: list[Hand] = []
        self.meters: dict[str, Meter] = {}
        self.setup = setup
        self.listener: Listener | None = None
        self._pool, self._run, self._token = pool, run, token
        self._started = self._lost_early = 0
        self._tickets: dict[Hashable, tuple[Hand, str]] = {}
        self._processors: dict[str, None] = {}

    def start_worker(self) -> None:
        """Start one more."""
        self._started += 1
        name = f"{self._token}-{self._started}"
        hand = Hand(name, self._pool.start(name), replace(self.setup, name=name))
        self.hands.append(hand)
        self.call(hand, "version")

    def call(self, hand: Hand, method: str, *arguments: Any) -> None:
        """Call a method of a worker; what it answers is heard by `handle_answers`."""
        self._tickets[self._pool.call(hand.handle, method, *arguments)] = hand, method

    def dismiss(self, hand: Hand) -> None:
        """End a worker at once."""
        self.hands.remove(hand)
        self._pool.kill(hand.handle)

    def require_workers(self, *, wanted: bool) -> None:
        """Raise RunAborted if workers are wanted and there is none."""
        if wanted and not self.hands:
            raise RunAborted("no worker is left; see what was said of each, and run again to go on")

    def is_opening(self) -> bool:
        """Whether a worker is building the graph."""
        return any(what == "open" for hand, what in self._tickets.values() if hand in self.hands)

    def handle_answers(self) -> None:
        """Wait a moment for workers, and handle what they have answered. Raises UsageError, RunAborted, TooManyErrors."""
        for ticket in self._pool.wait(list(self._tickets), _WAIT):
            hand, method = self._tickets.pop(ticket)
            if hand not in self.hands:
                continue
            try:
                answer = self._pool.result(ticket)
            except WorkerLost as error:
                self._lose(hand, error)
            else:
                self._answered(hand, method, answer)

    def _answered(self, hand: Hand, method: str, answer: Any) -> None:
        match method, answer:
            case "version", _ if answer != __version__:
                what = f"a worker has bwpipe {answer}, and this is {__version__}"
                self._refused(hand, Problem(f"{what}; install the same version on all machines"))
            case "version", _:
                self.call(hand, "open", hand.setup)
            case "open", Introduction():
                self._introduce(hand, answer)
            case "open", Problem():
                self._refused(hand, answer)
            case "news" | "do", News() if self.listener:
                self.listener.take(hand, answer)
                if method == "do":
                    self.listener.end_piece(hand)
                else:
                    hand.asking = False
            case "make_first_pass", _ if self.listener:
                self.listener.end_first_pass(hand, answer)

    def _refused(self, hand: Hand, problem: Problem) -> None:
        """A worker can't build the graph."""
        if self.listener is None:
            raise UsageError(problem.text if problem.text.startswith("a worker") else f"a worker can't start: {problem.text}")
        self.dismiss(hand)
        if hand.setup.probes != self.setup.probes:  # it looked for what was there before the run began
            self.start_worker()
        else:
            self._run.warn(f"a worker that came later can't start, and is left out: {problem.text}")

    def _introduce(self, hand: Hand, introduction: Introduction) -> None:
        self._lost_early = 0
        number = sum(title.startswith(f"{introduction.host} ") for title in self.meters) + 1
        hand.title = f"{introduction.host} {number}"
        self.meters[hand.title] = Meter()
        for key, value in introduction.facts.items():
            self._run.facts.setdefault(key, value)
        if introduction.processor not in self._processors:
            self._processors[introduction.processor] = None
            if len(self._processors) > 1:
                names = ", ".join(self._processors)
                self._run.warn(
                    f"the workers' processors differ, so that last bits of outputs may depend on who made them: {names}"
                )

    def _lose(self, hand: Hand, error: WorkerLost) -> None:
        """A worker is gone: its work is put back, and another is started."""
        self.dismiss(hand)
        if not hand.title:
            self._lost_early += 1
            if self._lost_early >= _TRIES:
                self._do_without(error)
                return
        elif self.listener:
            self.listener.lose(hand, error)
        self.start_worker()

    def _do_without(self, error: WorkerLost) -> None:
        """Give one worker up: several in a row were lost before they had built the graph. Raises UsageError, RunAborted."""
        if self.listener is None:
            raise UsageError(f"no worker starts: {error}")
        if not any(hand.title for hand in self.hands):
            raise RunAborted(f"no worker can be started: {error}; the same command goes on from here")
        self._lost_early = 0
        self._run.warn(f"{_TRIES} workers in a row did not start, the last one because: {error}; the run goes on with fewer")
