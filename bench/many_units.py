"""What a run takes before and between its work: planning many units, and handing them to workers that only wait.

python -m bench.many_units --units 100000                  # time and memory of planning
python -m bench.many_units --wait 0.05 --workers 1 3       # the same work on one worker and on three, which sleep
python -m bench.many_units --wait 0.05 --workers 1 3 --ray # the same on nodes of Ray
"""

import argparse
import resource
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

from bench.ray_nodes import ray_nodes
from bwpipe.cluster.batches import Backlog, Units
from bwpipe.cluster.executor import ClusterExecutor
from bwpipe.cluster.pool import WorkerPool
from bwpipe.cluster.ray_pool import RayPool
from bwpipe.core.context import RunContext
from bwpipe.engine.planner import Plan, make_plan
from bwpipe.engine.run import run_graph
from bwpipe.engine.share_ledger import open_ledgers
from bwpipe.graph.graph import Graph, read_graph
from tests.support.thread_pool import LocalPool


def graph(count: int, out: Path, seconds: float = 0.0) -> dict[str, Any]:
    """A graph of these stages."""
    stages = [{"use": "imagine", "count": count}, {"use": "rest", "seconds": seconds}, {"use": "note", "path": str(out)}]
    plugins = [str(Path(__file__).parent / "waiting")]
    return {"plugins": plugins, "stages": stages, "queue": 1, "cluster": {"cpus": 1}}


def plan(count: int) -> None:
    """Plan many units, number them, and cut them into pieces."""
    with TemporaryDirectory() as folder:
        read = read_graph(graph(count, Path(folder)))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        start, wall = process_time(), perf_counter()
        with open_ledgers([Path(folder).resolve()], lock=False) as ledgers:
            found = make_plan(read, ledgers)
        planned = process_time() - start
        units = Units(found)
        backlog = Backlog(units.pieces(4))
        pieces = sum(1 for _ in backlog)
        seconds, wall = process_time() - start, perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{count} units: planned in {planned:.1f} s of CPU, {pieces} pieces after {seconds:.1f} s ({wall:.1f} s by the clock)"
    )
    print(f"memory: {before:.0f} MiB before, {peak:.0f} MiB at most")


class _Timed(ClusterExecutor):
    """Notes when the workers are ready."""

    ready = 0.0

    def start(self, graph: Graph, plan: Plan, run: RunContext) -> None:
        """Start the workers."""
        super().start(graph, plan, run)
        self.ready = perf_counter()


def overhead(count: int, seconds: float, workers: list[int], *, ray: bool) -> None:
    """The same work on different numbers of workers, which sleep: threads, or actors of Ray on nodes of their own."""
    times = {}
    for number in workers:
        with TemporaryDirectory() as folder, ExitStack() as stack:
            read = read_graph(graph(count, Path(folder), seconds))
            pool: WorkerPool = LocalPool(number)
            if ray:
                pool = RayPool(stack.enter_context(ray_nodes(number)), read.cluster, number)
            executor, begin = _Timed(pool, cores=1), perf_counter()
            result = run_graph(read, quiet=True, executor=executor)
            times[number] = perf_counter() - executor.ready
            asleep = count * seconds / number
            print(
                f"{number} workers: {result.done} units in {times[number]:.2f} s, of which {asleep:.2f} s asleep; "
                f"{executor.ready - begin:.1f} s until they were ready",
                flush=True,
            )
    first = next(iter(times.values()))
    print(", ".join(f"{first / each:.2f} times as fast on {number}" for number, each in list(times.items())[1:]))


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=100_000)
    parser.add_argument("--wait", type=float, help="seconds of each unit, for a comparison of numbers of workers")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--ray", action="store_true", help="workers are actors of Ray, each on a node of its own")
    given = parser.parse_args()
    if given.wait is None:
        plan(given.units)
    else:
        overhead(min(given.units, 600), given.wait, given.workers, ray=given.ray)


if __name__ == "__main__":
    main()
