"""What a training tells while it goes on: on the terminal, and in its folder."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bwpipe.live import LiveView
from bwpipe.live.progress import Progress
from bwpipe.training.course import Course
from bwpipe.training.state import Tally

if TYPE_CHECKING:
    from bwpipe.training.trainer import Task

_EVERY = 10
"""How many steps lie between two points of the live view's curves."""
_COUNTS = {"step", "epoch"}


class Telling:
    """The progress and the live view of a training."""

    def __init__(self, task: "Task", tally: Tally, course: Course, say: Callable[[str], None]) -> None:
        """Begin, or go on after `tally.step` steps of a course."""
        self._batch, self._epochs = task.options.batch, task.options.epochs
        self._first, self._began = tally.step, monotonic()
        with ExitStack() as stack:
            self._progress = stack.enter_context(
                closing(
                    Progress(
                        ends=course.ends,
                        done=tally.step,
                        batch=self._batch,
                        say=say,
                        quiet=task.quiet,
                    )
                )
            )
            self._view = stack.enter_context(
                closing(
                    LiveView(
                        task.folder,
                        title=task.title,
                        graph=task.graph,
                        step=tally.step,
                        history=tally.history,
                        goal=task.options.goal,
                        steps=course.steps,
                        epochs=self._epochs,
                    )
                )
            )
            self._stack = stack.pop_all()

    def stepped(self, step: int, values: dict[str, float]) -> None:
        """A step was made: its losses, rate and gradient."""
        self._progress.show(step, values["loss"])
        if step % _EVERY == 0:
            speed = (step - self._first) * self._batch / (monotonic() - self._began)
            self._view.step(step, {**values, "photos_per_s": speed})

    def validated(self, history: list[dict[str, float]], sheet: NDArray[np.uint8]) -> None:
        """An epoch was measured: all figures so far, and a sheet (h, w, 3) of pictures."""
        told = ", ".join(f"{name} {value:.5g}" for name, value in history[-1].items() if name not in _COUNTS)
        self._progress.say(f"epoch {len(history)}/{self._epochs}: {told}")
        self._view.validated(history, sheet)

    def close(self) -> None:
        """Take the bar away, and close the files."""
        self._stack.close()
