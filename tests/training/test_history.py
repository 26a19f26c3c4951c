import json
from itertools import pairwise
from math import isnan
from pathlib import Path

import pytest

from bwpipe.training.monitor.history import LIMIT, History


def test_what_was_added_is_there_after_a_stop_without_notice(tmp_path: Path) -> None:
    curves = History(tmp_path / "curves.jsonl", 0)
    for step in (10, 20, 30):
        curves.add(step, {"loss": 1 / step, "gradient": float("nan")})

    again = History(tmp_path / "curves.jsonl", 30)

    assert [(point["step"], point["loss"]) for point in again.points] == [(10, 0.1), (20, 0.05), (30, 1 / 30)]
    assert all(isnan(point["gradient"]) for point in again.points)


def test_going_on_from_an_earlier_step_drops_the_later_ones(tmp_path: Path) -> None:
    curves = History(tmp_path / "curves.jsonl", 0)
    for step in (10, 20, 30):
        curves.add(step, {"loss": 1.0})

    again = History(tmp_path / "curves.jsonl", 20)
    again.add(30, {"loss": 2.0})

    assert [(point["step"], point["loss"]) for point in again.points] == [(10, 1), (20, 1), (30, 2)]
    assert History(tmp_path / "curves.jsonl", 99).points == again.points


@pytest.mark.parametrize("count", [LIMIT, LIMIT + 1, 7 * LIMIT])
def test_a_long_training_keeps_few_steps_that_are_evenly_spread(tmp_path: Path, count: int) -> None:
    curves = History(tmp_path / "curves.jsonl", 0)
    for i in range(1, count + 1):
        curves.add(10 * i, {"loss": 1.0})

    steps = [point["step"] for point in curves.points]
    assert LIMIT / 2 <= len(steps) <= LIMIT
    assert len({after - before for before, after in pairwise(steps)}) == 1
    assert count * 10 - steps[-1] < steps[1] - steps[0]
    assert len((tmp_path / "curves.jsonl").read_text().splitlines()) == len(steps)


def test_a_thinned_curve_that_goes_on_stays_as_thin(tmp_path: Path) -> None:
    whole, halves = History(tmp_path / "whole", 0), History(tmp_path / "halves", 0)
    for i in range(1, 3 * LIMIT):
        if i == 2 * LIMIT:
            halves = History(tmp_path / "halves", 10 * i)
        for curves in (whole, halves):
            curves.add(10 * i, {"loss": float(i)})

    assert halves.points == whole.points


def test_a_line_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "curves.jsonl"
    path.write_text(json.dumps({"step": 10, "loss": 1.0}) + '\n{"step": 20, "lo')

    assert History(path, 30).points == [{"step": 10, "loss": 1.0}]
