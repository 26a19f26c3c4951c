"""Check and measure a GPU's part in colouring, in one command of at most three minutes.

    python -m bench.gpu [--device cuda] [--seconds 150] [--model unet] [--side 256]

In this order, as far as the seconds reach: how far colours in each precision are from those of a CPU in float32; frames
made from tensors of the device by DLPack, without a copy; which NVENC encoders work, and at what rate they take such
frames; the default graph on a film of 720p; images per second of the network by batch, with plain copies, with copies
from and to pinned memory that do not block, as `colorize` makes them for photographs, and as a CUDA graph, as it computes
films, whose colours must be the same. What the device can't do is said. `--device cpu` tries the command where there is no GPU.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from av.video.frame import VideoFrame
from numpy.typing import NDArray

import bwpipe
from bench.run_graph import make_film
from bwpipe.core import plugins
from bwpipe.errors import BwpipeError
from bwpipe.nn.checkpoint import load
from bwpipe.nn.checkpoint_file import locate
from bwpipe.nn.device import describe, find_device, fitting_precision, prepare
from bwpipe.nn.inference import predict
from bwpipe.nn.network import Network
from bwpipe.nn.runtime.gpu import GpuNetwork
from bwpipe.video.encoding import Encoding, check_encoding, encoder

BATCHES = (1, 4, 16, 32)
CODECS = ("h264_nvenc", "hevc_nvenc", "av1_nvenc")
THREADS = 4
"""How many threads predict at a time in a second measurement, as the workers of `colorize` do."""
TRIAL = 1.5
"""Seconds for which a rate is measured."""
FRAMES = 100
WIDTH, HEIGHT = 1280, 720


@dataclass
class Clock:
    """What is left of the seconds."""

    end: float

    @property
    def left(self) -> float:
        """Seconds, less than 0 if none are left."""
        return self.end - perf_counter()


def images(count: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """Smooth luma (count, *size), each image another."""
    down, across = np.mgrid[: size[0], : size[1]].astype(np.float32) / min(size)
    return np.stack([0.5 + 0.5 * np.sin(6 * (down * (1 + i % 5) + across * (1 + i % 7)) + i) for i in range(count)])


def colours(network: Network, device: torch.device, luma: NDArray[np.float32]) -> Iterator[str]:
    """How far the colours of each precision are from float32 on a CPU."""
    wanted = predict(prepare(network, torch.device("cpu"), torch.float32), luma).chroma
    for precision in (torch.float32, torch.bfloat16, torch.float16):
        found = predict(prepare(network, device, precision), luma).chroma
        apart = 255 * (found - wanted).abs()
        name = str(precision).removeprefix("torch.")
        yield f"{name:9} colours differ by {apart.mean():.3f}, at most {apart.max():.2f} code values"


def rate(call: Callable[[], Any], batch: int) -> float:
    """Images per second of a call that has ended when it returns."""
    call()
    start, count = perf_counter(), 0
    while (took := perf_counter() - start) < TRIAL:
        call()
        count += batch
    return count / took


def rates(network: Network, device: torch.device, size: tuple[int, int], clock: Clock) -> Iterator[str]:
    """The network's speed by batch and by how its images are copied."""
    precision = fitting_precision(device.type)
    copy = prepare(network, device, getattr(torch, precision))
    warnings: list[str] = []
    pinned = GpuNetwork(copy, device, warnings.append) if device.type == "cuda" else None
    for batch in BATCHES:
        if clock.left < 10 * TRIAL:
            yield f"no time for batches of {batch}"
            return
        luma = images(batch, size)
        plain = predict(copy, luma).chroma.numpy()
        line = f"{precision}, batches of {batch:2}: {rate(lambda luma=luma: predict(copy, luma), batch):7.0f} images/s"  # type: ignore[misc]
        for name, many in (("pinned", False), ("as a CUDA graph", True)):
            if pinned is None:
                continue
            call = partial(pinned.predict, luma, many=many)
            apart = np.abs(call().chroma - plain).max()
            with ThreadPoolExecutor(THREADS) as threads:
                several = rate(lambda call=call: list(threads.map(lambda _: call(), range(THREADS))), THREADS * batch)  # type: ignore[misc]
            line += f"; {name} {rate(call, batch):7.0f}, {several:7.0f} with {THREADS} threads"
            line += f" (colours differ by {255 * apart:.3f})" if apart else ""
        yield line
    yield from warnings


def frame_of(planes: list[torch.Tensor], device: torch.device) -> VideoFrame:
    """A frame in NV12 that shares the memory of tensors of luma (h, w) and chroma (h / 2, w)."""
    where: dict[str, Any] = {"primary_ctx": True, "device_id": device.index or 0} if device.type == "cuda" else {}
    return VideoFrame.from_dlpack(tuple(planes), format="nv12", width=WIDTH, height=HEIGHT, **where)


def encoders(device: torch.device) -> Iterator[str]:
    """Frames from tensors, and which hardware encoders take frames from main memory, and from the device's."""
    luma = torch.arange(WIDTH, device=device).repeat(HEIGHT, 1).remainder(220).add(16).to(torch.uint8)
    planes = [luma, torch.full((HEIGHT // 2, WIDTH // 2, 2), 128, dtype=torch.uint8, device=device)]
    try:
        frame = frame_of(planes, device)
    except OSError as error:  # FFmpeg gets no context of CUDA, as on a machine without NVIDIA's video libraries
        yield f"no frames from tensors of this device, and no encoder tried ({error})"
        return
    if device.type == "cpu":
        same = np.array_equal(frame.to_ndarray()[:HEIGHT], luma.numpy())
        yield f"a frame from tensors: {'the same samples' if same else 'OTHER SAMPLES'}"
    for codec in CODECS:
        try:
            check_encoding(Encoding(codec=codec))
        except BwpipeError as error:
            yield f"{codec}: {error}"
            continue
        yield f"{codec}: works; {_encoded(codec, device) if device.type == 'cuda' else 'no frames of a GPU to try'}"


def _encoded(codec: str, device: torch.device) -> str:
    """The rate at which an encoder takes frames from the device's memory, in words."""
    context = encoder(codec).create("video")
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, "cuda"
    context.framerate, context.time_base = Fraction(25), Fraction(1, 25)
    size, start = 0, perf_counter()
    try:
        for number in range(FRAMES):
            luma = torch.full((HEIGHT, WIDTH), 16 + number, dtype=torch.uint8, device=device)
            frame = frame_of([luma, torch.full((HEIGHT // 2, WIDTH // 2, 2), 128, dtype=torch.uint8, device=device)], device)
            frame.pts = number
            size += sum(packet.size for packet in context.encode(frame))
        size += sum(packet.size for packet in context.encode(None))
    except (OSError, ValueError, RuntimeError) as error:
        return f"it does not take frames of the GPU ({' '.join(str(error).split())})"
    return f"{FRAMES / (perf_counter() - start):.0f} frames/s from the GPU's memory, {size} bytes"


def film(device: str, model: str) -> str:
    """The default graph on a film of 720p."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "film.mp4")
        make_film(path, FRAMES)
        start = perf_counter()
        stages: list[dict[str, Any]] = [{"use": "read", "path": str(path)}, {"use": "grayscale", "colour": "recolour"}]
        stages += [{"use": "shots"}, {"use": "colorize", "model": model, "device": device, "runtime": "torch"}]
        stages += [{"use": "anchor"}, {"use": "steady"}, {"use": "write", "path": str(Path(folder, "out"))}]
        result = bwpipe.run({"stages": stages})
        took = perf_counter() - start
    busy = ", ".join(f"{name} {meter.busy:.1f}" for name, meter in result.meters.items())
    return f"default graph, {FRAMES} frames of 720p: {FRAMES / took:.1f} frames/s; busy seconds: {busy}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--model", default="unet")
    parser.add_argument("--side", type=int, default=256)
    options = parser.parse_args()
    clock = Clock(perf_counter() + options.seconds)
    plugins.load()
    device = find_device(options.device)
    network, _ = load(locate(options.model))
    size = network.input_size(options.side, options.side)
    print(f"{options.model} on {describe(device)}, torch {torch.__version__}, images of {size[0]} x {size[1]}", flush=True)
    for line in colours(network, device, images(4, size)):
        print(line, flush=True)
    for line in encoders(device):
        print(line, flush=True)
    if clock.left > options.seconds / 3:
        print(film(options.device, options.model), flush=True)
    for line in rates(network, device, size, clock):
        print(line, flush=True)


if __name__ == "__main__":
    main()
