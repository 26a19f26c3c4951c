"""The `soup` stage: the mean of the fitted weights and other checkpoints."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from bwpipe import UsageError
from bwpipe.nn.checkpoint import load
from tests.support.made_photos import write_photos
from tests.training.test_train import train

LOSSES = {"test-rgb": {"rgb_mse": 1.0}, "test-chroma": {"chroma_l1": 1.0}}


def mix(
    folder: Path,
    photos: Path,
    *soups: dict[str, Any],
    model: str = "test-rgb",
    more: Sequence[dict[str, Any]] = (),
    **save: Any,
) -> None:
    """Run the train graph with `soup` stages before `save`."""
    below = [{"use": "soup", "id": f"soup{place}", "checkpoints": soup} for place, soup in enumerate(soups)]
    save = {"half": False, **save}
    train(
        folder, photos, path="mixed.safetensors", below=[*below, *more], save=save, model=model, losses=LOSSES[model], epochs=2
    )


def made(folder: Path, photos: Path, seed: int, model: str = "test-rgb") -> str:
    """Train and return another checkpoint."""
    train(folder / str(seed), photos, seed=seed, epochs=1, model=model, losses=LOSSES[model])
    return str(folder / str(seed) / "made.safetensors")


@pytest.mark.parametrize("model", ["test-rgb", "test-chroma"])  # the second has norms with step counters
def test_the_mean_has_the_requested_share_of_each(tmp_path: Path, model: str) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    one, other = (made(tmp_path, photos, seed, model) for seed in (1, 2))

    mix(tmp_path, photos, {one: 0.5, other: 0.2}, model=model)

    net, checkpoint = load(tmp_path / "mixed.safetensors")
    first, second, fitted = (load(Path(path))[0].state_dict() for path in (one, other, tmp_path / "runs" / "best.safetensors"))
    for name, weights in net.state_dict().items():
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):  # these are measured
            torch.testing.assert_close(weights, 0.5 * first[name] + 0.2 * second[name] + 0.3 * fitted[name])
            assert not torch.allclose(weights, fitted[name])
    assert list(checkpoint.training["soup"].values()) == [0.5, 0.2, 0.3]
    card = (tmp_path / "mixed.md").read_text()
    assert f"| soup | {one} (" in card
    assert "The weights are a mean (`soup`); what was fitted are those of epoch 2, the best by `loss`." in card


def test_a_score_below_measures_the_mean_and_another_branch_gets_the_fitted_weights(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    other = made(tmp_path, photos, 1)
    alone = {"use": "save", "id": "alone", "from": "fit", "path": str(tmp_path / "alone.safetensors"), "half": False}

    mix(tmp_path, photos, {other: 0.9}, more=[{"use": "score", "id": "mean"}, alone], **{"from": "mean"})

    fitted, plain, mixed = (
        load(tmp_path / name) for name in ("runs/best.safetensors", "alone.safetensors", "mixed.safetensors")
    )
    assert all(torch.equal(a, b) for a, b in zip(fitted[0].state_dict().values(), plain[0].state_dict().values(), strict=True))
    (score,) = mixed[1].training["scores"]
    assert score["protocol"]["weights"] == "as mixed by `soup`, before any rounding by `save`"
    assert "soup" not in plain[1].training


def test_other_shares_replace_the_first_without_another_fit(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    other = made(tmp_path, photos, 1)
    mix(tmp_path, photos, {other: 0.5})
    states = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("state-*.pt")}

    mix(tmp_path, photos, {other: 0.75})

    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("state-*.pt")} == states
    assert list(load(tmp_path / "mixed.safetensors")[1].training["soup"].values()) == [0.75, 0.25]


@pytest.mark.parametrize(
    ("soups", "complaint"),
    [
        (
            [{"autoencoder": 0.5}],
            "soup.checkpoints: autoencoder is a checkpoint of autoencoder, not of test-rgb; use one of",
        ),
        ([{"nowhere.safetensors": 0.5}], "there is no checkpoint nowhere.safetensors"),
        (
            [{"autoencoder": 0.7, "unet": 0.2, "x": 0.1}],
            "soup.checkpoints: the shares add up to 1; make it less than 1, the rest",
        ),
        ([{"autoencoder": 0.7}, {"unet": 0.2}], "soup: there is another `soup` below; list all checkpoints in one"),
        ([{}], "checkpoints: expected `key: value` pairs, each value a number above 0 and below 1, not {}"),
    ],
)
def test_invalid_checkpoints_are_refused_before_the_first_step(
    tmp_path: Path, soups: list[dict[str, Any]], complaint: str
) -> None:
    photos = write_photos(tmp_path / "photos", 20)

    with pytest.raises(UsageError) as refusal:
        mix(tmp_path, photos, *soups)

    assert complaint in str(refusal.value)
    assert list(tmp_path.rglob("state-*.pt")) == []


@pytest.mark.parametrize("written", ["runs/best.safetensors", "mixed.safetensors"])
def test_checkpoints_that_the_graph_writes_are_refused(tmp_path: Path, written: str) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    mix(tmp_path, photos)
    before = (tmp_path / written).read_bytes()

    with pytest.raises(UsageError, match=f"{written} would be used by two stages; "):
        mix(tmp_path, photos, {str(tmp_path / written): 0.5})

    assert (tmp_path / written).read_bytes() == before
