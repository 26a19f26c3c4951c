"""Compare what `bwpipe check --probe` estimates with what the run then takes.

    python -m bench.estimate FILM_OR_FOLDER [...] [--repeat 3] [--set STAGE.OPTION=VALUE]

Each round estimates, and runs, every input in commands of its own, as a user does, so that the start of either counts. Printed
are medians, the ratio of the estimate to the truth, and its range over the rounds.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import yaml

from bwpipe.graph.templates import template

_DURATION = re.compile(r"in total: about (?:(\d+) h )?(?:(\d+) min ?)?(?:(\d+(?:\.\d+)?) s)?")


def seconds_of(report: str) -> float:
    """The total of an estimate, from what the command prints."""
    match = _DURATION.search(report)
    if match is None:
        raise SystemExit(f"no total in the estimate:\n{report}")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


def command(name: str, graph: Path, *options: str) -> str:
    """The standard output of a command of bwpipe."""
    call = [sys.executable, "-m", "bwpipe", name, str(graph), *options]
    return subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True).stdout


def measure(source: Path, folder: Path, changes: Sequence[str]) -> tuple[float, float]:
    """The estimate and the truth, in seconds."""
    described = yaml.safe_load(template("pipeline.yaml").read_text(encoding="utf-8"))
    described["stages"][0]["path"], described["stages"][-1]["path"] = str(source.resolve()), str(folder / "out")
    graph = folder / "pipeline.yaml"
    graph.write_text(yaml.safe_dump(described), encoding="utf-8")
    options = [text for change in changes for text in ("--set", change)]
    estimated = seconds_of(command("check", graph, "--probe", *options))
    start = perf_counter()
    command("run", graph, "--quiet", *options)
    return estimated, perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    for source in options.inputs:
        pairs = []
        for _ in range(options.repeat):
            with tempfile.TemporaryDirectory() as folder:
                pairs.append(measure(source, Path(folder), options.set))
        estimated, took = (statistics.median(values) for values in zip(*pairs, strict=True))
        ratios = [one / other for one, other in pairs]
        print(
            f"{source.name}: estimated {estimated:.1f} s, took {took:.1f} s; ratio {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}), 0.75 to 1.25 wanted",
            flush=True,
        )


if __name__ == "__main__":
    main()
