"""Console output of a run: a progress bar or progress lines, and messages."""

import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TextIO

from tqdm import tqdm


class Bar(tqdm):  # type: ignore[type-arg]
    """A progress bar without tqdm's monitor thread, which would outlive the run."""

    monitor_interval = 0

    def begin(self, done: int) -> None:
        """Measure the speed from now on, when `done` frames are finished."""
        self.n = self.initial = self.last_print_n = done
        self.start_t = self.last_print_t = self._time()  # type: ignore[attr-defined]
        self.refresh()


EVERY = 10.0
"""Seconds between progress lines where there is no terminal."""


def printable(text: str) -> str:
    """Escape control characters and characters that can't be encoded."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def as_typed(path: Path) -> str:
    """A path as one would type it here: below the current folder without that."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


_COLOURS = {"error:": "\x1b[31m", "warning:": "\x1b[33m"}
_PLAIN = "\x1b[0m"


def has_colours(stream: object) -> bool:
    """Whether a stream is a terminal that shows colours, and the user wants them: https://no-color.org."""
    unwanted = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    known = sys.platform != "win32" or "WT_SESSION" in os.environ  # older consoles of Windows show the codes
    return not unwanted and known and is_terminal(stream)


def highlighted(line: str, stream: object) -> str:
    """A printable line whose first word is in red or yellow if it says that this is an error or a warning."""
    word = line.partition(" ")[0]
    return f"{_COLOURS[word]}{word}{_PLAIN}{line[len(word) :]}" if word in _COLOURS and has_colours(stream) else line


def print_lines(text: str, stream: TextIO | None = None) -> None:
    """Print lines for the user, whatever the stream and the names in them are.

    What can't be shown or encoded is escaped. If nobody reads the stream any more, as after `| head`, the rest is dropped: that
    is no reason to stop, and the exit code is that of the work.

    Args:
        text: The lines.
        stream: Standard output by default.
    """
    target = stream or sys.stdout
    if target is None:  # a process may have no standard output
        return
    try:
        target.write(encodable("".join(f"{highlighted(printable(line), target)}\n" for line in text.split("\n")), target))
        if flush := getattr(target, "flush", None):
            flush()
    except (OSError, ValueError):  # nobody reads it any more, or it is closed
        return


def encodable(text: str, stream: object) -> str:
    """Text with escapes for the characters that a stream's encoding lacks."""
    encoding = getattr(stream, "encoding", None)
    if not isinstance(encoding, str):
        return text
    with suppress(LookupError):
        return text.encode(encoding, "backslashreplace").decode(encoding)
    return text


def is_terminal(stream: object) -> bool:
    """Whether a stream is a terminal; an object that does not say so is none."""
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):  # ValueError: it is closed
        return False


class Progress:
    """Shows the progress of a run: on a terminal, a bar with frames/s and time remaining; elsewhere, occasional lines."""

    def __init__(self, total: int | None, *, stream: TextIO | None = None, quiet: bool = False, of: str = "frames") -> None:
        """Start the display.

        Args:
            total: Total number of frames; None if unknown.
            of: What they are: "frames", or "pictures" where there is no film.
            stream: Output stream; standard error by default.
            quiet: Show warnings and errors only.
        """
        self._stream = stream or sys.stderr or io.StringIO()  # a process may have no standard error
        self._total = total
        self._reported = monotonic()
        self._first: tuple[float, int] | None = None
        self._shown = 0
        terminal = is_terminal(self._stream) and not quiet
        self._bar = Bar(total=total, unit=f" {of}", file=self._stream, dynamic_ncols=True, leave=False) if terminal else None
        self._quiet = quiet
        self._closed = False
        self._of = of

    def say(self, text: str) -> None:
        """Show a line, above the bar if there is one; a closed stream does not stop the run."""
        if bar := self._bar:
            with suppress(OSError, ValueError):
                bar.write(highlighted(encodable(printable(text), self._stream), self._stream), file=self._stream)
        else:
            print_lines(printable(text), self._stream)

    def note(self, text: str) -> None:
        """Show an informational line, unless quiet."""
        if not self._quiet:
            self.say(text)

    def print_result(self, text: str) -> None:
        """Show a result on standard output, above the bar if there is one."""
        if bar := self._bar:
            with suppress(OSError, ValueError):
                bar.write(encodable(printable(text), sys.stdout), file=sys.stdout)
        else:
            print_lines(printable(text))

    def show(self, frames: int) -> None:
        """Show how many frames are finished; no effect once closed."""
        if self._closed:
            return
        if frames and self._first is None:  # what came before was the start, and is no speed
            self._first = monotonic(), frames
            if self._bar is not None:
                self._bar.begin(frames)
        if self._bar is not None:
            self._bar.update(frames - self._bar.n)
            if frames == self._total:
                self.close()
        elif not self._quiet and frames > self._shown and monotonic() - self._reported >= EVERY:
            self._reported, self._shown = monotonic(), frames
            self.say(f"{frames}{f' of {self._total}' if self._total else ''} {self._of}{self._estimate(frames)}")

    def _estimate(self, frames: int) -> str:
        """The speed since the first frames were finished, and the time left; empty while there is no speed."""
        assert self._first, "some frames were shown"
        start, before = self._first
        if frames == before:
            return ""
        speed = (frames - before) / (self._reported - start)
        left = f", about {max(self._total - frames, 0) / speed:.0f} s left" if self._total else ""
        return f"{left} ({speed:.1f} {self._of}/s)"

    def close(self) -> None:
        """Remove the bar; lines can still be shown."""
        self._closed = True
        if self._bar is not None:
            self._bar.close()
            self._bar = None
