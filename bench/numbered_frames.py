"""Numbered frames: what planning many of them takes, kills while they are written, and how steady they come out.

python -m bench.numbered_frames many [--frames 50000]       time and memory of the plan, the ledger's size, a plain run
python -m bench.numbered_frames kills [--kills 10]          bytes after kills at random moments, against an undisturbed run
python -m bench.numbered_frames steady [--frames 240]       flicker and drift as numbered frames, against the same reel in FFV1
"""

import argparse
import json
import random
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

from tests.support.made_reels import SUFFIXES, Kind, scene, write_reel

RATE = 24
KINDS: tuple[Kind, ...] = ("png8", "tiff16", "dpx", "exr")
COLOUR = [{"use": use} for use in ("grayscale", "shots", "colorize", "anchor", "steady")]
GAP = (101, 102, 103)


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


def kills(folder: Path, count: int, frames: int, gap: Sequence[int]) -> None:
    """Kill runs that colour each kind of frames, at random moments, and compare the bytes with those of an undisturbed run."""
    chooser = random.Random(0)
    for kind in KINDS:
        write_reel(folder / kind, kind, scene(frames, 120, 160), skip=tuple(gap))
        files = {}
        for out in ("calm", "killed"):
            stages = [
                read(folder / kind / f"reel1_%06d{SUFFIXES[kind]}"),
                *COLOUR,
                {"use": "write", "path": f"{folder / kind}-{out}"},
            ]
            files[out] = graph(folder / f"{kind}-{out}.yaml", {"segment": 10, "stages": stages})
        whole, _, _ = finish(bwpipe("run", files["calm"], "--quiet"))
        done: list[int] = []
        while len(done) < count:
            process = bwpipe("run", files["killed"], "--quiet")
            try:
                process.communicate(timeout=chooser.uniform(0, 1) * whole)
                shutil.rmtree(folder / f"{kind}-killed")  # it came through, so begin again
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                done.append(len(outputs(folder / f"{kind}-killed")))
        finish(bwpipe("run", files["killed"], "--quiet"))
        calm, after = ({path.name: path.read_bytes() for path in outputs(folder / f"{kind}-{out}")} for out in files)
        left = [path.name for path in (folder / f"{kind}-killed/.bwpipe").iterdir() if "part" in path.name]
        print(
            f"{kind}: {len(done)} kills with {', '.join(map(str, done))} frames there; {len(after)} in the end, "
            f"same bytes: {calm == after}, left over: {left}",
            flush=True,
        )
        if calm != after or left:
            sys.exit(1)


def outputs(folder: Path) -> list[Path]:
    """The files in a folder."""
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


def steady(folder: Path, frames: int, gap: Sequence[int]) -> None:
    """Colour a made reel of each kind, with a gap, and the same reel in FFV1; print how steady each is, by the run's report."""
    reel = scene(frames, 144, 192, step=1)
    for kind in KINDS:
        write_reel(folder / kind, kind, reel, skip=tuple(gap))
        path = folder / kind / f"reel1_%06d{SUFFIXES[kind]}"
        film = {"use": "write", "path": str(folder / "films"), "as": "film", "codec": "ffv1", "name": f"{kind}-{{stem}}"}
        finish(bwpipe("run", graph(folder / "plain.yaml", {"stages": [read(path), film]}), "--quiet"))
        source = folder / "films" / f"{kind}-reel1.mkv"
        figures = {}
        for name, reading in (("frames", read(path)), ("FFV1", {"use": "read", "path": str(source)})):
            out = folder / f"{kind}-{name}"
            stages = [reading, *COLOUR, {"use": "write", "path": str(out), "codec": "ffv1"}]
            finish(bwpipe("run", graph(folder / "steady.yaml", {"stages": stages})))
            events = map(json.loads, (out / ".bwpipe/report.jsonl").read_text(encoding="utf-8").splitlines())
            shots = [event for event in events if event["event"] == "shot"]
            figures[name] = {key: [shot[key] for shot in shots] for key in ("flicker", "drift_12", "drift_48")}
        for key, values in figures["frames"].items():
            print(f"{kind}: {key} of each shot as frames {values}, in FFV1 {figures['FFV1'][key]}", flush=True)


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
            kills(Path(folder), options.kills, options.frames or 240, GAP)
        else:
            steady(Path(folder), options.frames or 240, GAP)


if __name__ == "__main__":
    main()
