"""Which pictures a step shows, and how fast it learns."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from bwpipe import UsageError
from bwpipe.data.dataset import Dataset
from bwpipe.training.options import TrainingOptions
from bwpipe.training.schedule import Schedule


def course(pictures: int = 23, weights: list[float] | None = None, **options: Any) -> Schedule:
    """Over so many pictures, in batches of 4."""
    count = pictures + 1
    data = Dataset.of(
        np.zeros((count, 2, 2), np.uint8), np.zeros((count, 2, 2, 3), np.uint8), validation=[pictures], weights=weights
    )
    return Schedule(data, TrainingOptions(batch=4, epochs=3, **options))


def test_each_epoch_shows_each_picture_at_most_once_in_another_order() -> None:
    laid = course()

    epochs = [np.concatenate([laid.places(step) for step in range(5 * e, 5 * e + 5)]) for e in range(3)]

    assert (laid.steps, laid.ends) == (15, [5, 10, 15])
    assert all(len(set(places)) == 20 and max(places) < 23 for places in epochs)
    assert list(epochs[0]) != list(epochs[1])
    assert_array_equal(laid.places(7), course().places(7))


def test_weights_make_an_epoch_longer_and_steps_are_counted_in_epochs() -> None:
    laid = course(8, [2.0] * 4 + [1.0] * 4 + [1.0])

    assert laid.ends == [3, 6, 9]
    assert [laid.epoch(step) for step in (0, 2, 3, 8)] == [1, 1, 2, 3]
    assert [laid.share(step) for step in (0, 3, 4, 9)] == pytest.approx([0, 1, 4 / 3, 3])
    assert np.bincount(np.concatenate([laid.places(step) for step in range(3)]), minlength=9).tolist() == [2] * 4 + [1] * 4 + [
        0
    ]


def test_the_rate_rises_and_falls_along_a_cosine() -> None:
    rates = [course(rate=0.1, schedule="cosine", warmup=4).rate(step) for step in range(16)]

    assert rates[:4] == pytest.approx([0.02, 0.04, 0.06, 0.08], rel=1e-3)
    assert max(rates) == rates[4] == pytest.approx(0.1)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[15] == pytest.approx(0, abs=1e-9)
    assert {course(rate=0.1).rate(step) for step in range(15)} == {0.1}


def test_an_epoch_without_a_step_is_refused() -> None:
    with pytest.raises(UsageError, match="3 pictures to train on in an epoch, less than one batch of 4"):
        course(3)
    with pytest.raises(UsageError, match="less than one batch"):
        course(8, [0.1] * 9)
