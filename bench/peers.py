"""Compare the time a picture takes in bwpipe with that of networks of others, picture by picture as their own scripts do it.

    pip install 'bwpipe[import]'
    python -m bench.peers [--pictures 16] [--repeat 3] [--peers ddcolor-tiny ddcolor-large siggraph17 eccv16] [--here]

The weights of the peers are random: the time does not depend on them. What is timed is from luma to chroma on the luma's grid:
theirs on the square of their script, in float32 with all threads of torch; ours by the stage `colorize` with default options,
and the upsampling of `write`, for pictures of 256 x 256. With `--here` each peer's network is also timed in bwpipe, as
`bwpipe import` makes it, which takes some time to trace. Medians of alternating rounds.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from bench.steady_cost import ready
from bwpipe import Frame
from bwpipe.nn.checkpoint import Checkpoint, save
from bwpipe.nn.network import Network, networks
from bwpipe.pixels.chroma_upsampling import upsample_chroma
from bwpipe.testing import make_frames
from bwpipe.version import __version__

SIDE = 256
PEERS: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "ddcolor-tiny": ("ddcolor", {"encoder": "convnext-t"}, 512, "nearest"),
    "ddcolor-large": ("ddcolor", {"encoder": "convnext-l"}, 512, "nearest"),
    "siggraph17": ("siggraph17", {}, 256, "bilinear"),
    "eccv16": ("eccv16", {}, 256, "bilinear"),
}
"""The network and its options, the side of the square and the upsampling of its own script."""
SETTLING = 8
"""Passes after which the spectral norms of random weights are near their values, so that predictions are finite."""


def network(peer: str) -> Network:
    """A peer's network with random weights."""
    name, options, _, _ = PEERS[peer]
    torch.manual_seed(0)
    cls = networks[name]
    net = cls(cls.Options.model_validate(options)).train()
    with torch.no_grad():
        for _ in range(SETTLING):
            net(torch.rand(2, 1, 32, 32))
    return net.eval().requires_grad_(False)


def by_script(net: Any, side: int, mode: str, pictures: list[NDArray[np.uint8]]) -> None:
    """Colour pictures (H, W, 3), BGR, in the steps of the peers' scripts: squeeze, predict a* and b*, enlarge, join with L*."""
    for picture in pictures:
        image = (picture / 255.0).astype(np.float32)
        light = cv2.cvtColor(image, cv2.COLOR_BGR2Lab)[:, :, :1]
        grey = cv2.resize(image, (side, side))[:, :, 0]
        with torch.no_grad():
            found = net.ab(torch.from_numpy(grey)[None, None])
            large = functional.interpolate(found, size=light.shape[:2], mode=mode)[0].numpy().transpose(1, 2, 0)
        coloured = cv2.cvtColor(np.concatenate([light, large], axis=-1), cv2.COLOR_LAB2BGR)
        (coloured * 255.0).round().astype(np.uint8)


def by_stage(work: Callable[[list[Frame]], list[Frame]], frames: list[Frame]) -> None:
    """Colour pictures by `colorize`, and bring their chroma onto the luma's grid."""
    for frame in work(frames):
        assert frame.chroma is not None
        upsample_chroma(frame.chroma, frame.luma, (0, 255), "bt601", frame.luma.shape)


def checkpoint(net: Network, folder: Path) -> str:
    """Save a network as `bwpipe import` does; the path of the checkpoint."""
    path = folder / f"{net.registered}-{len(list(folder.iterdir()))}.safetensors"
    save(path, net, Checkpoint(network=net.registered, options=net.options.model_dump(mode="json"), version=__version__))
    return str(path)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--peers", nargs="+", choices=sorted(PEERS), default=list(PEERS))
    parser.add_argument("--model", default="unet")
    parser.add_argument("--here", action="store_true", help="also time the peers' networks in bwpipe")
    options = parser.parse_args()
    frames = make_frames(options.pictures, height=SIDE, width=SIDE)
    pictures: list[NDArray[np.uint8]] = [np.repeat(frame.luma[..., None], 3, axis=2) for frame in frames]
    few = max(options.pictures // 8, 1)  # they take long enough
    works: dict[str, tuple[int, Callable[[], None]]] = {
        "bwpipe": (len(frames), partial(by_stage, ready("colorize", model=options.model)[1], frames))
    }
    with TemporaryDirectory() as folder:
        for peer in options.peers:
            net, (_, _, side, mode) = network(peer), PEERS[peer]
            works[f"{peer} at {side}"] = few, partial(by_script, net, side, mode, pictures[:few])
            if options.here:
                work = ready("colorize", model=checkpoint(net, Path(folder)))[1]
                works[f"{peer} in bwpipe"] = few, partial(by_stage, work, frames[:few])
        report(works, options.repeat, options.model)


def report(works: dict[str, tuple[int, Callable[[], None]]], repeat: int, model: str) -> None:
    """Time pieces of work, each for a number of pictures, in alternating rounds, and print medians."""
    walls: dict[str, list[float]] = {name: [] for name in works}
    cpus: dict[str, list[float]] = {name: [] for name in works}
    for round_number in range(repeat + 1):
        for name, (count, work) in works.items():
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            if round_number:
                walls[name].append((time.perf_counter() - wall) / count)
                cpus[name].append((time.process_time() - cpu) / count)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{model}, pictures of {SIDE} x {SIDE}, {cores} cores, medians of {repeat}; milliseconds a picture")
    ours = {name: statistics.median(times["bwpipe"]) for name, times in (("wall", walls), ("CPU", cpus))}
    for name in works:
        wall, cpu = statistics.median(walls[name]), statistics.median(cpus[name])
        print(
            f"{name:24} {1000 * wall:8.1f} on the clock, {1000 * cpu:8.1f} CPU; "
            f"{wall / ours['wall']:6.1f} and {cpu / ours['CPU']:6.1f} times as long"
        )


if __name__ == "__main__":
    main()
