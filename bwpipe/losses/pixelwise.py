"""Losses that compare a guess with the truth pixel by pixel."""

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
        """Compare the network's own pictures with the truth."""
        return mse_loss(view.output, shift_target(batch.rgb, view.shift))


@loss("chroma_l1")
class ChromaL1(ViewLoss):
    """The mean absolute error of Cb and Cr, on the guess's grid. A network that is unsure settles for the median: pale."""

    def compare(self, batch: ViewBatch, view: View) -> Tensor:
        """Compare the chroma with the truth's."""
        return l1_loss(view.guess.chroma, target_chroma(batch, view, like=view.guess.chroma))


@loss("speckle")
class Speckle(ViewLoss):
    """By how much the chroma of neighbouring cells differs more than it does in the truth, in the mean.

    Other colours than the truth's are not its concern, only edges between colours where the truth has none or weaker ones. As
    it asks for no less than the truth has, it does not pull to flat colours as a plain penalty on differences would.
    """

    def compare(self, batch: ViewBatch, view: View) -> Tensor:
        """Compare the differences between neighbours, above and beside each other, with the truth's."""
        guessed = view.guess.chroma
        pairs = zip(_edges(guessed), _edges(target_chroma(batch, view, like=guessed)), strict=True)
        return torch.stack([(edge - true).relu().mean() for edge, true in pairs]).mean()


def _edges(chroma: Tensor) -> tuple[Tensor, Tensor]:
    return vector_norm(chroma.diff(dim=2), dim=1), vector_norm(chroma.diff(dim=3), dim=1)


@loss("colourfulness")
class Colourfulness(ViewLoss):
    """The squared difference of the guess's colourfulness from the truth's, where 1 is 100 of Hasler and Suesstrunk (2003).

    What is unsure is pale, so that other losses leave pictures paler the harder their colours are to tell, such as those of
    clothes; this one asks each for as much colour as pictures like it have in the mean, wherever that is. It counts chroma
    only, on the guess's grid: what leaves the gamut is not cut off.
    """

    def compare(self, batch: ViewBatch, view: View) -> Tensor:
        """Compare the colourfulness of each picture."""
        guessed = view.guess.chroma
        return (_colourfulness(guessed) - _colourfulness(target_chroma(batch, view, like=guessed))).square().mean()


def _colourfulness(chroma: Tensor) -> Tensor:
    """M^(3) of each of (B, 2, h, w), in hundreds: (B,). As `bwpipe.scoring.colourfulness`; the gradient at grey is 0."""
    red, green, blue = offsets(chroma).flatten(2).unbind(dim=1)
    opponents = torch.stack([red - green, (red + green) / 2 - blue], dim=1)
    mean = opponents.mean(dim=2, keepdim=True)
    deviation = vector_norm(opponents - mean, dim=(1, 2)) / opponents.shape[2] ** 0.5
    figure: Tensor = 2.55 * (deviation + 0.3 * vector_norm(mean[..., 0], dim=1))
    return figure
