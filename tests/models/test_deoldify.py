"""The `deoldify` network, against the lists of its published weights and a straight computation of its layers from them."""

from collections.abc import Mapping
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from bwpipe.nn.network import InputSizes, Network, networks
from bwpipe.nn.runtime.base import Prediction
from bwpipe.nn.runtime.openvino import OpenVinoRuntime
from bwpipe.nn.runtime.trace import trace, weight_arrays
from bwpipe.nn.ycbcr import rgb_to_ycbcr
from tests.support.published import published_shapes, random_weights

Layout = Literal["deep", "wide"]
PARAMETERS = {"deep": 63_646_881, "wide": 218_222_197}
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def built(layout: Layout) -> Network:
    with torch.device("meta"):
        cls = networks["deoldify"]
        return cls(cls.Options.model_validate({"layout": layout}))


def weights(layout: Layout) -> dict[str, Tensor]:
    """Random weights of the published shapes, with the singular vectors that a training would have found."""
    own = random_weights(published_shapes(f"deoldify_{layout}"))
    for name in [name.removesuffix("_orig") for name in own if name.endswith("weight_orig")]:
        matrix = own[f"{name}_orig"].flatten(1)
        for _ in range(3):
            own[f"{name}_v"] = F.normalize(matrix.T @ own[f"{name}_u"], dim=0)
            own[f"{name}_u"] = F.normalize(matrix @ own[f"{name}_v"], dim=0)
    return own


def loaded(layout: Layout, own: Mapping[str, Tensor]) -> Network:
    net = built(layout)
    net.load_state_dict(own, assign=True)
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def deep() -> tuple[Network, dict[str, Tensor]]:
    own = weights("deep")
    return loaded("deep", own), own


@pytest.mark.parametrize("layout", ["deep", "wide"])
def test_it_has_the_published_weights_and_no_others(layout: Layout) -> None:
    net, shapes = built(layout), published_shapes(f"deoldify_{layout}")

    assert {weight: tuple(value.shape) for weight, value in net.state_dict().items()} == shapes
    assert sum(each.numel() for each in net.parameters()) == PARAMETERS[layout]
    assert {name: found for name in networks if (found := networks[name].recognise(shapes)) is not None} == {
        "deoldify": {"layout": layout}
    }


def straight(own: Mapping[str, Tensor], luma: Tensor, layout: Layout) -> Tensor:
    """RGB before it is limited, layer by layer from the weights by their published names."""

    def convolved(name: str, x: Tensor, **how: Any) -> Tensor:
        return F.conv2d(x, own[f"{name}.weight"], own.get(f"{name}.bias"), **how)

    def spectral(name: str, x: Tensor) -> Tensor:
        weight = own[f"{name}.weight_orig"]
        largest = torch.einsum("o,oi,i", own[f"{name}.weight_u"], weight.flatten(1), own[f"{name}.weight_v"])
        operation = F.conv1d if weight.ndim == 3 else F.conv2d
        return operation(x, weight / largest, own.get(f"{name}.bias"), padding=weight.shape[-1] // 2)

    def normed(name: str, x: Tensor) -> Tensor:
        mean, variance, scale, shift = (own[f"{name}.{each}"] for each in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, variance, scale, shift)

    def blurred(x: Tensor) -> Tensor:
        left = torch.cat([x[..., :1], x[..., :-1]], dim=-1)
        mean = (x + left) / 2
        return (mean + torch.cat([mean[:, :, :1], mean[:, :, :-1]], dim=2)) / 2

    def attended(name: str, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        query, key, value = (spectral(f"{name}.{each}", flat) for each in ("query", "key", "value"))
        share = torch.einsum("bcq,bck->bqk", query, key).softmax(1)
        return x + own[f"{name}.gamma"] * torch.einsum("bcq,bqk->bck", value, share).view_as(x)

    def residual(name: str, x: Tensor, stride: int) -> Tensor:
        count = 2 if f"{name}.conv3.weight" not in own else 3
        y = x
        for number in range(1, count + 1):
            side = own[f"{name}.conv{number}.weight"].shape[-1]
            step = stride if side == 3 and (count == 3 or number == 1) else 1
            y = normed(f"{name}.bn{number}", convolved(f"{name}.conv{number}", y, stride=step, padding=side // 2))
            y = y.relu() if number < count else y
        if f"{name}.downsample.0.weight" in own:
            x = normed(f"{name}.downsample.1", convolved(f"{name}.downsample.0", x, stride=stride))
        return (x + y).relu()

    seen = (luma - MEAN) / DEVIATION
    half = normed("layers.0.1", convolved("layers.0.0", seen, stride=2, padding=3)).relu()
    maps, x = [half], F.max_pool2d(half, 3, stride=2, padding=1)
    for layer, count in zip((4, 5, 6, 7), (3, 4, 6, 3) if layout == "deep" else (3, 4, 23, 3), strict=True):
        for number in range(count):
            x = residual(f"layers.0.{layer}.{number}", x, 2 if layer > 4 and number == 0 else 1)
        maps.append(x)
    x = normed("layers.1", maps.pop()).relu()
    for number in (0, 1):
        x = normed(f"layers.3.{number}.2", spectral(f"layers.3.{number}.0", x).relu())
    for layer in (4, 5, 6, 7):
        name = f"layers.{layer}"
        x = blurred(F.pixel_shuffle(normed(f"{name}.shuf.conv.1", spectral(f"{name}.shuf.conv.0", x)).relu(), 2))
        x = torch.cat([x, normed(f"{name}.bn", maps.pop())], 1).relu()
        for conv in ("conv1", "conv2") if layout == "deep" else ("conv",):
            x = normed(f"{name}.{conv}.2", spectral(f"{name}.{conv}.0", x).relu())
        x = attended(f"{name}.{conv}.3", x) if layer == 5 else x
    direction = own["layers.8.conv.0.weight_v"]
    length = direction.square().sum((1, 2, 3), keepdim=True).sqrt()
    x = F.conv2d(x, own["layers.8.conv.0.weight_g"] * direction / length, own["layers.8.conv.0.bias"])
    x = torch.cat([blurred(F.pixel_shuffle(x.relu(), 2)), seen], 1)
    y = spectral("layers.10.layers.0.0", x).relu()
    x = x + spectral("layers.10.layers.1.0", y).relu()
    x = 6 * spectral("layers.11.0", x).sigmoid() - 3
    return x * DEVIATION + MEAN


@pytest.mark.slow  # 64 and 218 million weights
@pytest.mark.parametrize("layout", ["deep", "wide"])
def test_it_computes_the_layers_of_the_published_code(layout: Layout, deep: tuple[Network, dict[str, Tensor]]) -> None:
    net, own = deep
    if layout == "wide":
        own = weights("wide")
        net = loaded("wide", own)
    luma = torch.rand(2, 1, 32, 64)

    rgb = straight(own, luma, layout).clamp(0, 1)
    guess = net.guess(luma)

    assert rgb.std() > 0.01
    assert guess.rgb is not None
    assert_close(guess.rgb, rgb, atol=2e-5, rtol=0)
    assert_close(guess.chroma, rgb_to_ycbcr(rgb)[1].clamp(-0.5, 0.5), atol=2e-5, rtol=0)
    assert_close(net.decode(guess.rgb, 0.5).chroma, (1.5 * guess.chroma).clamp(-0.5, 0.5))


def test_images_keep_their_aspect_ratio_up_to_two() -> None:
    net = built("deep")

    assert net.input_size(1080, 1440) == (448, 608)
    assert net.input_size(100, 900, "fast") == (320, 672)
    assert net.takes(448, 608)


@pytest.mark.slow
def test_openvino_computes_it(deep: tuple[Network, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    net, luma = deep[0], torch.rand(1, 1, 64, 96)
    monkeypatch.setattr(type(net), "sizes", InputSizes({"fast": 64, "normal": 64, "best": 64}, 32, 2))

    graph = trace(net, {}, "test")
    found: Prediction = OpenVinoRuntime(graph, lambda: weight_arrays(net), network=net).predict(luma[0].numpy())

    assert_close(torch.from_numpy(found.chroma), net.guess(luma).chroma, atol=1e-4, rtol=0)
