"""The consistency loss: the same colours in different views of an image."""

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

_MIN_CHROMA = 0.02
"""Lower limit of the mean chroma used as divisor: in nearly grey images any difference would be large."""


class FlickerOptions(LossOptions):
    """Options of `flicker`."""

    relative: bool = True
    """Whether the difference is relative to the mean chroma; if not, paler colours lower the loss."""


@loss("flicker")
class Flicker(Loss):
    """Difference in chroma between two views that are degraded and shifted independently, like frames of a film.

    It needs no films (after the self-regularisation of Liu et al., "Temporally Consistent Video Colorization", 2021). It is the
    mean length of the difference of (Cb, Cr), relative to the mean length of (Cb, Cr): the prediction's, or the target's if
    less. Gradients flow through both views and the prediction's mean, so that paler colours do not lower it; the difference
    alone pulls towards grey, even if one view is detached. Nor is it lowered by one strong colour over a whole image, as it was
    when relative to the prediction's mean only.
    """

    views: ClassVar[int] = 2
    Options = FlickerOptions

    def __init__(self, options: FlickerOptions, network: Network, data: Dataset) -> None:
        """Keep the options; nothing is measured."""
        super().__init__(options, network, data)
        self._relative = options.relative

    def forward(self, batch: ViewBatch) -> Tensor:
        """Compare the first two views. Raises RunAborted if they do not overlap."""
        height, width = batch.rgb.shape[2:]
        first, second = align_views(batch.views[0], batch.views[1], height, width)
        difference = vector_norm(first - second, dim=1).mean((1, 2))
        if self._relative:
            chroma = (vector_norm(first, dim=1) + vector_norm(second, dim=1)).mean((1, 2)) / 2
            target_chroma = vector_norm(rgb_to_ycbcr(batch.rgb)[1], dim=1).mean((1, 2))
            difference = difference / torch.minimum(chroma, target_chroma).clamp(min=_MIN_CHROMA)
        mean: Tensor = difference.mean()
        return mean


def align_views(first: View, second: View, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Align the chroma of two views, without a margin: (B, 2, h - m, w - n) each.

    Each is shifted by half the offset, so that interpolation between cells blurs both equally.

    Args:
        first: One view.
        second: The other; its prediction is on the same grid.
        height: Of the view, in pixels.
        width: Of the view, in pixels.

    Raises:
        RunAborted: The views do not overlap.
    """
    a, b = first.guess.chroma, second.guess.chroma
    for dim, size, at, to in zip((2, 3), (height, width), first.shift, second.shift, strict=True):
        half = (to - at) / 2 * a.shape[dim] / size
        margin = math.ceil(abs(half)) + 1
        if a.shape[dim] <= 2 * margin:
            raise RunAborted(
                f"views of {height} x {width} pixels, shifted by {abs(to - at)} pixels against each other, overlap too little; "
                "set a smaller `fit.shift`, or train on larger pictures"
            )
        a, b = _window(a, dim, margin, -half), _window(b, dim, margin, half)
    return a, b


def _window(chroma: Tensor, dim: int, margin: int, offset: float) -> Tensor:
    """A dimension without a margin at both ends, shifted by `offset` cells with linear interpolation."""
    whole, part = math.floor(offset), offset - math.floor(offset)
    length = chroma.shape[dim] - 2 * margin
    near = chroma.narrow(dim, margin + whole, length)
    return near if part == 0 else near.lerp(chroma.narrow(dim, margin + whole + 1, length), part)
