"""Measure the speed of a network by OpenVINO and by torch, relative to its bare encoder, and its peak memory.

    python -m bench.network_speed [--model unet] [--side 256] [--frames 160] [--repeat 5]

Square frames of one size are predicted by each run time as `colorize` does it, on all cores, with its default batch; by
OpenVINO compiled for the size, as for a film, and for any size, as for pictures. The bare encoder gets torch's batches in as
many workers. Medians of alternating runs in one process, each after a warm-up, on an otherwise idle machine; on a busy one the
ratios count, and the processor time that a frame takes. It ends with how much both differ, and when OpenVINO is ready.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import timm
import torch

from bench.run_graph import medians
from bwpipe import Frame
from bwpipe.core import plugins
from bwpipe.core.parallel import ordered_map
from bwpipe.nn.checkpoint_file import locate
from bwpipe.nn.device import fitting_precision
from bwpipe.nn.efficientnet import NAME
from bwpipe.nn.processor import computes_bfloat16, cores, processor_name
from bwpipe.nn.runtime.base import Planes, Runtime
from bwpipe.nn.runtime.choose import open_runtime
from bwpipe.testing import make_frames, run_stage

PRECISIONS: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
BATCH = 4
"""Torch's default batch on a CPU."""
TIMEOUT = 600


def frames_of(count: int, side: int) -> list[Frame]:
    """Frames of noise-free gradients: the content does not affect a network's speed."""
    return make_frames(count, height=side, width=side)


def predicting(runtime: Runtime, frames: list[Frame], batch: int, *, many: bool = True) -> Callable[[], Any]:
    """A call that predicts all frames, with one single-threaded worker per core."""
    luma = np.stack([frame.luma for frame in frames]).astype(np.float32) / np.float32(255)
    parts = [luma[start : start + batch] for start in range(0, len(luma), batch)]

    def run() -> None:
        for _ in ordered_map(lambda part: runtime.predict(part, many=many), parts, cores()):
            pass

    return run


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
    path = locate(model)
    start, used = time.perf_counter(), time.process_time()
    compiled = open_runtime(path, "openvino", ["cpu"], "float32", threads=cores())
    luma: Planes = frames[0].luma[None].astype(np.float32) / np.float32(255)
    compiled.predict(luma, many=True)
    ready = time.perf_counter() - start, time.process_time() - used
    exact = {precision: open_runtime(path, "torch", ["cpu"], precision) for precision in PRECISIONS}
    yield f"{model}, {side} x {side}, {count} frames, {processor_name()}, {cores()} cores, medians of {repeat}"
    versions = ", ".join(runtime.resolved["runtime"] for runtime in (compiled, exact["float32"]))
    yield f"{versions}; with torch, `precision: auto` is {fitting_precision('cpu')}"
    calls: dict[str, Callable[[], Any]] = {
        "openvino, one size": predicting(compiled, frames, 1),
        "openvino, any size": predicting(compiled, frames, 1, many=False),
    }
    if computes_bfloat16():
        half = open_runtime(path, "openvino", ["cpu"], "bfloat16", threads=cores())
        calls["openvino, bfloat16"] = predicting(half, frames, 1)
    for precision in PRECISIONS:
        calls[f"torch, {precision}"] = predicting(exact[precision], frames, BATCH)
        calls[f"bare encoder, {precision}"] = encoding(precision, frames, BATCH)
    seconds = medians(calls, repeat, time.perf_counter)
    work = medians(calls, 1, time.process_time)
    for name in calls:
        yield f"{name:24} {count / seconds[name]:7.1f} frames/s {1000 * work[name] / count:7.1f} ms of a core a frame"
    for precision in PRECISIONS:
        ratio = seconds[f"torch, {precision}"] / seconds["openvino, one size"]
        yield f"openvino is {ratio:.2f} times as fast as torch in {precision}   (at least 2.2 with AVX-512, 1.8 without)"
        ratio = seconds[f"torch, {precision}"] / seconds[f"bare encoder, {precision}"]
        yield f"torch over bare encoder, {precision:9} {ratio:5.2f}   (at most 1.7)"
    yield f"openvino is ready, with the first frame, in {ready[0]:.2f} s ({ready[1]:.2f} s of a core)"
    for precision in PRECISIONS:
        difference = np.abs(compiled.predict(luma, many=True).chroma - exact[precision].predict(luma).chroma)
        yield f"mean difference of chroma from torch in {precision}: {255 * difference.mean():.3f} code values"
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
