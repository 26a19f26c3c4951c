"""RGB and YCbCr tensors for networks and losses; `bwpipe.pixels.ycbcr` is the same for numpy planes.

Full-range BT.601 (ITU-T T.871, the JPEG File Interchange Format): Y' = 0.299 R + 0.587 G + 0.114 B, Cb = (B - Y') / 1.772,
Cr = (R - Y') / 1.402.
"""

import torch
from torch import Tensor


def rgb_to_ycbcr(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """Luma (B, 1, H, W) in 0..1 and chroma (B, 2, H, W) in -0.5..0.5 of RGB (B, 3, H, W) in 0..1."""
    red, green, blue = rgb.chunk(3, dim=1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return luma, torch.cat([(blue - luma) / 1.772, (red - luma) / 1.402], dim=1)


def ycbcr_to_rgb(luma: Tensor, chroma: Tensor) -> Tensor:
    """RGB (B, 3, H, W) in 0..1 of luma (B, 1, H, W) in 0..1 and chroma (B, 2, H, W).

    Out-of-gamut colours lose chroma; their hue and luma stay.
    """
    offset = offsets(chroma)
    above, below = offset.amax(dim=1, keepdim=True), -offset.amin(dim=1, keepdim=True)
    scale = torch.minimum((1 - luma) / above.clamp(min=1e-6), luma / below.clamp(min=1e-6)).clamp(max=1)
    return (luma + scale * offset).clamp(0, 1)


def offsets(chroma: Tensor) -> Tensor:
    """Offsets of red, green and blue from luma: (B, 3, ...) for chroma (B, 2, ...), in gamut or not."""
    cb, cr = chroma.chunk(2, dim=1)
    blue, red = 1.772 * cb, 1.402 * cr
    return torch.cat([red, -(0.299 * red + 0.114 * blue) / 0.587, blue], dim=1)
