"""The `soup` stage: the mean of what was fitted and of other checkpoints."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bwpipe import UsageError
from bwpipe.network import load
from bwpipe.session import run
from tests.made_photos import write_photos
from tests.test_train import NETWORKS, train


def mixed(folder: Path, photos: Path, checkpoints: dict[str, Any], model: str = "test-rgb") -> None:
    """The train graph with a mean before it saves, and a look at what was fitted."""
    fit = {"model": model, "epochs": 2, "batch": 4, "device": "cpu", "threads": 1, "runs": str(folder / "runs")}
    if model == "test-chroma":
        fit["losses"] = {"chroma_l1": 1}
    stages = [
        {"use": "read", "path": str(photos)},
        {"use": "pairs", "size": 16, "toned": True},
        {"use": "dataset", "cache": str(folder / "cache")},
        {"use": "fit", **fit},
        {"use": "soup", "checkpoints": checkpoints},
        {"use": "save", "path": str(folder / "mixed.safetensors"), "half": False},
    ]
    run({"plugins": [str(NETWORKS)], "stages": stages}, quiet=True)


def test_the_mean_has_the_share_that_was_asked_for_of_each(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    for seed in (1, 2):
        train(tmp_path / str(seed), photos, seed=seed, epochs=1)
    others = [tmp_path / str(seed) / "made.safetensors" for seed in (1, 2)]

    mixed(tmp_path, photos, {str(others[0]): 0.5, str(others[1]): 0.2})

    net, told = load(tmp_path / "mixed.safetensors")
    first, second, fitted = (load(path)[0].state_dict() for path in (*others, tmp_path / "runs" / "best.safetensors"))
    for name, weights in net.state_dict().items():
        torch.testing.assert_close(weights, 0.5 * first[name] + 0.2 * second[name] + 0.3 * fitted[name])
    assert any(not torch.allclose(weights, fitted[name]) for name, weights in net.state_dict().items())
    assert list(told.training["soup"].values()) == [0.5, 0.2, 0.3]
    assert f"| soup | {others[0]} (" in (tmp_path / "mixed.md").read_text()


@pytest.mark.parametrize(
    ("checkpoints", "complaint"),
    [
        (
            {"autoencoder": 0.5},
            "soup.checkpoints: .* is a checkpoint of autoencoder.*, which is another network than test-rgb; ",
        ),
        ({"nowhere.safetensors": 0.5}, "there is no checkpoint nowhere.safetensors"),
        ({"autoencoder": 0.5, "unet": 0.5}, "soup.checkpoints: the shares add up to 1 or more; leave some of it for what is"),
        ({}, "checkpoints: expected `key: value` pairs, each value a number above 0 and below 1, not {}"),
    ],
)
def test_what_has_no_mean_is_told_before_the_first_step(tmp_path: Path, checkpoints: dict[str, Any], complaint: str) -> None:
    photos = write_photos(tmp_path / "photos", 20)

    with pytest.raises(UsageError, match=complaint):
        mixed(tmp_path, photos, checkpoints)

    assert list(tmp_path.rglob("state-*.pt")) == []
