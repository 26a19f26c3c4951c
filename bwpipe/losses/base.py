"""What training makes small: named losses, which a graph adds up by weights."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, pad

from bwpipe.core.registry import Registry
from bwpipe.data.dataset import Dataset
from bwpipe.nn.network import Guess, Network
from bwpipe.nn.ycbcr import rgb_to_ycbcr

L = TypeVar("L", bound="type[Loss]")


@dataclass(frozen=True, eq=False)
class View:
    """What a network made of one view of a batch.

    Attributes:
        output: What its `forward` gave, float32.
        decode: The network's, which says what that means.
        shift: By how many (rows, columns) the view was moved down and right against the truth, in pixels.
    """

    output: Tensor
    decode: Callable[[Tensor], Guess]
    shift: tuple[int, int] = (0, 0)

    @cached_property
    def guess(self) -> Guess:
        """The output, decoded; gradients pass through it."""
        return self.decode(self.output)


@dataclass(frozen=True, slots=True, eq=False)
class ViewBatch:
    """A batch and what a network made of it.

    Attributes:
        luma: (B, 1, H, W) in 0..1, undamaged.
        rgb: (B, 3, H, W) in 0..1, the truth.
        looks: One, or as many as the losses want; each view is damaged in its own way.
    """

    luma: Tensor
    rgb: Tensor
    views: tuple[View, ...]


class LossOptions(BaseModel):
    """What a loss can be told: the fields of a subclass, each with a docstring."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    weight: Annotated[float, Field(gt=0)] = 1.0
    """By what it is multiplied before the losses are added up."""


class Loss(nn.Module):
    """A figure to make small, the mean over the pictures of a batch, so that parts of a batch can be averaged."""

    registered: ClassVar[str] = ""
    needs: ClassVar[Literal["rgb", "chroma", "bins"]] = "chroma"
    """What the network must produce; every network's guess has chroma."""
    views: ClassVar[int] = 1
    """How many views of each picture it compares."""
    Options: ClassVar[type[LossOptions]] = LossOptions

    def __init__(self, options: LossOptions, network: Network, data: Dataset) -> None:
        """Prepare it for a network that is to be fitted to a dataset."""
        super().__init__()
        self.options = options

    @abstractmethod
    def forward(self, batch: ViewBatch, /) -> Tensor:
        """The loss, a scalar, before it is multiplied by its weight."""

    def floor(self, batch: ViewBatch, /) -> Tensor:
        """The least that `forward` could be for any guess: 0 unless the targets have an entropy of their own."""
        return batch.rgb.new_zeros(())

    @classmethod
    def check(cls) -> None:
        """Refuse to start where something it needs is not installed. Raises UsageError."""

    @classmethod
    def fits(cls, network: type[Network]) -> bool:
        """Whether a network produces what it needs."""
        return cls.needs in ("chroma", network.produces)


class ViewLoss(Loss):
    """A loss that each look has by itself; it is the mean over them."""

    @abstractmethod
    def compare(self, batch: ViewBatch, view: View, /) -> Tensor:
        """The loss of a look, a scalar; the truth must be moved as its view was (`bwpipe.losses.truth`)."""

    def forward(self, batch: ViewBatch, /) -> Tensor:
        """The mean over the looks."""
        return torch.stack([self.compare(batch, view) for view in batch.views]).mean()


losses: Registry[Loss] = Registry("loss")


def loss(name: str) -> Callable[[L], L]:
    """Decorate a loss's class to give it the name that graphs use. Raises ValueError."""

    def add(cls: L) -> L:
        cls.registered = name
        losses.register(name)(cls)
        return cls

    return add


def shift_target(pictures: Tensor, shift: tuple[int, int]) -> Tensor:
    """Pictures (B, C, H, W) moved by (rows, columns) down and right; their edges are repeated where nothing is known."""
    if shift == (0, 0):
        return pictures
    (down, right), (height, width) = shift, pictures.shape[2:]
    wide = pad(pictures, (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0)), mode="replicate")
    return wide[..., max(-down, 0) : max(-down, 0) + height, max(-right, 0) : max(-right, 0) + width]


def target_chroma(batch: ViewBatch, view: View, like: Tensor) -> Tensor:
    """The chroma (B, 2, h, w) that a look should show, on the grid of `like` (B, C, h, w): the mean over each cell's area."""
    height, width = like.shape[2:]
    return adaptive_avg_pool2d(rgb_to_ycbcr(shift_target(batch.rgb, view.shift))[1], (height, width))
