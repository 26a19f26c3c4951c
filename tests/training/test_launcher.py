"""A training shared by two processes."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bwpipe.core import plugins
from bwpipe.data.dataset import Dataset
from bwpipe.nn.checkpoint import load
from bwpipe.training.fabric import Fabric
from bwpipe.training.launcher import launch
from bwpipe.training.options import TrainingOptions
from bwpipe.training.step import TrainStep
from tests.support.made_photos import write_photos
from tests.training.test_train import NETWORKS, dataset, train

pytestmark = pytest.mark.slow  # each of the processes imports torch and Lightning, which takes 8 s of a core
ROOT = Path(__file__).parents[2]


def gradients(fabric: Fabric, options: TrainingOptions, data: Dataset) -> dict[str, NDArray[np.float32]]:
    """The gradients of all weights for the second batch."""
    plugins.load([NETWORKS])
    torch.set_num_threads(1)
    stepper = TrainStep(options, data, fabric)
    losses = stepper.gradients(1)
    found = {name: weights.grad.numpy() for name, weights in stepper.network.named_parameters() if weights.grad is not None}
    return {**found, "loss": np.array(losses["loss"])}


@pytest.mark.timeout(240)
def test_two_processes_have_the_gradients_of_one_on_the_same_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)  # for the worker processes, too
    data = dataset(write_photos(tmp_path / "photos", 30), tmp_path)
    augment: dict[str, Any] = {"flip": True, "crop": 16, "scale": [0.5, 1.0]}
    options = TrainingOptions.model_validate({"model": "test-rgb", "batch": 8, "augment": augment, "damage": {}})

    alone = gradients(Fabric(accelerator="cpu", devices=1), options, data)
    two = launch(partial(gradients, options=options, data=data), "cpu", 2)

    assert two.keys() == alone.keys()
    for name, values in alone.items():
        assert np.linalg.norm(two[name] - values) < 1e-5 * np.linalg.norm(values), name


@pytest.mark.timeout(240)
def test_two_processes_train_together_quietly_and_keep_one_set_of_checkpoints(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    options: dict[str, Any] = {
        "accumulate": 2,
        "rate": 0.01,
        "weight_decay": 0.1,  # which Adam adds to the gradients, so that their scale matters
        "augment": {"flip": True, "crop": 16, "scale": [0.5, 1.0]},
        "damage": {},
    }
    for folder, devices in (("one", 1), ("two", 2)):
        assert train(tmp_path / folder, photos, devices=devices, **options).exit_code == 0
    assert capfd.readouterr() == ("", "")

    nets = [load(tmp_path / folder / "made.safetensors")[0] for folder in ("one", "two")]
    for one, two in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)
    assert len(list((tmp_path / "two" / "runs").glob("state-*.pt"))) == 2
    assert len(list((tmp_path / "two" / "runs").rglob("events.out.*"))) == 1
