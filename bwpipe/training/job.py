"""What a training is given and what it produces."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from bwpipe.data.dataset import Dataset
from bwpipe.nn.network import Network
from bwpipe.training.options import TrainingOptions

BEST = "best.safetensors"
"""File name of the checkpoint with the best weights so far, in a training's folder."""


@dataclass(frozen=True, slots=True, eq=False)
class UpcomingTraining:
    """A training that is about to start or resume.

    Attributes:
        network: Has the class and options of the network to be fitted; its weights are arbitrary.
        recipe: A hash of what the fitted weights depend on, also found in `FittedNetwork.training`.
        data: The dataset it is fitted to; None for stills, of which none are set aside.
    """

    network: Network
    recipe: str
    data: Dataset | None


@runtime_checkable
class ChecksTraining(Protocol):
    """A stage after `fit` or `adapt` that can refuse before the first step what it would refuse after the last."""

    def expect(self, coming: UpcomingTraining) -> None:
        """Check what is known of an upcoming training. Raises UsageError."""


@dataclass(frozen=True, slots=True, eq=False)
class FittedNetwork:
    """A fitted network.

    Attributes:
        network: With the best weights by validation, or their mean with others (`soup`).
        data: The dataset it was fitted to; None for stills, of which none were set aside.
        training: How it was made, JSON-serialisable: data, steps, seed, hardware, figures with their protocol.
    """

    network: Network
    data: Dataset | None
    training: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """A training to run; can be pickled.

    Attributes:
        options: The training options.
        recipe: What its result depends on, JSON-serialisable.
        data: The dataset.
        folder: Holds its states, the best checkpoint and the live view.
        title: Its name.
        graph: The text of its graph.
        quiet: Show warnings only.
        restart: Start over instead of resuming from a saved state.
    """

    options: TrainingOptions
    recipe: dict[str, Any]
    data: Dataset
    folder: Path
    title: str
    graph: str
    quiet: bool
    restart: bool = False
