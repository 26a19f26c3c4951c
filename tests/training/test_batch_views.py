"""Batches as a training shows them."""

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


def test_a_second_look_is_the_first_one_moved() -> None:
    shown = views(shift=5)

    (still, moved), (down, right) = shown.seen, shown.shifts[1]
    assert shown.shifts[0] == (0, 0) != (down, right)
    kept = [slice(max(shift, 0), 24 + min(shift, 0)) for shift in (down, right)]
    came = [slice(max(-shift, 0), 24 + min(-shift, 0)) for shift in (down, right)]
    assert_close(moved[..., kept[0], kept[1]], still[..., came[0], came[1]])
    assert_close(still, shown.luma)


def test_damage_is_on_what_is_seen_only_and_each_look_has_its_own() -> None:
    clean, shown = views(shift=0), views(shift=0, damage={"chance": 1})

    assert_close(shown.luma, clean.luma)
    assert_close(shown.rgb, clean.rgb)
    assert not torch.equal(shown.seen[0], clean.luma)
    assert not torch.equal(shown.seen[0], shown.seen[1])


@pytest.mark.parametrize("change", [{"step": 4}, {"seed": 43}])
def test_all_of_it_follows_from_seed_and_step(change: dict[str, Any]) -> None:
    options: dict[str, Any] = {"damage": {"chance": 1}, "augment": {"flip": True, "scale": [0.2, 1.0]}}
    first, again, other = views(**options), views(**options), views(**options, **change)

    assert all(torch.equal(a, b) for a, b in zip(first.seen, again.seen, strict=True))
    assert not torch.equal(first.rgb, other.rgb)


def test_parts_of_a_batch_are_parts_of_its_views() -> None:
    whole = views(damage={"chance": 1}, augment={"flip": True, "crop": 16})

    parts = [whole[:2], whole[2:]]

    for look in range(2):
        assert_close(torch.cat([part.seen[look] for part in parts]), whole.seen[look])
    assert_close(torch.cat([part.rgb for part in parts]), whole.rgb)
