"""Progress of a training on the terminal."""

import sys
from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import TextIO

from tqdm import tqdm

from bwpipe.core.console import EVERY, Bar, encodable, is_terminal, printable

MEMORY = 50
"""Number of steps, approximately, over which the loss is averaged."""


class TrainingProgress:
    """Shows epoch, loss, photos/s and the time left: as a progress bar on a terminal, otherwise as occasional lines."""

    def __init__(
        self,
        *,
        ends: Sequence[int],
        done: int,
        batch: int,
        say: Callable[[str], None],
        quiet: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        """Start the display.

        Args:
            ends: For each epoch, the number of steps up to its end.
            done: Number of steps done before; they count towards the bar, but not the speed.
            batch: Photos per step.
            say: Shows a line if there is no terminal.
            quiet: Show nothing.
            stream: Stream for the progress bar; standard error by default.
        """
        self._ends, self._batch = ends, batch
        self._say, self._quiet = say, quiet
        self._first = self._step = done
        self._shown, self._loss = 0, 0.0
        self._start = self._last_line = monotonic()
        self._bar: Bar | None = None
        self._stream = stream or sys.stderr  # a process may have none
        if not quiet and self._stream and is_terminal(self._stream):
            photos = ends[-1] * batch
            self._bar = Bar(
                total=photos, initial=done * batch, unit=" photos", file=self._stream, dynamic_ncols=True, leave=False
            )

    def show(self, step: int, loss: float) -> None:
        """Show the number of steps done and the loss of the last one."""
        photos = (step - self._step) * self._batch
        self._step, self._shown = step, self._shown + 1
        self._loss += (loss - self._loss) / min(self._shown, MEMORY)
        if self._bar is not None:
            self._bar.set_description(self._where(), refresh=False)
            self._bar.update(photos)
        elif monotonic() - self._last_line >= EVERY:
            self._last_line = monotonic()
            rate = (step - self._first) / (self._last_line - self._start)
            left = tqdm.format_interval(max(self._ends[-1] - step, 0) / rate)
            self.say(f"{self._where()} ({rate * self._batch:.1f} photos/s, about {left} left)")

    def say(self, text: str) -> None:
        """Show a line, above the progress bar if there is one; a closed stream does not stop the training."""
        if self._bar is not None:
            with suppress(OSError, ValueError):
                self._bar.write(encodable(printable(text), self._stream), file=self._stream)
        elif not self._quiet:
            self._say(printable(text))

    def close(self) -> None:
        """Remove the progress bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _where(self) -> str:
        return f"epoch {bisect_left(self._ends, self._step) + 1}/{len(self._ends)}, loss {self._loss:.5f}"
