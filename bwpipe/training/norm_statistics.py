"""The running statistics of batch norms, measured for weights that were averaged."""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import interpolate
from torch.nn.modules.batchnorm import _BatchNorm

from bwpipe.data.dataset import Dataset
from bwpipe.nn.network import Network

_SAMPLE, _BATCH = 1280, 32
"""Images on which statistics are measured, and how many at a time: a moment's statistics are those of a whole batch."""


def measure_statistics(network: Network, data: Dataset, *, tick: Callable[[], None] = lambda: None) -> None:
    """Replace, in place, the means and variances of batch norms by those over training images.

    No mean of statistics describes the activations of averaged weights (Izmailov et al. 2018, "Averaging Weights Leads to Wider
    Optima and Better Generalization"). The images are whole, not degraded, and at the network's `input_size`, as for
    predictions: parts of them at other scales, as in a training, have other statistics (Touvron et al. 2019, "Fixing the
    train-test resolution discrepancy"). Norms that a network does not train keep theirs.

    Args:
        network: On any device; it is in evaluation mode afterwards.
        data: Up to 1,280 of its training images are used, as often as their weights say.
        tick: Called before each batch; may raise.
    """
    order = data.order(seed=0, epoch=0)[:_SAMPLE]
    network.train()
    norms = [each for each in network.modules() if isinstance(each, _BatchNorm) and each.training]
    momenta = [each.momentum for each in norms]
    network.eval()  # nothing else is to differ from a prediction, such as dropout
    for each in norms:
        each.train().reset_running_stats()
        each.momentum = None  # each batch counts alike
    device, size = next(network.parameters()).device, network.input_size(data.size, data.size)
    with torch.no_grad():
        for chosen in np.array_split(order, -(-len(order) // _BATCH)) if norms else ():
            tick()
            luma, _ = data.batch(chosen, device)
            network(interpolate(luma, size, mode="bilinear", antialias=True) if luma.shape[2:] != size else luma)
    for each, momentum in zip(norms, momenta, strict=True):
        each.momentum = momentum
    network.eval()
