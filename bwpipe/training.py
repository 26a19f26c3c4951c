"""What flows through a train graph: pairs, the dataset they are gathered in, and the network fitted to it."""

from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bwpipe.frame import Unit
from bwpipe.network import Network


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A picture in grey and in colour.

    Attributes:
        unit: Where it comes from.
        grey: (S, S) uint8, its luma in full range.
        colour: (S, S, 3) uint8, RGB.
    """

    unit: Unit
    grey: NDArray[np.uint8]
    colour: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Pairs of one size, some of them to train on and the others to validate on.

    Attributes:
        grey: (N, S, S) uint8.
        colour: (N, S, S, 3) uint8.
        training: (T,) the places of those to train on, ascending.
        validation: (V,) the places of the others, ascending.
    """

    grey: NDArray[np.uint8]
    colour: NDArray[np.uint8]
    training: NDArray[np.intp]
    validation: NDArray[np.intp]

    @property
    def size(self) -> int:
        """Height and width of a pair, in pixels."""
        return int(self.grey.shape[1])

    @cached_property
    def digest(self) -> str:
        """A hash of it all: equal for equal datasets only."""
        digest = blake2b(digest_size=16)
        for array in (self.grey, self.colour, self.training, self.validation):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def batch(self, places: NDArray[np.intp], device: torch.device) -> tuple[Tensor, Tensor]:
        """Some pairs as networks take them: luma (B, 1, S, S) and RGB (B, 3, S, S), float32 in 0..1, channels last."""
        luma = torch.from_numpy(self.grey[places]).to(device).unsqueeze(1)
        rgb = torch.from_numpy(self.colour[places]).to(device).permute(0, 3, 1, 2)
        return tuple(each.contiguous(memory_format=torch.channels_last).float() / 255 for each in (luma, rgb))  # type: ignore[return-value]


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A network that was fitted.

    Attributes:
        network: With the weights that were best in validation.
        data: What it was fitted to.
        training: How it was made, as JSON can hold it: data, steps, seed, hardware, figures with their protocol.
    """

    network: Network
    data: Dataset
    training: dict[str, Any] = field(default_factory=dict)
