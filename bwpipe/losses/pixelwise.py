"""Losses that compare predictions with targets pixel by pixel."""

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn.functional import l1_loss, mse_loss

from bwpipe.losses.base import View, ViewBatch, ViewLoss, loss, shift_target, target_chroma
from bwpipe.nn.ycbcr import offsets


@loss("rgb_mse")
class RgbMse(ViewLoss):
    """The mean squared error of RGB in 0..1."""

    needs: ClassVar[Literal["rgb", "chroma", "bins"]] = "rgb"

    def compare(self, batch: ViewBatch, view: View) -> Tensor:
        """Compare the network's own RGB with the target."""
        return mse_loss(view.output, shift_target(batch.rgb, view.shift))


@loss("chroma_l1")
class ChromaL1(ViewLoss):
    """The mean absolute error of Cb and Cr, on the prediction's grid. Where a network is unsure it learns the median: pale."""

    def compare(self, batch: ViewBatch, view: View) -> Tensor:
        """Compare the chroma with the target's."""
        return l1_loss(view.guess.chroma, target_chroma(batch, view, like=view.guess.chroma))


@loss("speckle")
class Speckle(ViewLoss):
    """Mean excess of chroma differences between neighbouring cells over those of the target.

    It penalises not wrong colours but edges between colours where the target has none or weaker ones. As it demands no fewer
    edges than the target has, it does not pull towards flat colours as a total variation penalty would.
    """

    def compare(self, batch: ViewBatch, view: View) -> Tensor:
        """Compare vertical and horizontal differences between neighbours with the target's."""
        predicted = view.guess.chroma
        pairs = zip(_edges(predicted), _edges(target_chroma(batch, view, like=predicted)), strict=True)
        return torch.stack([(edge - target_edge).relu().mean() for edge, target_edge in pairs]).mean()


def _edges(chroma: Tensor) -> tuple[Tensor, Tensor]:
    return vector_norm(chroma.diff(dim=2), dim=1), vector_norm(chroma.diff(dim=3), dim=1)


@loss("colourfulness")
class Colourfulness(ViewLoss):
    """Squared difference of the prediction's colourfulness from the target's, in units of 100 of Hasler and Suesstrunk (2003).

    Uncertain colours are predicted pale, so that with other losses images get paler the harder their colours are to predict,
    such as those of clothes; this one demands of each image as much colour as similar images have on average, wherever it is.
    It is computed from chroma only, on the prediction's grid, without clipping to the gamut.
    """

    def compare(self, batch: ViewBatch, view: View) -> Tensor:
        """Compare the colourfulness of each image."""
        predicted = view.guess.chroma
        return (_colourfulness(predicted) - _colourfulness(target_chroma(batch, view, like=predicted))).square().mean()


def _colourfulness(chroma: Tensor) -> Tensor:
    """M^(3) of each of (B, 2, h, w), in hundreds: (B,). As `image_metrics.colourfulness`; the gradient at grey is 0."""
    red, green, blue = offsets(chroma).flatten(2).unbind(dim=1)
    opponents = torch.stack([red - green, (red + green) / 2 - blue], dim=1)
    mean = opponents.mean(dim=2, keepdim=True)
    deviation = vector_norm(opponents - mean, dim=(1, 2)) / opponents.shape[2] ** 0.5
    value: Tensor = 2.55 * (deviation + 0.3 * vector_norm(mean[..., 0], dim=1))
    return value
