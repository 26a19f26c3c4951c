"""The `colorize` stage."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from bwpipe import BatchMap, Count, Frame, NoEffect, RunContext, Unit, stage
from bwpipe.core.fingerprint import cached_digest
from bwpipe.core.provenance import KEPT, NETWORK
from bwpipe.core.stage import FilmsOnly, Needs
from bwpipe.motion.optical_flow import LONGEST_GAP
from bwpipe.nn.checkpoint import describe, load, locate
from bwpipe.nn.device import cores, find_device, fitting_precision, prepare
from bwpipe.nn.inference import frame_planes, network_input, predict
from bwpipe.nn.network import Guess, Network, Quality, check_quality
from bwpipe.pixels.orientation import stored, upright

CPU_BATCH, GPU_BATCH = 4, 16
"""Default batch sizes. For a frame of 256 x 256 in bfloat16, `unet` took 19 ms of a core in batches of 4, 21 in batches of 2,
22 in batches of 8. On a GPU nothing was measured."""


@stage("colorize")
class Colorize(BatchMap):
    """Predicts the chroma of every frame that has none, with a network whose input is the frame's guide.

    On a CPU each worker uses one thread, which is faster than one worker with all threads.
    """

    model: NoEffect[str] = "unet"  # no effect by itself: the recipe has the hash of the weights
    """The name of a network that ships with bwpipe, or the path of a checkpoint."""
    vividness: Annotated[float, Field(ge=0, le=1)] | None = None
    """From 0 (the average, safe colour) to 1 (the most likely, vivid colour); by default the network's own setting."""
    quality: Quality = "normal"
    """Resolution of the network's input (`fast`, `normal`, `best`), if the network supports several: higher is slower."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the network; `auto` is 16 bits on a GPU, and on a CPU where bfloat16 is measured to be clearly faster."""
    every: FilmsOnly[Annotated[int, Field(ge=1, le=LONGEST_GAP)]] = 1
    """Run the network only on every nth frame of each shot; `steady` propagates chroma to the frames in between along the
    optical flow."""
    device: NoEffect[str | Annotated[list[str], Field(min_length=1)]] = "auto"
    """Device to compute on: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`, or a list of devices that are used in turn."""
    batch: NoEffect[Count] = Field(default_factory=lambda: CPU_BATCH if find_device("auto").type == "cpu" else GPU_BATCH)
    """Frames per batch; by default 16 on a machine with a GPU, otherwise 4."""
    workers: NoEffect[Count] = Field(default_factory=cores)
    """Number of batches processed in parallel; by default the number of cores."""

    _networks: list[Network] = PrivateAttr(default_factory=list)
    _resolved: dict[str, Any] = PrivateAttr(default_factory=dict)
    _threads: int | None = PrivateAttr(default=None)
    _next_network: Iterator[Network] = PrivateAttr()

    @property
    def needs(self) -> Needs:
        """If frames are skipped: shot boundaries from above, and a stage below that fills the gaps."""
        return Needs() if self.every == 1 else Needs(frozenset({"motion"}), frozenset({"chroma of every frame"}))

    def setup(self, run: RunContext) -> None:
        """Load the weights onto each device. Raises UsageError."""
        names = [self.device] if isinstance(self.device, str) else self.device
        devices = [find_device(name) for name in names]
        path = locate(self.model)
        net, _ = load(path)
        check_quality(net, self.quality, "colorize")
        kind = devices[0].type
        precision: str = self.precision
        if precision == "auto":
            precision = run.remember(f"precision of {cached_digest(path)} on {kind}", lambda: fitting_precision(net, kind))
        for device in devices:
            self._networks.append(prepare(net, device, getattr(torch, precision)))
        self._next_network = cycle(self._networks)
        self._threads = torch.get_num_threads()
        used = ", ".join(dict.fromkeys(map(str, devices)))
        self._resolved = {"precision": precision, "device": used, NETWORK: describe(path).network}

    def recipe(self, unit: Unit | None = None) -> dict[str, Any]:
        """The options and a hash of the weights."""
        return {**super().recipe(unit), "weights": cached_digest(locate(self.model))}

    def shipped(self) -> Mapping[str, str]:
        """The weights, if they ship with the network of that name."""
        return {} if Path(self.model).suffix else {"weights": self.model}

    def provenance(self, unit: Unit | None = None) -> dict[str, Any]:
        """The recipe, the name of the network, and its precision and device as resolved by `setup`."""
        resolved = self._resolved or {NETWORK: describe(locate(self.model)).network}
        return {**super().provenance(unit), **resolved}

    def key(self, frame: Frame) -> tuple[int, int] | None:
        """The size of the network's input for a frame; None if the frame needs no prediction."""
        if frame.chroma is not None or (frame.motion is not None and frame.motion.since % self.every):
            return None
        height, width = upright(frame.luma, frame.unit.media.orientation).shape
        return self._networks[0].input_size(height, width, self.quality)

    def apply(self, frames: list[Frame]) -> list[Frame]:
        """Predict the chroma (2, h, w) and the confidence (h, w) of frames with the same key."""
        size = self.key(frames[0])
        if size is None:
            return [
                replace(frame, notes={**frame.notes, KEPT: True}) if frame.chroma is not None else frame for frame in frames
            ]
        prediction = self._predict(np.stack([network_input(frame, *size) for frame in frames]))
        chroma = [_stored(planes, frame) for planes, frame in zip(prediction.chroma.numpy(), frames, strict=True)]
        if prediction.confidence is None:
            return [replace(frame, chroma=planes) for frame, planes in zip(frames, chroma, strict=True)]
        confidence = [_stored(planes, frame)[0] for planes, frame in zip(prediction.confidence.numpy(), frames, strict=True)]
        return [
            replace(frame, chroma=planes, confidence=plane)
            for frame, planes, plane in zip(frames, chroma, confidence, strict=True)
        ]

    def close(self) -> None:
        """Release the weights, and restore torch's number of threads."""
        self._networks.clear()
        self._next_network = iter(())  # it would keep the weights
        if self._threads is not None:
            torch.set_num_threads(self._threads)

    def _predict(self, luma: NDArray[np.float32]) -> Guess:
        """The prediction of the next network in turn for luma (B, h, w) in 0..1. Raises MemoryError, RunAborted."""
        if torch.get_num_threads() > 1:  # set for this thread and those started by it later; slow to change
            torch.set_num_threads(1)
        return predict(next(self._next_network), luma, self.vividness)


def _stored(planes: NDArray[np.float32], frame: Frame) -> NDArray[np.float16]:
    """Planes (C, h, w) of an upright frame, converted to the frame's stored orientation and format."""
    return frame_planes(stored(planes, frame.unit.media.orientation), frame.luma.shape)
