"""Runs again, from the page: in a process of its own, whose lines the page shows."""

import json
import shlex
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock, Thread
from typing import Any

_LINES = 12
"""How many of the last lines the page shows."""
_PATIENCE = 5
"""Seconds that a run has to end when it is told to."""


class Rerun:
    """A command that is run when asked for, one at a time."""

    def __init__(self, arguments: Callable[[], Sequence[str]], folder: Path) -> None:
        """Prepare `bwpipe` with the arguments that are given when it is run, in a folder."""
        self._arguments, self._folder = arguments, folder
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._process: subprocess.Popen[str] | None = None
        self._ended = False
        self._lock = Lock()

    @property
    def command(self) -> str:
        """The command as one would type it."""
        return shlex.join(["bwpipe", *self._arguments()])

    def start(self) -> None:
        """Start it, unless it is running."""
        with self._lock:
            if self._process and self._process.poll() is None:
                return
            self._lines.clear()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bwpipe", *self._arguments()],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            Thread(target=self._follow, args=(self._process,), daemon=True).start()

    def _follow(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout
        for line in process.stdout:
            self._lines.append(line.rstrip())
        process.wait()
        self._ended = True

    def state(self) -> dict[str, Any]:
        """Whether it is running, how it ended, and what it says."""
        process = self._process
        code = process.poll() if process else None
        state = "idle" if process is None else "running" if code is None else "done" if code == 0 else "failed"
        return {"state": state, "command": self.command, "lines": list(self._lines)}

    def has_ended(self) -> bool:
        """Whether it has ended since this was asked for."""
        ended, self._ended = self._ended, False
        return ended

    def stop(self) -> None:
        """End it, as by Ctrl-C; finished files are kept."""
        if self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()


def arguments_of(changes: Mapping[str, Any]) -> list[str]:
    """The `bwpipe colorize` that a graph that comes with bwpipe, with some options set, stands for."""
    rest = dict(changes)
    inputs, output = rest.pop("read.path"), rest.pop("write.path")
    return [
        "colorize",
        *([inputs] if isinstance(inputs, str) else inputs),
        "--output",
        output,
        *(word for key, value in rest.items() for word in ("--set", f"{key}={json.dumps(value)}")),
    ]
