"""How a network is fitted, and what comes of it."""

from dataclasses import dataclass, field
from typing import Any

from bwpipe.dataset import Dataset
from bwpipe.network import Network


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
