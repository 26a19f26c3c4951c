"""The loss that keeps colours from being patchy."""

import torch
from torch import Tensor
from torch.linalg import vector_norm

from bwpipe.losses import Look, LookLoss, Shown, loss
from bwpipe.losses.truth import true_chroma


@loss("speckle")
class Speckle(LookLoss):
    """By how much the chroma of neighbouring cells differs more than it does in the truth, in the mean.

    Other colours than the truth's are not its concern, only edges between colours where the truth has none or weaker ones. As
    it asks for no less than the truth has, it does not pull to flat colours as a plain penalty on differences would.
    """

    def compare(self, shown: Shown, look: Look) -> Tensor:
        """Compare the differences between neighbours, above and beside each other, with the truth's."""
        guessed = look.guess.chroma
        pairs = zip(_edges(guessed), _edges(true_chroma(shown, look, like=guessed)), strict=True)
        return torch.stack([(edge - true).relu().mean() for edge, true in pairs]).mean()


def _edges(chroma: Tensor) -> tuple[Tensor, Tensor]:
    return vector_norm(chroma.diff(dim=2), dim=1), vector_norm(chroma.diff(dim=3), dim=1)
