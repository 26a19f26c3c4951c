"""Degradation that makes the grey input look like old film."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate
from torch.testing import assert_close

from bwpipe.core.options import build
from bwpipe.nn.ycbcr import rgb_to_ycbcr
from bwpipe.training.degradation import Degradation
from bwpipe.training.degradation.jpeg import compressed

EFFECTS = [name for name in Degradation.model_fields if name != "chance"]


def damage(**options: Any) -> Degradation:
    output = build(Degradation, options, of="damage")
    assert isinstance(output, Degradation), output
    return output


def only(kind: str, **options: Any) -> Degradation:
    """A single effect, on all images."""
    return damage(chance=1, **{name: {"chance": 0} for name in EFFECTS} | {kind: {"chance": 1, **options}})


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 8, height: int = 32, width: int = 32) -> tuple[Tensor, Tensor]:
    """The grey of smooth images, and the images."""
    rgb = interpolate(torch.rand(count, 3, 5, 5, generator=seeded(7)), (height, width), mode="bilinear")
    return rgb_to_ycbcr(rgb)[0], rgb


def flat(value: float, count: int = 4, side: int = 64) -> tuple[Tensor, Tensor]:
    return torch.full((count, 1, side, side), value), torch.full((count, 3, side, side), value)


@pytest.mark.parametrize("options", [{"chance": 0}, {name: {"chance": 0} for name in EFFECTS}])
def test_at_chance_zero_the_input_is_unchanged(options: dict[str, Any]) -> None:
    grey, rgb = batch()

    assert torch.equal(damage(**options)(grey, rgb, seeded()), grey)


@given(count=st.integers(1, 5), height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_inputs_of_any_size_keep_shape_and_range_and_the_target_is_not_modified(
    count: int, height: int, width: int, seed: int
) -> None:
    grey, rgb = batch(count, height, width)
    before = grey.clone(), rgb.clone()

    output = damage(chance=1, **{name: {"chance": 1} for name in EFFECTS})(grey, rgb, seeded(seed))

    assert output.shape == grey.shape
    assert output.dtype == torch.float32
    assert ((output >= 0) & (output <= 1)).all()
    assert torch.equal(grey, before[0])
    assert torch.equal(rgb, before[1])


def test_the_generator_is_the_only_source_of_randomness() -> None:
    before = torch.get_rng_state()

    one, other, third = (damage()(*batch(), seeded(seed)) for seed in (1, 1, 2))

    assert torch.equal(one, other)
    assert not torch.equal(one, third)
    assert torch.equal(before, torch.get_rng_state())


def test_the_requested_fraction_is_degraded_each_image_differently() -> None:
    grey, rgb = (plane.expand(1000, -1, -1, -1) for plane in batch(1, 4, 4))
    options = {name: {"chance": 0} for name in EFFECTS} | {"curve": {"chance": 0.5}, "vignette": {"chance": 1}}

    output = damage(chance=0.6, **options)(grey, rgb, seeded())

    views = {tuple(picture.flatten().tolist()) for picture in output}
    assert (output == grey).all(dim=3).all(dim=2).float().mean() == pytest.approx(0.4, abs=0.05)
    assert len(views) == pytest.approx(600, abs=50)


def test_film_without_sensitivity_to_red_records_red_as_black() -> None:
    rgb = torch.eye(3).view(3, 3, 1, 1).expand(-1, -1, 8, 8).contiguous()
    grey, _ = rgb_to_ycbcr(rgb)

    red, green, blue = only("spectrum", red=[0, 0], green=[0.5, 0.5], blue=[0.5, 0.5])(grey, rgb, seeded())

    assert_close(red, torch.zeros(1, 8, 8), atol=1e-6, rtol=0)
    assert_close(green, torch.full((1, 8, 8), 0.5))
    assert_close(blue, torch.full((1, 8, 8), 0.5))


def test_a_spectrum_keeps_neutral_colours_and_changes_a_separate_grey_input_by_the_difference_in_luma() -> None:
    paper, white = flat(0.4)
    assert_close(only("spectrum")(paper, white, seeded()), paper)

    grey, rgb = batch()
    output, real = (only("spectrum")(each, rgb, seeded()) for each in (grey, 0.5 * grey + 0.2))

    inside = (output > 0) & (output < 1) & (real > 0) & (real < 1)
    assert inside.float().mean() > 0.5
    assert_close((real - 0.5 * grey - 0.2)[inside], (output - grey)[inside])


def test_a_curve_is_gamma_then_an_s_curve_then_black_and_white_points() -> None:
    ramp = torch.linspace(0, 1, 101).view(1, 1, 1, 101)
    rgb = ramp.expand(-1, 3, -1, -1)

    output = only("curve", gamma=[2, 2], contrast=[1, 1], black=[0.1, 0.1], white=[0.9, 0.9])(ramp, rgb, seeded())

    tone = ramp**2
    assert_close(output, 0.1 + 0.8 * (3 * tone**2 - 2 * tone**3))


def test_a_curve_is_monotonic() -> None:
    ramp = torch.linspace(0, 1, 101).view(1, 1, 1, 101).expand(200, -1, -1, -1)

    output = only("curve", contrast=[-1, 1])(ramp, ramp.expand(-1, 3, -1, -1), seeded())

    assert (output.diff(dim=-1) >= -1e-6).all()


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_grain_has_the_requested_standard_deviation_and_zero_mean(spread: float) -> None:
    grey, rgb = flat(0.5, 16)

    grain = only("grain", sigma=[0.05, 0.05], spread=[spread, spread])(grey, rgb, seeded()) - grey

    kernel = torch.tensor([spread, 1, spread]) / (1 + 2 * spread**2) ** 0.5
    assert grain.mean().item() == pytest.approx(0, abs=0.05 * kernel.sum().item() ** 2 * 4 / 256)
    assert grain.std().item() == pytest.approx(0.05, rel=0.02)
    covariance = (grain[..., 1:] * grain[..., :-1]).mean() / grain.var()
    assert covariance.item() == pytest.approx((kernel[:-1] * kernel[1:]).sum().item(), abs=0.03)


def test_there_is_less_grain_in_black_and_white() -> None:
    middle, dark = ((only("grain", sigma=[0.02, 0.02])(*flat(level), seeded()) - level).std() for level in (0.5, 0.1))

    assert 0.3 * middle < dark < 0.7 * middle


def test_a_vignette_darkens_the_corners() -> None:
    grey, rgb = flat(0.8, 200, 16)

    output = only("vignette", strength=[0.4, 0.4])(grey, rgb, seeded())

    corners = output[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.mean() == pytest.approx(0.8 * 0.6, rel=0.03)
    assert (corners.amax(dim=1) < output[:, 0, 8, 8]).all()


def test_blur_is_gaussian() -> None:
    from torchvision.transforms.v2.functional import gaussian_blur  # it takes two seconds

    grey, rgb = batch(3)

    output = only("blur", sigma=[1.2, 1.2])(grey, rgb, seeded())

    assert_close(output[..., 8:-8, 8:-8], gaussian_blur(grey, [15, 15], [1.2, 1.2])[..., 8:-8, 8:-8], atol=1e-4, rtol=0)
    assert_close(only("blur")(*flat(0.3), seeded()), flat(0.3)[0])


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_shrinking_averages_cells_and_enlarges_them_again(factor: int) -> None:
    grey, rgb = batch(3)

    output = only("shrink", factor=[factor, factor])(grey, rgb, seeded())

    assert_close(output, interpolate(avg_pool2d(grey, factor), scale_factor=factor, mode="bilinear"))


@pytest.mark.parametrize("quality", [10, 30, 49, 50, 75, 95])
def test_jpeg_artefacts_match_those_of_a_jpeg_file(quality: int) -> None:
    noise = 10 * torch.randn(61, 50, generator=seeded())
    codes = (255 * batch(1, 61, 50)[0] + noise).clamp(0, 255).byte()
    file = BytesIO()
    Image.fromarray(codes[0, 0].numpy()).save(file, "JPEG", quality=quality)

    output = (255 * compressed(codes / 255, torch.tensor([float(quality)]))[0, 0]).numpy()

    source, read = codes[0, 0].numpy().astype(np.float32), np.asarray(Image.open(file), np.float32)
    assert np.abs(output - read).mean() < 0.5
    assert np.abs(output - source).mean() == pytest.approx(np.abs(read - source).mean(), rel=0.02)


def test_the_lower_the_quality_the_more_is_lost() -> None:
    grey, rgb = batch()

    lost = [(only("jpeg", quality=[quality] * 2)(grey, rgb, seeded()) - grey).abs().mean() for quality in (95, 60, 30, 5)]

    assert lost == sorted(lost)
    assert lost[0] < 0.5 * lost[2]


@pytest.mark.parametrize("kind", ["dust", "hairs", "scratches"])
def test_wear_covers_a_small_part_of_the_image_with_light_and_dark_marks(kind: str) -> None:
    grey, rgb = flat(0.5, 50)

    change = only(kind)(grey, rgb, seeded()) - grey

    assert 0.001 < (change.abs() > 0.02).float().mean() < 0.1
    assert change.max() > 0.3
    assert change.min() < -0.3


def test_scratches_are_thin_and_vertical() -> None:
    change = (only("scratches", width=[1, 1])(*flat(0.5, 50), seeded()) - 0.5).abs() > 0.02

    assert change.sum(dim=3).max() <= 3 * 3
    longest, widest = change.any(dim=3).sum(dim=2), change.any(dim=2).sum(dim=2)
    assert longest.float().mean() > 30
    assert widest.float().mean() < 30


def test_specks_have_the_requested_density() -> None:
    few, many = (
        ((only("dust", density=[share] * 2)(*flat(0.5, 20), seeded()) - 0.5).abs() > 0.02).float().mean()
        for share in (0.002, 0.01)
    )

    assert many / few == pytest.approx(5, rel=0.3)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("vignette", {"strength": [0, 0]}),
        ("blur", {"sigma": [0, 0]}),
        ("grain", {"sigma": [0, 0]}),
        ("dust", {"density": [0, 0]}),
        ("hairs", {"length": [0, 0], "width": [0, 0]}),
        ("scratches", {"width": [0, 0]}),
        ("shrink", {"factor": [1, 1]}),
    ],
)
def test_zero_strength_has_no_effect(kind: str, options: dict[str, Any]) -> None:
    grey, rgb = batch()

    assert_close(only(kind, **options)(grey, rgb, seeded()), grey)


def test_sensitivity_to_one_colour_is_enough() -> None:
    grey, rgb = batch()

    output = only("spectrum", red=[0, 0], green=[0, 0], blue=[0, 1])(grey, rgb, seeded())

    assert_close(output, rgb[:, 2:])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"chance": 1.5}, "chance: expected a number from 0 to 1, not 1.5"),
        ({"grain": {"sigma": [0.1, 0]}}, "grain.sigma: the lower bound must come first; write [0.0, 0.1]"),
        ({"jpeg": {"quality": [0, 95]}}, "jpeg.quality[0]: expected a number from 1 to 100, not 0"),
        ({"shrink": {"factor": [0.5, 2]}}, "shrink.factor[0]: expected a number of at least 1, not 0.5"),
        ({"grian": {}}, "unknown option 'grian' of damage; did you mean 'grain'?"),
        (
            {"spectrum": {"red": [0, 0], "green": [0, 0], "blue": [0, 0]}},
            "spectrum: film without sensitivity to red, green or blue records nothing; set one of them above 0",
        ),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], complaint: str) -> None:
    complaints = build(Degradation, options, of="damage")

    assert isinstance(complaints, list)
    assert [each.text for each in complaints] == [complaint]
