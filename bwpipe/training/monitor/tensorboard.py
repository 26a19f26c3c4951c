"""Writes TensorBoard event files.

They are written synchronously, not through `SummaryWriter`, which writes in a thread of its own: on a full disk that thread
dies with a traceback on the terminal, and the training notices late or never.
"""

import time
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from textwrap import indent
from typing import Any, cast

from PIL import Image

from bwpipe.core.extras import install_command
from bwpipe.errors import UsageError

_NAME = "events.out.tfevents."
"""Prefix of the file names; TensorBoard reads the files in the order of their names."""


class TensorBoardWriter:
    """Writes one event file, which TensorBoard merges with those of earlier starts in the same folder."""

    def __init__(self, folder: Path, step: int) -> None:
        """Create the file.

        Args:
            folder: The folder of the files; created if missing.
            step: The first step still to come: earlier starts' events from this step on are hidden; at 0 their files are
                removed.

        Raises:
            UsageError: TensorBoard is not installed.
            OSError: The file cannot be written.
        """
        try:
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
            from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
            from torch.utils.tensorboard import RecordWriter
            from torch.utils.tensorboard.summary import scalar, text
        except ImportError as error:
            raise UsageError(f"a training needs TensorBoard ({error}); run: {install_command('train')}") from error
        self._event, self._summary = Event, Summary
        self._scalar, self._text = cast("Any", scalar), cast("Any", text)  # untyped
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
        """Add figures of a step, shown as `group/name`. Raises OSError."""
        for name, value in values.items():
            self._add(step=step, summary=self._scalar(f"{group}/{name}", value))
        self._file.flush()

    def image(self, name: str, step: int, jpeg: bytes) -> None:
        """Add an image of a step, given as a JPEG file. Raises OSError."""
        with Image.open(BytesIO(jpeg)) as opened:
            width, height = opened.size
        image = self._summary.Image(width=width, height=height, colorspace=3, encoded_image_string=jpeg)
        self._add(step=step, summary=self._summary(value=[self._summary.Value(tag=name, image=image)]))
        self._file.flush()

    def text(self, name: str, step: int, text: str) -> None:
        """Add a text, shown verbatim. Raises OSError."""
        self._add(step=step, summary=self._text(name, indent(text, "    ")))  # a code block in Markdown
        self._file.flush()

    def close(self) -> None:
        """Close the file. Raises OSError."""
        self._file.close()

    def _add(self, **fields: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **fields).SerializeToString())
