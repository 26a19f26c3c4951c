"""The loss that keeps pictures as colourful as they are."""

import torch
from torch import Tensor
from torch.linalg import vector_norm

from bwpipe.chroma import offsets
from bwpipe.losses import Look, LookLoss, Shown, loss
from bwpipe.losses.truth import true_chroma


@loss("colourfulness")
class Colourfulness(LookLoss):
    """The squared difference of the guess's colourfulness from the truth's, where 1 is 100 of Hasler and Suesstrunk (2003).

    What is unsure is pale, so that other losses leave pictures paler the harder their colours are to tell, such as those of
    clothes; this one asks each for as much colour as pictures like it have in the mean, wherever that is. It counts chroma
    only, on the guess's grid: what leaves the gamut is not cut off.
    """

    def compare(self, shown: Shown, look: Look) -> Tensor:
        """Compare the colourfulness of each picture."""
        guessed = look.guess.chroma
        return (_colourfulness(guessed) - _colourfulness(true_chroma(shown, look, like=guessed))).square().mean()


def _colourfulness(chroma: Tensor) -> Tensor:
    """M^(3) of each of (B, 2, h, w), in hundreds: (B,). As `bwpipe.scoring.colourfulness`; the gradient at grey is 0."""
    red, green, blue = offsets(chroma).flatten(2).unbind(dim=1)
    opponents = torch.stack([red - green, (red + green) / 2 - blue], dim=1)
    mean = opponents.mean(dim=2, keepdim=True)
    deviation = vector_norm(opponents - mean, dim=(1, 2)) / opponents.shape[2] ** 0.5
    figure: Tensor = 2.55 * (deviation + 0.3 * vector_norm(mean[..., 0], dim=1))
    return figure
