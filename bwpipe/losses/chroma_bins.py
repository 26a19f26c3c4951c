"""The loss of networks that give a distribution over bins of chroma."""

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from bwpipe.data.dataset import Dataset
from bwpipe.losses.base import LossOptions, View, ViewBatch, ViewLoss, loss, target_chroma
from bwpipe.nn.chroma_bins import Shares, SoftEncoding
from bwpipe.nn.network import Network
from bwpipe.nn.ycbcr import rgb_to_ycbcr

_SAMPLE = 400
"""How many pictures the shares of the bins are measured on."""


class RebalanceOptions(LossOptions):
    """What the loss can be told."""

    rebalance: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """How much more rare colours count than common ones: at 0 no more, towards 1 by as much as they are rarer."""


@loss("chroma_bins")
class ChromaBins(ViewLoss):
    """The cross entropy to the bins around the true chroma, in nats, in which rare colours count more (Zhang et al. 2016).

    A bin counts 1 / ((1 - l) p + l / Q), times what makes the mean over all pictures 1. There p is its share of the pictures, Q
    the number of bins, and l is 1 - `rebalance`. A pixel counts as much as its bins do, each by its share of it.
    """

    needs: ClassVar[Literal["rgb", "chroma", "bins"]] = "bins"
    Options = RebalanceOptions
    weights: Tensor
    """(Q,) how much each bin counts."""

    def __init__(self, options: RebalanceOptions, network: Network, data: Dataset) -> None:
        """Measure how common each bin is among the pictures to train on."""
        super().__init__(options, network, data)
        self.encoding = SoftEncoding(network.bins)
        share = measure_shares(self.encoding, len(network.bins), data)
        weights = 1 / (options.rebalance * share + (1 - options.rebalance) / len(share))
        self.register_buffer("weights", (weights / (share * weights).sum()).float(), persistent=False)

    def compare(self, batch: ViewBatch, view: View) -> Tensor:
        """Compare the distributions with the truth."""
        target = self.encoding(target_chroma(batch, view, like=view.output))
        logs = view.output.float().permute(0, 2, 3, 1).log_softmax(-1)
        return self._mean(target, -(logs.gather(3, target.places) * target.shares).sum(-1))

    def floor(self, batch: ViewBatch) -> Tensor:
        """The entropy of the targets, weighted as the loss is: what is left where each distribution equals its target."""
        return torch.stack([self._entropy(batch, view) for view in batch.views]).mean()

    def _entropy(self, batch: ViewBatch, view: View) -> Tensor:
        target = self.encoding(target_chroma(batch, view, like=view.output))
        return self._mean(target, torch.special.entr(target.dense(len(self.weights))).sum(-1))

    def _mean(self, target: Shares, values: Tensor) -> Tensor:
        """The mean of values (B, h, w), weighted by how much each pixel counts."""
        counts = (self.weights[target.places] * target.shares).sum(-1)
        return (counts * values).mean()


def measure_shares(encoding: SoftEncoding, count: int, data: Dataset) -> Tensor:
    """The share of each of `count` bins (float64) in a dataset: the same sample of its pictures to train on each time.

    They are looked at in a quarter of their size, each as often as it is shown, and the soft encoding smooths the shares.
    """
    there = data.training[data.weights[data.training] > 0]
    places = np.sort(np.random.default_rng(0).choice(there, min(_SAMPLE, len(there)), replace=False))
    totals = torch.zeros(count, dtype=torch.float64)
    for some in np.array_split(places, max(1, len(places) // 50)):
        _, rgb = data.batch(some, torch.device("cpu"))
        target = encoding(adaptive_avg_pool2d(rgb_to_ycbcr(rgb)[1], max(1, data.size // 4)))
        often = torch.from_numpy(data.weights[some]).double().view(-1, 1, 1, 1)
        totals += torch.bincount(target.places.flatten(), (target.shares * often).flatten(), minlength=count)
    return totals / totals.sum()
