"""Console output of a run: a progress bar or progress lines, and messages."""

import io
import sys
from contextlib import suppress
from time import monotonic
from typing import TextIO

from tqdm import tqdm


class Bar(tqdm):  # type: ignore[type-arg]
    """A progress bar without tqdm's monitor thread, which would outlive the run."""

    monitor_interval = 0


EVERY = 10.0
"""Seconds between progress lines where there is no terminal."""


def printable(text: str) -> str:
    """Escape control characters and characters that can't be encoded."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class Progress:
    """Shows the progress of a run: on a terminal, a bar with frames/s and time remaining; elsewhere, occasional lines."""

    def __init__(self, total: int | None, *, stream: TextIO | None = None, quiet: bool = False) -> None:
        """Start the display.

        Args:
            total: Total number of frames; None if unknown.
            stream: Output stream; standard error by default.
            quiet: Show warnings and errors only.
        """
        self._stream = stream or sys.stderr or io.StringIO()  # a process may have no standard error
        self._total = total
        self._start = self._reported = monotonic()
        self._shown = 0
        terminal = self._stream.isatty() and not quiet
        self._bar = Bar(total=total, unit=" frames", file=self._stream, dynamic_ncols=True, leave=False) if terminal else None
        self._quiet = quiet
        self._closed = False

    def say(self, text: str) -> None:
        """Show a line, above the bar if there is one; a closed stream does not stop the run."""
        with suppress(OSError):
            if bar := self._bar:
                bar.write(printable(text), file=self._stream)
            else:
                print(printable(text), file=self._stream, flush=True)

    def note(self, text: str) -> None:
        """Show an informational line, unless quiet."""
        if not self._quiet:
            self.say(text)

    def print_result(self, text: str) -> None:
        """Show a result on standard output, above the bar if there is one."""
        with suppress(OSError):
            if bar := self._bar:
                bar.write(printable(text), file=sys.stdout)
            else:
                print(printable(text), flush=True)

    def show(self, frames: int) -> None:
        """Show how many frames are finished; no effect once closed."""
        if self._closed:
            return
        if self._bar is not None:
            self._bar.update(frames - self._bar.n)
            if frames == self._total:
                self.close()
        elif not self._quiet and frames > self._shown and monotonic() - self._reported >= EVERY:
            self._reported, self._shown = monotonic(), frames
            speed = frames / (self._reported - self._start)
            left = f" of {self._total}, about {(self._total - frames) / speed:.0f} s left" if self._total else ""
            self.say(f"{frames} frames{left} ({speed:.1f} frames/s)")

    def close(self) -> None:
        """Remove the bar; lines can still be shown."""
        self._closed = True
        if self._bar is not None:
            self._bar.close()
            self._bar = None
