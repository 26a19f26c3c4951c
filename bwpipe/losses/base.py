"""The contract of losses, and their registry."""

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
    """The output of a network for one view of a batch.

    Attributes:
        output: The result of its `forward`, float32.
        decode: The network's `decode`, for that output.
        shift: By how many pixels (rows, columns) the view was shifted down and right relative to the target.
    """

    output: Tensor
    decode: Callable[[Tensor], Guess]
    shift: tuple[int, int] = (0, 0)

    @cached_property
    def guess(self) -> Guess:
        """The decoded output; differentiable."""
        return self.decode(self.output)


@dataclass(frozen=True, slots=True, eq=False)
class ViewBatch:
    """A batch and the network's outputs for its views.

    Attributes:
        luma: (B, 1, H, W) in 0..1, not degraded.
        rgb: (B, 3, H, W) in 0..1, the target.
        views: One, or as many as the losses need; each view is degraded independently.
    """

    luma: Tensor
    rgb: Tensor
    views: tuple[View, ...]


class LossOptions(BaseModel):
    """Options of a loss: the fields of a subclass, each with a docstring."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Weight of this loss in the sum."""


class Loss(nn.Module):
    """A quantity to minimise: the mean over the images of a batch, so that parts of a batch can be averaged."""

    registered: ClassVar[str] = ""
    needs: ClassVar[Literal["rgb", "chroma", "bins"]] = "chroma"
    """What the network must produce; every network predicts chroma."""
    views: ClassVar[int] = 1
    """Number of views of each image that it compares."""
    Options: ClassVar[type[LossOptions]] = LossOptions

    def __init__(self, options: LossOptions, network: Network, data: Dataset) -> None:
        """Prepare it for training a network on a dataset."""
        super().__init__()
        self.options = options

    @abstractmethod
    def forward(self, batch: ViewBatch, /) -> Tensor:
        """The unweighted loss, a scalar."""

    def floor(self, batch: ViewBatch, /) -> Tensor:
        """The lower bound of `forward` for any prediction: 0 unless the targets have entropy."""
        return batch.rgb.new_zeros(())

    @classmethod
    def check(cls) -> None:
        """Raise UsageError if something it needs is not installed."""

    @classmethod
    def fits(cls, network: type[Network]) -> bool:
        """Whether a network produces what the loss needs."""
        return cls.needs in ("chroma", network.produces)


class ViewLoss(Loss):
    """A loss computed for each view separately and averaged over the views."""

    @abstractmethod
    def compare(self, batch: ViewBatch, view: View, /) -> Tensor:
        """The loss of one view, a scalar; the target must be shifted like the view (`shift_target`, `target_chroma`)."""

    def forward(self, batch: ViewBatch, /) -> Tensor:
        """The mean over the views."""
        return torch.stack([self.compare(batch, view) for view in batch.views]).mean()


losses: Registry[Loss] = Registry("loss")


def loss(name: str) -> Callable[[L], L]:
    """Class decorator: register a loss under the name that graphs use. Raises ValueError."""

    def add(cls: L) -> L:
        cls.registered = name
        losses.register(name)(cls)
        return cls

    return add


def shift_target(pictures: Tensor, shift: tuple[int, int]) -> Tensor:
    """Shift images (B, C, H, W) by (rows, columns) down and right, replicating the edges."""
    if shift == (0, 0):
        return pictures
    (down, right), (height, width) = shift, pictures.shape[2:]
    padded = pad(pictures, (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0)), mode="replicate")
    return padded[..., max(-down, 0) : max(-down, 0) + height, max(-right, 0) : max(-right, 0) + width]


def target_chroma(batch: ViewBatch, view: View, like: Tensor) -> Tensor:
    """The target chroma (B, 2, h, w) of a view on the grid of `like` (B, C, h, w), averaged over the area of each cell."""
    height, width = like.shape[2:]
    return adaptive_avg_pool2d(rgb_to_ycbcr(shift_target(batch.rgb, view.shift))[1], (height, width))
