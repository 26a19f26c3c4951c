"""TensorBoard's files.

They are written here and now, and not through `SummaryWriter`, which has a thread of its own do it: where the disk is full,
that thread ends with a traceback on the terminal, and the training learns of it late or never.
"""

import time
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from textwrap import indent
from typing import Any, cast

from PIL import Image

from bwpipe.errors import UsageError

_NAME = "events.out.tfevents."
"""How the names of the files begin; TensorBoard reads them in the order of their names."""


class TensorBoardWriter:
    """One file of events, which TensorBoard shows together with those of earlier starts in the same folder."""

    def __init__(self, folder: Path, step: int) -> None:
        """Begin it.

        Args:
            folder: Where the files lie; made where it is missing.
            step: The first that is still to come: what earlier starts wrote of it and of later ones is shown no more, and
                where it is 0 their files are removed.

        Raises:
            UsageError: The package is missing.
            OSError: The file can't be written.
        """
        try:
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
            from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
            from torch.utils.tensorboard import RecordWriter
            from torch.utils.tensorboard.summary import scalar, text
        except ImportError as error:
            raise UsageError(
                f"the live view of a training needs TensorBoard ({error}); install it: pip install 'bwpipe[train]'"
            ) from error
        self._event, self._summary = Event, Summary
        self._scalar, self._text = cast("Any", scalar), cast("Any", text)  # which have no types
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(f"{_NAME}*") if step == 0 else ():
            path.unlink()
        self._file = (folder / f"{_NAME}{time.time_ns()}").open("xb")
        self._records = RecordWriter(self._file)
        try:
            self._add(file_version="brain.Event:2")
            self._add(step=step, session_log=SessionLog(status=SessionLog.START))
            self._file.flush()
        except BaseException:
            self.close()
            raise

    def scalars(self, group: str, step: int, values: Mapping[str, float]) -> None:
        """Add numbers of a step, shown as `group/name`. Raises OSError."""
        for name, value in values.items():
            self._add(step=step, summary=self._scalar(f"{group}/{name}", value))
        self._file.flush()

    def picture(self, name: str, step: int, jpeg: bytes) -> None:
        """Add a picture of a step, a whole file. Raises OSError."""
        with Image.open(BytesIO(jpeg)) as opened:
            width, height = opened.size
        image = self._summary.Image(width=width, height=height, colorspace=3, encoded_image_string=jpeg)
        self._add(step=step, summary=self._summary(value=[self._summary.Value(tag=name, image=image)]))
        self._file.flush()

    def text(self, name: str, step: int, text: str) -> None:
        """Add a text, shown letter by letter. Raises OSError."""
        self._add(step=step, summary=self._text(name, indent(text, "    ")))  # a block of code in Markdown
        self._file.flush()

    def close(self) -> None:
        """Close the file. Raises OSError."""
        self._file.close()

    def _add(self, **what: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **what).SerializeToString())
