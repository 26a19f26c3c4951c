"""Measure what segments and copying all streams cost: CPU seconds, memory, and temporary disk space.

    python -m bench.film_cost [--frames 600] [--long 10] [--repeat 5] [--network]

Cost: user and system time of a run in segments that copies all streams, divided by that of a run with `segment: off` on the
same film with audio only; the median of alternating pairs. Memory: the peak for a film and for one `--long` times as long.
Disk: the peak size of the output folder, less one segment, divided by the size of the finished film.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.support.made_films import Kind, Rich, make_film, make_rich_film

SIZE = (320, 240)


class Cost(NamedTuple):
    """The cost of a run: CPU seconds, peak memory in MiB, and peak size of its output folder in bytes."""

    seconds: float
    memory: float
    disk: int


def measure(source: Path, out: Path, segment: int | str, options: argparse.Namespace) -> Cost:
    """Run in a separate process, and watch the size of the output folder."""
    colour = [{"use": "grayscale", "colour": "recolour"}, {"use": "colorize"}] if options.network else []
    stages = [{"use": "read", "path": str(source)}, *colour, {"use": "write", "path": str(out), "preset": "veryfast"}]
    graph = out.with_suffix(".yaml")
    graph.write_text(json.dumps({"segment": segment, "stages": stages}), encoding="utf-8")  # JSON is YAML
    process = subprocess.Popen([sys.executable, "-m", "bwpipe", "run", str(graph), "--quiet"])
    peak = 0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        peak = max(peak, folder_size(out))
        time.sleep(0.02)
    if status:
        sys.exit(f"the run into {out} failed")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, max(peak, folder_size(out)))


def folder_size(folder: Path) -> int:
    """Size in bytes of the films and fragments in an output folder."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() and path.suffix not in {".sqlite", ".jsonl"} else 0
        except FileNotFoundError:  # it has just been renamed to its final name
            continue
    return total


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--long", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--segment", type=int, default=100)
    parser.add_argument("--network", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        times = range(0, 512 * options.frames, 512)
        fast = {"preset": "ultrafast"}
        plain = make_film(folder / "sound.mp4", Kind(size=SIZE, times=times, sound="aac", options=fast))
        rich = make_rich_film(folder / "all.mp4", Rich(size=SIZE, times=times, sound="aac", options=fast))
        ratios, peaks = [], []
        for number in range(options.repeat):
            off = measure(plain, folder / f"off{number}", "off", options)
            cut = measure(rich, folder / f"cut{number}", options.segment, options)
            ratios.append(cut.seconds / off.seconds)
            peaks.append(cut.memory)
            print(
                f"pair {number + 1}: {off.seconds:.2f} s in one piece with audio only, {cut.seconds:.2f} s in segments with all"
            )
        print(f"cost: {statistics.median(ratios):.3f} times the CPU seconds (median of {options.repeat} pairs)")
        long = range(0, 512 * options.frames * options.long, 512)
        film = make_film(folder / "long.mp4", Kind(size=SIZE, times=long, sound="aac", options=fast))
        cost = measure(film, folder / "long", options.segment, options)
        whole = (folder / "long" / film.name).stat().st_size
        segment = whole * options.segment / len(long)
        print(f"memory: {cost.memory:.0f} MiB for {len(long)} frames, {statistics.median(peaks):.0f} MiB for {options.frames}")
        print(f"disk: {(cost.disk - segment) / whole:.2f} times the finished film, plus one segment")


if __name__ == "__main__":
    main()
