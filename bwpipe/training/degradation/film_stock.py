"""Effects of film stock and its development: spectral sensitivity, tone curve, grain."""

from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from bwpipe.pixels.ycbcr import WEIGHTS
from bwpipe.training.degradation.base import (
    ASCENDING,
    Effect,
    FactorSpan,
    PlaneEffect,
    Share,
    ShareSpan,
    factors,
    normal,
    uniform,
)

_EDGE_GRAIN = 0.3
"""Grain of black and of white, relative to that of mid grey."""

_Bend = Annotated[float, Field(ge=-1, le=1)]
_Level = Annotated[float, Field(ge=-1, le=2)]


class Spectrum(Effect):
    """Film whose sensitivity to red, green and blue differs from luma's weights: old stock was nearly or fully blind to red.

    The three sensitivities are drawn and then normalised to a sum of 1.
    """

    chance: Share = 0.7
    """Fraction of the degraded images that have it."""
    red: ShareSpan = (0, 0.45)
    """Range of the sensitivity to red."""
    green: ShareSpan = (0.3, 0.8)
    """Range of the sensitivity to green."""
    blue: ShareSpan = (0.05, 0.6)
    """Range of the sensitivity to blue."""

    @model_validator(mode="after")
    def _has_sensitivity(self) -> Self:
        if not (self.red[1] or self.green[1] or self.blue[1]):
            raise ValueError("film without sensitivity to red, green or blue records nothing; set one of them above 0")
        return self

    def apply(self, grey: Tensor, rgb: Tensor, generator: torch.Generator) -> Tensor:
        """Grey (N, 1, H, W) plus the film's mix of RGB (N, 3, H, W) minus luma, which keeps separate grey inputs intact."""
        mix = torch.cat([uniform(span, (len(grey), 1), generator) for span in (self.red, self.green, self.blue)], dim=1)
        mix = mix.clamp_(min=1e-9)  # three zeros cannot be normalised
        change = mix / mix.sum(dim=1, keepdim=True) - mix.new_tensor(WEIGHTS["bt601"])
        return grey + torch.einsum("nc,nchw->nhw", change, rgb).unsqueeze(1)


class Curve(PlaneEffect):
    """The tone curve of development and printing: darker or lighter, harder or softer, faded or blown out."""

    chance: Share = 0.7
    """Fraction of the degraded images that have it."""
    gamma: FactorSpan = (0.6, 1.7)
    """Range of the exponent applied to grey; above 1 is darker."""
    contrast: Annotated[tuple[_Bend, _Bend], ASCENDING] = (-0.4, 0.8)
    """Range of the share of an S-curve (the cubic 3x^2 - 2x^3) that is mixed in; below 0 the midtones become softer."""
    black: Annotated[tuple[_Level, _Level], ASCENDING] = (-0.06, 0.1)
    """Range of the value that black becomes; below 0, shadows are clipped."""
    white: Annotated[tuple[_Level, _Level], ASCENDING] = (0.85, 1.06)
    """Range of the value that white becomes; above 1, highlights are clipped."""

    def apply(self, grey: Tensor, generator: torch.Generator) -> Tensor:
        """Apply gamma, then contrast, then the black and white points."""
        each = (len(grey), 1, 1, 1)
        tone = grey ** factors(self.gamma, each, generator)
        tone = tone + uniform(self.contrast, each, generator) * tone * (1 - tone) * (2 * tone - 1)
        return torch.lerp(uniform(self.black, each, generator), uniform(self.white, each, generator), tone)


class Grain(PlaneEffect):
    """Grain: Gaussian noise, strongest in the midtones; often slight, rarely strong."""

    chance: Share = 0.7
    """Fraction of the degraded images that have it."""
    sigma: ShareSpan = (0, 0.05)
    """Range of its standard deviation in mid grey."""
    spread: ShareSpan = (0, 0.7)
    """Range of the weight of neighbouring pixels' noise: at 0 pixels are independent, at 1 all of 3x3 count alike."""

    def apply(self, grey: Tensor, generator: torch.Generator) -> Tensor:
        """Add noise of mean 0."""
        count, _, height, width = grey.shape
        each = (count, 1, 1, 1)
        low, high = self.sigma
        sigma = low + (high - low) * uniform((0, 1), each, generator) ** 2
        spread = uniform(self.spread, each, generator)
        noise = normal((count, 1, height + 2, width + 2), generator)
        noise = noise[:, :, 1:-1] + spread * (noise[:, :, :-2] + noise[:, :, 2:])
        noise = noise[..., 1:-1] + spread * (noise[..., :-2] + noise[..., 2:])
        noise *= sigma / (1 + 2 * spread**2)  # restores the standard deviation to sigma
        return grey + noise * (_EDGE_GRAIN + (1 - _EDGE_GRAIN) * 4 * grey * (1 - grey))
