"""What a kind of damage is."""

import math
from abc import ABC, abstractmethod
from typing import Annotated, TypeVar

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from torch import Tensor

T = TypeVar("T", bound=tuple[float, float])


def _ascending(span: T) -> T:
    if span[0] > span[1]:
        raise ValueError(f"the first of the two must be the lower one; write [{span[1]}, {span[0]}]")
    return span


ASCENDING = AfterValidator(_ascending)
"""Refuses a pair whose first is above its second."""
Share = Annotated[float, Field(ge=0, le=1)]
_Factor = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Length = Annotated[float, Field(ge=0, allow_inf_nan=False)]
ShareSpan = Annotated[tuple[Share, Share], ASCENDING]
FactorSpan = Annotated[tuple[_Factor, _Factor], ASCENDING]
LengthSpan = Annotated[tuple[_Length, _Length], ASCENDING]


def uniform(span: tuple[float, float], shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Numbers of a range, each as likely as another."""
    return torch.empty(shape, device=generator.device).uniform_(*span, generator=generator)


def factors(span: tuple[float, float], shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Numbers of a range above 0, the double of a number as likely as its half."""
    return uniform((math.log(span[0]), math.log(span[1])), shape, generator).exp_()


def normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Numbers of mean 0 and standard deviation 1."""
    return torch.empty(shape, device=generator.device).normal_(generator=generator)


class Effect(BaseModel):
    """A kind of damage; its strengths are drawn anew for each picture."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    chance: Share
    """The share of the damaged pictures that have it."""


class PlaneEffect(Effect, ABC):
    """A kind of damage that does not depend on colour."""

    @abstractmethod
    def apply(self, grey: Tensor, generator: torch.Generator) -> Tensor:
        """Do it to all of some pictures.

        Args:
            grey: (N, 1, H, W), float32 in 0..1; left as it is.
            generator: On the same device.

        Returns:
            (N, 1, H, W); what leaves 0..1 is clipped afterwards.
        """
