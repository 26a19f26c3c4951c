"""Executes a run on workers that a pool reaches: an `Executor` beside the threads of one process."""

import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

from bwpipe.cluster.checks import described, plugin_digests, some_inputs
from bwpipe.cluster.dispatch import Dispatch
from bwpipe.cluster.messages import Setup
from bwpipe.cluster.pool import WorkerPool
from bwpipe.cluster.worker import part_prefix
from bwpipe.cluster.workforce import Workforce
from bwpipe.core.atomic_file import WORK_FOLDER, AtomicFile, remove_leftovers
from bwpipe.core.context import RunContext
from bwpipe.core.stage import BatchMap, Map, Sink, Source, UnitMap
from bwpipe.engine.executor import Work
from bwpipe.engine.planner import Plan
from bwpipe.engine.timing import Meter
from bwpipe.errors import UsageError
from bwpipe.graph.graph import Graph

_PUBLISHERS = 2
"""Threads that digest inputs, record and rename files, and join films."""
_PATIENCE = 30.0
"""Seconds without a worker until the user is told."""
_OPENING = 10.0
"""Seconds to wait for workers beside the first that are building the graph, so that what is wrong with one is said at once."""


class ClusterExecutor:
    """An `Executor` whose workers are processes, here or elsewhere, that a pool reaches."""

    def __init__(self, pool: WorkerPool, *, cores: int) -> None:
        """Nothing is connected to yet; `cores` is the number of cores for each worker."""
        self._pool, self._cores = pool, cores
        self._token = f"worker-{secrets.token_hex(4)}"
        self._folders: list[Path] = []
        self._force: Workforce | None = None

    def workers(self) -> Mapping[str, Meter]:
        """The work of each worker, by its name."""
        return self._force.meters if self._force else {}

    def start(self, graph: Graph, plan: Plan, run: RunContext) -> None:
        """Connect, start workers, and wait for the first. Raises UsageError."""
        for node in graph.nodes:
            if not isinstance(node.stage, Source | Map | BatchMap | UnitMap | Sink):
                raise UsageError(f"{node.where}: {node.id} sees all files in one stream; run this graph on one machine")
        self._folders = list(dict.fromkeys(node.stage.folder for node in graph.nodes if isinstance(node.stage, Sink)))
        begun = monotonic()
        where = self._pool.open(run.note)
        opened, told = monotonic(), False
        with _probes(self._folders) as probes:
            setup = self._setup(graph, plan, run, probes)
            self._force = force = Workforce(self._pool, run, setup, self._token)
            count = min(self._pool.size(), len(plan.todo))
            try:
                for _ in range(count):
                    force.start_worker()
                while count and not any(hand.title for hand in force.hands):
                    force.handle_answers()
                    if not told and monotonic() - opened > _PATIENCE:
                        told = True
                        run.note(f"no worker has started on {where} yet; it may have no processors free")
                opening = monotonic()
                while force.is_opening() and monotonic() - opening < _OPENING:
                    force.handle_answers()
            except BaseException:
                self._dismiss_all()  # before the probes go: another worker may be creating a file beside one
                raise
        ready = sum(bool(hand.title) for hand in force.hands)
        run.note(f"{ready} of {count} workers are ready on {where} after {monotonic() - begun:.1f} s")

    def _setup(self, graph: Graph, plan: Plan, run: RunContext, probes: Mapping[str, bytes]) -> Setup:
        """What workers build."""
        reels = dict.fromkeys(plan.files.get(unit, unit) for unit in plan.todo if unit.media.has_frame_files)
        return Setup(
            name="",
            graph=_plain(graph.description),
            title=run.name,
            text=run.text,
            folder=str(Path.cwd()),
            facts=dict(run.facts),
            max_context=plan.context,
            cores=self._cores,
            restart=run.restart,
            films=tuple(reels),
            probes=dict(probes),
            plugins=plugin_digests(graph.plugins),
            inputs=some_inputs(plan.todo),
            recipes=described(graph),
        )

    def execute(self, work: Work) -> None:
        """Hand out the work, until all is done."""
        force = self._force
        assert force, "`start` was called"
        with _probes(self._folders) as probes, ThreadPoolExecutor(_PUBLISHERS) as publishers, ExitStack() as stack:
            force.setup = replace(force.setup, probes=probes)
            force.listener = dispatch = Dispatch(force, self._pool, work, publishers)
            stack.callback(dispatch.clear_up)
            stack.callback(publishers.shutdown, cancel_futures=True)
            try:
                while dispatch.is_unfinished():
                    dispatch.hand_out()
                    force.handle_answers()
                    dispatch.check_futures()
                    force.require_workers(wanted=dispatch.waits_for_workers())
                    work.tick()
            except BaseException:
                work.run.stop()
                self._dismiss_all()
                raise
        work.run.all_read.set()
        work.tick()

    def _dismiss_all(self) -> None:
        for hand in list(self._force.hands) if self._force else ():
            self._force.dismiss(hand)  # type: ignore[union-attr]

    def close(self) -> None:
        """End the workers, remove what they left, and disconnect."""
        self._dismiss_all()
        self._pool.close()
        for folder in self._folders:
            if folder.is_dir():
                remove_leftovers(folder, part_prefix(self._token))


@contextmanager
def _probes(folders: list[Path]) -> Iterator[dict[str, bytes]]:
    """A file in each output folder for workers to find; nothing of it is left, nor a folder that was made for it.

    Raises UsageError.
    """
    probes: dict[str, bytes] = {}
    made: list[Path] = []
    files: list[AtomicFile] = []
    try:
        try:
            for folder in folders:
                for place in (*reversed(folder.parents), folder, folder / WORK_FOLDER):
                    if not place.exists():
                        place.mkdir()
                        made.append(place)
                files.append(AtomicFile(folder / "probe", folder))
                probes[str(files[-1].path)] = content = secrets.token_bytes(16)
                files[-1].path.write_bytes(content)
        except OSError as error:
            raise UsageError(f"{error.filename}: can't write into it ({error.strerror}); choose another folder") from error
        yield probes
    finally:
        for file in files:
            file.discard()
        for place in reversed(made):
            with suppress(OSError):  # it is used by now
                place.rmdir()


def _plain(value: Any) -> Any:
    """A description without the marks of where each part stands in a file."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
