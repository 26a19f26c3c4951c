"""The base classes of degradation effects, and their random numbers."""

import math
from abc import ABC, abstractmethod
from typing import Annotated, TypeVar

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from torch import Tensor

T = TypeVar("T", bound=tuple[float, float])


def _ascending(span: T) -> T:
    if span[0] > span[1]:
        raise ValueError(f"the lower bound must come first; write [{span[1]}, {span[0]}]")
    return span


ASCENDING = AfterValidator(_ascending)
"""Refuses a pair whose first value is above its second."""
Share = Annotated[float, Field(ge=0, le=1)]
_Factor = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Length = Annotated[float, Field(ge=0, allow_inf_nan=False)]
ShareSpan = Annotated[tuple[Share, Share], ASCENDING]
FactorSpan = Annotated[tuple[_Factor, _Factor], ASCENDING]
LengthSpan = Annotated[tuple[_Length, _Length], ASCENDING]


def uniform(span: tuple[float, float], shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniformly distributed samples from a range."""
    return torch.empty(shape, device=generator.device).uniform_(*span, generator=generator)


def factors(span: tuple[float, float], shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Log-uniformly distributed samples from a range of positive numbers."""
    return uniform((math.log(span[0]), math.log(span[1])), shape, generator).exp_()


def normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Normally distributed samples of mean 0 and standard deviation 1."""
    return torch.empty(shape, device=generator.device).normal_(generator=generator)


class Effect(BaseModel):
    """A degradation effect; its strengths are drawn for each image."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chance: Share
    """Fraction of the degraded images that have it."""


class PlaneEffect(Effect, ABC):
    """A degradation effect that does not depend on colour."""

    @abstractmethod
    def apply(self, grey: Tensor, generator: torch.Generator) -> Tensor:
        """Apply the effect to all of the given images.

        Args:
            grey: (N, 1, H, W), float32 in 0..1; not modified.
            generator: On the same device.

        Returns:
            (N, 1, H, W); the caller clips it to 0..1.
        """
