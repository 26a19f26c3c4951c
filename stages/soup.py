"""The `soup` stage."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from math import fsum
from typing import Annotated

from pydantic import Field, PrivateAttr

from bwpipe import RunContext, Stage, UsageError, stage
from bwpipe.core.fingerprint import digest
from bwpipe.nn.checkpoint import load, locate
from bwpipe.nn.network import Network
from bwpipe.training.builders import check_alike
from bwpipe.training.job import FittedNetwork, UpcomingTraining


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A checkpoint, read when the graph is set up, so that it can't change or go while the network is fitted."""

    network: Network
    digest: str


@stage("soup")
class Soup(Stage):
    """Takes the mean of a fitted network's weights and those of other checkpoints of the same network.

    Where trainings began with the same weights, their mean is often better than each of them (Wortsman et al., "Model soups",
    ICML 2022). It costs nothing when it is used; `score` below it says whether it pays. The averages in batch norms are mixed
    like weights, not measured anew.
    """

    checkpoints: Annotated[dict[str, Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)]
    """Checkpoints, each with its share in the mean, such as `models/weights/unet.safetensors: 0.3`; what is left of 1 is the
    fitted network's."""

    _parts: dict[str, _Part] = PrivateAttr(default_factory=dict)

    def setup(self, run: RunContext) -> None:
        """Read them, and see that they leave something for what is fitted. Raises UsageError."""
        if self._left <= 0:
            raise UsageError(
                f"soup.checkpoints: the shares add up to {1 - self._left:g}; make it less than 1, the rest is what is fitted's"
            )
        if any(isinstance(each, Soup) for each in run.downstream(self)):
            raise UsageError("soup: there is another `soup` below; name all checkpoints in one")
        for checkpoint in self.checkpoints:
            path = locate(checkpoint)
            run.claim(str(path.resolve()), "copy it first, and give `soup` the copy")  # nothing may write to it
            network, _ = load(path)
            self._parts[checkpoint] = _Part(network, digest(path))

    def expect(self, coming: UpcomingTraining) -> None:
        """Refuse checkpoints of another network before the first step. Raises UsageError."""
        for checkpoint, part in self._parts.items():
            check_alike(coming.network, part.network, f"soup.checkpoints: {checkpoint}")

    def stream(self, items: Iterator[FittedNetwork]) -> Iterator[FittedNetwork]:
        """Take the mean."""
        return map(self._mix, items)

    @property
    def _left(self) -> float:
        return round(1 - fsum(self.checkpoints.values()), 9)

    def _mix(self, fitted: FittedNetwork) -> FittedNetwork:
        network = deepcopy(fitted.network)  # other stages may have the fitted one
        sums = {name: each for name, each in network.state_dict().items() if each.is_floating_point()}  # no counts of steps
        for each in sums.values():
            each.mul_(self._left)
        told = {}
        for checkpoint, part in self._parts.items():
            share, weights = self.checkpoints[checkpoint], part.network.state_dict()
            for name, each in sums.items():
                each.add_(weights[name].to(each.device), alpha=share)
            told[f"{checkpoint} ({part.digest})"] = share
        return replace(fitted, network=network, training={**fitted.training, "soup": {**told, "what was fitted": self._left}})
