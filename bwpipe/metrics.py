"""Figures of a network's guesses against the truth."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, mse_loss

from bwpipe.chroma import join, split
from bwpipe.network import Network
from bwpipe.training import Dataset

FIGURES = {
    "rgb_mse": "mean squared error in RGB, 0..1, of the network's own picture",
    "kept_mse": "the same with the source's luma kept, as `bwpipe run` keeps it",
    "grey_mse": "the same of the picture in grey, for comparison",
    "chroma": "mean chroma, the length of (Cb, Cr), as a share of the truth's",
}
"""What the figures are; a network that makes no RGB of its own has no `rgb_mse`."""


def measure(
    network: Network, data: Dataset, places: NDArray[np.intp], *, batch: int = 32, tick: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Show a network some pairs of a dataset and compare.

    Args:
        network: On any device, in any precision.
        data: The pairs.
        places: (N,) which of them.
        batch: How many are shown together.
        tick: Called before each batch; may raise.

    Returns:
        `FIGURES`, each the mean over all pixels.
    """
    device = next(network.parameters()).device
    network.eval()
    sums: dict[str, float] = {}
    with torch.inference_mode():
        for start in range(0, len(places), batch):
            tick()
            luma, rgb = data.batch(places[start : start + batch], device)
            for name, value in _compare(network, luma, rgb).items():
                sums[name] = sums.get(name, 0.0) + value.item() * len(luma)
    guessed, true = sums.pop("guessed"), sums.pop("true")
    return {name: value / len(places) for name, value in sums.items()} | {"chroma": guessed / true}


def _compare(network: Network, luma: Tensor, rgb: Tensor) -> dict[str, Tensor]:
    guess = network.guess(luma)
    chroma = interpolate(guess.chroma, luma.shape[2:], mode="bilinear")
    figures = {} if guess.rgb is None else {"rgb_mse": mse_loss(guess.rgb, rgb)}
    return figures | {
        "kept_mse": mse_loss(join(luma, chroma), rgb),
        "grey_mse": mse_loss(luma.expand_as(rgb), rgb),
        "guessed": chroma.norm(dim=1).mean(),
        "true": split(rgb)[1].norm(dim=1).mean(),
    }
