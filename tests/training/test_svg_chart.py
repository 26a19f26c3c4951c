from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwpipe.training.monitor.svg_chart import Scale, number

VALUES = st.integers(-(10**6), 10**6).map(lambda value: value / 1000)


@given(st.lists(VALUES, min_size=1))
def test_every_value_and_every_tick_lies_on_the_scale(values: list[float]) -> None:
    scale = Scale.around(values)

    assert all(0 <= scale.position(value) <= 1 for value in values)
    assert all(-1e-9 <= scale.position(tick) <= 1 + 1e-9 for tick in scale.ticks(5))
    assert len(scale.ticks(5)) <= 8


@given(st.floats(-1e4, 1e4), st.floats(1e-2, 1e6))
def test_ticks_are_round_and_evenly_spaced(low: float, length: float) -> None:
    ticks = Scale(low, low + length).ticks(5)

    assert 2 <= len(ticks) <= 8
    gap = ticks[1] - ticks[0]
    assert f"{gap:.3e}"[:5] in {"1.000", "2.000", "5.000"}
    assert all(after - before == pytest.approx(gap) for before, after in pairwise(ticks))


def test_a_loss_that_fell_far_gets_a_logarithmic_scale() -> None:
    scale = Scale.around([5.0, 0.5, *[0.01 + 0.001 * i for i in range(10)]])

    assert scale.log
    assert scale.position(0.1) - scale.position(0.01) == pytest.approx(scale.position(1) - scale.position(0.1))
    assert scale.ticks(5) == pytest.approx([0.01, 0.03, 0.1, 0.3, 1, 3])
    assert scale.position(0) == 0  # noise below the scale


def test_a_loss_that_fell_to_almost_zero_has_a_scale_too() -> None:
    scale = Scale.around([1e10, 1e-300, *[1e-200] * 9])

    assert scale.log
    assert 4 <= len(scale.ticks(5)) <= 7
    assert 0 <= scale.position(1e-300) == scale.position(1e-200) < 0.1


@pytest.mark.parametrize("values", [[0.0, 1e-3, 5e-4], [0.3, 0.5, 0.9], [-2.0, 100.0, 0.1], [0.008] * 4])
def test_other_figures_get_a_linear_scale(values: list[float]) -> None:
    assert not Scale.around(values).log


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123456, "0.01235"), (12345.0, "12,345"), (1e-05, "1e-5"), (3, "3"), (0.0, "0"), (0.30000000000000004, "0.3")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text
