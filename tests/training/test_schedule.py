"""The batches and the learning rate of each step."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from bwpipe import UsageError
from bwpipe.data.dataset import Dataset
from bwpipe.training.options import TrainingOptions
from bwpipe.training.schedule import Schedule


def make_schedule(pictures: int = 23, weights: list[float] | None = None, **options: Any) -> Schedule:
    """A schedule over `pictures` training images, in batches of 4."""
    count = pictures + 1
    data = Dataset.of(
        np.zeros((count, 2, 2), np.uint8), np.zeros((count, 2, 2, 3), np.uint8), validation=[pictures], weights=weights
    )
    return Schedule(data, TrainingOptions(batch=4, epochs=3, **options))


def test_each_epoch_uses_each_image_at_most_once_in_a_new_order() -> None:
    schedule = make_schedule()

    epochs = [np.concatenate([schedule.indices(step) for step in range(5 * e, 5 * e + 5)]) for e in range(3)]

    assert (schedule.steps, schedule.ends) == (15, [5, 10, 15])
    assert all(len(set(indices)) == 20 and max(indices) < 23 for indices in epochs)
    assert list(epochs[0]) != list(epochs[1])
    assert_array_equal(schedule.indices(7), make_schedule().indices(7))


def test_weights_make_an_epoch_longer_and_steps_are_counted_in_epochs() -> None:
    schedule = make_schedule(8, [2.0] * 4 + [1.0] * 4 + [1.0])

    assert schedule.ends == [3, 6, 9]
    assert [schedule.epoch(step) for step in (0, 2, 3, 8)] == [1, 1, 2, 3]
    assert [schedule.epochs_completed(step) for step in (0, 3, 4, 9)] == pytest.approx([0, 1, 4 / 3, 3])
    assert np.bincount(np.concatenate([schedule.indices(step) for step in range(3)]), minlength=9).tolist() == [2] * 4 + [
        1
    ] * 4 + [0]


def test_the_learning_rate_rises_and_then_falls_along_a_cosine() -> None:
    rates = [make_schedule(rate=0.1, schedule="cosine", warmup=4).rate(step) for step in range(16)]

    assert rates[:4] == pytest.approx([0.02, 0.04, 0.06, 0.08], rel=1e-3)
    assert max(rates) == rates[4] == pytest.approx(0.1)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[15] == pytest.approx(0, abs=1e-9)
    assert {make_schedule(rate=0.1).rate(step) for step in range(15)} == {0.1}


def test_an_epoch_without_a_step_is_refused() -> None:
    with pytest.raises(UsageError, match="an epoch has only 3 training images, less than one batch of 4"):
        make_schedule(3)
    with pytest.raises(UsageError, match="less than one batch"):
        make_schedule(8, [0.1] * 9)
