"""Reports a running training: on the terminal and in its folder."""

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
from bwpipe.training.monitor.progress_page import REFRESH, ReportData, page
from bwpipe.training.monitor.summary import Summary, other_trainings, settings_of, write_summary
from bwpipe.training.monitor.tensorboard import TensorBoardWriter
from bwpipe.training.monitor.terminal_progress import TrainingProgress
from bwpipe.training.schedule import Schedule
from bwpipe.training.training_state import Counters
from bwpipe.training.validation import best

_EVERY = 10
"""Steps between two points of the live view's curves."""
_COUNTS = {"step", "epoch"}


class Monitor:
    """The progress and the live view of a training."""

    def __init__(self, task: Task, counters: Counters, schedule: Schedule, say: Callable[[str], None]) -> None:
        """Start, or resume after `counters.step` steps of a schedule."""
        self._batch, self._epochs = task.options.batch, task.options.epochs
        self._first, self._began = counters.step, monotonic()
        with ExitStack() as stack:
            self._progress = stack.enter_context(
                closing(
                    TrainingProgress(
                        ends=schedule.ends,
                        done=counters.step,
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
                        step=counters.step,
                        history=counters.history,
                        goal=task.options.goal,
                        steps=schedule.steps,
                        epochs=self._epochs,
                        batch=self._batch,
                        settings=settings_of(task.options),
                    )
                )
            )
            self._stack = stack.pop_all()

    def stepped(self, step: int, values: dict[str, float]) -> None:
        """Report a step: its losses, learning rate and gradient norm."""
        self._progress.show(step, values["loss"])
        if step % _EVERY == 0:
            speed = (step - self._first) * self._batch / (monotonic() - self._began)
            self._view.step(step, {**values, "photos_per_s": speed})

    def validated(self, history: list[dict[str, float]], sheet: NDArray[np.uint8]) -> None:
        """Report a validation: all figures so far, and a sheet (h, w, 3) of images."""
        text = ", ".join(f"{name} {value:.5g}" for name, value in history[-1].items() if name not in _COUNTS)
        self._progress.say(f"epoch {len(history)}/{self._epochs}: {text}")
        self._view.validated(history, sheet)

    def close(self) -> None:
        """Remove the progress bar and close the files."""
        self._stack.close()


MAX_SHEET_BYTES = 1_100_000
"""Maximum bytes of the sheet in the page; Base64 adds a third."""


class LiveView:
    """Shows the progress of a training in its folder: `progress.html`, and `tensorboard/` for TensorBoard.

    `curves.jsonl` and the latest `sheet-STEP.jpg` let the page resume after a stop; the sheet is in `.bwpipe/`, where no later
    start takes it for a training photograph. The live view has no effect on the training. Any method raises OSError if
    writing fails.
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
        batch: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Start, or resume the view of an earlier start in the folder, dropping its later steps.

        Args:
            folder: The folder of the training.
            title: Title of the training.
            graph: The text of the graph file.
            step: Number of steps done.
            history: The figures of the validations so far, each with its "step" and "epoch".
            goal: The figure by which the best validation is selected, one of `validation.GOALS`.
            steps: Total number of steps, if known.
            epochs: Total number of epochs, if known.
            batch: Photographs per step, if known.
            settings: The options of the training that differ from the defaults, by name.

        Raises:
            UsageError: TensorBoard is missing.
            OSError: Writing fails.
        """
        self._folder = folder
        self._title, self._graph = (text.encode("utf-8", "backslashreplace").decode() for text in (title, graph))
        self._goal, self._steps, self._epochs = goal, steps, epochs
        self._batch, self._settings = batch, dict(settings or {})
        self._step, self._history = step, list(history)
        validated = bool(history) and history[-1]["step"] == step  # otherwise it may be validated again
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
        """Show the figures of a step: losses by name, the "rate", "photos_per_s", ..."""
        self._step = step
        self._events.scalars("training", step, scalars)
        self._curves.add(step, scalars)
        if monotonic() - self._shown > REFRESH:
            self._write(running=True)

    def validated(self, history: list[dict[str, float]], sheet: NDArray[np.uint8]) -> None:
        """Show the last validation of the history, and its sheet (h, w, 3)."""
        self._history = list(history)
        self._step = step = int(history[-1]["step"])
        self._events.scalars("validation", step, {k: v for k, v in history[-1].items() if k not in ("step", "epoch")})
        jpeg = _jpeg(sheet)
        self._events.image("sheet", step, jpeg)
        write_atomically(self._sheet, jpeg, folder=self._folder)
        for path in set(self._sheet.parent.glob(f"sheet-{'[0-9]' * 8}.jpg")) - {self._sheet}:
            path.unlink()
        self._write(running=True)

    def close(self) -> None:
        """Write the page for the last time; browsers stop reloading it."""
        self._events.close()
        self._write(running=False)

    @property
    def _sheet(self) -> Path:
        """Path of the last validation's sheet."""
        return self._folder / WORK_FOLDER / f"sheet-{self._history[-1]['step']:08.0f}.jpg"

    def _write(self, *, running: bool) -> None:
        self._shown = monotonic()
        best_one = self._history[best(self._history, self._goal) - 1] if self._history else None
        data = ReportData(
            title=self._title,
            graph=self._graph,
            goal=self._goal,
            best=best_one,
            step=self._step,
            steps=self._steps,
            epochs=self._epochs,
            points=self._curves.points,
            history=self._history,
            sheet=self._sheet.read_bytes() if self._history and self._sheet.exists() else None,
            running=running,
            written=datetime.now(UTC).astimezone(),
            batch=self._batch,
            settings=self._settings,
            others=other_trainings(self._folder),
        )
        summary = Summary(title=self._title, step=self._step, goal=self._goal, best=best_one, settings=self._settings)
        write_summary(self._folder, summary)
        write_atomically(self._folder / "progress.html", page(data).encode())


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """An image (h, w, 3) as a JPEG of at most `MAX_SHEET_BYTES` bytes, scaled down if necessary."""
    image = Image.fromarray(pixels)
    while True:
        buffer = BytesIO()
        image.save(buffer, "JPEG", quality=90, subsampling=0)
        if buffer.tell() <= MAX_SHEET_BYTES:
            return buffer.getvalue()
        image = image.resize((image.width * 3 // 4, image.height * 3 // 4), Image.Resampling.LANCZOS)
