"""Grey that is made to look like old film."""

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
from torchvision.transforms.v2.functional import gaussian_blur, resize

from bwpipe.core.options import build
from bwpipe.nn.ycbcr import rgb_to_ycbcr
from bwpipe.training.degradation import Degradation
from bwpipe.training.degradation.jpeg import compressed

KINDS = [name for name in Degradation.model_fields if name != "chance"]


def damage(**options: Any) -> Degradation:
    made = build(Degradation, options, of="damage")
    assert isinstance(made, Degradation), made
    return made


def only(kind: str, **options: Any) -> Degradation:
    """One kind of damage, on all pictures."""
    return damage(chance=1, **{name: {"chance": 0} for name in KINDS} | {kind: {"chance": 1, **options}})


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 8, height: int = 32, width: int = 32) -> tuple[Tensor, Tensor]:
    """The grey of smooth pictures, and the pictures."""
    rgb = resize(torch.rand(count, 3, 5, 5, generator=seeded(7)), [height, width])
    return rgb_to_ycbcr(rgb)[0], rgb


def flat(value: float, count: int = 4, side: int = 64) -> tuple[Tensor, Tensor]:
    return torch.full((count, 1, side, side), value), torch.full((count, 3, side, side), value)


@pytest.mark.parametrize("options", [{"chance": 0}, {name: {"chance": 0} for name in KINDS}])
def test_without_a_chance_the_grey_itself_is_shown(options: dict[str, Any]) -> None:
    grey, rgb = batch()

    assert torch.equal(damage(**options)(grey, rgb, seeded()), grey)


@given(count=st.integers(1, 5), height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_grey_of_any_size_stays_grey_and_truth_is_not_touched(count: int, height: int, width: int, seed: int) -> None:
    grey, rgb = batch(count, height, width)
    before = grey.clone(), rgb.clone()

    shown = damage(chance=1, **{name: {"chance": 1} for name in KINDS})(grey, rgb, seeded(seed))

    assert shown.shape == grey.shape
    assert shown.dtype == torch.float32
    assert ((shown >= 0) & (shown <= 1)).all()
    assert torch.equal(grey, before[0])
    assert torch.equal(rgb, before[1])


def test_the_generator_alone_decides() -> None:
    before = torch.get_rng_state()

    one, other, third = (damage()(*batch(), seeded(seed)) for seed in (1, 1, 2))

    assert torch.equal(one, other)
    assert not torch.equal(one, third)
    assert torch.equal(before, torch.get_rng_state())


def test_so_many_pictures_are_damaged_each_in_its_own_way() -> None:
    grey, rgb = (plane.expand(1000, -1, -1, -1) for plane in batch(1, 4, 4))
    options = {name: {"chance": 0} for name in KINDS} | {"curve": {"chance": 0.5}, "vignette": {"chance": 1}}

    shown = damage(chance=0.6, **options)(grey, rgb, seeded())

    views = {tuple(picture.flatten().tolist()) for picture in shown}
    assert (shown == grey).all(dim=3).all(dim=2).float().mean() == pytest.approx(0.4, abs=0.05)
    assert len(views) == pytest.approx(600, abs=50)


def test_film_that_is_blind_to_red_shows_it_dark_and_blue_light() -> None:
    rgb = torch.eye(3).view(3, 3, 1, 1).expand(-1, -1, 8, 8).contiguous()
    grey, _ = rgb_to_ycbcr(rgb)

    red, green, blue = only("spectrum", red=[0, 0], green=[0.5, 0.5], blue=[0.5, 0.5])(grey, rgb, seeded())

    assert_close(red, torch.zeros(1, 8, 8), atol=1e-6, rtol=0)
    assert_close(green, torch.full((1, 8, 8), 0.5))
    assert_close(blue, torch.full((1, 8, 8), 0.5))


def test_a_spectrum_leaves_what_is_grey_and_adds_to_real_grey_what_luma_would_change_by() -> None:
    paper, white = flat(0.4)
    assert_close(only("spectrum")(paper, white, seeded()), paper)

    grey, rgb = batch()
    made, real = (only("spectrum")(each, rgb, seeded()) for each in (grey, 0.5 * grey + 0.2))

    inside = (made > 0) & (made < 1) & (real > 0) & (real < 1)
    assert inside.float().mean() > 0.5
    assert_close((real - 0.5 * grey - 0.2)[inside], (made - grey)[inside])


def test_a_curve_is_gamma_then_an_s_then_black_and_white() -> None:
    ramp = torch.linspace(0, 1, 101).view(1, 1, 1, 101)
    rgb = ramp.expand(-1, 3, -1, -1)

    made = only("curve", gamma=[2, 2], contrast=[1, 1], black=[0.1, 0.1], white=[0.9, 0.9])(ramp, rgb, seeded())

    tone = ramp**2
    assert_close(made, 0.1 + 0.8 * (3 * tone**2 - 2 * tone**3))


def test_a_curve_never_turns_light_and_dark_about() -> None:
    ramp = torch.linspace(0, 1, 101).view(1, 1, 1, 101).expand(200, -1, -1, -1)

    made = only("curve", contrast=[-1, 1])(ramp, ramp.expand(-1, 3, -1, -1), seeded())

    assert (made.diff(dim=-1) >= -1e-6).all()


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_grain_has_its_standard_deviation_and_a_mean_of_nothing(spread: float) -> None:
    grey, rgb = flat(0.5, 16)

    grain = only("grain", sigma=[0.05, 0.05], spread=[spread, spread])(grey, rgb, seeded()) - grey

    kernel = torch.tensor([spread, 1, spread]) / (1 + 2 * spread**2) ** 0.5
    assert grain.mean().item() == pytest.approx(0, abs=0.05 * kernel.sum().item() ** 2 * 4 / 256)
    assert grain.std().item() == pytest.approx(0.05, rel=0.02)
    together = (grain[..., 1:] * grain[..., :-1]).mean() / grain.var()
    assert together.item() == pytest.approx((kernel[:-1] * kernel[1:]).sum().item(), abs=0.03)


def test_there_is_less_grain_in_black_and_white() -> None:
    middle, dark = ((only("grain", sigma=[0.02, 0.02])(*flat(level), seeded()) - level).std() for level in (0.5, 0.1))

    assert 0.3 * middle < dark < 0.7 * middle


def test_a_vignette_darkens_the_corners() -> None:
    grey, rgb = flat(0.8, 200, 16)

    made = only("vignette", strength=[0.4, 0.4])(grey, rgb, seeded())

    corners = made[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.mean() == pytest.approx(0.8 * 0.6, rel=0.03)
    assert (corners.amax(dim=1) < made[:, 0, 8, 8]).all()


def test_blur_is_gaussian() -> None:
    grey, rgb = batch(3)

    made = only("blur", sigma=[1.2, 1.2])(grey, rgb, seeded())

    assert_close(made[..., 8:-8, 8:-8], gaussian_blur(grey, [15, 15], [1.2, 1.2])[..., 8:-8, 8:-8], atol=1e-4, rtol=0)
    assert_close(only("blur")(*flat(0.3), seeded()), flat(0.3)[0])


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_shrinking_averages_cells_and_enlarges_them_again(factor: int) -> None:
    grey, rgb = batch(3)

    made = only("shrink", factor=[factor, factor])(grey, rgb, seeded())

    assert_close(made, interpolate(avg_pool2d(grey, factor), scale_factor=factor, mode="bilinear"))


@pytest.mark.parametrize("quality", [10, 30, 49, 50, 75, 95])
def test_marks_of_jpeg_are_those_of_a_jpeg_file(quality: int) -> None:
    noise = 10 * torch.randn(61, 50, generator=seeded())
    codes = (255 * batch(1, 61, 50)[0] + noise).clamp(0, 255).byte()
    file = BytesIO()
    Image.fromarray(codes[0, 0].numpy()).save(file, "JPEG", quality=quality)

    made = (255 * compressed(codes / 255, torch.tensor([float(quality)]))[0, 0]).numpy()

    came, read = codes[0, 0].numpy().astype(np.float32), np.asarray(Image.open(file), np.float32)
    assert np.abs(made - read).mean() < 0.5
    assert np.abs(made - came).mean() == pytest.approx(np.abs(read - came).mean(), rel=0.02)


def test_the_lower_the_quality_the_more_is_lost() -> None:
    grey, rgb = batch()

    lost = [(only("jpeg", quality=[quality] * 2)(grey, rgb, seeded()) - grey).abs().mean() for quality in (95, 60, 30, 5)]

    assert lost == sorted(lost)
    assert lost[0] < 0.5 * lost[2]


@pytest.mark.parametrize("kind", ["dust", "hairs", "scratches"])
def test_wear_covers_a_little_of_the_picture_with_light_and_with_dark(kind: str) -> None:
    grey, rgb = flat(0.5, 50)

    change = only(kind)(grey, rgb, seeded()) - grey

    assert 0.001 < (change.abs() > 0.02).float().mean() < 0.1
    assert change.max() > 0.3
    assert change.min() < -0.3


def test_scratches_are_thin_and_run_down_the_picture() -> None:
    change = (only("scratches", width=[1, 1])(*flat(0.5, 50), seeded()) - 0.5).abs() > 0.02

    assert change.sum(dim=3).max() <= 3 * 3
    longest, widest = change.any(dim=3).sum(dim=2), change.any(dim=2).sum(dim=2)
    assert longest.float().mean() > 30
    assert widest.float().mean() < 30


def test_specks_are_as_many_as_was_asked_for() -> None:
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
def test_a_strength_of_nothing_does_nothing(kind: str, options: dict[str, Any]) -> None:
    grey, rgb = batch()

    assert_close(only(kind, **options)(grey, rgb, seeded()), grey)


def test_one_colour_is_enough_for_film() -> None:
    grey, rgb = batch()

    made = only("spectrum", red=[0, 0], green=[0, 0], blue=[0, 1])(grey, rgb, seeded())

    assert_close(made, rgb[:, 2:])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"chance": 1.5}, "chance: expected a number from 0 to 1, not 1.5"),
        ({"grain": {"sigma": [0.1, 0]}}, "grain.sigma: the first of the two must be the lower one; write [0.0, 0.1]"),
        ({"jpeg": {"quality": [0, 95]}}, "jpeg.quality[0]: expected a number from 1 to 100, not 0"),
        ({"shrink": {"factor": [0.5, 2]}}, "shrink.factor[0]: expected a number of at least 1, not 0.5"),
        ({"grian": {}}, "unknown option 'grian' of damage; did you mean 'grain'?"),
        (
            {"spectrum": {"red": [0, 0], "green": [0, 0], "blue": [0, 0]}},
            "spectrum: film that is blind to red, green and blue sees nothing; let one of them be above 0",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], complaint: str) -> None:
    complaints = build(Degradation, options, of="damage")

    assert isinstance(complaints, list)
    assert [each.text for each in complaints] == [complaint]
