"""The marks that JPEG leaves, on batches of tensors."""

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad

from bwpipe.training.degradation.base import ASCENDING, PlaneEffect, Share, uniform

_Quality = Annotated[float, Field(ge=1, le=100)]

# fmt: off
_TABLE = (
    16, 11, 10, 16, 24, 40, 51, 61,
    12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77,
    24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)
# fmt: on
"""Quantisation of luma: ITU-T T.81, table K.1, rows of rising vertical frequency."""


class Jpeg(PlaneEffect):
    """The marks of JPEG: blocks of 8 x 8, and rings about edges."""

    chance: Share = 0.3
    """The share of the damaged pictures that have it."""
    quality: Annotated[tuple[_Quality, _Quality], ASCENDING] = (30, 95)
    """From 1 to 100, as the Independent JPEG Group's library counts."""

    def apply(self, grey: Tensor, generator: torch.Generator) -> Tensor:
        """Compress each picture by its own quality."""
        return compressed(grey, uniform(self.quality, (len(grey),), generator))


def compressed(grey: Tensor, quality: Tensor) -> Tensor:
    """What is left of pictures after JPEG (ITU-T T.81), but for the rounding of its integer arithmetic.

    Args:
        grey: (N, 1, H, W) in 0..1.
        quality: (N,) from 1 to 100, on the same device; it scales the table K.1 as `jpeg_quality_scaling` of the Independent
            JPEG Group's library does.

    Returns:
        (N, 1, H, W), multiples of 1/255 in 0..1.
    """
    count, _, height, width = grey.shape
    whole = pad(grey, (0, -width % 8, 0, -height % 8), mode="replicate")
    rows, columns = whole.shape[2] // 8, whole.shape[3] // 8
    blocks = whole.reshape(count, rows, 8, columns, 8).transpose(2, 3).reshape(count, -1, 64)
    waves, steps = _waves(grey.device), _steps(quality).unsqueeze(1)
    kept = torch.round((torch.round(255 * blocks) - 128) @ waves.T / steps) * steps
    values = torch.round(kept @ waves + 128).clamp(0, 255) / 255
    whole = values.reshape(count, rows, columns, 8, 8).transpose(2, 3).reshape(whole.shape)
    return whole[:, :, :height, :width]


def _waves(device: torch.device) -> Tensor:
    """The discrete cosine transform of a block (T.81, A.3.3): (64, 64), a row for each coefficient, orthonormal."""
    each = torch.arange(8, dtype=torch.float64)
    wave = torch.cos((2 * each + 1) * each.view(8, 1) * math.pi / 16) / 2
    wave[0] /= math.sqrt(2)
    return torch.kron(wave, wave).float().to(device)


def _steps(quality: Tensor) -> Tensor:
    """The steps of quantisation (N, 64) for qualities (N,)."""
    percent = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality).floor().unsqueeze(1)
    return torch.floor((quality.new_tensor(_TABLE) * percent + 50) / 100).clamp(1, 255)
