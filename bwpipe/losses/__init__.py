"""Named losses, combined in a graph as a weighted sum.

Exports what a custom loss needs; importing this package registers the built-in losses.
"""

from bwpipe.core.aliases import forward
from bwpipe.losses import chroma_bins_loss, consistency, perceptual, pixelwise  # noqa: F401 (importing a loss registers it)
from bwpipe.losses.base import Loss, LossOptions, View, ViewBatch, ViewLoss, loss, losses, shift_target, target_chroma

__all__ = [
    "Loss",
    "LossOptions",
    "View",
    "ViewBatch",
    "ViewLoss",
    "loss",
    "losses",
    "shift_target",
    "target_chroma",
]

__getattr__ = forward(__name__)
