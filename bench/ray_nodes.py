"""Nodes of Ray on this machine, of one processor each, and a run on them against one process.

    python -m bench.ray_nodes FILE_OR_FOLDER [--nodes 2] [--repeat 1] [--set STAGE.OPTION=VALUE]

Colours the input as `pipeline.yaml` does, in one process with all processors, and on one worker a node, in turn; each in a
command of its own. Printed are whether all outputs have the same SHA-256, and the times by the clock: until the workers were
ready (Ray's start, and the graph on each worker), and of the work. A machine that does something else meanwhile says nothing
about times.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from time import perf_counter
from typing import Any

import yaml

from bwpipe.graph.templates import template

_STORE = 100 << 20
_STARTS = 5


@contextmanager
def ray_nodes(count: int) -> Iterator[str]:
    """The address of a cluster with a head that does no work, and nodes of one processor each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    shared = {"object_store_memory": _STORE}
    cluster = _persist(
        lambda: Cluster(initialize_head=True, head_node_args={**shared, "num_cpus": 0, "include_dashboard": False})
    )
    try:
        for _ in range(count):
            _persist(lambda: cluster.add_node(num_cpus=1, **shared))
        yield cluster.address
    finally:
        cluster.shutdown()


def _persist(start: Any) -> Any:
    """Start something of Ray's, which a busy machine may not let start in time."""
    for left in reversed(range(_STARTS)):
        try:
            return start()
        except Exception:
            if not left:
                raise
    raise AssertionError


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each output."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".bwpipe" not in path.parts)
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def run(source: Path, out: Path, options: Sequence[str]) -> tuple[float, float, float]:
    """Run into a folder; seconds by the clock until workers were ready, after that, and of processors in this command."""
    described = yaml.safe_load(template("pipeline.yaml").read_text(encoding="utf-8"))
    described["stages"][0]["path"], described["stages"][-1]["path"] = str(source.resolve()), str(out)
    described["cluster"] = {"cpus": 1}
    graph = out.with_suffix(".yaml")
    graph.write_text(yaml.safe_dump(described), encoding="utf-8")
    before, begin = getrusage(RUSAGE_CHILDREN), perf_counter()
    call = [sys.executable, "-m", "bwpipe", "run", str(graph), *options]
    done = subprocess.run(call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    seconds, after = perf_counter() - begin, getrusage(RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"exit code {done.returncode}: {done.stdout}")
    ready = re.search(r"workers are ready on .* after ([\d.]+) s", done.stdout)
    start = float(ready[1]) if ready else 0.0
    return start, seconds - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", type=Path)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    changes = [text for change in given.set for text in ("--set", change)]
    equal, ratios = True, []
    with ray_nodes(given.nodes) as address:
        for _ in range(given.repeat):
            with tempfile.TemporaryDirectory() as folder:
                one, nodes = Path(folder, "one"), Path(folder, "nodes")
                _, alone, busy = run(given.input, one, changes)
                start, work, _ = run(given.input, nodes, [*changes, "--ray", address])
                same = digests(one) == digests(nodes)
                print(
                    f"one process: {alone:.1f} s ({busy:.1f} s of processors); {given.nodes} nodes: {start:.1f} s until ready, "
                    f"then {work:.1f} s, {work / alone:.2f} of it; {len(digests(one))} outputs, "
                    f"{'the same SHA-256 of each' if same else 'they DIFFER'}",
                    flush=True,
                )
                equal &= same
                ratios.append(work / alone)
    print(f"median {statistics.median(ratios):.2f} of one process, {min(ratios):.2f} to {max(ratios):.2f}; 1.10 wanted at most")
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
