"""Numbered frames: what planning many of them takes, kills while they are written, and how steady they come out.

python -m bench.numbered_frames many [--frames 50000]       time and memory of the plan, the ledger's size, a plain run
python -m bench.numbered_frames kills [--kills 10]          bytes after kills at random moments, against an undisturbed run
python -m bench.numbered_frames steady [--frames 240]       flicker of each kind of frames, against the same reel in FFV1
"""

import argparse
import json
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.made_reels import SUFFIXES, scene, write_reel

RATE = 24


def graph(path: Path, text: Any) -> Path:
    """A graph file; JSON is YAML."""
    path.write_text(json.dumps(text), encoding="utf-8")
    return path


def bwpipe(*arguments: str | Path) -> "subprocess.Popen[bytes]":
    """Start bwpipe."""
    return subprocess.Popen(
        [sys.executable, "-m", "bwpipe", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(process: "subprocess.Popen[bytes]") -> tuple[float, float, str]:
    """Wait; seconds since now, peak memory in MB of this child or a larger one before, and what it said."""
    begin = time.perf_counter()
    text = process.communicate()[0].decode()
    if process.returncode:
        sys.exit(f"failed ({process.returncode}): {text}")
    return time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, text


def many(folder: Path, frames: int) -> None:
    """Plan and write many tiny frames."""
    names = folder / "in"
    first = write_reel(names, "png8", scene(1, 16, 24))[0]
    data = first.read_bytes()
    for number in range(2, frames + 1):
        (names / f"reel1_{number:06d}.png").write_bytes(data)
    for count in (frames // 10, frames):
        options = {"use": "read", "path": str(names / "reel1_%06d.png"), "rate": RATE, "frames": count}
        file = graph(folder / "many.yaml", {"stages": [options, {"use": "write", "path": str(folder / f"out{count}")}]})
        seconds, memory, _ = finish(bwpipe("check", file))
        print(f"{count} of {frames} frames: check takes {seconds:.1f} s, at most {memory:.0f} MB", flush=True)
    seconds, memory, _ = finish(bwpipe("run", file, "--quiet"))
    ledger = (folder / f"out{frames}/.bwpipe/ledger.sqlite").stat().st_size
    records = sum(path.stat().st_size for path in (folder / f"out{frames}/.bwpipe/fragments").iterdir())
    print(
        f"run: {seconds:.0f} s, at most {memory:.0f} MB; ledger {ledger} bytes, records of segments {records} bytes", flush=True
    )
    seconds, memory, text = finish(bwpipe("run", file))
    print(
        f"run again, with nothing to do: {seconds:.1f} s, at most {memory:.0f} MB ({text.strip().splitlines()[-1]})", flush=True
    )


def kills(folder: Path, count: int) -> None:
    """Kill runs into each kind of frames, and compare the bytes with those of an undisturbed run."""
    chooser = random.Random(0)
    for kind in ("png8", "tiff16", "dpx", "exr"):
        write_reel(folder / kind, kind, scene(120, 120, 160))
        files = {}
        for out in ("calm", "killed"):
            reading = {"use": "read", "path": str(folder / kind / f"reel1_%06d{SUFFIXES[kind]}"), "rate": RATE}
            writing = {"use": "write", "path": str(folder / f"{kind}-{out}")}
            files[out] = graph(folder / f"{kind}-{out}.yaml", {"segment": 10, "stages": [reading, {"use": "shots"}, writing]})
        whole, _, _ = finish(bwpipe("run", files["calm"], "--quiet"))
        killed = 0
        while killed < count:
            process = bwpipe("run", files["killed"], "--quiet")
            try:
                process.communicate(timeout=chooser.uniform(0.4, 1) * whole)
                shutil.rmtree(folder / f"{kind}-killed")  # it came through, so begin again
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                killed += 1
        finish(bwpipe("run", files["killed"], "--quiet"))
        calm, after = ({path.name: path.read_bytes() for path in outputs(folder / f"{kind}-{out}")} for out in files)
        left = [path.name for path in (folder / f"{kind}-killed/.bwpipe").iterdir() if "part" in path.name]
        print(f"{kind}: {killed} kills, {len(after)} files, same bytes: {calm == after}, left over: {left}", flush=True)


def outputs(folder: Path) -> list[Path]:
    """The files in a folder."""
    return sorted(path for path in folder.iterdir() if path.is_file())


def steady(folder: Path, frames: int, gap: Sequence[int]) -> None:
    """Colour a made reel of each kind, with a gap, and the same reel in FFV1; print the flicker of each."""
    reel = scene(frames, 144, 192, step=1)
    reference: dict[str, list[str]] = {}
    for kind in ("png8", "tiff16", "dpx", "exr"):
        write_reel(folder / kind, kind, reel, skip=tuple(gap))
        path = folder / kind / f"reel1_%06d{SUFFIXES[kind]}"
        name = f"{kind}-{{stem}}"
        plain = [read(path), {"use": "write", "path": str(folder / "films"), "as": "film", "codec": "ffv1", "name": name}]
        finish(bwpipe("run", graph(folder / "plain.yaml", {"stages": plain}), "--quiet"))
        source = folder / "films" / f"{kind}-reel1.mkv"
        for name, reading in (("frames", read(path)), ("FFV1", {"use": "read", "path": str(source)})):
            stages = [reading, {"use": "grayscale"}, {"use": "shots"}, {"use": "colorize"}, {"use": "steady"}]
            out = folder / f"{kind}-{name}"
            file = graph(folder / "steady.yaml", {"stages": [*stages, {"use": "write", "path": str(out), "codec": "ffv1"}]})
            seconds, _, text = finish(bwpipe("run", file))
            reference.setdefault(kind, []).extend(re.findall(r"flicker ([\d.]+ -> [\d.]+)", text))
            print(f"{kind}, {name}: {seconds:.0f} s; {[line for line in text.splitlines() if 'flicker' in line]}", flush=True)
        print(f"{kind}: flicker as frames and in FFV1: {reference[kind]}", flush=True)


def read(path: Path) -> dict[str, Any]:
    """The stage that reads a reel with gaps."""
    return {"use": "read", "path": str(path), "rate": RATE, "gaps": "hold"}


def main() -> None:
    """Run one of the three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["many", "kills", "steady"])
    parser.add_argument("--frames", type=int)
    parser.add_argument("--kills", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "many":
            many(Path(folder), options.frames or 50_000)
        elif options.what == "kills":
            kills(Path(folder), options.kills)
        else:
            steady(Path(folder), options.frames or 240, (101, 102, 103))


if __name__ == "__main__":
    main()
