"""The weighted sum of losses that a graph names."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from bwpipe.core.options import build
from bwpipe.core.registry import UnknownNameError
from bwpipe.data.dataset import Dataset
from bwpipe.errors import UsageError
from bwpipe.losses.base import Loss, LossOptions, ViewBatch, losses
from bwpipe.nn.network import Network

Named: TypeAlias = Mapping[str, float | Mapping[str, Any]]
"""Losses by name, each with its weight, or with `weight` and other options."""


def check(named: Named, network: type[Network]) -> dict[str, LossOptions]:
    """Check, without building the losses, that each fits the network and has what it needs; returns their options.

    Raises UsageError.
    """
    if not named:
        raise UsageError(f"fit.losses is empty; name one or more of {', '.join(losses)}")
    checked = {}
    for name, settings in named.items():
        try:
            cls = losses[name]
        except UnknownNameError as error:
            raise UsageError(f"fit.losses: {error}") from None
        if not cls.fits(network):
            fitting = ", ".join(other for other in losses if losses[other].fits(network))
            raise UsageError(
                f"fit.losses: {name} needs a network that produces {cls.needs}, but {network.registered} produces "
                f"{network.produces}; losses that fit it: {fitting}"
            )
        options = build(cls.Options, settings if isinstance(settings, Mapping) else {"weight": settings}, of=name)
        if isinstance(options, list):
            raise UsageError(f"fit.losses.{name}: {options[0].text}")
        cls.check()
        checked[name] = options
    return checked


class Combined(nn.Module):
    """The weighted sum of losses; computed in float32 even under autocast.

    Attributes:
        views: Number of views of each image that the losses need.
    """

    def __init__(self, named: Named, network: Network, data: Dataset) -> None:
        """Build the losses, on the CPU; they are not part of checkpoints.

        Args:
            named: The losses with their weights or options.
            network: The network to train.
            data: The dataset to train on.

        Raises:
            UsageError: A loss is unknown, has invalid options, does not fit the network, or needs a missing package.
        """
        super().__init__()
        checked = check(named, type(network))
        self._losses = nn.ModuleDict({name: losses[name](options, network, data) for name, options in checked.items()})
        self.views = max(loss.views for loss in self._each().values())

    def forward(self, batch: ViewBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, a scalar with gradients, and each unweighted loss without gradients."""
        with torch.autocast(batch.rgb.device.type, enabled=False):
            values = {name: loss(batch) for name, loss in self._each().items()}
        return self._sum(values), {name: value.detach() for name, value in values.items()}

    def floor(self, batch: ViewBatch) -> Tensor:
        """The lower bound of the weighted sum for any prediction."""
        with torch.no_grad(), torch.autocast(batch.rgb.device.type, enabled=False):
            return self._sum({name: loss.floor(batch) for name, loss in self._each().items()})

    def _sum(self, values: dict[str, Tensor]) -> Tensor:
        weights = {name: loss.options.weight for name, loss in self._each().items()}
        return torch.stack([weights[name] * value for name, value in values.items()]).sum()

    def _each(self) -> dict[str, Loss]:
        return dict(self._losses.items())  # type: ignore[arg-type]
