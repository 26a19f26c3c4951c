"""What segments and the carrying over of all streams cost: processor seconds, memory, and the disk that is used meanwhile.

    python -m bench.film_cost [--frames 600] [--long 10] [--repeat 5] [--network]

Cost: user and system seconds of a run in segments that copies all streams, over those of a run with `segment: off` on the
same film with sound only; the median of pairs run in turn. Memory: the peaks of a film and of one `--long` times as long. Disk:
the most that was in the output folder at a time, less one segment, over the finished film.
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
    """What a run took: processor seconds, peak memory in MiB, and the most bytes that were in its output folder."""

    seconds: float
    memory: float
    disk: int


def measure(source: Path, out: Path, segment: int | str, options: argparse.Namespace) -> Cost:
    """Run in a process of its own, and look at its folder meanwhile."""
    colour = [{"use": "grayscale"}, {"use": "colorize"}] if options.network else []
    stages = [{"use": "read", "path": str(source)}, *colour, {"use": "write", "path": str(out), "preset": "veryfast"}]
    graph = out.with_suffix(".yaml")
    graph.write_text(json.dumps({"segment": segment, "stages": stages}), encoding="utf-8")  # JSON is YAML
    process = subprocess.Popen([sys.executable, "-m", "bwpipe", "run", str(graph), "--quiet"])
    most = 0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        most = max(most, used(out))
        time.sleep(0.02)
    if status:
        sys.exit(f"the run into {out} failed")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, max(most, used(out)))


def used(folder: Path) -> int:
    """Bytes of the films and fragments in an output folder."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() and path.suffix not in {".sqlite", ".jsonl"} else 0
        except FileNotFoundError:  # it got its final name just now
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
                f"pair {number + 1}: {off.seconds:.2f} s in one piece with sound only, {cut.seconds:.2f} s in segments with all"
            )
        print(f"cost: {statistics.median(ratios):.3f} times the processor seconds (median of {options.repeat} pairs)")
        long = range(0, 512 * options.frames * options.long, 512)
        film = make_film(folder / "long.mp4", Kind(size=SIZE, times=long, sound="aac", options=fast))
        cost = measure(film, folder / "long", options.segment, options)
        whole = (folder / "long" / film.name).stat().st_size
        segment = whole * options.segment / len(long)
        print(f"memory: {cost.memory:.0f} MiB for {len(long)} frames, {statistics.median(peaks):.0f} MiB for {options.frames}")
        print(f"disk: {(cost.disk - segment) / whole:.2f} times the finished film, and one segment")


if __name__ == "__main__":
    main()
