"""Losses that compare a guess with the truth pixel by pixel."""

from typing import ClassVar, Literal

from torch import Tensor
from torch.nn.functional import l1_loss, mse_loss

from bwpipe.losses import Look, LookLoss, Shown, loss
from bwpipe.losses.truth import moved, true_chroma


@loss("rgb_mse")
class RgbMse(LookLoss):
    """The mean squared error of RGB in 0..1."""

    needs: ClassVar[Literal["rgb", "chroma", "bins"]] = "rgb"

    def compare(self, shown: Shown, look: Look) -> Tensor:
        """Compare the network's own pictures with the truth."""
        return mse_loss(look.output, moved(shown.rgb, look.shift))


@loss("chroma_l1")
class ChromaL1(LookLoss):
    """The mean absolute error of Cb and Cr, on the guess's grid. A network that is unsure settles for the median: pale."""

    def compare(self, shown: Shown, look: Look) -> Tensor:
        """Compare the chroma with the truth's."""
        return l1_loss(look.guess.chroma, true_chroma(shown, look, like=look.guess.chroma))
