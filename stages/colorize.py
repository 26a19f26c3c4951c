"""The `colorize` stage."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from bwpipe import BatchMap, Count, Frame, NoEffect, RunContext, stage
from bwpipe.core.fingerprint import digest
from bwpipe.core.provenance import KEPT, NETWORK
from bwpipe.core.stage import Needs
from bwpipe.motion.optical_flow import LONGEST_GAP
from bwpipe.nn.checkpoint import describe, load, locate
from bwpipe.nn.device import cores, find_device, fitting_precision, prepare
from bwpipe.nn.inference import frame_planes, network_input, predict
from bwpipe.nn.network import Guess, Network, Quality, check_quality
from bwpipe.pixels.orientation import stored, upright

ON_A_CPU, ON_A_GPU = 4, 16
"""Frames in a batch. For one of 256 x 256, `unet` took 19 ms of a core in batches of 4, 21 in those of 2, 22 in those of 8, in
bfloat16. On a GPU nothing was measured."""


@stage("colorize")
class Colorize(BatchMap):
    """Guesses the chroma of every frame that has none, with a network that looks at its guide.

    On a CPU each worker computes with one thread, which is faster than one worker with all threads.
    """

    model: NoEffect[str] = "unet"  # no effect by itself: the hash of the weights is in the recipe
    """A network's name, for the weights that come with bwpipe, or the path of a checkpoint."""
    vividness: Annotated[float, Field(ge=0, le=1)] | None = None
    """From 0, the safe average colour, to 1, the lively likely one; the network's own default if not given."""
    quality: Quality = "normal"
    """How large a copy of each frame the network sees, if it can see more than one size: the larger, the longer it takes."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the network's numbers; `auto` is 16 bits on a GPU, and on a CPU whose bfloat16 turns out to be clearly faster."""
    every: Annotated[int, Field(ge=1, le=LONGEST_GAP)] = 1
    """Of a film, guess every so-manieth frame of each shot only; `steady` fills in the others along the motion."""
    device: NoEffect[str | Annotated[list[str], Field(min_length=1)]] = "auto"
    """Where to compute: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`, or a list of these, which take turns."""
    batch: NoEffect[Count] = Field(default_factory=lambda: ON_A_CPU if find_device("auto").type == "cpu" else ON_A_GPU)
    """How many frames are shown to the network together; by default 16 on a machine with a GPU, else 4."""
    workers: NoEffect[Count] = Field(default_factory=cores)
    """How many batches are worked on at a time; by default as many as there are cores."""

    _networks: list[Network] = PrivateAttr(default_factory=list)
    _chosen: dict[str, Any] = PrivateAttr(default_factory=dict)
    _threads: int | None = PrivateAttr(default=None)
    _turns: Iterator[Network] = PrivateAttr()

    @property
    def needs(self) -> Needs:
        """If frames are passed over: where shots begin, and a stage that fills in."""
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
            precision = run.remember(f"precision of {digest(path)} on {kind}", lambda: fitting_precision(net, kind))
        for device in devices:
            self._networks.append(prepare(net, device, getattr(torch, precision)))
        self._turns = cycle(self._networks)
        self._threads = torch.get_num_threads()
        self._chosen = {"precision": precision, "device": ", ".join(dict.fromkeys(map(str, devices)))}

    def recipe(self) -> dict[str, Any]:
        """The options, and a hash of the weights."""
        return {**super().recipe(), "weights": digest(locate(self.model))}

    def provenance(self) -> dict[str, Any]:
        """The recipe, the name of the network, and with which precision and where it computes: once set up, not "auto"."""
        return {**super().provenance(), **self._chosen, NETWORK: describe(locate(self.model)).network}

    def key(self, frame: Frame) -> tuple[int, int] | None:
        """The size at which the network sees the frame; None where it need not."""
        if frame.chroma is not None or (frame.motion is not None and frame.motion.since % self.every):
            return None
        height, width = upright(frame.luma, frame.unit.media.orientation).shape
        return self._networks[0].input_size(height, width, self.quality)

    def apply(self, frames: list[Frame]) -> list[Frame]:
        """Guess the chroma (2, h, w) and the confidence (h, w) of frames of one key."""
        size = self.key(frames[0])
        if size is None:
            return [
                replace(frame, notes={**frame.notes, KEPT: True}) if frame.chroma is not None else frame for frame in frames
            ]
        guessed = self._guess(np.stack([network_input(frame, *size) for frame in frames]))
        chroma = [_kept(planes, frame) for planes, frame in zip(guessed.chroma.numpy(), frames, strict=True)]
        if guessed.confidence is None:
            return [replace(frame, chroma=planes) for frame, planes in zip(frames, chroma, strict=True)]
        sure = [_kept(planes, frame)[0] for planes, frame in zip(guessed.confidence.numpy(), frames, strict=True)]
        return [
            replace(frame, chroma=planes, confidence=plane) for frame, planes, plane in zip(frames, chroma, sure, strict=True)
        ]

    def close(self) -> None:
        """Let go of the weights, and restore torch's number of threads."""
        self._networks.clear()
        if self._threads is not None:
            torch.set_num_threads(self._threads)

    def _guess(self, luma: NDArray[np.float32]) -> Guess:
        """What the network whose turn it is thinks of luma (B, h, w) in 0..1. Raises MemoryError, RunAborted."""
        if torch.get_num_threads() > 1:  # a setting of this thread, and of those that start after it; it takes a while
            torch.set_num_threads(1)
        return predict(next(self._turns), luma, self.vividness)


def _kept(planes: NDArray[np.float32], frame: Frame) -> NDArray[np.float16]:
    """Planes (C, h, w) for an upright frame, as the frame keeps them, in the order of its rows."""
    return frame_planes(stored(planes, frame.unit.media.orientation), frame.luma.shape)
