"""Compare what a command costs in another revision and in this checkout, run in turn.

    python -m bench.revisions REVISION INPUT [--repeat 5] [--set STAGE.OPTION=X]

INPUT is a film, a picture, or a folder. Each run is `bwpipe colorize` in a process of its own, start included. A first round,
which is not counted, compiles modules and networks. The speed of a machine that others share changes within minutes, so the
last column is the median of the ratios within each round; figures from different days can't be compared.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
COMMAND = "from bwpipe.cli.main import main; main()"


class Cost(NamedTuple):
    """Seconds on the clock, CPU seconds, and the most memory in MiB."""

    wall: float
    cpu: float
    memory: float


def check_out(revision: str, folder: Path) -> None:
    """Clone this repository into a folder, at a revision."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    subprocess.run(["git", "-C", str(folder), "checkout", "-q", revision], check=True)


def cost(root: Path, arguments: Sequence[str]) -> Cost:
    """What `bwpipe` of the checkout at `root` costs. Raises SystemExit if it fails."""
    environment = {**os.environ, "PYTHONPATH": str(root)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # users don't compile all modules at each start
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], cwd=root, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{root}: failed with exit code {code}")
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return Cost(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision")
    parser.add_argument("input", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], metavar="STAGE.OPTION=X")
    options = parser.parse_args()
    changed = [word for each in options.set for word in ("--set", each)]
    with tempfile.TemporaryDirectory() as name:
        old = Path(name, "old")
        check_out(options.revision, old)
        costs: dict[str, list[Cost]] = {options.revision: [], "this checkout": []}
        for number in range(options.repeat + 1):
            for label, root in zip(costs, (old, ROOT), strict=True):
                out = Path(name, f"{label} {number}")
                costs[label].append(cost(root, ["colorize", str(options.input.resolve()), "-o", str(out), "--quiet", *changed]))
    before, after = (rounds[1:] for rounds in costs.values())
    print(f"{'medians of ' + str(options.repeat):20} {options.revision:>14} {'this checkout':>14} {'ratio':>8}")
    for index, (field, unit) in enumerate(zip(Cost._fields, ("s", "s", "MiB"), strict=True)):
        pairs = [(one[index], other[index]) for one, other in zip(before, after, strict=True)]
        one, other = (statistics.median(values) for values in zip(*pairs, strict=True))
        ratio = statistics.median(other / one for one, other in pairs)
        print(f"{field + ', ' + unit:20} {one:14.2f} {other:14.2f} {ratio:8.3f}")


if __name__ == "__main__":
    main()
