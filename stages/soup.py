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
from bwpipe.training.builders import check_compatible
from bwpipe.training.job import FittedNetwork, UpcomingTraining
from bwpipe.training.norm_statistics import measure_statistics


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A checkpoint, read during setup so that it cannot change or vanish while the network is fitted."""

    network: Network
    digest: str


@stage("soup")
class Soup(Stage):
    """Averages a fitted network's weights with those of other checkpoints of the same network.

    If the trainings started from the same weights, their mean is often better than each of them (Wortsman et al., "Model
    soups", ICML 2022). It costs nothing at inference; a `score` below shows whether it helps. The running statistics of batch
    norms are measured on training images, since no mean of statistics fits the mean of weights; below `adapt`, whose stills are
    too few for that, they are averaged, too.
    """

    revision = 2

    checkpoints: Annotated[dict[str, Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)]
    """Checkpoints with their weights in the mean, such as `models/weights/unet.safetensors: 0.3`; the remainder up to 1 is the
    fitted network's weight."""

    _parts: dict[str, _Part] = PrivateAttr(default_factory=dict)
    _run: RunContext = PrivateAttr()

    def setup(self, run: RunContext) -> None:
        """Read the checkpoints and check that their shares leave some for the fitted network. Raises UsageError."""
        self._run = run
        if self._remainder <= 0:
            raise UsageError(
                f"soup.checkpoints: the shares add up to {1 - self._remainder:g}; make it less than 1, the rest "
                "is the fitted network's share"
            )
        if any(isinstance(each, Soup) for each in run.downstream(self)):
            raise UsageError("soup: there is another `soup` below; list all checkpoints in one")
        for checkpoint in self.checkpoints:
            path = locate(checkpoint)
            run.claim(str(path.resolve()), "copy it and give `soup` the copy")  # no other stage may write to it
            network, _ = load(path)
            self._parts[checkpoint] = _Part(network, digest(path))

    def expect(self, upcoming: UpcomingTraining) -> None:
        """Refuse checkpoints of another network before the first step. Raises UsageError."""
        for checkpoint, part in self._parts.items():
            check_compatible(upcoming.network, part.network, f"soup.checkpoints: {checkpoint}")

    def stream(self, items: Iterator[FittedNetwork]) -> Iterator[FittedNetwork]:
        """Average the weights."""
        return map(self._mix, items)

    @property
    def _remainder(self) -> float:
        return round(1 - fsum(self.checkpoints.values()), 9)

    def _mix(self, fitted: FittedNetwork) -> FittedNetwork:
        network = deepcopy(fitted.network)  # other stages may hold the fitted one
        sums = {name: each for name, each in network.state_dict().items() if each.is_floating_point()}  # not the step counters
        for each in sums.values():
            each.mul_(self._remainder)
        shares = {}
        for checkpoint, part in self._parts.items():
            share, weights = self.checkpoints[checkpoint], part.network.state_dict()
            for name, each in sums.items():
                each.add_(weights[name].to(each.device), alpha=share)
            shares[f"{checkpoint} ({part.digest})"] = share
        if fitted.data is not None:
            measure_statistics(network, fitted.data, tick=self._run.raise_if_stopped)
        return replace(
            fitted, network=network, training={**fitted.training, "soup": {**shares, "what was fitted": self._remainder}}
        )
