"""What a kind of damage is."""

from abc import ABC, abstractmethod

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from bwpipe.damage.spans import Share


class Kind(BaseModel):
    """A kind of damage; its strengths are drawn anew for each picture."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    chance: Share
    """The share of the damaged pictures that have it."""


class Flaw(Kind, ABC):
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
