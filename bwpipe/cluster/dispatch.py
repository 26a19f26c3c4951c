"""Hands the units of a run to workers, publishes what they write, and joins films."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from time import monotonic
from typing import Any

from bwpipe.cluster.batches import Backlog, Units
from bwpipe.cluster.memories import Memories
from bwpipe.cluster.messages import Aborted, Batch, Event, Failed, Finished, News, Warned
from bwpipe.cluster.pool import WorkerLost, WorkerPool
from bwpipe.cluster.worker import part_prefix
from bwpipe.cluster.workforce import Hand, Workforce
from bwpipe.core.atomic_file import remove_leftovers
from bwpipe.core.segments import Assembly
from bwpipe.core.stage import Sink
from bwpipe.engine.executor import Work
from bwpipe.engine.sink_executor import Assemblies, SinkWriter
from bwpipe.errors import MediaError, RunAborted, UsageError

TRIES = 5
"""How many times a unit is handed out until it counts as what ends its workers."""
_ALONE = 2
"""After how many losses the units of a piece are handed out one by one."""
_ASK = 0.5
"""Seconds between two questions to a worker what is new."""


class Dispatch:
    """The work of a run while workers do it."""

    def __init__(self, force: Workforce, pool: WorkerPool, work: Work, publishers: Executor) -> None:
        """Nothing is handed out yet; `publishers` are threads that publish and join files."""
        self._force, self._pool, self._work, self._publishers = force, pool, work, publishers
        self._folders = list(dict.fromkeys(node.stage.folder for node in work.graph.nodes if isinstance(node.stage, Sink)))
        plan, nodes = work.plan, {node.id: node for node in work.graph.nodes}
        self._sinks = {name: nodes[name] for name in plan.recipes}
        self._last = next((node.id for node in reversed(work.graph.nodes) if isinstance(node.stage, Sink)), "")
        self._assemblies = {
            name: Assemblies(plan.assemblies[name], plan.recipes[name].__contains__, joins=plan.joins) for name in self._sinks
        }
        self._units = Units(plan)
        self._backlog = Backlog(self._units.pieces(max(len(force.hands), 1)))
        self._open = {number: set(self._units.sinks(number)) for number in range(len(self._units.units))}
        self._losses = Counter[int]()
        self._futures: dict[Future[None], None] = {}
        self._shared: dict[int, Any] = {}
        self._memories = Memories(work.first_passes, self._units.files)
        self._lost: list[Hand] = []
        self._said: set[tuple[int | None, str]] = set()
        for name, assemblies in self._assemblies.items():
            for assembly in assemblies.complete():
                self._join(name, assembly)

    def is_unfinished(self) -> bool:
        """Whether anything is still to do."""
        busy = any(hand.piece or hand.first_pass for hand in self._force.hands)
        return bool(self._backlog) or busy or bool(self._futures)

    def waits_for_workers(self) -> bool:
        """Whether there is something that a worker has yet to be given."""
        return bool(self._backlog)

    def hand_out(self) -> None:
        """Give each idle worker something, and ask the others what is new."""
        now = monotonic()
        for hand in self._force.hands:
            if hand.idle:
                self._give(hand)
            elif hand.piece and not hand.asking and now - hand.asked > _ASK:
                hand.asked, hand.asking = now, True
                self._force.call(hand, "news")

    def _give(self, hand: Hand) -> None:
        for piece in self._backlog:
            file = self._units.file_of[piece[0]]
            try:
                missing = self._memories.missing(file)
            except Exception as error:
                self._fail_file(file, error)
                return
            if missing is None:
                self._give_piece(hand, piece)
                return
            if missing:
                hand.first_pass, hand.since = (file, missing), monotonic()
                self._force.call(hand, "make_first_pass", file, self._file(file), missing)
                return

    def _give_piece(self, hand: Hand, piece: tuple[int, ...]) -> None:
        self._backlog.take(piece)
        tasks = self._units.by_file(piece)
        files = {file: self._file(file) for file in tasks}
        memories = {file: found for file in tasks if (found := self._memories.of(file, self._pool.share))}
        hand.piece, hand.since, hand.before = piece, monotonic(), dict(hand.counts)
        self._force.call(hand, "do", Batch(tasks, files, memories))

    def _file(self, number: int) -> Any:
        """A file as it is given to workers."""
        whole = self._units.files[number]
        if not whole.media.has_segments:
            return whole
        if number not in self._shared:
            self._shared[number] = self._pool.share(whole)
        return self._shared[number]

    def take(self, hand: Hand, news: News) -> None:
        """Take in what a worker says."""
        for name, (items, busy) in news.counts.items():
            items_before, busy_before = hand.counts.get(name, (0, 0.0))
            self._work.meters[name].count(items - items_before)
            self._work.meters[name].add(busy - busy_before)
            if name == self._last:
                self._force.meters[hand.title].count(items - items_before)
        hand.counts = {**hand.counts, **news.counts}
        for event in news.events:
            self._happened(hand, event)

    def _happened(self, hand: Hand, event: Event) -> None:
        match event:
            case Finished():
                self._finished(hand, event)
            case Failed():
                self._fail(event.number, MediaError(event.text))
            case Warned():
                self._warned(event)
            case Aborted():
                raise UsageError(event.text) if event.exit_code == UsageError.exit_code else RunAborted(event.text)

    def _warned(self, event: Warned) -> None:
        """Pass a warning on, once: another worker may have said the same of the same film."""
        if (event.file, event.text) in self._said:
            return
        self._said.add((event.file, event.text))
        media = None if event.file is None else self._units.files[event.file].media
        if event.left_out:
            assert media
            self._work.run.exclude(media, event.text)
        else:
            self._work.run.warn(event.text, media, each=event.each)

    def _finished(self, hand: Hand, event: Finished) -> None:
        self._open[event.number].discard(event.sink)
        unit, node = self._units.units[event.number], self._sinks[event.sink]
        assert isinstance(node.stage, Sink)

        def publish() -> None:
            self._writer(event.sink, hand.title).publish(unit, event.file)
            if assembly := self._assemblies[event.sink].completed_by(unit):
                self._writer(event.sink).join(assembly)

        hand.publishing.append(self._submit(publish))

    def _join(self, sink: str, assembly: Assembly) -> None:
        def join() -> None:
            self._writer(sink).join(assembly)

        self._submit(join)

    def _writer(self, sink: str, worker: str | None = None) -> SinkWriter:
        node, work = self._sinks[sink], self._work
        assert isinstance(node.stage, Sink)
        return SinkWriter(
            node.stage,
            lambda unit, file: work.keep(node, unit, file, worker=worker),
            work.run,
            work.meters[sink],
            assemblies=self._assemblies[sink],
        )

    def _submit(self, function: Callable[[], None]) -> "Future[None]":
        future = self._publishers.submit(function)
        self._futures[future] = None
        return future

    def check_futures(self) -> None:
        """Raise what publishing or joining has raised, and remove what lost workers have left. Raises RunAborted and others."""
        for future in [future for future in self._futures if future.done()]:
            del self._futures[future]
            future.result()
        for hand in list(self._lost):
            if all(future.done() for future in hand.publishing):
                self._lost.remove(hand)
                self._remove_parts(hand)

    def _remove_parts(self, hand: Hand) -> None:
        for folder in self._folders:
            if folder.is_dir():
                remove_leftovers(folder, part_prefix(hand.name))

    def _fail(self, number: int, error: Exception) -> None:
        """A unit failed. Raises TooManyErrors."""
        if not self._open[number]:
            return
        unit = self._units.units[number]
        sinks, self._open[number] = self._open[number], set()
        self._work.run.fail(unit, error)
        for sink in sinks:
            if assembly := self._assemblies[sink].completed_by(unit):
                self._join(sink, assembly)

    def _fail_file(self, file: int, error: Exception) -> None:
        """All units of a file failed that no worker has."""
        for piece in self._backlog:
            if self._units.file_of[piece[0]] == file:
                self._backlog.take(piece)
                for number in piece:
                    self._fail(number, error)

    def end_piece(self, hand: Hand) -> None:
        """A worker has done its piece."""
        for number in hand.piece:
            self._open[number].clear()  # what was left out on purpose
        self._add_busy(hand)
        hand.piece = ()

    def end_first_pass(self, hand: Hand, answer: bytes | Failed | Aborted) -> None:
        """A worker has made what a first pass keeps, or has failed."""
        assert hand.first_pass
        file, stage = hand.first_pass
        self._add_busy(hand)
        hand.first_pass = None
        if isinstance(answer, bytes):
            try:
                self._memories.keep(file, stage, answer)
            except (MediaError, OSError) as error:
                self._fail_file(file, error)
        elif isinstance(answer, Failed):
            self._fail_file(file, MediaError(answer.text))
        else:
            raise RunAborted(answer.text)

    def _add_busy(self, hand: Hand) -> None:
        if hand.title:
            self._force.meters[hand.title].add(monotonic() - hand.since)

    def lose(self, hand: Hand, error: WorkerLost) -> None:
        """Put back what a lost worker had in work; what ends its workers again and again fails."""
        if error.for_memory:
            self._work.run.warn(
                f"a machine had too little memory, so that a worker was ended, and its work is done again: {error}"
            )
        else:
            self._work.run.note(f"{hand.title} was lost ({error}); what it had in work is done again")
        self._add_busy(hand)
        self._lost.append(hand)
        if hand.first_pass:
            file, stage = hand.first_pass
            self._memories.lose(file, stage)
        self._take_back(hand)
        left = [number for number in hand.piece if self._open[number]]
        for number in left:
            self._losses[number] += 1
            if self._losses[number] >= TRIES:
                self._fail(number, MediaError(f"{TRIES} workers were lost over it, the last one because: {error}"))
        left = [number for number in left if self._open[number]]
        alone = any(self._losses[number] >= _ALONE for number in left)
        for piece in reversed([(number,) for number in left] if alone else [tuple(left)] if left else []):
            self._backlog.put_back(piece)

    def _take_back(self, hand: Hand) -> None:
        """Uncount the frames of units that a lost worker had begun, so that progress is what is there."""
        if any(not self._open[number] for number in hand.piece):
            return
        for name, (items, _) in hand.counts.items():
            lost = items - hand.before.get(name, (0, 0.0))[0]
            self._work.meters[name].count(-lost)
            if name == self._last:
                self._force.meters[hand.title].count(-lost)

    def clear_up(self) -> None:
        """Remove what lost workers left, now that nothing is being published."""
        for future in self._futures:
            with suppress(BaseException):
                future.result(timeout=0)
        for hand in self._lost:
            self._remove_parts(hand)
