"""Effects of lenses, enlargers and scanners: vignetting, blur, loss of resolution."""

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from bwpipe.training.degradation.base import ASCENDING, LengthSpan, PlaneEffect, Share, ShareSpan, factors, uniform

_MAX_OFFSET = 0.2
_Cell = Annotated[float, Field(ge=1, allow_inf_nan=False)]


class Vignette(PlaneEffect):
    """Vignetting: dark corners, not necessarily centred on the image."""

    chance: Share = 0.2
    """Fraction of the degraded images that have it."""
    strength: ShareSpan = (0.1, 0.5)
    """Range of the share of light that the corners lose."""

    def apply(self, grey: Tensor, generator: torch.Generator) -> Tensor:
        """Darken the corners."""
        each = (len(grey), 1, 1, 1)
        down, right = (
            torch.linspace(-1, 1, side, device=grey.device) - uniform((-_MAX_OFFSET, _MAX_OFFSET), each, generator)
            for side in grey.shape[2:]
        )
        distance = down.mT**2 + right**2  # 2 in a corner
        return grey * (1 - uniform(self.strength, each, generator) / 2 * distance)


class Blur(PlaneEffect):
    """Gaussian blur, as of a soft lens or an out-of-focus enlarger."""

    chance: Share = 0.25
    """Fraction of the degraded images that have it."""
    sigma: LengthSpan = (0.3, 1.2)
    """Range of its standard deviation, in pixels."""

    def apply(self, grey: Tensor, generator: torch.Generator) -> Tensor:
        """Blur each image with its own sigma."""
        sigma = uniform(self.sigma, (len(grey), 1, 1, 1), generator).clamp_(min=0.01)  # practically no blur
        return _separable(grey, lambda centre: _normalised(torch.exp(-((centre.mT - centre) ** 2) / (2 * sigma**2))))


class Shrink(PlaneEffect):
    """Loss of resolution: pixels are averaged over square cells, and the result is upsampled bilinearly."""

    chance: Share = 0.1
    """Fraction of the degraded images that have it."""
    factor: Annotated[tuple[_Cell, _Cell], ASCENDING] = (1.5, 2.5)
    """Range of a cell's height and width, in pixels; need not be whole numbers."""

    def apply(self, grey: Tensor, generator: torch.Generator) -> Tensor:
        """Reduce the resolution of each image by its own factor."""
        factor = factors(self.factor, (len(grey), 1, 1, 1), generator)
        return _separable(grey, lambda centre: _shrink_weights(centre, factor))


def _separable(grey: Tensor, weights: Callable[[Tensor], Tensor]) -> Tensor:
    """Replace each pixel by a weighted mean over its column, then over its row.

    Args:
        grey: (N, 1, H, W).
        weights: Maps pixel centres (1, 1, 1, L) to the weights (N, 1, L, L) of the old pixels in each new one.
    """
    down, right = (weights(torch.arange(side, device=grey.device).view(1, 1, 1, side) + 0.5) for side in grey.shape[2:])
    return down @ grey @ right.mT


def _shrink_weights(centre: Tensor, factor: Tensor) -> Tensor:
    """The weights (N, 1, L, L) of old pixels in new ones for averaging over cells and upsampling again."""
    side = centre.shape[-1]
    cell = torch.arange(side, device=centre.device).view(1, 1, side, 1)
    start = cell * factor
    covered = torch.minimum(start + factor, centre + 0.5) - torch.maximum(start, centre - 0.5)
    near = (1 - (centre / factor - 0.5 - cell).abs()).clamp(min=0) * (start < side)
    return _normalised(near.mT) @ _normalised(covered.clamp(min=0))


def _normalised(weights: Tensor) -> Tensor:
    return weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-6)
