"""What a run tells: a bar or lines while it goes on, a closing table, and a file of JSON lines."""

import io
import sys
from contextlib import suppress
from time import monotonic
from typing import TextIO

from tqdm import tqdm


class Bar(tqdm):  # type: ignore[type-arg]
    """A progress bar without tqdm's monitor, a thread that outlasts the run."""

    monitor_interval = 0


EVERY = 10.0
"""Seconds between two lines of progress where there is no terminal."""


def printable(text: str) -> str:
    """The text with what would move a terminal's cursor, or could not be encoded, written as escapes."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class Progress:
    """Shows how far a run is: a bar with frames/s and the time left on a terminal, else a line now and then."""

    def __init__(self, total: int | None, *, stream: TextIO | None = None, quiet: bool = False) -> None:
        """Make it.

        Args:
            total: How many frames there are in all; None if that is not known.
            stream: Where to; standard error by default.
            quiet: Show warnings and errors only.
        """
        self._stream = stream or sys.stderr or io.StringIO()  # a process without standard error runs too
        self._total = total
        self._start = self._said = monotonic()
        self._shown = 0
        terminal = self._stream.isatty() and not quiet
        self._bar = Bar(total=total, unit=" frames", file=self._stream, dynamic_ncols=True, leave=False) if terminal else None
        self._quiet = quiet
        self._closed = False

    def say(self, text: str) -> None:
        """Show a line, above the bar if there is one; one who has stopped reading does not stop the run."""
        with suppress(OSError):
            if bar := self._bar:
                bar.write(printable(text), file=self._stream)
            else:
                print(printable(text), file=self._stream, flush=True)

    def note(self, text: str) -> None:
        """Show a line that is no warning."""
        if not self._quiet:
            self.say(text)

    def tell(self, text: str) -> None:
        """Show a line on standard output, above the bar if there is one: a result, not a word about the run."""
        with suppress(OSError):
            if bar := self._bar:
                bar.write(printable(text), file=sys.stdout)
            else:
                print(printable(text), flush=True)

    def show(self, frames: int) -> None:
        """Show that so many frames are finished; nothing once it is closed."""
        if self._closed:
            return
        if self._bar is not None:
            self._bar.update(frames - self._bar.n)
            if frames == self._total:
                self.close()
        elif not self._quiet and frames > self._shown and monotonic() - self._said >= EVERY:
            self._said, self._shown = monotonic(), frames
            rate = frames / (self._said - self._start)
            left = f" of {self._total}, about {(self._total - frames) / rate:.0f} s left" if self._total else ""
            self.say(f"{frames} frames{left} ({rate:.1f} frames/s)")

    def close(self) -> None:
        """Take the bar away; lines can still be shown."""
        self._closed = True
        if self._bar is not None:
            self._bar.close()
            self._bar = None
