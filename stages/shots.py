"""The `shots` stage."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bwpipe import Frame, UnitMap, stage
from bwpipe.core.frame import FlowField, Motion
from bwpipe.motion.optical_flow import Flow, motion_plane
from bwpipe.motion.shot_detection import REACH, FrameSignature, begins_shot, frame_signature


@stage("shots")
class Shots(UnitMap):
    """Finds where the shots of a film begin, and how what is seen moves within them. Pictures pass as they are.

    A dissolve counts as a cut in its middle, a fade as one at the end of its dark.
    """

    revision: ClassVar[int] = 2
    provides: ClassVar[frozenset[str]] = frozenset({"motion"})

    @property
    def context(self) -> int:
        """The frames that decide where shots begin, and one more: whether the next frame begins one."""
        return REACH + 1

    def apply(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Give each frame of a film its `Motion`."""
        row = _Row()
        for frame in frames:
            if frame.unit.media.kind != "film":
                yield frame
                continue
            row.add(frame)
            if row.waiting > REACH + 1:
                yield row.next()
        while row.waiting:
            yield row.next()


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """A frame with its small view, its look, and the motion to the frame before it and from there."""

    frame: Frame
    view: NDArray[np.uint8]
    look: FrameSignature
    back: FlowField | None = None
    to_here: FlowField | None = None


def _see(frame: Frame, before: _Seen | None, flow: Flow) -> _Seen:
    view = motion_plane(frame)
    view.flags.writeable = False
    if before is None:
        return _Seen(frame, view, frame_signature(view))
    back, to_here = flow(view, before.view), flow(before.view, view)
    back.flags.writeable = to_here.flags.writeable = False
    return _Seen(frame, view, frame_signature(view, before.view, back, to_here), back, to_here)


class _Row:
    """The frames of a film that wait until those after them have come, and some before these."""

    def __init__(self) -> None:
        self._flow = Flow()
        self._seen: list[_Seen] = []
        self._at = 0
        self._cut = False
        self._since = -1

    @property
    def waiting(self) -> int:
        """How many frames have not been given."""
        return len(self._seen) - self._at

    def add(self, frame: Frame) -> None:
        """Take a frame."""
        if not self._seen:
            self._cut = frame.index == 0
        self._seen.append(_see(frame, self._seen[-1] if self._seen else None, self._flow))

    def next(self) -> Frame:
        """Give a frame with its motion."""
        here = self._seen[self._at]
        cut, self._cut = self._cut, self.waiting > 1 and begins_shot([each.look for each in self._seen], self._at + 1)
        self._since = 0 if cut else self._since + 1
        back = None if cut else here.back
        on = None if self._cut or self.waiting == 1 else self._seen[self._at + 1].to_here
        self._at += 1
        if self._at > REACH + 1:
            del self._seen[0]
            self._at -= 1
        return replace(here.frame, motion=Motion(here.view, cut, self._since, back, on))
