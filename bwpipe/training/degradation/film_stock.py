"""What film stock and its development do to a picture: the colours it sees, its tones, its grain."""

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
"""Of black and white, as a share of the grain of middle grey."""

_Bend = Annotated[float, Field(ge=-1, le=1)]
_Level = Annotated[float, Field(ge=-1, le=2)]


class Spectrum(Effect):
    """Film that sees red, green and blue in other shares than luma does: old stock was blind to red, or nearly so.

    How well it sees each of the three is drawn, and divided by the sum.
    """

    chance: Share = 0.7
    """The share of the damaged pictures that have it."""
    red: ShareSpan = (0, 0.45)
    """How well it sees red."""
    green: ShareSpan = (0.3, 0.8)
    """How well it sees green."""
    blue: ShareSpan = (0.05, 0.6)
    """How well it sees blue."""

    @model_validator(mode="after")
    def _sees_something(self) -> Self:
        if not (self.red[1] or self.green[1] or self.blue[1]):
            raise ValueError("film that is blind to red, green and blue sees nothing; let one of them be above 0")
        return self

    def apply(self, grey: Tensor, rgb: Tensor, generator: torch.Generator) -> Tensor:
        """Grey (N, 1, H, W) with another mix of RGB (N, 3, H, W) in place of its luma, so that real grey stays real."""
        mix = torch.cat([uniform(span, (len(grey), 1), generator) for span in (self.red, self.green, self.blue)], dim=1)
        mix = mix.clamp_(min=1e-9)  # three times 0 has no shares
        change = mix / mix.sum(dim=1, keepdim=True) - mix.new_tensor(WEIGHTS["bt601"])
        return grey + torch.einsum("nc,nchw->nhw", change, rgb).unsqueeze(1)


class Curve(PlaneEffect):
    """The tones of a development and a print: darker or lighter, harder or softer, faded or blown out."""

    chance: Share = 0.7
    """The share of the damaged pictures that have it."""
    gamma: FactorSpan = (0.6, 1.7)
    """The exponent of grey; above 1 is darker."""
    contrast: Annotated[tuple[_Bend, _Bend], ASCENDING] = (-0.4, 0.8)
    """How far an S (the cubic 3x^2 - 2x^3) is mixed in; below 0 the middle tones become softer."""
    black: Annotated[tuple[_Level, _Level], ASCENDING] = (-0.06, 0.1)
    """What black becomes; below 0, shadows are lost."""
    white: Annotated[tuple[_Level, _Level], ASCENDING] = (0.85, 1.06)
    """What white becomes; above 1, lights are lost."""

    def apply(self, grey: Tensor, generator: torch.Generator) -> Tensor:
        """Change the tones: gamma, then contrast, then black and white."""
        each = (len(grey), 1, 1, 1)
        tone = grey ** factors(self.gamma, each, generator)
        tone = tone + uniform(self.contrast, each, generator) * tone * (1 - tone) * (2 * tone - 1)
        return torch.lerp(uniform(self.black, each, generator), uniform(self.white, each, generator), tone)


class Grain(PlaneEffect):
    """Grain: Gaussian noise, more of it in middle tones, often slight and seldom strong."""

    chance: Share = 0.7
    """The share of the damaged pictures that have it."""
    sigma: ShareSpan = (0, 0.05)
    """Its standard deviation in middle grey."""
    spread: ShareSpan = (0, 0.7)
    """How much a grain has of its neighbours: at 0 each pixel has its own, at 1 all of 3x3 count alike."""

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
        noise *= sigma / (1 + 2 * spread**2)  # the standard deviation is sigma again
        return grey + noise * (_EDGE_GRAIN + (1 - _EDGE_GRAIN) * 4 * grey * (1 - grey))
