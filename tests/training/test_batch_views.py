"""The views of training batches."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from bwpipe.data.dataset import Dataset
from bwpipe.training.batch_views import BatchAugmenter, Views
from bwpipe.training.options import TrainingOptions


def views(*, views: int = 2, step: int = 3, **options: Any) -> Views:
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (7, 24, 24, 3), dtype=np.uint8)
    data = Dataset.of(colour[..., 1].copy(), colour, validation=[6])
    return BatchAugmenter(data, TrainingOptions.model_validate(options), views, torch.device("cpu")).views(step, np.arange(6))


def test_a_second_view_is_the_first_one_shifted() -> None:
    batch = views(shift=5)

    (still, shifted), (down, right) = batch.inputs, batch.shifts[1]
    assert batch.shifts[0] == (0, 0) != (down, right)
    target = [slice(max(shift, 0), 24 + min(shift, 0)) for shift in (down, right)]
    source = [slice(max(-shift, 0), 24 + min(-shift, 0)) for shift in (down, right)]
    assert_close(shifted[..., target[0], target[1]], still[..., source[0], source[1]])
    assert_close(still, batch.luma)


def test_degradation_affects_only_the_inputs_and_differs_between_views() -> None:
    clean, batch = views(shift=0), views(shift=0, damage={"chance": 1})

    assert_close(batch.luma, clean.luma)
    assert_close(batch.rgb, clean.rgb)
    assert not torch.equal(batch.inputs[0], clean.luma)
    assert not torch.equal(batch.inputs[0], batch.inputs[1])


@pytest.mark.parametrize("change", [{"step": 4}, {"seed": 43}])
def test_views_are_determined_by_seed_and_step(change: dict[str, Any]) -> None:
    options: dict[str, Any] = {"damage": {"chance": 1}, "augment": {"flip": True, "scale": [0.2, 1.0]}}
    first, again, other = views(**options), views(**options), views(**options, **change)

    assert all(torch.equal(a, b) for a, b in zip(first.inputs, again.inputs, strict=True))
    assert not torch.equal(first.rgb, other.rgb)


def test_slices_of_the_views_match_slices_of_the_batch() -> None:
    whole = views(damage={"chance": 1}, augment={"flip": True, "crop": 16})

    parts = [whole[:2], whole[2:]]

    for view in range(2):
        assert_close(torch.cat([part.inputs[view] for part in parts]), whole.inputs[view])
    assert_close(torch.cat([part.rgb for part in parts]), whole.rgb)
