"""The loss for networks that predict a distribution over chroma bins."""

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
"""Number of images on which the frequencies of the bins are measured."""


class RebalanceOptions(LossOptions):
    """Options of `chroma_bins`."""

    rebalance: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """How much more rare colours count than common ones: not at all at 0, inversely to their frequency towards 1."""


@loss("chroma_bins")
class ChromaBins(ViewLoss):
    """Cross entropy with the soft-encoded target chroma, in nats, in which rare colours count more (Zhang et al. 2016).

    The weight of a bin is 1 / ((1 - l) p + l / Q), normalised to a mean of 1 over all images, where p is the bin's frequency in
    the images, Q the number of bins, and l is 1 - `rebalance`. The weight of a pixel is the mean over its bins by their shares.
    """

    needs: ClassVar[Literal["rgb", "chroma", "bins"]] = "bins"
    Options = RebalanceOptions
    weights: Tensor
    """(Q,) the weight of each bin."""

    def __init__(self, options: RebalanceOptions, network: Network, data: Dataset) -> None:
        """Measure the frequency of each bin in the training images."""
        super().__init__(options, network, data)
        self.encoding = SoftEncoding(network.bins)
        frequency = measure_shares(self.encoding, len(network.bins), data)
        weights = 1 / (options.rebalance * frequency + (1 - options.rebalance) / len(frequency))
        self.register_buffer("weights", (weights / (frequency * weights).sum()).float(), persistent=False)

    def compare(self, batch: ViewBatch, view: View) -> Tensor:
        """The cross entropy with the target."""
        target = self.encoding(target_chroma(batch, view, like=view.output))
        logs = view.output.float().permute(0, 2, 3, 1).log_softmax(-1)
        return self._mean(target, -(logs.gather(3, target.places) * target.shares).sum(-1))

    def floor(self, batch: ViewBatch) -> Tensor:
        """The entropy of the targets, weighted like the loss: its value if each distribution equals its target."""
        return torch.stack([self._entropy(batch, view) for view in batch.views]).mean()

    def _entropy(self, batch: ViewBatch, view: View) -> Tensor:
        target = self.encoding(target_chroma(batch, view, like=view.output))
        return self._mean(target, torch.special.entr(target.dense(len(self.weights))).sum(-1))

    def _mean(self, target: Shares, values: Tensor) -> Tensor:
        """The mean of values (B, h, w) by the weights of the pixels."""
        counts = (self.weights[target.places] * target.shares).sum(-1)
        return (counts * values).mean()


def measure_shares(encoding: SoftEncoding, count: int, data: Dataset) -> Tensor:
    """The frequency of each of `count` bins (float64) in a fixed sample of a dataset's training images.

    Images are measured at a quarter of their size and weighted by how often they are drawn; soft encoding smooths the result.
    """
    candidates = data.training[data.weights[data.training] > 0]
    places = np.sort(np.random.default_rng(0).choice(candidates, min(_SAMPLE, len(candidates)), replace=False))
    totals = torch.zeros(count, dtype=torch.float64)
    for chunk in np.array_split(places, max(1, len(places) // 50)):
        _, rgb = data.batch(chunk, torch.device("cpu"))
        target = encoding(adaptive_avg_pool2d(rgb_to_ycbcr(rgb)[1], max(1, data.size // 4)))
        weights = torch.from_numpy(data.weights[chunk]).double().view(-1, 1, 1, 1)
        totals += torch.bincount(target.places.flatten(), (target.shares * weights).flatten(), minlength=count)
    return totals / totals.sum()
