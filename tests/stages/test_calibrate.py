"""The `calibrate` stage."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from bwpipe import UsageError
from bwpipe.core import plugins
from bwpipe.data.dataset import Dataset
from bwpipe.nn.checkpoint import load, locate
from bwpipe.training.calibration import Calibration, calibrate
from tests.support.made_photos import write_photos
from tests.training.test_train import train

plugins.load()
UNET: dict[str, Any] = {
    "model": "unet",
    "losses": {"chroma_bins": 1},
    "rate": 1e-9,
    "epochs": 1,
    "batch": 8,
    "size": 32,
    "start": "unet",
}


def dataset() -> Dataset:
    """Photographs half of which is neutral and half brown, which no network expects."""
    rng = np.random.default_rng(0)
    rgb = np.repeat(rng.integers(40, 200, (6, 64, 64, 1), dtype=np.uint8), 3, axis=3)
    rgb[:, 32:] = rgb[:, 32:] * np.array([1, 0.75, 0.5])
    return Dataset.of(rgb[..., 1].copy(), rgb, validation=[2, 3, 4, 5])


def calibrated(prior: float, colourful: float = 1.0) -> Calibration:
    return calibrate(load(locate("unet"))[0], dataset(), prior=prior, colourful=colourful)


@pytest.mark.parametrize("colourful", [1.0, 0.7])
def test_predictions_become_as_colourful_as_asked(colourful: float) -> None:
    found = calibrated(0.0, colourful)

    assert found.after == pytest.approx(colourful * found.target, rel=0.03)
    assert found.gain != 1
    assert found.network.options.model_dump()["gain"] == found.gain


def test_the_true_shares_of_neutral_bins_are_put_back() -> None:
    luma = dataset().batch(np.array([2, 3]), torch.device("cpu"))[0]
    shares = []
    for prior in (0.0, 1.0):
        network = calibrated(prior).network
        grey = int(network.bins.abs().sum(1).argmin())
        shares.append(network(luma).softmax(1)[:, grey].mean().item())

    assert shares[1] > 1.5 * shares[0]


def test_a_train_graph_saves_the_calibrated_network_and_says_so(tmp_path: Path) -> None:
    train(
        tmp_path,
        write_photos(tmp_path / "photos", 10),
        below=[{"use": "calibrate", "prior": 0.0}],
        save={"half": False},
        **UNET,
    )

    made, checkpoint = load(tmp_path / "made.safetensors")
    assert checkpoint.options["gain"] == pytest.approx(checkpoint.training["calibration"]["gain"], abs=1e-4) != 1
    assert_close(made.state_dict()["head.bias"], load(locate("unet"))[0].state_dict()["head.bias"], atol=1e-3, rtol=0)
    assert "| calibration |" in (tmp_path / "made.md").read_text()


def test_a_network_without_bins_is_refused_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="predicts no distribution over bins; leave `calibrate` out"):
        train(tmp_path, write_photos(tmp_path / "photos", 20), below=[{"use": "calibrate"}], model="test-rgb")
    assert not (tmp_path / "runs" / "best.safetensors").exists()
