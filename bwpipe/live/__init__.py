"""The live view of a training: TensorBoard's files, and a page that is read from the disk."""

from collections.abc import Mapping
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bwpipe.draft import WORK_FOLDER, publish
from bwpipe.live.curves import Curves
from bwpipe.live.events import Events
from bwpipe.live.page import Story, page
from bwpipe.training.goals import best

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
            goal: The figure that says which validation is the best, one of `goals.GOALS`.
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
        self._events = Events(folder / "tensorboard", first)
        try:
            self._events.text("graph", first, self._graph)
            self._curves = Curves(folder / "curves.jsonl", step)
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
        publish(self._sheet, jpeg, folder=self._folder)
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
        story = Story(
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
        publish(self._folder / "progress.html", page(story).encode())


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """A picture (h, w, 3) as a JPEG of no more than `LARGEST` bytes, made smaller where it must be."""
    image = Image.fromarray(pixels)
    while True:
        packed = BytesIO()
        image.save(packed, "JPEG", quality=90, subsampling=0)
        if packed.tell() <= LARGEST:
            return packed.getvalue()
        image = image.resize((image.width * 3 // 4, image.height * 3 // 4), Image.Resampling.LANCZOS)
