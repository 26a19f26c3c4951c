"""What a network is, and checkpoints that describe themselves."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, TypeVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from bwpipe.core.registry import Registry
from bwpipe.errors import UsageError

N = TypeVar("N", bound="type[Network]")
Quality: TypeAlias = Literal["fast", "normal", "best"]
"""How much of a picture a network is to see: the better, the longer it takes."""


@dataclass(frozen=True, slots=True)
class Guess:
    """What a network thinks the colours are.

    Attributes:
        chroma: (B, 2, h, w) Cb and Cr in -0.5..0.5 (full-range BT.601), on a grid of the network's own.
        confidence: (B, 1, h, w) in 0..1, or None if the network does not say.
        rgb: (B, 3, h, w) in 0..1, the network's own picture, or None if it makes none. Only measured, never shown.
    """

    chroma: Tensor
    confidence: Tensor | None = None
    rgb: Tensor | None = None


class NetworkOptions(BaseModel):
    """What a network can be built with: the fields of a subclass, each with a docstring."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Network(nn.Module):
    """Guesses chroma from luma (B, 1, H, W) in 0..1, where 0 is black and 1 is white.

    `forward(luma)` gives what its losses need: RGB (B, 3, H, W) in 0..1, chroma (B, 2, h, w), or logits over bins
    (B, Q, h, w), as `produces` says; `decode` says what that means.
    """

    registered: ClassVar[str] = ""
    produces: ClassVar[Literal["rgb", "chroma", "bins"]]
    Options: ClassVar[type[NetworkOptions]] = NetworkOptions
    bins: Tensor
    """(Q, 2) the Cb and Cr of each bin, in -0.5..0.5: only a network that produces bins has them."""

    def __init__(self, options: NetworkOptions) -> None:
        """Build it with random weights."""
        super().__init__()
        self.options = options

    @abstractmethod
    def input_size(self, height: int, width: int, quality: Quality = "normal") -> tuple[int, int]:
        """The (height, width) at which it wants to see an upright picture of that size.

        Args:
            height: Of the picture, in pixels.
            width: The same.
            quality: How much time it may take; a network that sees all pictures at one size gives the same for each.
        """

    @abstractmethod
    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        """Say what an output means; gradients pass through it.

        Args:
            output: What `forward` gave, in float32.
            vividness: From 0, the safe average colour, to 1, the lively likely one; None for the network's own default.
        """

    def guess(self, luma: Tensor, vividness: float | None = None) -> Guess:
        """Guess the chroma of luma, without gradients.

        Args:
            luma: (B, 1, H, W) in 0..1, in its `input_size`, on the network's device and in its precision.
            vividness: As in `decode`.
        """
        with torch.no_grad():
            return self.decode(self(luma).float(), vividness)

    def takes(self, height: int, width: int) -> bool:
        """Whether it can see luma of that size, while it is trained, too; by default its `input_size` only."""
        return self.input_size(height, width) == (height, width)

    def backbone(self) -> nn.Module | None:
        """The part whose first weights come from another training, which `fit` can hold still; None if it has none."""
        return None

    def prime(self) -> None:
        """Load into the backbone the weights that a training starts with. Raises UsageError."""


def check_quality(net: Network, quality: Quality, where: str) -> None:
    """Refuse a quality that a network does not tell from the normal one; `where` is the stage or command. Raises UsageError."""
    height, width = 3000, 4000  # larger than what any network looks at
    if quality != "normal" and net.input_size(height, width, quality) == net.input_size(height, width):
        raise UsageError(f"{where}: {net.registered} sees every picture at one size; leave out `quality: {quality}`")


networks: Registry[Network] = Registry("network")


def network(name: str) -> Callable[[N], N]:
    """Decorate a network's class to give it the name that checkpoints know it by. Raises ValueError."""

    def add(cls: N) -> N:
        cls.registered = name
        networks.register(name)(cls)
        return cls

    return add
