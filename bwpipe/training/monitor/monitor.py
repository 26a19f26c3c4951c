"""What a training tells while it goes on: on the terminal, and in its folder."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from time import monotonic

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bwpipe.core.atomic_file import WORK_FOLDER, write_atomically
from bwpipe.training.job import Task
from bwpipe.training.monitor.history import History
from bwpipe.training.monitor.html_report import ReportData, page
from bwpipe.training.monitor.progress import TrainingProgress
from bwpipe.training.monitor.tensorboard import TensorBoardWriter
from bwpipe.training.schedule import Schedule
from bwpipe.training.training_state import Counters
from bwpipe.training.validation import best

_EVERY = 10
"""How many steps lie between two points of the live view's curves."""
_COUNTS = {"step", "epoch"}


class Monitor:
    """The progress and the live view of a training."""

    def __init__(self, task: Task, tally: Counters, course: Schedule, say: Callable[[str], None]) -> None:
        """Begin, or go on after `tally.step` steps of a course."""
        self._batch, self._epochs = task.options.batch, task.options.epochs
        self._first, self._began = tally.step, monotonic()
        with ExitStack() as stack:
            self._progress = stack.enter_context(
                closing(
                    TrainingProgress(
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


LARGEST = 1_100_000
"""Bytes of the sheet in the page; as text they are a third more."""


class LiveView:
    """Shows how a training goes, in its folder: `progress.html`, and `tensorboard/` for TensorBoard.

    Beside them is what the page goes on with after a stop: `curves.jsonl`, and the newest `sheet-STEP.jpg` in `.bwpipe/`, where
    no later start takes it for a photograph to train on. Nothing that the training depends on is changed. Any method raises
    OSError where the disk refuses.
    """

    def __init__(
        self,
        folder: Path,
        *,
        title: str,
        graph: str,
        step: int,
        history: list[dict[str, float]],
        goal: str = "loss",
        steps: int | None = None,
        epochs: int | None = None,
    ) -> None:
        """Begin, or go on from what an earlier start left in the folder; what that showed of later steps is dropped.

        Args:
            folder: The folder of the training.
            title: Of the training.
            graph: The text of the graph file.
            step: How many steps were made.
            history: The figures of the validations so far, each with its "step" and "epoch".
            goal: The figure that says which validation is the best, one of `validation.GOALS`.
            steps: How many steps there are to be, if that is known.
            epochs: How many epochs there are to be, if that is known.

        Raises:
            UsageError: TensorBoard is missing.
            OSError: The disk refuses.
        """
        self._folder = folder
        self._title, self._graph = (text.encode("utf-8", "backslashreplace").decode() for text in (title, graph))
        self._goal, self._steps, self._epochs = goal, steps, epochs
        self._step, self._history = step, list(history)
        validated = bool(history) and history[-1]["step"] == step  # otherwise it may be validated once more
        first = step + validated
        self._events = TensorBoardWriter(folder / "tensorboard", first)
        try:
            self._events.text("graph", first, self._graph)
            self._curves = History(folder / "curves.jsonl", step)
            self._write(running=True)
        except BaseException:
            self._events.close()
            raise

    def step(self, step: int, scalars: Mapping[str, float]) -> None:
        """Show numbers of a step: losses by name, the "rate", "photos_per_s", ..."""
        self._step = step
        self._events.scalars("training", step, scalars)
        self._curves.add(step, scalars)

    def validated(self, history: list[dict[str, float]], sheet: NDArray[np.uint8]) -> None:
        """Show the last validation of the history, and a sheet (h, w, 3) of it."""
        self._history = list(history)
        self._step = step = int(history[-1]["step"])
        self._events.scalars("validation", step, {k: v for k, v in history[-1].items() if k not in ("step", "epoch")})
        jpeg = _jpeg(sheet)
        self._events.picture("sheet", step, jpeg)
        write_atomically(self._sheet, jpeg, folder=self._folder)
        for path in set(self._sheet.parent.glob(f"sheet-{'[0-9]' * 8}.jpg")) - {self._sheet}:
            path.unlink()
        self._write(running=True)

    def close(self) -> None:
        """Write the page for the last time; browsers read it again no more."""
        self._events.close()
        self._write(running=False)

    @property
    def _sheet(self) -> Path:
        """The sheet of the last validation."""
        return self._folder / WORK_FOLDER / f"sheet-{self._history[-1]['step']:08.0f}.jpg"

    def _write(self, *, running: bool) -> None:
        story = ReportData(
            title=self._title,
            graph=self._graph,
            goal=self._goal,
            best=self._history[best(self._history, self._goal) - 1] if self._history else None,
            step=self._step,
            steps=self._steps,
            epochs=self._epochs,
            points=self._curves.points,
            history=self._history,
            sheet=self._sheet.read_bytes() if self._history and self._sheet.exists() else None,
            running=running,
            written=datetime.now(UTC).astimezone(),
        )
        write_atomically(self._folder / "progress.html", page(story).encode())


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """A picture (h, w, 3) as a JPEG of no more than `LARGEST` bytes, made smaller where it must be."""
    image = Image.fromarray(pixels)
    while True:
        packed = BytesIO()
        image.save(packed, "JPEG", quality=90, subsampling=0)
        if packed.tell() <= LARGEST:
            return packed.getvalue()
        image = image.resize((image.width * 3 // 4, image.height * 3 // 4), Image.Resampling.LANCZOS)
