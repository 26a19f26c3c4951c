"""Compare a run with the sum of its stages and with a simple loop, and check that its memory is bounded.

    python -m bench.run_graph [--frames 240] [--repeat 5]

Figures are for a synthetic 720p film and x264 `veryfast`: medians of alternating runs in one process, on an otherwise idle
machine.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

import bwpipe
from bwpipe import Frame
from bwpipe.testing import run_stage

WIDTH, HEIGHT = 1280, 720
ENCODER: dict[str, Any] = {"codec": "h264", "preset": "veryfast"}
MODEL = "unet"
TIMEOUT = 3600


def make_film(path: Path, frames: int) -> None:
    """Write a grey 720p film: a smooth pattern that pans, with film grain."""
    rng = np.random.default_rng(0)
    coarse = cv2.resize(rng.random((24, 60), dtype=np.float32), (2 * WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(rng.random((180, 640), dtype=np.float32), (2 * WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    scene = np.clip(40 + 150 * coarse + 30 * fine, 16, 235)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(frames):
            left = abs((4 * index) % (2 * WIDTH) - WIDTH)
            grain = rng.normal(0, 2, (HEIGHT, WIDTH)).astype(np.float32)
            plane = np.clip(scene[:, left : left + WIDTH] + grain, 16, 235).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(
                np.vstack([plane, np.full((HEIGHT // 2, WIDTH), 128, np.uint8)]), format="yuv420p"
            )
            frame.pts, frame.time_base = index, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def graph(film: Path, folder: Path, *, steady: bool) -> dict[str, Any]:
    """The default graph with the benchmark's encoder settings; without `steady` it does the same as `one_loop`."""
    stages: list[dict[str, Any]] = [
        {"use": "read", "path": str(film)},
        {"use": "grayscale", "colour": "recolour"},
        {"use": "shots"},
        {"use": "colorize", "model": MODEL},
        {"use": "steady"},
        {"use": "write", "path": str(folder), **ENCODER},
    ]
    return {"stages": [each for each in stages if steady or each["use"] not in ("shots", "steady")]}


def whole_run(film: Path, *, steady: bool = False) -> None:
    """A complete run, as a user starts it."""
    with tempfile.TemporaryDirectory() as folder:
        result = bwpipe.run(graph(film, Path(folder), steady=steady))
        assert result.done == 1


def one_loop(film: Path) -> None:
    """A simple loop: decode, grey, network, RGB, encode, frame by frame; batch 1, float32, the same encoder settings."""
    import torch

    from bwpipe.nn.checkpoint import load, locate

    net, _ = load(locate(MODEL))
    with tempfile.TemporaryDirectory() as folder, av.open(str(film)) as source, av.open(f"{folder}/out.mp4", "w") as target:
        stream = target.add_stream("libx264", rate=24, options={"crf": "17", "preset": ENCODER["preset"], "threads": "4"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for decoded in source.decode(video=0):
            rgb = decoded.to_ndarray(format="rgb24")
            grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
            height, width = net.input_size(HEIGHT, WIDTH)
            luma = torch.from_numpy(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255)
            with torch.inference_mode():
                chroma = net.guess(luma[None, None]).chroma[0].numpy()
            blue, red = (cv2.resize(plane, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR) for plane in chroma)
            large = np.stack([grey.astype(np.float32) / 255, red + 0.5, blue + 0.5], axis=2)
            coloured = np.clip(cv2.cvtColor(large, cv2.COLOR_YCrCb2RGB) * 255 + 0.5, 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(coloured, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = decoded.pts, decoded.time_base
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))


def stages_alone(film: Path) -> dict[str, Callable[[], Any]]:
    """Each stage by itself, on the output of the stages before it, with one torch thread."""
    read: list[Frame] = [_copied(frame) for frame in run_stage("read", path=str(film))]
    grey = run_stage("grayscale", read, colour="recolour")
    coloured = run_stage("colorize", grey, model=MODEL, workers=1)

    def write() -> None:
        with tempfile.TemporaryDirectory() as folder:
            run_stage("write", coloured, path=folder, **ENCODER)

    return {
        "read": lambda: run_stage("read", path=str(film)),
        "grayscale": lambda: run_stage("grayscale", read, colour="recolour"),
        "colorize": lambda: run_stage("colorize", grey, model=MODEL, workers=1),
        "write": write,
    }


def _copied(frame: Frame) -> Frame:
    """The frame with a copy of its luma, to release the decoder's buffers."""
    from dataclasses import replace

    luma: NDArray[Any] = frame.luma.copy()
    luma.flags.writeable = False
    return replace(frame, luma=luma)


def medians(calls: dict[str, Callable[[], Any]], repeat: int, clock: Callable[[], float]) -> dict[str, float]:
    """The median time of each call, in alternating rounds after one warm-up round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(repeat + 1):
        for name, call in calls.items():
            start = clock()
            call()
            if round_number:
                times[name].append(clock() - start)
    return {name: statistics.median(each) for name, each in times.items()}


def peak_memory(film: Path) -> float:
    """Peak memory in MiB of a process that only runs the graph on a film."""
    command = [sys.executable, __file__, "--peak-of", str(film)]
    process = subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT)
    return float(process.stdout)


def report_peak(film: str) -> None:
    """Run the graph and print this process's peak memory in MiB.

    Read from /proc for this program alone: the value of `getrusage` includes the parent's memory before `exec`.
    """
    whole_run(Path(film), steady=True)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    print(next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:")))


def lines(frames: int, repeat: int) -> Iterator[str]:
    """The report, line by line."""
    import torch  # here, since `bench.transcode` makes its film with this module, and measures commands that do without

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield f"720p, {frames} frames, {cores} cores, {MODEL}, x264 {ENCODER['preset']}, medians of {repeat}"
    with tempfile.TemporaryDirectory() as folder:
        film, long_film = Path(folder, "film.mp4"), Path(folder, "long.mp4")
        make_film(film, frames)
        torch.set_num_threads(1)
        alone = medians(stages_alone(film), repeat, time.process_time)
        for name, seconds in alone.items():
            yield f"{name + ' alone':18} {seconds:7.2f} CPU s   {1000 * seconds / frames:6.1f} ms per frame"
        torch.set_num_threads(cores)
        runs = {
            "default": lambda: whole_run(film, steady=True),
            "run": lambda: whole_run(film),
            "loop": lambda: one_loop(film),
        }
        walls = medians(runs, repeat, time.perf_counter)
        bound = sum(alone.values()) / cores
        yield f"{'default graph':18} {walls['default']:7.2f} s       {frames / walls['default']:6.1f} frames/s"
        yield f"{'without steadying':18} {walls['run']:7.2f} s       {frames / walls['run']:6.1f} frames/s"
        yield f"{'simple loop':18} {walls['loop']:7.2f} s       {frames / walls['loop']:6.1f} frames/s"
        yield f"without steadying / (stages / cores)             {walls['run'] / bound:5.2f}   (at most 1.25)"
        yield f"simple loop / without steadying                  {walls['loop'] / walls['run']:5.2f}   (at least 1.4)"
        make_film(long_film, 10 * frames)
        short, long = peak_memory(film), peak_memory(long_film)
        yield f"peak memory for {frames} and {10 * frames} frames, default graph   {short:.0f} and {long:.0f} MiB"
        yield f"peak memory, ten times as long / short           {long / short:5.2f}   (at most 1.05)"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=240)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        report_peak(options.peak_of)
        return
    for line in lines(options.frames, options.repeat):
        print(line, flush=True)


if __name__ == "__main__":
    main()
