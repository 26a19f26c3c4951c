"""Stops a run on a film many times, at random and in every way, and compares what it ends with to the same run left alone.

    python -m bench.kill_film [--kills 25] [--frames 3000] [--segment 100] [--seed 0] [--network]

A film of a variable rate with B-frames, sound and a subtitle is read and written; `--network` colours it too. Each start gets a
random time to live, from its first moment on, up to what the whole takes. SIGKILL comes `--kills` times, SIGINT and SIGTERM
some times, and at last the disk is full (where a small one can be mounted): exit code 3, then room is made, then it goes on.
The film must be the same byte for byte, the inputs untouched, the work folder empty but for ledger, lock and report.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from hashlib import blake2b
from pathlib import Path

import numpy as np

from bwpipe.video.file import open_container
from tests.support.made_films import Rich, make_rich_film

CODES = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}


def start(source: Path, out: Path, options: argparse.Namespace) -> "subprocess.Popen[bytes]":
    """Start, or go on with, the run into a folder."""
    colour = [{"use": "grayscale"}, {"use": "colorize"}] if options.network else []
    stages = [
        {"use": "read", "path": str(source)},
        *colour,
        {"use": "write", "path": str(out), "preset": "veryfast", "options": {"bf": "2"}},
    ]
    graph = out.with_suffix(".yaml")
    graph.write_text(json.dumps({"segment": options.segment, "stages": stages}), encoding="utf-8")  # JSON is YAML
    return subprocess.Popen([sys.executable, "-m", "bwpipe", "run", str(graph), "--quiet"], stderr=subprocess.PIPE)


def finish(source: Path, out: Path, options: argparse.Namespace) -> float:
    """Run to the end, and give the seconds that took."""
    begun = time.perf_counter()
    process = start(source, out, options)
    _, said = process.communicate()
    if process.returncode != 0:
        sys.exit(f"the run into {out} failed: {said.decode()}")
    return time.perf_counter() - begun


def mark(path: Path) -> tuple[bytes, int]:
    """What tells whether a file was changed."""
    return blake2b(path.read_bytes()).digest(), path.stat().st_mtime_ns


def fragments(out: Path) -> set[str]:
    """The fragments that are kept."""
    return {path.name for path in (out / ".bwpipe" / "fragments").glob("*")}


def left(out: Path) -> list[str]:
    """What is in the work folder that should not be there at the end."""
    names = {path.name for path in (out / ".bwpipe").rglob("*") if path.is_file()}
    return sorted(names - {"ledger.sqlite", "lock", "report.jsonl"})


def disturb(source: Path, out: Path, options: argparse.Namespace, number: signal.Signals, longest: float) -> bool:
    """Start, send a signal, and say whether it ended the run."""
    before = fragments(out)
    process = start(source, out, options)
    time.sleep(options.chances.uniform(0, longest))
    stopped = process.poll() is None
    process.send_signal(number)
    process.communicate()
    if stopped and process.returncode not in {CODES[number], -number, 0}:
        sys.exit(f"{number.name} ended the run with {process.returncode}")
    if (lost := before - fragments(out)) and not (out / source.name).exists():
        sys.exit(f"{len(lost)} finished segments were lost")
    return stopped and process.returncode != 0


def fill_disk(source: Path, whole: bytes, options: argparse.Namespace, folder: Path) -> str:
    """Run onto a disk that is too small, then make room."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={len(whole) * 6 // 10}", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        return "not tried: no small disk can be mounted here"
    try:
        process = start(source, folder / "out", options)
        _, said = process.communicate()
        if process.returncode != 3:
            sys.exit(f"a full disk ended the run with {process.returncode}: {said.decode()}")
        room = ["mount", "-o", f"remount,size={len(whole) * 4 + (64 << 20)}", str(folder)]
        subprocess.run(room, check=True)
        finish(source, folder / "out", options)
        same = (folder / "out" / source.name).read_bytes() == whole and not left(folder / "out")
        return f"exit code 3, then {'the same film' if same else 'ANOTHER film'}"
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def main() -> None:
    """Disturb, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--segment", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--network", action="store_true")
    options = parser.parse_args()
    options.chances = random.Random(options.seed)
    gaps = np.random.default_rng(options.seed).choice([400, 512, 700, 1300], options.frames)
    with tempfile.TemporaryDirectory() as name:
        kind = Rich(sound="aac", times=np.cumsum(gaps).tolist(), options={"preset": "ultrafast"})
        source = make_rich_film(Path(name, "film.mp4"), kind)
        untouched = mark(source)
        longest = finish(source, Path(name, "calm"), options)
        whole = Path(name, "calm", source.name).read_bytes()
        with open_container(Path(name, "calm", source.name)) as container:
            shown = [packet.pts for packet in container.demux(video=1) if packet.size]
        rounds, equal = 0, shown != sorted(shown, key=lambda pts: pts or 0)
        signals = [signal.SIGKILL] * options.kills + [signal.SIGINT, signal.SIGTERM] * -(-options.kills // 8)
        sent = ", ".join(f"{count} {number.name}" for number, count in Counter(signals).items())
        while signals:
            out = Path(name, f"round{rounds}")
            while signals and not (out / source.name).exists():
                if disturb(source, out, options, signals[-1], longest):  # else it was done before, and does not count
                    signals.pop()
            finish(source, out, options)
            rounds += 1
            equal &= (out / source.name).read_bytes() == whole and not left(out) and mark(source) == untouched
        full = fill_disk(source, whole, options, Path(name, "disk"))
    print(f"{options.frames} frames in segments of {options.segment}; the whole takes {longest:.1f} s")
    print(f"stopped by {sent} in {rounds} rounds: {'the same film, byte for byte' if equal else 'they DIFFER'}")
    print(f"full disk: {full}")
    sys.exit(0 if equal and "ANOTHER" not in full else 1)


if __name__ == "__main__":
    main()
