"""Fit a network on a machine that is to be had for minutes only, while photographs are still being copied there.

    python -m recipes.timed_training pack GRAPH DATASET PARTS [--megabytes 58]  # here: a cached dataset, as WebP
    python -m recipes.timed_training unpack PART PHOTOGRAPHS                    # there: each part, when it has arrived
    python -m recipes.timed_training fit GRAPH PHOTOGRAPHS OUT --seconds N      # there: begins with the parts that are there
    python -m recipes.timed_training mean GRAPH DATASET FITTED START OUT        # here: the mean of its result and its start

`fit` trains as the `fit` stage of the graph does, with its options, losses, augmentation and degradation, but the learning rate
follows the time instead of the steps, so that it has come down to 0 when the time is over; photographs are drawn by their
weights, with replacement, from all parts unpacked so far, and stay in the device's memory. The first part holds the photographs
for validation, chosen as by the graph's `dataset` stage; each part is a random sample of the others.
"""

import argparse
import json
import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bwpipe.core import plugins
from bwpipe.core.stage import stages
from bwpipe.data.cache import INFO_FILE
from bwpipe.data.dataset import COLOUR, GREY, Dataset, split_validation
from bwpipe.losses.combined import Combined
from bwpipe.nn.checkpoint import Checkpoint, load, save
from bwpipe.nn.device import describe, find_device
from bwpipe.nn.network import Network
from bwpipe.nn.ycbcr import rgb_to_ycbcr
from bwpipe.training.batch_views import BatchAugmenter
from bwpipe.training.builders import build, make_optimiser
from bwpipe.training.norm_statistics import measure_statistics
from bwpipe.training.options import TrainingOptions
from bwpipe.training.validation import predict_views, validate
from bwpipe.version import __version__

QUALITY = 75
"""Of WebP: 6 kB for a photograph of 224 x 224 pixels; the luma's root mean square error is 3.4 code values."""
REPORTING, VALIDATION = 10.0, 120.0
"""Seconds between reports, and between validations."""


OUTPUTS = tuple(f"{layer}.{kind}" for layer in ("attention.output", "layers.3") for kind in ("weight", "bias"))
"""The layers of a transformer whose results are added to the map: at first they are 0."""


class Weighing(Protocol):
    """What is used of the `dataset` stage."""

    split: float
    seed: int

    def weigh(self, names: Iterable[str]) -> NDArray[np.float32]:
        """How often each photograph is used relative to others."""


@dataclass(frozen=True)
class Graph:
    """What is taken from a train graph: the options of its `fit`, and its `dataset` stage."""

    options: TrainingOptions
    dataset: Weighing

    @classmethod
    def read(cls, path: Path) -> "Graph":
        """Read it from YAML, without the stages that read photographs, whose packages the other machine may lack."""
        given = {stage.pop("use"): stage for stage in yaml.safe_load(path.read_text())["stages"]}
        dataset: Any = stages["dataset"].model_validate(given["dataset"])
        return cls(TrainingOptions.model_validate(given["fit"]), dataset)

    def open(self, folder: Path) -> Dataset:
        """The photographs of a cached dataset, with the weights and the validation of the graph."""
        grey, colour = (np.load(folder / name, mmap_mode="r") for name in (GREY, COLOUR))
        names: list[str] = json.loads((folder / INFO_FILE).read_text())["names"]
        held_out = split_validation(names, self.dataset.split, self.dataset.seed)
        validating = np.array([name in held_out for name in names])
        indices = np.flatnonzero(~validating), np.flatnonzero(validating)
        return Dataset(grey, colour, *indices, names, self.dataset.weigh(names), "")


def pack(graph: Graph, dataset: Path, parts: Path, size: int, least: float) -> None:
    """Write the photographs of a cached dataset as parts of `size` bytes: those for validation, then the others, shuffled.

    Of photographs whose weight is below `least`, a share in proportion to the weight is taken.
    """
    data = graph.open(dataset)
    colour, names, held_out = data.colour, data.names, {data.names[index] for index in data.validation}
    rng = np.random.default_rng(0)
    chances = np.where([name in held_out for name in names], 1, data.weights / least)
    order = rng.permutation(np.flatnonzero(rng.random(len(names)) < chances))
    order = order[np.argsort([names[index] not in held_out for index in order.tolist()], kind="stable")]
    parts.mkdir(parents=True, exist_ok=True)
    number, held, taken, files = 0, 0, list[str](), list[bytes]()

    def encode(index: int) -> bytes:
        return cv2.imencode(".webp", colour[index][..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1].tobytes()

    with ThreadPoolExecutor() as workers:
        chunks = np.array_split(order, len(order) // 500 + 1)  # the disk is not to be read far ahead
        encoded = (each for chunk in chunks for each in zip(chunk.tolist(), workers.map(encode, chunk.tolist()), strict=True))
        for index, file in encoded:
            if held + len(file) > size:
                _write_part(parts / f"part-{number}.npz", taken, files, held_out)
                number, held, taken, files = number + 1, 0, [], []
            taken.append(names[index])
            files.append(file)
            held += len(file)
        _write_part(parts / f"part-{number}.npz", taken, files, held_out)


def _write_part(path: Path, names: list[str], files: list[bytes], held_out: set[str]) -> None:
    ends = np.cumsum([len(file) for file in files])
    text = json.dumps({"names": names, "validation": sum(name in held_out for name in names)}).encode()
    np.savez(path, files=np.frombuffer(b"".join(files), np.uint8), ends=ends, about=np.frombuffer(text, np.uint8))
    print(f"{path}: {len(files)} photographs, {path.stat().st_size / 2**20:.1f} MiB", flush=True)


def unpack(part: Path, photographs: Path) -> None:
    """Decode a part into an array of photographs (N, S, S, 3), RGB, and what is known of them, which appears last."""
    with np.load(part) as arrays:
        files, ends, about = arrays["files"], arrays["ends"], bytes(arrays["about"])
    photographs.mkdir(parents=True, exist_ok=True)
    target = photographs / part.name.replace(".npz", ".npy")
    first = cv2.imdecode(files[: ends[0]], cv2.IMREAD_COLOR)
    assert first is not None
    pixels = np.lib.format.open_memmap(target, "w+", np.uint8, (len(ends), *first.shape))

    def decode(index: int) -> None:
        image = cv2.imdecode(files[ends[index - 1] if index else 0 : ends[index]], cv2.IMREAD_COLOR)
        assert image is not None
        pixels[index] = image[..., ::-1]

    with ThreadPoolExecutor() as workers:
        list(workers.map(decode, range(len(ends))))
    pixels.flush()
    aside = target.with_suffix(".part")
    aside.write_bytes(about)
    aside.replace(target.with_suffix(".json"))


@dataclass(frozen=True, eq=False)
class Photographs(Dataset):
    """A dataset whose photographs are in a device's memory; they become more as parts are added.

    Attributes:
        pixels: (capacity, S, S, 3) uint8 on the device, RGB.
    """

    pixels: Tensor = field(default_factory=lambda: torch.empty(0))

    @classmethod
    def on(cls, device: torch.device, capacity: int, size: int) -> "Photographs":
        """An empty one for photographs of `size` x `size` pixels."""
        none, pixels = np.empty(0, np.intp), torch.empty((capacity, size, size, 3), dtype=torch.uint8, device=device)
        shape = (0, size, size)
        empty = np.empty(shape, np.uint8), np.empty((*shape, 3), np.uint8)
        return cls(*empty, none, none, [], np.empty(0, np.float32), "", pixels=pixels)

    def add(self, pixels: NDArray[np.uint8], names: list[str], validation: int, graph: Graph) -> "Photographs":
        """The same with further photographs, the first `validation` for validation, as many as there is room for."""
        first = len(self.names)
        names = names[: len(self.pixels) - first]
        numbers = np.arange(first, first + len(names))
        self.pixels[first : first + len(names)] = torch.from_numpy(pixels[: len(names)]).to(self.pixels.device)
        return type(self)(
            self.grey,
            self.colour,
            np.concatenate([self.training, numbers[validation:]]),
            np.concatenate([self.validation, numbers[:validation]]),
            self.names + names,
            np.concatenate([self.weights, graph.dataset.weigh(names)]),
            "",
            pixels=self.pixels,
        )

    def batch(self, indices: NDArray[np.intp], device: torch.device) -> tuple[Tensor, Tensor]:
        """As a dataset's."""
        chosen = self.pixels[torch.from_numpy(indices).to(self.pixels.device)].to(device)
        rgb = chosen.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last).float() / 255
        luma, _ = rgb_to_ycbcr(rgb)
        return (255 * luma).round_() / 255, rgb


class Training:
    """A training by the clock.

    Attributes:
        data: The photographs that are there so far.
    """

    def __init__(self, graph: Graph, folder: Path, out: Path, device: torch.device, capacity: int) -> None:
        """Begin with the parts in `folder`; weights and a log go to the folder `out`."""
        out.mkdir(parents=True, exist_ok=True)
        self._graph, self._folder, self._out, self._device = graph, folder, out, device
        self._parts: set[str] = set()
        self._rng = np.random.default_rng(graph.options.seed)
        size = int(np.load(next(folder.glob("*.npy")), mmap_mode="r").shape[1])
        self.data = Photographs.on(device, capacity, size)
        self.take_parts()
        self._history: list[dict[str, float]] = []

    def say(self, text: str) -> None:
        """Write a line into the log."""
        with (self._out / "log.txt").open("a") as log:
            print(text, file=log)
        print(text, flush=True)

    def run(self, seconds: float) -> None:
        """Train for so long, from now, and save the moving average of the weights in the middle and at the end."""
        step = _Step(self._graph.options, self.data, self._device)
        start = monotonic()
        count, reported, validated, at_report, middle = 0, monotonic(), monotonic(), 0, False
        while (progress := (monotonic() - start) / seconds) < 1:
            loss = step(count, self._draw(), progress)
            count += 1
            if (now := monotonic()) - reported >= REPORTING:
                if not math.isfinite(value := float(loss)):
                    raise SystemExit(f"the loss is {value} at step {count}")
                rate = (count - at_report) * self._graph.options.batch / (monotonic() - reported)
                self.say(
                    f"{now - start:6.1f} s, step {count}: loss {value:.4f}, {rate:.0f} photographs/s of {len(self.data.names)}"
                )
                self.take_parts()
                reported, at_report = monotonic(), count
            if now - validated >= VALIDATION:
                self._validate(step, count)
                validated = monotonic()
            if progress >= 0.5 and not middle:
                self._save(step.average, count, seconds, "middle.safetensors")
                middle = True
        self._validate(step, count)
        self._save(step.average, count, seconds, "last.safetensors")
        self.say("done")

    def take_parts(self) -> None:
        """Add the parts that were unpacked meanwhile."""
        for about in sorted(self._folder.glob("*.json")):
            if about.name not in self._parts:
                self._parts.add(about.name)
                self.data = self.data.add(
                    np.load(about.with_suffix(".npy")), **json.loads(about.read_text()), graph=self._graph
                )
        weights = self.data.weights[self.data.training].astype(np.float64)
        self._shares = np.cumsum(weights) / weights.sum()

    def _draw(self) -> NDArray[np.intp]:
        return self.data.training[np.searchsorted(self._shares, self._rng.random(self._graph.options.batch), side="right")]

    def _validate(self, step: "_Step", count: int) -> None:
        start = monotonic()
        batch, themes = self._graph.options.batch, [name.split("/")[0] for name in self.data.names]
        check = partial(validate, step.average, step.losses, step.augmenter, batch=batch, autocast=step.autocast)
        by_theme = []
        with torch.backends.cudnn.flags(benchmark=False):  # it would try all methods again for each size of an incomplete batch
            figures = check(indices=self.data.validation)
            for theme in sorted({themes[index] for index in self.data.validation}):
                chosen = np.array([index for index in self.data.validation if themes[index] == theme])
                by_theme.append(f"{theme} {check(indices=chosen)['chroma_correlation']:.3f}")
        self._history.append({"step": count, "epoch": len(self._history) + 1, **figures})
        shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        self.say(f"validation at {count}: {shown}; {', '.join(by_theme)} ({monotonic() - start:.1f} s)")

    def _save(self, network: Network, count: int, seconds: float, name: str) -> None:
        options = self._graph.options
        training = {
            "pictures": len(self.data.names),
            "trained_on": len(self.data.training),
            "size": self.data.size,
            "options": options.model_dump(mode="json", exclude={"model", "model_options", "device"}, exclude_defaults=True),
            "steps": count,
            "seconds": seconds,
            "hardware": describe(self._device, None),
            "history": self._history,
        }
        checkpoint = Checkpoint(
            network=network.registered, options=network.options.model_dump(mode="json"), version=__version__, training=training
        )
        save(self._out / name, network, checkpoint, half=True)


def mean(graph: Graph, dataset: Path, fitted: Path, start: Path, out: Path) -> None:
    """Save the mean of a `unet` and of the one it was started from, which may lack its transformer.

    In the mean the transformer adds half of what it adds in the fitted network: the start's would add nothing. The statistics
    of its norms are those on photographs of a cached dataset, drawn as `graph` says.
    """
    network, checkpoint = load(fitted)
    weights, others = network.state_dict(), load(start)[0].state_dict()
    for name, values in weights.items():
        if values.is_floating_point() and (name in others or name.endswith(OUTPUTS)):
            weights[name] = (values + others.get(name, torch.zeros_like(values))) / 2
    network.load_state_dict(weights)
    measure_statistics(network, graph.open(dataset))
    save(out, network, checkpoint)


class _Step:
    """A network, its moving average, and what makes a step of it."""

    def __init__(self, options: TrainingOptions, data: Photographs, device: torch.device) -> None:
        self._options, self._device = options, device
        layout = torch.channels_last if options.channels_last else torch.contiguous_format
        self._network: Network = build(options).to(device).to(memory_format=layout)
        self.losses = Combined(options.losses, self._network, data).to(device)
        self.augmenter = BatchAugmenter(data, options, self.losses.views, device)
        self._optimiser = make_optimiser(self._network, options)
        average = get_ema_multi_avg_fn(options.average)  # type: ignore[no-untyped-call]
        self._average = AveragedModel(self._network, multi_avg_fn=average, use_buffers=True)

    @property
    def average(self) -> Network:
        """The network with the moving average of the weights."""
        return self._average.module  # type: ignore[return-value]

    def autocast(self) -> torch.autocast:
        """The context for the network's `forward`."""
        kind: torch.dtype = getattr(torch, self._options.precision)
        return torch.autocast(self._device.type, kind, enabled=kind != torch.float32)

    def __call__(self, count: int, indices: NDArray[np.intp], progress: float) -> Tensor:
        """Make step `count`; returns its loss, which may still be in computation."""
        warm = min(1.0, (count + 1) / max(1, self._options.warmup))
        for group in self._optimiser.param_groups:
            group["lr"] = self._options.rate * warm * (1 + math.cos(math.pi * progress)) / 2 * group["share"]
        self._network.train()
        self._optimiser.zero_grad()
        batch = predict_views(self._network, self.augmenter.views(count, indices), self.autocast())
        total, _ = self.losses(batch)
        total.backward()
        clip_grad_norm_(self._network.parameters(), self._options.clip or math.inf)
        self._optimiser.step()
        self._average.update_parameters(self._network)
        loss: Tensor = total.detach()
        return loss


def main() -> None:
    """Pack, unpack, fit or average."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing, unpacking, fitting, averaging = (commands.add_parser(name) for name in ("pack", "unpack", "fit", "mean"))
    for each in (packing, fitting, averaging):
        each.add_argument("graph", type=Path)
    for each in (packing, averaging):
        each.add_argument("dataset", type=Path)
    packing.add_argument("parts", type=Path)
    packing.add_argument("--megabytes", type=float, default=58, help="the size of a part, in MiB")
    packing.add_argument("--least", type=float, default=1e-9, help="photographs of a lower weight are packed in part")
    for name in ("part", "photographs"):
        unpacking.add_argument(name, type=Path)
    for name in ("photographs", "out"):
        fitting.add_argument(name, type=Path)
    fitting.add_argument("--seconds", type=float, required=True)
    fitting.add_argument("--device", default="auto")
    fitting.add_argument("--capacity", type=int, default=100_000, help="the number of photographs for which to take memory")
    for name in ("fitted", "start", "out"):
        averaging.add_argument(name, type=Path)
    given = parser.parse_args()
    plugins.load()
    if given.command == "pack":
        pack(Graph.read(given.graph), given.dataset, given.parts, int(given.megabytes * 2**20), given.least)
    elif given.command == "unpack":
        unpack(given.part, given.photographs)
    elif given.command == "mean":
        mean(Graph.read(given.graph), given.dataset, given.fitted, given.start, given.out)
    else:
        torch.backends.cudnn.benchmark = True
        device = find_device(given.device)
        Training(Graph.read(given.graph), given.photographs, given.out, device, given.capacity).run(given.seconds)


if __name__ == "__main__":
    main()
