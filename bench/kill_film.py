"""Interrupt a run on a film at many random moments, and compare its final output with that of an uninterrupted run.

    python -m bench.kill_film [--kills 25] [--frames 3000] [--segment 100] [--seed 0] [--network]

A film with variable frame rate, B-frames, audio and a subtitle is read and written; `--network` colours it too. Each start gets
a random time to live, up to the duration of a full run. SIGKILL is sent `--kills` times, SIGINT and SIGTERM some times, and
finally the disk runs full (if a small one can be mounted): exit code 3, then it is enlarged, then the run resumes. The film
must be the same byte for byte, the inputs unchanged, and the work folder empty except for ledger, lock and reports.
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
    """Start or resume the run into a folder."""
    colour = [{"use": "grayscale", "colour": "recolour"}, {"use": "colorize"}] if options.network else []
    stages = [
        {"use": "read", "path": str(source)},
        *colour,
        {"use": "write", "path": str(out), "preset": "veryfast", "options": {"bf": "2"}},
    ]
    graph = out.with_suffix(".yaml")
    graph.write_text(json.dumps({"segment": options.segment, "stages": stages}), encoding="utf-8")  # JSON is YAML
    return subprocess.Popen([sys.executable, "-m", "bwpipe", "run", str(graph), "--quiet"], stderr=subprocess.PIPE)


def finish(source: Path, out: Path, options: argparse.Namespace) -> float:
    """Run to the end; returns the duration in seconds."""
    begin = time.perf_counter()
    process = start(source, out, options)
    _, errors = process.communicate()
    if process.returncode != 0:
        sys.exit(f"the run into {out} failed: {errors.decode()}")
    return time.perf_counter() - begin


def fingerprint(path: Path) -> tuple[bytes, int]:
    """Content hash and modification time, to detect changes of a file."""
    return blake2b(path.read_bytes()).digest(), path.stat().st_mtime_ns


def fragments(out: Path) -> set[str]:
    """Names of the finished fragments."""
    return {path.name for path in (out / ".bwpipe" / "fragments").glob("*")}


def leftovers(out: Path) -> list[str]:
    """Files in the work folder that should not be there at the end."""
    names = {path.name for path in (out / ".bwpipe").rglob("*") if path.is_file()}
    return sorted(name for name in names - {"ledger.sqlite", "lock"} if not name.startswith("report.jsonl"))


def interrupt(source: Path, out: Path, options: argparse.Namespace, number: signal.Signals, longest: float) -> bool:
    """Start the run, send a signal, and return whether the signal ended the run."""
    before = fragments(out)
    process = start(source, out, options)
    time.sleep(options.random.uniform(0, longest))
    running = process.poll() is None
    process.send_signal(number)
    process.communicate()
    if running and process.returncode not in {CODES[number], -number, 0}:
        sys.exit(f"{number.name} ended the run with {process.returncode}")
    if (lost := before - fragments(out)) and not (out / source.name).exists():
        sys.exit(f"{len(lost)} finished segments were lost")
    return running and process.returncode != 0


def fill_disk(source: Path, whole: bytes, options: argparse.Namespace, folder: Path) -> str:
    """Run on a disk that is too small, then enlarge it and resume."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={len(whole) * 6 // 10}", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        return "skipped: can't mount a small disk here"
    try:
        process = start(source, folder / "out", options)
        _, errors = process.communicate()
        if process.returncode != 3:
            sys.exit(f"a full disk ended the run with {process.returncode}: {errors.decode()}")
        enlarge = ["mount", "-o", f"remount,size={len(whole) * 4 + (64 << 20)}", str(folder)]
        subprocess.run(enlarge, check=True)
        finish(source, folder / "out", options)
        same = (folder / "out" / source.name).read_bytes() == whole and not leftovers(folder / "out")
        return f"exit code 3, then {'the same film' if same else 'a DIFFERENT film'}"
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def main() -> None:
    """Interrupt, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--segment", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--network", action="store_true")
    options = parser.parse_args()
    options.random = random.Random(options.seed)
    gaps = np.random.default_rng(options.seed).choice([400, 512, 700, 1300], options.frames)
    with tempfile.TemporaryDirectory() as name:
        kind = Rich(sound="aac", times=np.cumsum(gaps).tolist(), options={"preset": "ultrafast"})
        source = make_rich_film(Path(name, "film.mp4"), kind)
        original = fingerprint(source)
        longest = finish(source, Path(name, "uninterrupted"), options)
        whole = Path(name, "uninterrupted", source.name).read_bytes()
        with open_container(Path(name, "uninterrupted", source.name)) as container:
            shown = [packet.pts for packet in container.demux(video=1) if packet.size]
        rounds, equal = 0, shown != sorted(shown, key=lambda pts: pts or 0)
        signals = [signal.SIGKILL] * options.kills + [signal.SIGINT, signal.SIGTERM] * -(-options.kills // 8)
        sent = ", ".join(f"{count} {number.name}" for number, count in Counter(signals).items())
        while signals:
            out = Path(name, f"round{rounds}")
            while signals and not (out / source.name).exists():
                if interrupt(source, out, options, signals[-1], longest):  # else the run ended first, which does not count
                    signals.pop()
            finish(source, out, options)
            rounds += 1
            equal &= (out / source.name).read_bytes() == whole and not leftovers(out) and fingerprint(source) == original
        full = fill_disk(source, whole, options, Path(name, "disk"))
    print(f"{options.frames} frames in segments of {options.segment}; a full run takes {longest:.1f} s")
    print(f"interrupted by {sent} in {rounds} rounds: {'the same film, byte for byte' if equal else 'they DIFFER'}")
    print(f"full disk: {full}")
    sys.exit(0 if equal and "DIFFERENT" not in full else 1)


if __name__ == "__main__":
    main()
