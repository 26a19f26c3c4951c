import json
from itertools import pairwise
from math import isnan
from pathlib import Path

import pytest

from bwpipe.training.monitor.history import LIMIT, History


def test_added_steps_survive_a_sudden_stop(tmp_path: Path) -> None:
    history = History(tmp_path / "curves.jsonl", 0)
    for step in (10, 20, 30):
        history.add(step, {"loss": 1 / step, "gradient": float("nan")})

    resumed = History(tmp_path / "curves.jsonl", 30)

    assert [(point["step"], point["loss"]) for point in resumed.points] == [(10, 0.1), (20, 0.05), (30, 1 / 30)]
    assert all(isnan(point["gradient"]) for point in resumed.points)


def test_resuming_from_an_earlier_step_drops_later_ones(tmp_path: Path) -> None:
    history = History(tmp_path / "curves.jsonl", 0)
    for step in (10, 20, 30):
        history.add(step, {"loss": 1.0})

    resumed = History(tmp_path / "curves.jsonl", 20)
    resumed.add(30, {"loss": 2.0})

    assert [(point["step"], point["loss"]) for point in resumed.points] == [(10, 1), (20, 1), (30, 2)]
    assert History(tmp_path / "curves.jsonl", 99).points == resumed.points


@pytest.mark.parametrize("count", [LIMIT, LIMIT + 1, 7 * LIMIT])
def test_a_long_training_keeps_few_evenly_spread_steps(tmp_path: Path, count: int) -> None:
    history = History(tmp_path / "curves.jsonl", 0)
    for i in range(1, count + 1):
        history.add(10 * i, {"loss": 1.0})

    steps = [point["step"] for point in history.points]
    assert LIMIT / 2 <= len(steps) <= LIMIT
    assert len({after - before for before, after in pairwise(steps)}) == 1
    assert count * 10 - steps[-1] < steps[1] - steps[0]
    assert len((tmp_path / "curves.jsonl").read_text().splitlines()) == len(steps)


def test_a_resumed_curve_stays_equally_thinned(tmp_path: Path) -> None:
    whole, halves = History(tmp_path / "whole", 0), History(tmp_path / "halves", 0)
    for i in range(1, 3 * LIMIT):
        if i == 2 * LIMIT:
            halves = History(tmp_path / "halves", 10 * i)
        for history in (whole, halves):
            history.add(10 * i, {"loss": float(i)})

    assert halves.points == whole.points


def test_a_truncated_line_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "curves.jsonl"
    path.write_text(json.dumps({"step": 10, "loss": 1.0}) + '\n{"step": 20, "lo')

    assert History(path, 30).points == [{"step": 10, "loss": 1.0}]
