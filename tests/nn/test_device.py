"""Choice of precision by device."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from bwpipe.core import plugins
from bwpipe.nn.device import fitting_precision, slowness
from bwpipe.nn.network import Network, networks
from tests.support.made_photos import write_photos
from tests.training.test_train import NETWORKS, train

plugins.load([NETWORKS])


def emulated() -> Any:
    """A network that is slow in anything but float32 and counts its trials."""
    cls: type[Network] = networks["test-emulated"]
    return cls(cls.Options()).eval()


@pytest.mark.parametrize("mixed", [True, False])
def test_if_a_precision_is_emulated_one_trial_is_enough(mixed: bool) -> None:
    net = emulated()
    before, threads = net.trials, torch.get_num_threads()

    assert slowness(net, torch.bfloat16, mixed=mixed) > 2
    assert net.trials - before == 2  # the first one creates the kernels
    assert torch.get_num_threads() == threads
    assert {weights.dtype for weights in net.parameters()} == {torch.float32}


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("name", ["autoencoder", "unet", "test-chroma"])
def test_every_network_can_be_timed(name: str, mixed: bool) -> None:
    cls = networks[name]

    ratio = slowness(cls(cls.Options()).eval(), torch.bfloat16, mixed=mixed)

    assert math.isfinite(ratio)
    assert ratio > 0


def test_a_cpu_predicts_in_float32_if_bfloat16_is_emulated() -> None:
    assert fitting_precision(emulated(), "cpu") == "float32"


def test_training_in_an_emulated_precision_warns_at_the_start(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)

    slow = train(tmp_path / "slow", photos, model="test-emulated", precision="bfloat16", epochs=1).remarks
    again = train(tmp_path / "slow", photos, model="test-emulated", precision="bfloat16", epochs=1).remarks
    exact = train(tmp_path / "exact", photos, model="test-emulated", epochs=1).remarks

    (remark,) = (text for text in slow if "precision" in text)
    assert remark.startswith("fit.precision: bfloat16 takes about ")
    assert remark.endswith(" times as long as float32 on this CPU; set `precision: float32`, which gives equally good weights")
    assert not any("precision" in text for text in [*exact, *again])
