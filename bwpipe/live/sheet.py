"""Pictures of what a network has learnt."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GAP = 8
"""Pixels between two rows or columns of a sheet."""


def sheet(luma: Tensor, guess: Tensor, truth: Tensor, *, columns: int = 2) -> NDArray[np.uint8]:
    """Show pictures as they are given to a network, as it paints them, and as they are.

    Args:
        luma: (B, 1, H, W) in 0..1.
        guess: (B, 3, H, W), RGB; what lies outside 0..1 is cut off.
        truth: (B, 3, H, W), RGB in 0..1.
        columns: How many pictures stand side by side, each as grey | guess | truth.

    Returns:
        (h, w, 3) RGB.
    """
    from torchvision.utils import make_grid  # slow to import, and only training needs it

    triples = torch.cat([each.detach().float().cpu() for each in (luma.expand_as(truth), guess, truth)], dim=3)
    grid = make_grid(triples.nan_to_num().clamp(0, 1), nrow=columns, padding=GAP, pad_value=0.5)
    pixels: NDArray[np.uint8] = grid.mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()
    return pixels
