"""JPEG artefacts on batches of tensors."""

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
"""Luma quantisation table: ITU-T T.81, table K.1, rows of rising vertical frequency."""


class Jpeg(PlaneEffect):
    """JPEG artefacts: 8 x 8 blocks, and ringing around edges."""

    chance: Share = 0.3
    """Fraction of the degraded images that have it."""
    quality: Annotated[tuple[_Quality, _Quality], ASCENDING] = (30, 95)
    """Range of the quality from 1 to 100, on the scale of the Independent JPEG Group's library."""

    def apply(self, grey: Tensor, generator: torch.Generator) -> Tensor:
        """Compress each image with its own quality."""
        return compressed(grey, uniform(self.quality, (len(grey),), generator))


def compressed(grey: Tensor, quality: Tensor) -> Tensor:
    """Compress and decompress images as JPEG (ITU-T T.81) does, apart from the rounding of its integer arithmetic.

    Args:
        grey: (N, 1, H, W) in 0..1.
        quality: (N,) from 1 to 100, on the same device; it scales the table K.1 as `jpeg_quality_scaling` of the Independent
            JPEG Group's library does.

    Returns:
        (N, 1, H, W), multiples of 1/255 in 0..1.
    """
    count, _, height, width = grey.shape
    padded = pad(grey, (0, -width % 8, 0, -height % 8), mode="replicate")
    rows, columns = padded.shape[2] // 8, padded.shape[3] // 8
    blocks = padded.reshape(count, rows, 8, columns, 8).transpose(2, 3).reshape(count, -1, 64)
    basis, steps = _dct_basis(grey.device), _quantisation_steps(quality).unsqueeze(1)
    coefficients = torch.round((torch.round(255 * blocks) - 128) @ basis.T / steps) * steps
    values = torch.round(coefficients @ basis + 128).clamp(0, 255) / 255
    padded = values.reshape(count, rows, columns, 8, 8).transpose(2, 3).reshape(padded.shape)
    return padded[:, :, :height, :width]


def _dct_basis(device: torch.device) -> Tensor:
    """The discrete cosine transform of a block (T.81, A.3.3): (64, 64), one row per coefficient, orthonormal."""
    index = torch.arange(8, dtype=torch.float64)
    wave = torch.cos((2 * index + 1) * index.view(8, 1) * math.pi / 16) / 2
    wave[0] /= math.sqrt(2)
    return torch.kron(wave, wave).float().to(device)


def _quantisation_steps(quality: Tensor) -> Tensor:
    """The quantisation steps (N, 64) for qualities (N,)."""
    percent = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality).floor().unsqueeze(1)
    return torch.floor((quality.new_tensor(_TABLE) * percent + 50) / 100).clamp(1, 255)
