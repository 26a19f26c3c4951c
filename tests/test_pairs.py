"""The `pairs` and `dataset` stages: from colour pictures to what a network is fitted to."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from bwpipe import Run, UsageError
from bwpipe.testing import coloured, make_frames, run_stage
from bwpipe.training import Dataset


def dataset(count: int, **options: Any) -> Dataset:
    """A dataset of pictures in 16 x 16 pixels."""
    (data,) = run_stage("dataset", run_stage("pairs", map(coloured, make_frames(count)), size=16), **options)
    assert isinstance(data, Dataset)
    return data


def test_the_split_follows_from_the_seed() -> None:
    data, same, other = (dataset(20, seed=seed, split=0.3) for seed in (1, 1, 2))

    assert len(data.validation) == 6
    assert_array_equal(np.sort([*data.training, *data.validation]), np.arange(20))
    assert_array_equal(same.validation, data.validation)
    assert list(other.validation) != list(data.validation)
    assert same.digest == data.digest
    assert other.digest != data.digest


def test_a_set_too_small_to_split_is_told() -> None:
    with pytest.raises(UsageError, match="1 colour pictures are too few"):
        dataset(1)


def test_pictures_without_colour_are_left_out_and_counted() -> None:
    frames = make_frames(6)
    grey = [coloured(frame, 0.001, 0.001) for frame in frames[:2]]
    told = Run()

    pairs = run_stage("pairs", [*grey, *frames[2:5], coloured(frames[5])], run=told)

    assert len(pairs) == 1
    assert told.remarks == {"next to no colour, so it is left out": 2, "in black and white, so it is left out": 3}


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_pair_is_upright_and_has_one_luma(orientation: int) -> None:
    frame = make_frames(1, height=60, width=40, orientation=orientation, levels=(16, 235))[0]
    chroma = np.zeros((2, 2, 2), np.float16)
    chroma[0, 0] = 0.1  # the top of the stored picture is blue

    (pair,) = run_stage("pairs", [replace(frame, chroma=chroma)], size=20)

    weights = np.array([0.299, 0.587, 0.114])
    blue = pair.colour[..., 2].astype(int) - pair.colour[..., 0]
    assert pair.grey.shape == (20, 20)
    assert_allclose(pair.colour @ weights, pair.grey, atol=1)
    assert blue[:, 15:].mean() > 10 if orientation == 6 else blue[:5].mean() > 10  # 6: the stored top is shown on the right
    assert abs(blue[:, :5].mean() if orientation == 6 else blue[15:].mean()) < 2


def test_a_frame_is_looked_at_and_not_changed() -> None:
    frame = coloured(make_frames(1)[0])
    before = replace(frame, luma=frame.luma.copy())

    run_stage("pairs", [frame], size=20)

    assert_array_equal(frame.luma, before.luma)


def test_channels_last_is_how_batches_come() -> None:
    data = dataset(4)

    luma, rgb = data.batch(np.array([2, 0]), torch.device("cpu"))

    assert luma.shape == (2, 1, 16, 16)
    assert rgb.is_contiguous(memory_format=torch.channels_last)
    assert_allclose(255 * rgb[0].permute(1, 2, 0), data.colour[2], atol=1e-4)
    assert_allclose(255 * luma[1, 0], data.grey[0], atol=1e-4)
