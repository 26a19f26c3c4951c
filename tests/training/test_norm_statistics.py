"""The running statistics of batch norms after their weights were averaged."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bwpipe.core import plugins
from bwpipe.data.dataset import Dataset
from bwpipe.nn.network import Network, networks
from bwpipe.training.norm_statistics import measure_statistics

plugins.load([Path(__file__).parents[1] / "support" / "networks"])


def made() -> tuple[Any, Dataset]:
    """A network with a norm and dropout, and 20 images, of which 4 are for validation."""
    torch.manual_seed(0)
    cls = networks["test-chroma"]
    grey = np.random.default_rng(0).integers(0, 256, (20, 16, 16), np.uint8)
    return cls(cls.Options()).eval(), Dataset.of(grey, np.stack([grey] * 3, axis=3), validation=range(4))


def activations(network: Any, data: Dataset) -> Tensor:
    """What the norm gets (8, N) of all training images."""
    luma, _ = data.batch(data.training, torch.device("cpu"))
    with torch.no_grad():
        found: Tensor = network.first[0](luma).transpose(0, 1).flatten(1)
    return found


def test_statistics_are_those_of_the_training_images_and_nothing_else_changes() -> None:
    network, data = made()
    before = {name: each.clone() for name, each in network.state_dict().items()}

    measure_statistics(network, data)

    norm, seen = network.first[1], activations(network, data)
    torch.testing.assert_close(norm.running_mean, seen.mean(1))
    torch.testing.assert_close(norm.running_var, seen.var(1))
    assert norm.momentum == 0.1
    assert not any(each.training for each in network.modules())
    changed = {name for name, each in network.state_dict().items() if not torch.equal(each, before[name])}
    assert changed == {"first.1.running_mean", "first.1.running_var", "first.1.num_batches_tracked"}


def test_norms_that_are_not_trained_keep_their_statistics() -> None:
    network, data = made()
    before = network.first[1].running_mean.clone()

    def train(mode: bool = True) -> Network:
        Network.train(network, mode)
        network.first.eval()
        return network  # type: ignore[no-any-return]

    network.train = train
    measure_statistics(network, data)

    assert torch.equal(network.first[1].running_mean, before)
