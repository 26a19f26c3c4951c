import io
import re
import sys

import pytest

from bwpipe.training.monitor import progress
from bwpipe.training.monitor.progress import TrainingProgress


class Terminal(io.StringIO):
    """Takes what is shown, as a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that goes by a second each time it is read."""
    times = [0.0]

    def read() -> float:
        times[0] += 1
        return times[0]

    monkeypatch.setattr(progress, "monotonic", read)
    return times


def test_without_a_terminal_there_is_a_line_every_ten_seconds(clock: list[float]) -> None:
    said: list[str] = []
    shown = TrainingProgress(ends=[10, 20, 30, 40], done=0, batch=8, say=said.append)

    for step in range(1, 41):
        shown.show(step, 0.5)
    shown.close()

    assert 3 <= len(said) <= 5
    assert re.fullmatch(r"epoch 1/4, loss 0\.50000 \(\d+\.\d photos/s, about 0?\d:\d\d left\)", said[0])
    assert said[-1].startswith("epoch 4/4")


def test_speed_and_time_left_are_those_of_the_steps_made_now(clock: list[float]) -> None:
    said: list[str] = []
    shown = TrainingProgress(ends=[1200], done=1000, batch=8, say=said.append)
    clock[0] = 49.0  # since 1.0

    shown.show(1100, 0.5)

    assert said == ["epoch 1/1, loss 0.50000 (16.0 photos/s, about 00:50 left)"]


def test_the_loss_is_the_mean_of_the_last_steps(clock: list[float]) -> None:
    said: list[str] = []
    shown = TrainingProgress(ends=[9000], done=0, batch=1, say=said.append)

    for step in range(1, 2001):
        shown.show(step, 8.0 if step < 1000 else 1.0 + step % 2)

    assert 1.4 < float(said[-1].split("loss ")[1].split()[0]) < 1.6


def test_a_terminal_shows_a_bar_and_takes_it_away() -> None:
    terminal = Terminal()
    shown = TrainingProgress(ends=[5, 10], done=5, batch=8, say=pytest.fail, stream=terminal)
    shown.show(6, 0.25)
    shown.say("epoch 1/2: chroma\x1b[2J 0.5")
    shown.show(10, 0.25)
    shown.close()

    told = terminal.getvalue()
    assert "40/80" in told
    assert "photos/s" in told
    assert "epoch 2/2, loss 0.25000" in told
    assert "epoch 1/2: chroma\\x1b[2J 0.5\n" in told
    assert told.rsplit("\r", 1)[1].strip() == ""


def test_a_line_without_a_terminal_goes_where_the_run_says_it() -> None:
    said: list[str] = []
    shown = TrainingProgress(ends=[5], done=0, batch=8, say=said.append)

    shown.say("epoch 1/1: a\rb")

    assert said == ["epoch 1/1: a\\rb"]


def test_a_quiet_run_shows_nothing() -> None:
    terminal = Terminal()
    shown = TrainingProgress(ends=[5], done=0, batch=8, say=pytest.fail, quiet=True, stream=terminal)
    shown.show(1, 0.5)
    shown.say("a line")
    shown.close()

    assert terminal.getvalue() == ""


def test_a_process_without_standard_error_trains_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    said: list[str] = []
    shown = TrainingProgress(ends=[5], done=0, batch=8, say=said.append)

    shown.show(5, 0.5)
    shown.say("a line")
    shown.close()

    assert said == ["a line"]
