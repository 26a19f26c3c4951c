"""Pictures shown in another way each time."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from torchvision.transforms.v2.functional import resize

from bwpipe.core.options import build
from bwpipe.nn.ycbcr import rgb_to_ycbcr, ycbcr_to_rgb
from bwpipe.training.augment import Augment

ALL: dict[str, Any] = {
    "flip": True,
    "crop": 12,
    "scale": [0.35, 1],
    "aspect": [0.75, 1.33],
    "saturation": [1, 1.5],
    "exposure": [0.8, 1.2],
}
CROP = "an integer of at least 1, a list that is not empty, each item an integer of at least 1 or nothing"
"""What a crop may be, as it is said to those who give another."""
SPANS = st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted)


def augment(**options: Any) -> Augment:
    made = build(Augment, options, of="augment")
    assert isinstance(made, Augment), made
    return made


def batch(count: int = 6, size: int = 16) -> tuple[Tensor, Tensor]:
    """Smooth pictures, and the grey of the same."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    rgb = resize(coarse, [size, size]).contiguous(memory_format=torch.channels_last)
    return rgb_to_ycbcr(rgb)[0], rgb


def test_as_it_comes_it_changes_nothing() -> None:
    grey, rgb = batch()

    shown, truth = augment()(grey, rgb, np.random.default_rng(0))

    assert torch.equal(shown, grey)
    assert torch.equal(truth, rgb)


def test_a_flip_mirrors_half_of_the_pictures_and_grey_and_truth_alike() -> None:
    grey, rgb = batch(200, 4)

    shown, truth = augment(flip=True)(grey, rgb, np.random.default_rng(0))

    mirrored = (shown == grey.flip(-1)).flatten(1).all(dim=1)
    assert 70 < mirrored.sum() < 130
    assert torch.equal(shown, torch.where(mirrored.view(-1, 1, 1, 1), grey.flip(-1), grey))
    assert torch.equal(truth, torch.where(mirrored.view(-1, 1, 1, 1), rgb.flip(-1), rgb))


@pytest.mark.parametrize("crop", [7, 16, 24])
def test_the_whole_picture_is_brought_to_the_crop(crop: int) -> None:
    grey, rgb = batch()

    shown, truth = augment(crop=crop)(grey, rgb, np.random.default_rng(0))

    assert_close(shown, resize(grey, [crop, crop], antialias=True), check_stride=False)
    assert_close(truth, resize(rgb.contiguous(), [crop, crop], antialias=True), check_stride=False)


def test_of_several_crops_each_batch_gets_one_as_often_as_another() -> None:
    grey, rgb = batch(2)
    made, chances = augment(crop=[8, 12, 16]), np.random.default_rng(0)

    pairs = [made(grey, rgb, chances) for _ in range(300)]

    sides = [shown.shape[-1] for shown, _ in pairs]
    assert all(truth.shape[-2:] == shown.shape[-2:] for shown, truth in pairs)
    assert [70 < sides.count(side) < 130 for side in (8, 12, 16)] == [True] * 3
    drawn = made.draw(2, 16, np.random.default_rng(5))
    assert drawn[:1].side == drawn.side in (8, 12, 16)


def test_a_piece_as_large_as_the_crop_is_cut_out_as_it_is() -> None:
    grey, rgb = batch(1)

    shown, truth = augment(crop=8, scale=[0.25, 0.25])(grey, rgb, np.random.default_rng(0))

    places = [(top, left) for top in range(9) for left in range(9)]
    assert any(torch.equal(shown, grey[:, :, top : top + 8, left : left + 8]) for top, left in places)
    assert any(torch.equal(truth, rgb[:, :, top : top + 8, left : left + 8]) for top, left in places)


def test_grey_stays_the_luma_of_the_truth() -> None:
    shown, truth = augment(**ALL)(*batch(20), np.random.default_rng(0))

    assert shown.shape == (20, 1, 12, 12)
    assert truth.shape == (20, 3, 12, 12)
    assert truth.is_contiguous(memory_format=torch.channels_last)
    assert_close(rgb_to_ycbcr(truth)[0], shown, atol=1e-5, rtol=0)


def test_grey_that_came_with_the_picture_is_left_as_it_is_where_only_colour_changes() -> None:
    grey, rgb = torch.rand(6, 1, 16, 16), batch()[1]

    shown, _ = augment(saturation=[2, 2])(grey, rgb, np.random.default_rng(0))

    assert torch.equal(shown, grey)


@given(saturation=st.floats(0.1, 3), exposure=st.floats(0.5, 2))
def test_colour_and_light_are_changed_as_luma_and_chroma(saturation: float, exposure: float) -> None:
    grey, rgb = batch()
    luma, chroma = rgb_to_ycbcr(rgb)

    options = {"saturation": [saturation] * 2, "exposure": [exposure] * 2}
    shown, truth = augment(**options)(grey, rgb, np.random.default_rng(0))

    assert_close(shown, (grey * exposure).clamp(max=1))
    wanted = ycbcr_to_rgb((luma * exposure).clamp(max=1), chroma * exposure * saturation)
    assert_close(truth, wanted, atol=1e-5, rtol=0, check_stride=False)


def test_a_slice_of_what_was_drawn_is_for_the_same_slice_of_the_batch() -> None:
    grey, rgb = batch(10)
    way = augment(**ALL)
    views = way.draw(10, 16, np.random.default_rng(5))

    whole = way.apply(grey, rgb, views)
    parts = [way.apply(grey[part], rgb[part], views[part]) for part in (slice(0, 3), slice(3, 10))]

    assert [len(views[:3]), len(views[3:])] == [3, 7]
    for made, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(made, torch.cat(pieces))


def test_the_generator_alone_decides() -> None:
    before = torch.get_rng_state(), repr(np.random.get_state())

    one, other, third = (augment(**ALL)(*batch(), np.random.default_rng(seed))[1] for seed in (1, 1, 2))

    assert torch.equal(one, other)
    assert not torch.equal(one, third)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == repr(np.random.get_state())


def test_an_option_changes_nothing_of_what_is_drawn_for_the_others() -> None:
    some = augment(flip=True, exposure=[0.8, 1.2]).draw(50, 16, np.random.default_rng(3))
    more = augment(**ALL).draw(50, 16, np.random.default_rng(3))

    assert (some.flipped == more.flipped).all()
    assert (some.exposure == more.exposure).all()


@given(size=st.integers(1, 300), scale=SPANS, aspect=SPANS, wide=st.floats(1, 10), seed=st.integers(0, 2**32))
def test_a_piece_lies_within_its_picture(size: int, scale: list[float], aspect: list[float], wide: float, seed: int) -> None:
    way = augment(scale=scale, aspect=[aspect[0], aspect[1] * wide])

    boxes = way.draw(20, size, np.random.default_rng(seed)).boxes

    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] >= 1).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= size).all()


def test_pieces_have_the_area_and_the_aspect_that_were_asked_for() -> None:
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
        ({"scale": [1, 0.35]}, "scale: the first of the two must be the lower one; write [0.35, 1.0]"),
        ({"scale": [0, 1]}, "scale[0]: expected a number above 0 and of at most 1, not 0"),
        ({"aspect": [-1, 1]}, "aspect[0]: expected a number above 0, not -1"),
        ({"aspect": 1.33}, "aspect: expected a list of 2: a number above 0, a number above 0, not 1.33; write [1.33]"),
        ({"crop": 0}, f"crop: expected {CROP}, not 0"),
        ({"crop": []}, f"crop: expected {CROP}, not []"),
        ({"crop": [8, 0]}, f"crop: expected {CROP}, not [8, 0]"),
        ({"flips": True}, "unknown option 'flips' of augment; did you mean 'flip'?"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], complaint: str) -> None:
    complaints = build(Augment, options, of="augment")

    assert isinstance(complaints, list)
    assert [each.text for each in complaints] == [complaint]
