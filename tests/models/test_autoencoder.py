"""The `autoencoder` network."""

import pytest
import torch
from torch.testing import assert_close

from bwpipe.core import plugins
from bwpipe.nn.network import Network, networks

plugins.load()


@pytest.fixture
def net() -> Network:
    torch.manual_seed(0)
    cls = networks["autoencoder"]
    return cls(cls.Options()).eval().requires_grad_(False)


def test_its_number_of_weights_is_unchanged(net: Network) -> None:
    assert sum(weights.numel() for weights in net.parameters()) == 3_470_659


def test_luma_of_150_by_150_becomes_rgb_of_150_by_150(net: Network) -> None:
    rgb = net(torch.rand(2, 1, 150, 150))

    assert rgb.shape == (2, 3, 150, 150)
    assert rgb.min() >= 0
    assert rgb.max() <= 1


@pytest.mark.parametrize(("height", "width"), [(150, 150), (1080, 1920), (3, 5000)])
def test_any_image_is_resized_to_a_square(net: Network, height: int, width: int) -> None:
    assert net.input_size(height, width) == (150, 150)


def test_its_prediction_is_the_chroma_of_its_rgb(net: Network) -> None:
    luma = torch.rand(2, 1, 150, 150)
    red, green, blue = net(luma).unbind(dim=1)

    prediction = net.guess(luma)

    assert prediction.confidence is None
    own = 0.299 * red + 0.587 * green + 0.114 * blue
    assert_close(prediction.chroma, torch.stack([(blue - own) / 1.772, (red - own) / 1.402], dim=1))


def test_vividness_strengthens_colours_at_constant_hue(net: Network) -> None:
    luma = torch.rand(1, 1, 150, 150)
    own = net.guess(luma).chroma

    assert torch.equal(net.guess(luma, 0).chroma, own)
    assert_close(net.guess(luma, 0.5).chroma, 1.5 * own)
    assert_close(net.guess(luma, 1).chroma, (2 * own).clamp(-0.5, 0.5))


def test_gradients_reach_every_weight() -> None:
    net = networks["autoencoder"](networks["autoencoder"].Options())

    net(torch.rand(1, 1, 150, 150)).sum().backward()

    assert all(weights.grad is not None and weights.grad.abs().sum() > 0 for weights in net.parameters())
