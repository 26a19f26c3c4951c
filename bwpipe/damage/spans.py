"""Ranges that options give, and what is drawn from them."""

import math
from typing import Annotated, TypeVar

import torch
from pydantic import AfterValidator, Field
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
