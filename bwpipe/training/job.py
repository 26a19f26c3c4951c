"""How a network is fitted, and what comes of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from bwpipe.data.dataset import Dataset
from bwpipe.nn.network import Network
from bwpipe.training.options import TrainingOptions

BEST = "best.safetensors"
"""The checkpoint of the best weights so far, in a training's folder."""


@dataclass(frozen=True, slots=True, eq=False)
class UpcomingTraining:
    """A training that is about to begin, or to go on.

    Attributes:
        network: Of the class and with the options that are fitted; its weights mean nothing.
        recipe: A hash of what the fitted weights depend on, which `Fitted.training` has, too.
        data: What it is fitted to.
    """

    network: Network
    recipe: str
    data: Dataset


@runtime_checkable
class ChecksTraining(Protocol):
    """A stage after `fit` that can tell before the first step what would be refused after the last."""

    def expect(self, coming: UpcomingTraining) -> None:
        """Check what is known of a training that is coming. Raises UsageError."""


@dataclass(frozen=True, slots=True, eq=False)
class FittedNetwork:
    """A network that was fitted.

    Attributes:
        network: With the weights that were best in validation, or their mean with others (`soup`).
        data: What it was fitted to.
        training: How it was made, as JSON can hold it: data, steps, seed, hardware, figures with their protocol.
    """

    network: Network
    data: Dataset
    training: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """A training that is to be done; it can be handed to another process.

    Attributes:
        options: How.
        recipe: What its result depends on, as JSON can hold it.
        data: The pairs.
        folder: Where its states, the best checkpoint and the live view are kept.
        title: What it is called.
        graph: The text of its graph.
        quiet: Whether to show warnings only.
        restart: Whether to begin anew, instead of going on from a state that is kept.
    """

    options: TrainingOptions
    recipe: dict[str, Any]
    data: Dataset
    folder: Path
    title: str
    graph: str
    quiet: bool
    restart: bool = False
