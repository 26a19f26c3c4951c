"""Measure the speed of `colorize` with a network, relative to its bare encoder, and its peak memory.

    python -m bench.network_speed [--model unet] [--side 256] [--frames 160] [--repeat 5]

Square frames of one size go through the stage `colorize` as in a graph, on all cores, with default options; the bare encoder
gets the same batches in the same number of workers. Medians of alternating runs in one process, on an otherwise idle machine.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from bench.run_graph import medians
from bwpipe import Frame
from bwpipe.core import plugins
from bwpipe.core.parallel import ordered_map
from bwpipe.core.stage import stages
from bwpipe.nn.device import cores
from bwpipe.nn.efficientnet import NAME
from bwpipe.testing import make_frames, run_stage

PRECISIONS = ("float32", "bfloat16")
TIMEOUT = 600


def frames_of(count: int, side: int) -> list[Frame]:
    """Frames of noise-free gradients: the content does not affect a network's speed."""
    return make_frames(count, height=side, width=side)


def colouring(model: str, precision: str, frames: list[Frame]) -> Callable[[], Any]:
    """A call that colours all frames with the stage's default batch size and workers."""
    return lambda: run_stage("colorize", frames, model=model, precision=precision, device="cpu")


def encoding(precision: str, frames: list[Frame], batch: int) -> Callable[[], Any]:
    """A call that feeds all frames to the bare encoder, with one single-threaded worker per core."""
    dtype: torch.dtype = getattr(torch, precision)
    net: Any = timm.create_model(NAME, features_only=True).eval().to(dtype).to(memory_format=torch.channels_last)
    inputs = torch.from_numpy(np.stack([frame.luma for frame in frames])).to(dtype).div(255).unsqueeze(1).expand(-1, 3, -1, -1)

    def encode(part: torch.Tensor) -> None:
        torch.set_num_threads(1)
        with torch.inference_mode():
            net(part.contiguous(memory_format=torch.channels_last))

    def run() -> None:
        for _ in ordered_map(encode, torch.split(inputs, batch), cores()):
            pass

    return run


def peak_memory(model: str, side: int, count: int) -> float:
    """Peak memory in MiB of a process that only colours frames."""
    command = [
        sys.executable,
        "-m",
        "bench.network_speed",
        "--peak",
        "--model",
        model,
        "--side",
        str(side),
        "--frames",
        str(count),
    ]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT).stdout)


def report_peak(model: str, side: int, count: int) -> None:
    """Colour frames and print this process's peak memory in MiB, as reported by Linux."""
    run_stage("colorize", frames_of(count, side), model=model, device="cpu")
    status = Path("/proc/self/status").read_text(encoding="ascii")
    print(next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:")))


def lines(model: str, side: int, count: int, repeat: int) -> Iterator[str]:
    """The report, line by line."""
    plugins.load()
    frames = frames_of(count, side)
    stage: Any = stages["colorize"].model_validate({"model": model})
    yield f"{model}, {side} x {side}, {count} frames, {cores()} cores, batch {stage.batch}, medians of {repeat}"
    calls: dict[str, Callable[[], Any]] = {}
    for precision in PRECISIONS:
        calls[f"colorize, {precision}"] = colouring(model, precision, frames)
        calls[f"bare encoder, {precision}"] = encoding(precision, frames, stage.batch)
    times = medians(calls, repeat, time.perf_counter)
    for name, seconds in times.items():
        yield f"{name:24} {count / seconds:7.1f} frames/s"
    for precision in PRECISIONS:
        ratio = times[f"colorize, {precision}"] / times[f"bare encoder, {precision}"]
        yield f"colorize over bare encoder, {precision:9} {ratio:5.2f}   (at most 1.7)"
    yield f"peak memory {peak_memory(model, side, count):.0f} MiB"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="unet")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--frames", type=int, default=160)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        report_peak(options.model, options.side, options.frames)
        return
    for line in lines(options.model, options.side, options.frames, options.repeat):
        print(line, flush=True)


if __name__ == "__main__":
    main()
