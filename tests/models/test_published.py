"""The networks whose weights others publish: `siggraph17` and `eccv16`, against their lists of weights and layer tables."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from bwpipe.nn.lab import ab_to_chroma, chroma_to_ab, luma_to_lightness
from bwpipe.nn.network import Network, networks
from bwpipe.nn.runtime.base import Prediction
from bwpipe.nn.runtime.openvino import OpenVinoRuntime
from bwpipe.nn.runtime.trace import trace, weight_arrays
from tests.support.published import published_shapes, random_weights

NAMES = ("siggraph17", "eccv16")
PARAMETERS = {"siggraph17": 34_187_027, "eccv16": 32_236_011}


@pytest.fixture(scope="module")
def weights() -> dict[str, dict[str, Tensor]]:
    return {name: random_weights(published_shapes(name)) for name in NAMES}


@pytest.fixture(scope="module")
def nets(weights: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Network]:
    made = {}
    for name in NAMES:
        with torch.device("meta"):
            net = networks[name](networks[name].Options())
        net.load_state_dict(weights[name], assign=True)
        made[name] = net.eval().requires_grad_(False)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_it_has_the_published_weights_and_no_others(nets: Mapping[str, Network], name: str) -> None:
    shapes = {weight: tuple(value.shape) for weight, value in nets[name].state_dict().items()}

    assert shapes == published_shapes(name)
    assert sum(each.numel() for each in nets[name].parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", [*NAMES, "ddcolor_tiny"])
def test_published_weights_are_recognised_by_one_network_only(name: str) -> None:
    shapes = published_shapes(name)

    assert [each for each in networks if networks[each].recognise(shapes) is not None] == [name.partition("_")[0]]


def blocks(weights: Mapping[str, Tensor], x: Tensor, rows: tuple[tuple[int, int, int, int], ...]) -> list[Tensor]:
    """The outputs of blocks by their row in the papers' tables: number, convolutions, stride of the last, dilation."""
    found = []
    for number, count, stride, dilation in rows:
        for layer in range(count):
            step = stride if layer == count - 1 else 1
            x = F.relu(convolved(weights, f"model{number}.{2 * layer}", x, stride=step, padding=dilation, dilation=dilation))
        x = normed(weights, f"model{number}.{2 * count}", x)
        found.append(x)
    return found


def convolved(weights: Mapping[str, Tensor], name: str, x: Tensor, **how: int) -> Tensor:
    return F.conv2d(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"), **how)


def doubled(weights: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.conv_transpose2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=2, padding=1)


def normed(weights: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    scale, shift, mean, variance = (
        weights[f"{name}.{each}"].view(-1, 1, 1) for each in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift


def test_eccv16_computes_the_table_of_its_paper(nets: Mapping[str, Network], weights: Mapping[str, dict[str, Tensor]]) -> None:
    own, luma = weights["eccv16"], torch.rand(2, 1, 32, 40)
    x = (luma_to_lightness(luma) - 50) / 100
    table = (1, 2, 2, 1), (2, 2, 2, 1), (3, 3, 2, 1), (4, 3, 1, 1), (5, 3, 1, 2), (6, 3, 1, 2), (7, 3, 1, 1)

    x = blocks(own, x, table)[-1]
    x = F.relu(doubled(own, "model8.0", x))
    for layer in (2, 4):
        x = F.relu(convolved(own, f"model8.{layer}", x, padding=1))
    ab = 110 * convolved(own, "model_out", convolved(own, "model8.6", x).softmax(1))
    coarse = luma.unfold(2, 4, 4).unfold(3, 4, 4).mean((-2, -1))

    assert_close(nets["eccv16"].guess(luma).chroma, ab_to_chroma(coarse, ab))


def straight_siggraph17(own: Mapping[str, Tensor], seen: Tensor) -> Tensor:
    """a* and b* for the four planes that it sees: each of the first three blocks is followed by taking every other pixel."""
    (full,) = blocks(own, seen, ((1, 2, 1, 1),))
    (half,) = blocks(own, full[..., ::2, ::2], ((2, 2, 1, 1),))
    (quarter,) = blocks(own, half[..., ::2, ::2], ((3, 3, 1, 1),))
    x = blocks(own, quarter[..., ::2, ::2], ((4, 3, 1, 1), (5, 3, 1, 2), (6, 3, 1, 2), (7, 3, 1, 1)))[-1]
    x = F.relu(doubled(own, "model8up.0", x) + convolved(own, "model3short8.0", quarter, padding=1))
    for layer in (1, 3):
        x = F.relu(convolved(own, f"model8.{layer}", x, padding=1))
    x = normed(own, "model8.5", x)
    x = F.relu(doubled(own, "model9up.0", x) + convolved(own, "model2short9.0", half, padding=1))
    x = normed(own, "model9.3", F.relu(convolved(own, "model9.1", x, padding=1)))
    x = F.relu(doubled(own, "model10up.0", x) + convolved(own, "model1short10.0", full, padding=1))
    x = F.leaky_relu(convolved(own, "model10.1", x, padding=1), 0.2)
    return 110 * torch.tanh(convolved(own, "model_out.0", x))


@pytest.mark.parametrize("hinted", [False, True])
def test_siggraph17_computes_the_table_of_its_paper_with_and_without_hints(
    nets: Mapping[str, Network], weights: Mapping[str, dict[str, Tensor]], hinted: bool
) -> None:
    own, luma = weights["siggraph17"], torch.rand(2, 1, 32, 40)
    hints = torch.zeros(2, 3, 32, 40)
    hints[:, :, 8:12, 8:12] = torch.tensor([0.1, -0.05, 1.0]).view(3, 1, 1)
    mask = hints[:, 2:]
    known = torch.cat([chroma_to_ab(luma, hints[:, :2]) / 110 * mask, mask], dim=1)
    seen = torch.cat([(luma_to_lightness(luma) - 50) / 100, known if hinted else torch.zeros(2, 3, 32, 40)], dim=1)

    found = nets["siggraph17"].guess(luma, None, hints if hinted else None)

    assert_close(found.chroma, ab_to_chroma(luma, straight_siggraph17(own, seen)), atol=1e-5, rtol=1e-4)


def test_hints_change_what_siggraph17_predicts_and_uncertain_ones_do_not(nets: Mapping[str, Network]) -> None:
    net, luma = nets["siggraph17"], torch.rand(1, 1, 32, 32)
    hints = torch.zeros(1, 3, 32, 32)
    hints[:, :, 4:8, 4:8] = torch.tensor([0.1, 0.1, 1.0]).view(3, 1, 1)
    plain = net.guess(luma).chroma

    assert net.takes_hints
    assert not torch.equal(net.guess(luma, None, hints).chroma, plain)
    hints[:, 2] *= 0.4
    assert_close(net.guess(luma, None, hints).chroma, plain)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_equals_its_images_one_by_one_and_vividness_multiplies(nets: Mapping[str, Network], name: str) -> None:
    net, luma = nets[name], torch.rand(3, 1, 32, 32)
    chroma = net.guess(luma).chroma

    assert_close(torch.cat([net.guess(each).chroma for each in torch.split(luma, 1)]), chroma, atol=1e-5, rtol=0)
    assert_close(net.guess(luma, 0.5).chroma, (1.5 * chroma).clamp(-0.5, 0.5))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("height", "width", "size"), [(1080, 1920, (256, 456)), (600, 400, (384, 256)), (100, 900, (256, 512))]
)
def test_images_keep_their_aspect_ratio_up_to_two(
    nets: Mapping[str, Network], name: str, height: int, width: int, size: tuple[int, int]
) -> None:
    assert nets[name].input_size(height, width) == size
    assert nets[name].takes(*size)


@pytest.mark.slow  # tracing and comparing at full size takes ten seconds
@pytest.mark.parametrize("name", NAMES)
def test_openvino_computes_it(nets: Mapping[str, Network], name: str) -> None:
    net = nets[name]
    luma = torch.rand(1, 1, 64, 96)

    graph = trace(net, {}, "test")  # compares with torch, also with hints
    found: Prediction = OpenVinoRuntime(graph, lambda: weight_arrays(net), network=net).predict(luma[0].numpy())

    assert_close(torch.from_numpy(found.chroma), net.guess(luma).chroma, atol=1e-4, rtol=0)
