"""The loss that asks for the same colours in different views of one picture."""

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.linalg import vector_norm

from bwpipe.data.dataset import Dataset
from bwpipe.errors import RunAborted
from bwpipe.losses.base import Loss, LossOptions, View, ViewBatch, loss
from bwpipe.nn.network import Network
from bwpipe.nn.ycbcr import rgb_to_ycbcr

_LEAST = 0.02
"""The mean chroma below which a picture counts as if it had so much: in nearly grey ones any difference would be large."""


class FlickerOptions(LossOptions):
    """What the loss can be told."""

    relative: bool = True
    """Whether the difference counts as a share of the mean chroma; where it does not, paler colours are an easy way out."""


@loss("flicker")
class Flicker(Loss):
    """How much the chroma of two views differs that are damaged and moved each in its own way, as frames of a film are.

    It needs no film (after the self-regularisation of Liu et al., "Temporally Consistent Video Colorization", 2021). It is the
    mean length of the difference of (Cb, Cr), as a share of the mean length of (Cb, Cr): the guess's, or the truth's where that
    is less. Both views and the guess's mean have gradients, so that paler colours gain nothing; the difference alone pulls to
    grey, even with one view held still. Nor does it gain anything to put one strong colour over all of a picture, as training
    with a share of the guess's own mean alone did.
    """

    views: ClassVar[int] = 2
    Options = FlickerOptions

    def __init__(self, options: FlickerOptions, network: Network, data: Dataset) -> None:
        """Nothing is measured."""
        super().__init__(options, network, data)
        self._relative = options.relative

    def forward(self, batch: ViewBatch) -> Tensor:
        """Compare the first two looks. Raises RunAborted where there is nothing that both show."""
        height, width = batch.rgb.shape[2:]
        first, second = meet(batch.views[0], batch.views[1], height, width)
        difference = vector_norm(first - second, dim=1).mean((1, 2))
        if self._relative:
            chroma = (vector_norm(first, dim=1) + vector_norm(second, dim=1)).mean((1, 2)) / 2
            true = vector_norm(rgb_to_ycbcr(batch.rgb)[1], dim=1).mean((1, 2))
            difference = difference / torch.minimum(chroma, true).clamp(min=_LEAST)
        mean: Tensor = difference.mean()
        return mean


def meet(first: View, second: View, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The chroma of two looks at the same places, but for an edge: (B, 2, h - m, w - n) each.

    Each is moved half of the way, so that enlarging between cells makes both equally soft.

    Args:
        first: One look.
        second: The other; its guess is on the same grid.
        height: Of the view, in pixels.
        width: Of the view, in pixels.

    Raises:
        RunAborted: There is nothing that both show.
    """
    a, b = first.guess.chroma, second.guess.chroma
    for dim, size, at, to in zip((2, 3), (height, width), first.shift, second.shift, strict=True):
        half = (to - at) / 2 * a.shape[dim] / size
        margin = math.ceil(abs(half)) + 1
        if a.shape[dim] <= 2 * margin:
            raise RunAborted(
                f"views of {height} x {width} pixels that are {abs(to - at)} apart have too little in common; "
                "set a smaller `fit.shift`, or train on larger pictures"
            )
        a, b = _window(a, dim, margin, -half), _window(b, dim, margin, half)
    return a, b


def _window(chroma: Tensor, dim: int, margin: int, offset: float) -> Tensor:
    """All but a margin at both ends of a dimension, seen from `offset` cells further on."""
    whole, part = math.floor(offset), offset - math.floor(offset)
    length = chroma.shape[dim] - 2 * margin
    near = chroma.narrow(dim, margin + whole, length)
    return near if part == 0 else near.lerp(chroma.narrow(dim, margin + whole + 1, length), part)
