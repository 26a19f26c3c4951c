"""The truth as a look must show it: moved like its view, and on the grid of its guess."""

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, pad

from bwpipe.chroma import split
from bwpipe.losses import Look, Shown


def moved(pictures: Tensor, shift: tuple[int, int]) -> Tensor:
    """Pictures (B, C, H, W) moved by (rows, columns) down and right; their edges are repeated where nothing is known."""
    if shift == (0, 0):
        return pictures
    (down, right), (height, width) = shift, pictures.shape[2:]
    wide = pad(pictures, (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0)), mode="replicate")
    return wide[..., max(-down, 0) : max(-down, 0) + height, max(-right, 0) : max(-right, 0) + width]


def true_chroma(shown: Shown, look: Look, like: Tensor) -> Tensor:
    """The chroma (B, 2, h, w) that a look should show, on the grid of `like` (B, C, h, w): the mean over each cell's area."""
    height, width = like.shape[2:]
    return adaptive_avg_pool2d(split(moved(shown.rgb, look.shift))[1], (height, width))
