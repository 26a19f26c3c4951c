"""RGB and YCbCr tensors for networks and losses; `bwpipe.pixels.ycbcr` is the same for numpy planes, and has the constants.

Full-range BT.601 (ITU-T T.871, the JPEG File Interchange Format): Y' = 0.299 R + 0.587 G + 0.114 B, Cb = (B - Y') / 1.772,
Cr = (R - Y') / 1.402.
"""

import torch
from torch import Tensor

from bwpipe.pixels.ycbcr import BLUE_SCALE, RED_SCALE, WEIGHTS

_RED, _GREEN, _BLUE = WEIGHTS["bt601"]
_EPSILON = 1e-6


def rgb_to_ycbcr(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """Luma (B, 1, H, W) in 0..1 and chroma (B, 2, H, W) in -0.5..0.5 of RGB (B, 3, H, W) in 0..1."""
    red, green, blue = rgb.chunk(3, dim=1)
    luma = _RED * red + _GREEN * green + _BLUE * blue
    return luma, torch.cat([(blue - luma) / BLUE_SCALE, (red - luma) / RED_SCALE], dim=1)


def ycbcr_to_rgb(luma: Tensor, chroma: Tensor) -> Tensor:
    """RGB (B, 3, H, W) in 0..1 of luma (B, 1, H, W) in 0..1 and chroma (B, 2, H, W).

    Out-of-gamut colours lose chroma; their hue and luma stay.
    """
    return add_offsets(luma, offsets(chroma))


def offsets(chroma: Tensor) -> Tensor:
    """Offsets of red, green and blue from luma: (B, 3, ...) for chroma (B, 2, ...), in gamut or not."""
    cb, cr = chroma.chunk(2, dim=1)
    blue, red = BLUE_SCALE * cb, RED_SCALE * cr
    return torch.cat([red, -(_RED * red + _BLUE * blue) / _GREEN, blue], dim=1)


def add_offsets(luma: Tensor, offset: Tensor) -> Tensor:
    """RGB (B, 3, H, W) in 0..1 of luma (B, 1, H, W) and offsets (B, 3, H, W), these scaled down where they would leave 0..1."""
    above, below = offset.amax(dim=1, keepdim=True), -offset.amin(dim=1, keepdim=True)
    scale = torch.minimum((1 - luma) / above.clamp(min=_EPSILON), luma / below.clamp(min=_EPSILON)).clamp(max=1)
    return (luma + scale * offset).clamp(0, 1)
