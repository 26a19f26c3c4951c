"""The `soup` stage."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Annotated

from pydantic import Field, PrivateAttr

from bwpipe import Run, Stage, UsageError, stage
from bwpipe.network import load, locate
from bwpipe.stamp import digest
from bwpipe.training import Coming, Fitted
from bwpipe.training.prepare import weights_of


@stage("soup")
class Soup(Stage):
    """Takes the mean of a fitted network's weights and those of other checkpoints of the same network.

    Where trainings began with the same weights, their mean is often better than each of them (Wortsman et al., "Model soups",
    ICML 2022). It costs nothing when it is used; `score` below it says whether it pays.
    """

    checkpoints: Annotated[dict[str, Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)]
    """Checkpoints, each with its share in the mean, such as `models/weights/unet.safetensors: 0.3`; what is left of 1 is the
    fitted network's."""

    _digests: dict[str, str] = PrivateAttr()

    def setup(self, run: Run) -> None:
        """See that they are there, and that they leave something for what is fitted. Raises UsageError."""
        if self._left <= 0:
            raise UsageError("soup.checkpoints: the shares add up to 1 or more; leave some of it for what is fitted")
        for checkpoint in self.checkpoints:
            load(locate(checkpoint))
        self._digests = {checkpoint: digest(locate(checkpoint)) for checkpoint in self.checkpoints}

    def expect(self, coming: Coming) -> None:
        """Refuse checkpoints of another network before the first step. Raises UsageError."""
        for checkpoint in self.checkpoints:
            weights_of(checkpoint, type(coming.network), coming.network.options, "soup.checkpoints")

    def stream(self, items: Iterator[Fitted]) -> Iterator[Fitted]:
        """Take the mean."""
        return map(self._mix, items)

    @property
    def _left(self) -> float:
        return 1 - sum(self.checkpoints.values())

    def _mix(self, fitted: Fitted) -> Fitted:
        network = deepcopy(fitted.network)
        sums = {name: each for name, each in network.state_dict().items() if each.is_floating_point()}  # others only count
        for each in sums.values():
            each.mul_(self._left)
        for checkpoint, share in self.checkpoints.items():
            weights = weights_of(checkpoint, type(network), network.options, "soup.checkpoints")
            for name, each in sums.items():
                each.add_(weights[name].to(each.device), alpha=share)
        told = {f"{checkpoint} ({self._digests[checkpoint]})": share for checkpoint, share in self.checkpoints.items()}
        training = {**fitted.training, "soup": {**told, "what was fitted": round(self._left, 6)}}
        return replace(fitted, network=network, training=training)
