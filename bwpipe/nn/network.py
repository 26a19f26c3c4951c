"""The contract of networks, and their registry."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from bwpipe.core.registry import Registry
from bwpipe.nn.input_size import InputSizes, Quality, check_quality
from bwpipe.nn.published import Published

__all__ = [
    "ForeignGraph",
    "Guess",
    "InputSizes",
    "Network",
    "NetworkOptions",
    "Published",
    "Quality",
    "check_quality",
    "network",
    "networks",
]

N = TypeVar("N", bound="type[Network]")


@dataclass(frozen=True, slots=True)
class Guess:
    """The prediction of a network.

    Attributes:
        chroma: (B, 2, h, w) Cb and Cr in -0.5..0.5 (full-range BT.601), on the network's own grid.
        confidence: (B, 1, h, w) in 0..1, or None if the network reports none.
        rgb: (B, 3, h, w) in 0..1, the network's own RGB output, or None if it has none. Used for metrics only, never written.
        features: (B, C, H / 16, W / 16), rounded up, what the network sees at each place, for comparing places of different
            images; they do not depend on hints. None if the network has none.
    """

    chroma: Tensor
    confidence: Tensor | None = None
    rgb: Tensor | None = None
    features: Tensor | None = None


@dataclass(frozen=True, slots=True)
class ForeignGraph:
    """A network whose middle is a graph of ONNX, for run times that compute such graphs themselves.

    Attributes:
        data: The graph with its weights, checked.
        picture: The name of its input for the picture.
        others: The names of its inputs for vividness (one number) and hints (1, 3, H, W), by "vividness" and "hints".
        outputs: The names of its outputs that are used, the colours first.
        before: From luma (1, 1, H, W) to the graph's picture.
        after: From luma, vividness and the graph's outputs to the fields of a prediction.
        gives: The names of these fields.
    """

    data: bytes
    picture: str
    others: Mapping[str, str]
    outputs: Sequence[str]
    before: nn.Module
    after: nn.Module
    gives: Sequence[str]


class NetworkOptions(BaseModel):
    """Options of a network: the fields of a subclass, each with a docstring."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Network(nn.Module):
    """Predicts chroma from luma (B, 1, H, W) in 0..1, where 0 is black and 1 is white.

    `forward(luma)` returns what the losses need, according to `produces`: RGB (B, 3, H, W) in 0..1, chroma (B, 2, h, w), or
    logits over bins (B, Q, h, w); `decode` turns that into a prediction. The `forward` of a network that takes hints has them
    as an optional second argument.
    """

    registered: ClassVar[str] = ""
    produces: ClassVar[Literal["rgb", "chroma", "bins"]]
    Options: ClassVar[type[NetworkOptions]] = NetworkOptions
    sizes: ClassVar[InputSizes | None] = None
    """The rule for `input_size` as data, with which the compiled network needs no torch; None if a class has its own method."""
    published: ClassVar[Published | None] = None
    """Who publishes weights for it, and on which terms; None for networks of bwpipe."""
    bins: Tensor
    """(Q, 2) the Cb and Cr of each bin, in -0.5..0.5; only in networks that produce bins."""

    def __init__(self, options: NetworkOptions) -> None:
        """Build it with random weights."""
        super().__init__()
        self.options = options

    @classmethod
    def recognise(cls, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
        """The options with which it has weights that others publish, for `bwpipe import`; None if they are not for it.

        Args:
            shapes: The shapes of the published weights by name. They need not be checked: that is done afterwards.
        """
        return None

    @classmethod
    def rename(cls, weight: str) -> str | None:
        """The name here of a weight that others publish under this name; None to leave it out."""
        return weight

    def input_size(self, height: int, width: int, quality: Quality = "normal") -> tuple[int, int]:
        """The input (height, width) for an upright image of that size; by default as `sizes` says.

        Args:
            height: Height of the image, in pixels.
            width: Width of the image, in pixels.
            quality: Trade-off with speed; a network with a fixed input size returns the same for each.
        """
        if self.sizes is None:
            raise TypeError(f"the network {self.registered!r} has neither `sizes` nor a method `input_size`")
        return self.sizes.of(height, width, quality)

    def further_views(self, height: int, width: int, quality: Quality = "normal") -> tuple[tuple[int, int], ...]:
        """The (height, width) of further inputs for an upright image of that size, mirrored left to right.

        Their predictions are averaged with the first one's (test-time augmentation); by default as `sizes` says.
        """
        return self.sizes.further_views(height, width, quality) if self.sizes else ()

    @abstractmethod
    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        """Decode an output to a prediction; differentiable.

        Args:
            output: The result of `forward`, in float32.
            vividness: From 0, the safe average colour, to 1, the vivid most likely one; None for the network's default. While
                a network is traced it is a scalar tensor: compute with it, do not branch on it.
        """

    @property
    def default_vividness(self) -> float:
        """The vividness that None stands for: the option `vividness`, or else 0."""
        return float(getattr(self.options, "vividness", 0.0))

    def guess(self, luma: Tensor, vividness: float | None = None, hints: Tensor | None = None) -> Guess:
        """Predict the chroma of luma, without gradients.

        Args:
            luma: (B, 1, H, W) in 0..1, at `input_size`, on the network's device and in its precision.
            vividness: As in `decode`.
            hints: (B, 3, H, W) what is known of the chroma: Cb and Cr in -0.5..0.5, and from 0 to 1 how far they are known at
                each pixel; None if nothing is. Networks that take none ignore them: see `takes_hints`.
        """
        with torch.no_grad():
            output = self(luma, hints) if self.takes_hints and hints is not None else self(luma)
            return self.decode(output.float(), vividness)

    def foreign_graph(self) -> ForeignGraph | None:
        """The graph of ONNX that it wraps; None if it is made of torch's layers. Raises UsageError."""
        return None

    @property
    def takes_hints(self) -> bool:
        """Whether hints make a difference to its predictions."""
        return False

    def additions(self) -> tuple[str, ...]:
        """The prefixes of weights that a training may add to a checkpoint, or leave out: new ones do not change predictions."""
        return ()

    def takes(self, height: int, width: int) -> bool:
        """Whether it accepts luma of that size, also in training; by default at its `input_size` only."""
        return self.input_size(height, width) == (height, width)

    def backbone(self) -> nn.Module | None:
        """The pretrained part, which `fit` can freeze; None if there is none."""
        return None

    def prime(self) -> None:
        """Load the pretrained weights of the backbone, before training. Raises UsageError."""


networks: Registry[Network] = Registry("network", "bwpipe.models")


def network(name: str) -> Callable[[N], N]:
    """Class decorator: register a network under a name, which checkpoints refer to. Raises ValueError."""

    def add(cls: N) -> N:
        cls.registered = name
        networks.register(name)(cls)
        return cls

    return add
