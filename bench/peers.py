"""Compare the time a picture takes with that of DDColor's architecture, picture by picture as its own script does it.

    pip install spandrel spandrel_extra_arches
    python -m bench.peers [--pictures 16] [--repeat 3] [--sizes 256 512] [--peers tiny large]

The weights of the peers are random: the time does not depend on them. What is timed is from luma to chroma on the luma's grid:
theirs on a square of each of the `--sizes`, of which 512 is their script's own, in float32 with all threads; ours by the stage
`colorize` with default options, and the upsampling of `write`, for pictures of 256 x 256. Medians of alternating rounds.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from bench.steady_cost import ready
from bwpipe import Frame
from bwpipe.pixels.chroma_upsampling import upsample_chroma
from bwpipe.testing import make_frames

SIDE = 256
ENCODERS = {"tiny": "convnext-t", "large": "convnext-l"}


def ddcolor(size: str, side: int) -> Any:
    """DDColor's network, as its published models are made, with random weights."""
    from spandrel_extra_arches.architectures.DDColor import DDColor

    torch.manual_seed(0)
    net = DDColor(
        encoder_name=ENCODERS[size],
        input_size=(side, side),
        num_output_channels=2,
        last_norm="Spectral",
        num_queries=100,
    )
    return net.eval()


def by_script(net: Any, side: int, pictures: list[NDArray[np.uint8]]) -> None:
    """Colour pictures (H, W, 3), BGR, as the script of DDColor does (inference/colorization_pipeline.py)."""
    for picture in pictures:
        image = (picture / 255.0).astype(np.float32)
        light = cv2.cvtColor(image, cv2.COLOR_BGR2Lab)[:, :, :1]
        small = cv2.cvtColor(cv2.resize(image, (side, side)), cv2.COLOR_BGR2Lab)[:, :, :1]
        grey = cv2.cvtColor(np.concatenate([small, np.zeros_like(small), np.zeros_like(small)], axis=-1), cv2.COLOR_LAB2RGB)
        with torch.no_grad():
            found = net(torch.from_numpy(grey.transpose((2, 0, 1))).float().unsqueeze(0))
            large = functional.interpolate(found, size=light.shape[:2])[0].float().numpy().transpose(1, 2, 0)
        coloured = cv2.cvtColor(np.concatenate([light, large], axis=-1), cv2.COLOR_LAB2BGR)
        (coloured * 255.0).round().astype(np.uint8)


def by_stage(work: Callable[[list[Frame]], list[Frame]], frames: list[Frame]) -> None:
    """Colour pictures by `colorize`, and bring their chroma onto the luma's grid."""
    for frame in work(frames):
        assert frame.chroma is not None
        upsample_chroma(frame.chroma, frame.luma, (0, 255), "bt601", frame.luma.shape)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[SIDE, 512])
    parser.add_argument("--peers", nargs="+", choices=sorted(ENCODERS), default=["tiny", "large"])
    parser.add_argument("--model", default="unet")
    options = parser.parse_args()
    frames = make_frames(options.pictures, height=SIDE, width=SIDE)
    pictures: list[NDArray[np.uint8]] = [np.repeat(frame.luma[..., None], 3, axis=2) for frame in frames]
    some = pictures[: max(options.pictures // 8, 1)]  # they take long enough
    works: dict[str, tuple[int, Callable[[], None]]] = {
        "bwpipe": (len(frames), partial(by_stage, ready("colorize", model=options.model)[1], frames))
    }
    for size in options.peers:
        for side in options.sizes:
            works[f"DDColor-{size} at {side}"] = len(some), partial(by_script, ddcolor(size, side), side, some)
    walls: dict[str, list[float]] = {name: [] for name in works}
    cpus: dict[str, list[float]] = {name: [] for name in works}
    for round_number in range(options.repeat + 1):
        for name, (count, work) in works.items():
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            if round_number:
                walls[name].append((time.perf_counter() - wall) / count)
                cpus[name].append((time.process_time() - cpu) / count)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{options.model}, pictures of {SIDE} x {SIDE}, {cores} cores, medians of {options.repeat}; milliseconds a picture")
    ours = {name: statistics.median(times["bwpipe"]) for name, times in (("wall", walls), ("CPU", cpus))}
    for name in works:
        wall, cpu = statistics.median(walls[name]), statistics.median(cpus[name])
        print(
            f"{name:24} {1000 * wall:8.1f} on the clock, {1000 * cpu:8.1f} CPU; "
            f"{wall / ours['wall']:6.1f} and {cpu / ours['CPU']:6.1f} times as long"
        )


if __name__ == "__main__":
    main()
