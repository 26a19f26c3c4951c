"""What lenses, enlargers and scanners do to a picture: dark corners, blur, lost resolution."""

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from bwpipe.training.degradation.base import ASCENDING, LengthSpan, PlaneEffect, Share, ShareSpan, factors, uniform

_OFF_CENTRE = 0.2
_Cell = Annotated[float, Field(ge=1, allow_inf_nan=False)]


class Vignette(PlaneEffect):
    """Corners darker than the middle, which need not be the picture's."""

    chance: Share = 0.2
    """The share of the damaged pictures that have it."""
    strength: ShareSpan = (0.1, 0.5)
    """How much of their light the corners lose."""

    def apply(self, grey: Tensor, generator: torch.Generator) -> Tensor:
        """Darken the corners."""
        each = (len(grey), 1, 1, 1)
        down, right = (
            torch.linspace(-1, 1, side, device=grey.device) - uniform((-_OFF_CENTRE, _OFF_CENTRE), each, generator)
            for side in grey.shape[2:]
        )
        distance = down.mT**2 + right**2  # 2 in a corner
        return grey * (1 - uniform(self.strength, each, generator) / 2 * distance)


class Blur(PlaneEffect):
    """A Gaussian blur, as of a soft lens or an enlarger out of focus."""

    chance: Share = 0.25
    """The share of the damaged pictures that have it."""
    sigma: LengthSpan = (0.3, 1.2)
    """Its standard deviation, in pixels."""

    def apply(self, grey: Tensor, generator: torch.Generator) -> Tensor:
        """Blur each picture by its own sigma."""
        sigma = uniform(self.sigma, (len(grey), 1, 1, 1), generator).clamp_(min=0.01)  # which is no blur
        return _along_both(grey, lambda place: _normalised(torch.exp(-((place.mT - place) ** 2) / (2 * sigma**2))))


class Shrink(PlaneEffect):
    """Resolution that was lost: each cell of some pixels is averaged, and what is left is enlarged bilinearly."""

    chance: Share = 0.1
    """The share of the damaged pictures that have it."""
    factor: Annotated[tuple[_Cell, _Cell], ASCENDING] = (1.5, 2.5)
    """Height and width of a cell, in pixels; they need not be whole."""

    def apply(self, grey: Tensor, generator: torch.Generator) -> Tensor:
        """Lose resolution, each picture by its own factor."""
        factor = factors(self.factor, (len(grey), 1, 1, 1), generator)
        return _along_both(grey, lambda place: _shrunk(place, factor))


def _along_both(grey: Tensor, weights: Callable[[Tensor], Tensor]) -> Tensor:
    """Each pixel a weighted mean of its column, then of its row.

    Args:
        grey: (N, 1, H, W).
        weights: Gives (N, 1, L, L), how much of each pixel each new one has, from the places (1, 1, 1, L) of their middles.
    """
    down, right = (weights(torch.arange(side, device=grey.device).view(1, 1, 1, side) + 0.5) for side in grey.shape[2:])
    return down @ grey @ right.mT


def _shrunk(place: Tensor, factor: Tensor) -> Tensor:
    """What averaging over cells and enlarging again leaves of each pixel in each: (N, 1, L, L)."""
    side = place.shape[-1]
    cell = torch.arange(side, device=place.device).view(1, 1, side, 1)
    start = cell * factor
    covered = torch.minimum(start + factor, place + 0.5) - torch.maximum(start, place - 0.5)
    near = (1 - (place / factor - 0.5 - cell).abs()).clamp(min=0) * (start < side)
    return _normalised(near.mT) @ _normalised(covered.clamp(min=0))


def _normalised(weights: Tensor) -> Tensor:
    return weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-6)
