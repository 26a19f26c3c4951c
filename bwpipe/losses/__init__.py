"""Named losses, which a graph adds up by weights.

What a loss of one's own needs is exported here; importing this registers the losses that come with bwpipe.
"""

from bwpipe.core.aliases import forward
from bwpipe.losses import chroma_bins, consistency, perceptual, pixelwise  # noqa: F401 (importing a loss registers it)
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
