"""Random augmentation."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import interpolate
from torch.testing import assert_close

from bwpipe.core.options import build
from bwpipe.nn.ycbcr import rgb_to_ycbcr, ycbcr_to_rgb
from bwpipe.training.augment import Augment, crop_at_once, crop_each

ALL: dict[str, Any] = {
    "flip": True,
    "crop": 12,
    "scale": [0.35, 1],
    "aspect": [0.75, 1.33],
    "saturation": [1, 1.5],
    "exposure": [0.8, 1.2],
}
CROP = "an integer of at least 1, a list that is not empty, each item an integer of at least 1 or nothing"
"""The values a crop may have, as worded in error messages."""
SPANS = st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted)


def augment(**options: Any) -> Augment:
    augmentation = build(Augment, options, of="augment")
    assert isinstance(augmentation, Augment), augmentation
    return augmentation


def batch(count: int = 6, size: int = 16) -> tuple[Tensor, Tensor]:
    """The grey of smooth images, and the images."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    rgb = resized(coarse, size).contiguous(memory_format=torch.channels_last)
    return rgb_to_ycbcr(rgb)[0], rgb


def resized(images: Tensor, size: int) -> Tensor:
    return interpolate(images, (size, size), mode="bilinear", antialias=True)


def test_defaults_change_nothing() -> None:
    grey, rgb = batch()

    output, target = augment()(grey, rgb, np.random.default_rng(0))

    assert torch.equal(output, grey)
    assert torch.equal(target, rgb)


def test_a_flip_mirrors_half_of_the_images_and_input_and_target_alike() -> None:
    grey, rgb = batch(200, 4)

    output, target = augment(flip=True)(grey, rgb, np.random.default_rng(0))

    mirrored = (output == grey.flip(-1)).flatten(1).all(dim=1)
    assert 70 < mirrored.sum() < 130
    assert torch.equal(output, torch.where(mirrored.view(-1, 1, 1, 1), grey.flip(-1), grey))
    assert torch.equal(target, torch.where(mirrored.view(-1, 1, 1, 1), rgb.flip(-1), rgb))


@pytest.mark.parametrize("crop", [7, 16, 24])
def test_the_whole_image_is_resized_to_the_crop_size(crop: int) -> None:
    grey, rgb = batch()

    output, target = augment(crop=crop)(grey, rgb, np.random.default_rng(0))

    assert_close(output, resized(grey, crop), check_stride=False)
    assert_close(target, resized(rgb.contiguous(), crop), check_stride=False)


def test_each_batch_gets_one_of_several_crop_sizes_with_equal_probability() -> None:
    grey, rgb = batch(2)
    augmentation, rng = augment(crop=[8, 12, 16]), np.random.default_rng(0)

    pairs = [augmentation(grey, rgb, rng) for _ in range(300)]

    sides = [output.shape[-1] for output, _ in pairs]
    assert all(target.shape[-2:] == output.shape[-2:] for output, target in pairs)
    assert [70 < sides.count(side) < 130 for side in (8, 12, 16)] == [True] * 3
    drawn = augmentation.draw(2, 16, np.random.default_rng(5))
    assert drawn[:1].side == drawn.side in (8, 12, 16)


def test_a_crop_of_the_target_size_is_not_resampled() -> None:
    grey, rgb = batch(1)

    output, target = augment(crop=8, scale=[0.25, 0.25])(grey, rgb, np.random.default_rng(0))

    places = [(top, left) for top in range(9) for left in range(9)]
    assert any(torch.equal(output, grey[:, :, top : top + 8, left : left + 8]) for top, left in places)
    assert any(torch.equal(target, rgb[:, :, top : top + 8, left : left + 8]) for top, left in places)


def test_the_input_stays_the_luma_of_the_target() -> None:
    output, target = augment(**ALL)(*batch(20), np.random.default_rng(0))

    assert output.shape == (20, 1, 12, 12)
    assert target.shape == (20, 3, 12, 12)
    assert target.is_contiguous(memory_format=torch.channels_last)
    assert_close(rgb_to_ycbcr(target)[0], output, atol=1e-5, rtol=0)


def test_a_separate_grey_input_is_unchanged_if_only_colour_changes() -> None:
    grey, rgb = torch.rand(6, 1, 16, 16), batch()[1]

    output, _ = augment(saturation=[2, 2])(grey, rgb, np.random.default_rng(0))

    assert torch.equal(output, grey)


@given(saturation=st.floats(0.1, 3), exposure=st.floats(0.5, 2))
def test_saturation_and_exposure_scale_chroma_and_luma(saturation: float, exposure: float) -> None:
    grey, rgb = batch()
    luma, chroma = rgb_to_ycbcr(rgb)

    options = {"saturation": [saturation] * 2, "exposure": [exposure] * 2}
    output, target = augment(**options)(grey, rgb, np.random.default_rng(0))

    assert_close(output, (grey * exposure).clamp(max=1))
    wanted = ycbcr_to_rgb((luma * exposure).clamp(max=1), chroma * exposure * saturation)
    assert_close(target, wanted, atol=1e-5, rtol=0, check_stride=False)


def test_a_slice_of_the_parameters_belongs_to_the_same_slice_of_the_batch() -> None:
    grey, rgb = batch(10)
    augmentation = augment(**ALL)
    views = augmentation.draw(10, 16, np.random.default_rng(5))

    whole = augmentation.apply(grey, rgb, views)
    parts = [augmentation.apply(grey[part], rgb[part], views[part]) for part in (slice(0, 3), slice(3, 10))]

    assert [len(views[:3]), len(views[3:])] == [3, 7]
    for output, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(output, torch.cat(pieces))


def test_the_generator_is_the_only_source_of_randomness() -> None:
    before = torch.get_rng_state(), repr(np.random.get_state())

    one, other, third = (augment(**ALL)(*batch(), np.random.default_rng(seed))[1] for seed in (1, 1, 2))

    assert torch.equal(one, other)
    assert not torch.equal(one, third)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == repr(np.random.get_state())


def test_an_option_does_not_affect_what_is_drawn_for_the_others() -> None:
    some = augment(flip=True, exposure=[0.8, 1.2]).draw(50, 16, np.random.default_rng(3))
    more = augment(**ALL).draw(50, 16, np.random.default_rng(3))

    assert (some.flipped == more.flipped).all()
    assert (some.exposure == more.exposure).all()


@given(size=st.integers(1, 300), scale=SPANS, aspect=SPANS, wide=st.floats(1, 10), seed=st.integers(0, 2**32))
def test_a_crop_lies_within_its_image(size: int, scale: list[float], aspect: list[float], wide: float, seed: int) -> None:
    augmentation = augment(scale=scale, aspect=[aspect[0], aspect[1] * wide])

    boxes = augmentation.draw(20, size, np.random.default_rng(seed)).boxes

    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] >= 1).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= size).all()


def test_crops_have_the_requested_area_and_aspect() -> None:
    boxes = augment(scale=[0.2, 0.5], aspect=[0.5, 2]).draw(2000, 1000, np.random.default_rng(0)).boxes

    height, width = boxes[:, 2] / 1000, boxes[:, 3] / 1000
    area, aspect = height * width, width / height
    assert (area.min(), area.max()) == pytest.approx((0.2, 0.5), abs=0.01)
    assert area.mean() == pytest.approx(0.35, abs=0.01)
    assert (aspect.min(), aspect.max()) == pytest.approx((0.5, 2), rel=0.02)
    assert np.median(aspect) == pytest.approx(1, rel=0.05)
    for start, length in ((boxes[:, 0], boxes[:, 2]), (boxes[:, 1], boxes[:, 3])):
        assert (start / (1000 - length)).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"scale": [1, 0.35]}, "scale: the lower bound must come first; write [0.35, 1.0]"),
        ({"scale": [0, 1]}, "scale[0]: expected a number above 0 and of at most 1, not 0"),
        ({"aspect": [-1, 1]}, "aspect[0]: expected a number above 0, not -1"),
        ({"aspect": 1.33}, "aspect: expected a list of 2: a number above 0, a number above 0, not 1.33; write [1.33]"),
        ({"crop": 0}, f"crop: expected {CROP}, not 0"),
        ({"crop": []}, f"crop: expected {CROP}, not []"),
        ({"crop": [8, 0]}, f"crop: expected {CROP}, not [8, 0]"),
        ({"flips": True}, "unknown option 'flips' of augment; did you mean 'flip'?"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], complaint: str) -> None:
    complaints = build(Augment, options, of="augment")

    assert isinstance(complaints, list)
    assert [each.text for each in complaints] == [complaint]


def test_all_crops_at_once_are_those_made_one_by_one() -> None:
    augment = Augment(flip=True, crop=(24, 48), scale=(0.1, 1), aspect=(0.75, 1.33))
    images = torch.rand(8, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    for seed in range(6):
        drawn = augment.draw(8, 48, np.random.default_rng(seed))

        assert_close(crop_at_once(images, drawn), crop_each(images, drawn), rtol=0, atol=1e-4)
