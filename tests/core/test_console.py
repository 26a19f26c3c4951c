import io
import re
import sys

import pytest

from bwpipe.core import console
from bwpipe.core.console import Progress, print_lines
from bwpipe.training.monitor import terminal_progress
from bwpipe.training.monitor.terminal_progress import TrainingProgress


class Terminal(io.StringIO):
    """A text buffer that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that advances by a second each time it is read."""
    times = [0.0]

    def read() -> float:
        times[0] += 1
        return times[0]

    monkeypatch.setattr(terminal_progress, "monotonic", read)
    return times


def test_without_a_terminal_a_line_is_shown_every_ten_seconds(clock: list[float]) -> None:
    lines: list[str] = []
    bar = TrainingProgress(ends=[10, 20, 30, 40], done=0, batch=8, say=lines.append)

    for step in range(1, 41):
        bar.show(step, 0.5)
    bar.close()

    assert 3 <= len(lines) <= 5
    assert re.fullmatch(r"epoch 1/4, loss 0\.50000 \(\d+\.\d photos/s, about 0?\d:\d\d left\)", lines[0])
    assert lines[-1].startswith("epoch 4/4")


def test_speed_and_time_left_only_count_the_steps_of_this_run(clock: list[float]) -> None:
    lines: list[str] = []
    bar = TrainingProgress(ends=[1200], done=1000, batch=8, say=lines.append)
    clock[0] = 49.0  # since 1.0

    bar.show(1100, 0.5)

    assert lines == ["epoch 1/1, loss 0.50000 (16.0 photos/s, about 00:50 left)"]


def test_the_loss_is_averaged_over_recent_steps(clock: list[float]) -> None:
    lines: list[str] = []
    bar = TrainingProgress(ends=[9000], done=0, batch=1, say=lines.append)

    for step in range(1, 2001):
        bar.show(step, 8.0 if step < 1000 else 1.0 + step % 2)

    assert 1.4 < float(lines[-1].split("loss ")[1].split()[0]) < 1.6


def test_a_terminal_shows_a_bar_and_removes_it() -> None:
    terminal = Terminal()
    bar = TrainingProgress(ends=[5, 10], done=5, batch=8, say=pytest.fail, stream=terminal)
    bar.show(6, 0.25)
    bar.say("epoch 1/2: chroma\x1b[2J 0.5")
    bar.show(10, 0.25)
    bar.close()

    output = terminal.getvalue()
    assert "40/80" in output
    assert "photos/s" in output
    assert "epoch 2/2, loss 0.25000" in output
    assert "epoch 1/2: chroma\\x1b[2J 0.5\n" in output
    assert output.rsplit("\r", 1)[1].strip() == ""


def test_without_a_terminal_lines_go_through_the_run() -> None:
    lines: list[str] = []
    bar = TrainingProgress(ends=[5], done=0, batch=8, say=lines.append)

    bar.say("epoch 1/1: a\rb")

    assert lines == ["epoch 1/1: a\\rb"]


def test_a_quiet_run_shows_nothing() -> None:
    terminal = Terminal()
    bar = TrainingProgress(ends=[5], done=0, batch=8, say=pytest.fail, quiet=True, stream=terminal)
    bar.show(1, 0.5)
    bar.say("a line")
    bar.close()

    assert terminal.getvalue() == ""


def test_a_process_without_standard_error_can_train(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    lines: list[str] = []
    bar = TrainingProgress(ends=[5], done=0, batch=8, say=lines.append)

    bar.show(5, 0.5)
    bar.say("a line")
    bar.close()

    assert lines == ["a line"]


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)]
)
def test_errors_and_warnings_are_coloured_where_a_terminal_shows_it(
    environment: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TERM": "xterm", "WT_SESSION": "1", "NO_COLOR": "", **environment}.items():
        monkeypatch.setenv(name, value)
    terminal, file = Terminal(), io.StringIO()
    text = "error: a\x1b[5m.png: it is cut\nwarning: b.png: dull\n1 error: none"

    for stream in (terminal, file):
        print_lines(text, stream)

    plain = "error: a\\x1b[5m.png: it is cut\nwarning: b.png: dull\n1 error: none\n"
    red, yellow = "\x1b[31merror:\x1b[0m", "\x1b[33mwarning:\x1b[0m"
    assert file.getvalue() == plain
    expected = plain.replace("error: a", f"{red} a").replace("warning:", yellow) if coloured else plain
    assert terminal.getvalue() == expected


def test_the_start_of_a_run_is_not_taken_for_its_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(console, "monotonic", lambda: now)
    stream = io.StringIO()
    progress = Progress(100, stream=stream, of="pictures")

    now = 60.0  # the network was loaded
    progress.show(10)
    now = 70.0
    progress.show(30)

    assert stream.getvalue().splitlines() == [
        "10 of 100 pictures",
        "30 of 100 pictures, about 35 s left (2.0 pictures/s)",
    ]
