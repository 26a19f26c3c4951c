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
    """Detects the shots of a film and computes the optical flow within them. Pictures pass through unchanged.

    A dissolve counts as a cut at its middle, a fade as a cut at the end of its black.
    """

    revision: ClassVar[int] = 2
    provides: ClassVar[frozenset[str]] = frozenset({"motion"})
    changes_only: ClassVar[str | None] = "film"

    @property
    def context(self) -> int:
        """The frames needed to detect a cut, and one more, for a cut at the next frame."""
        return REACH + 1

    def apply(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Set the `Motion` of each frame of a film."""
        window = _Window()
        for frame in frames:
            if frame.unit.media.kind != "film":
                yield frame
                continue
            window.add(frame)
            if window.waiting > REACH + 1:
                yield window.next()
        while window.waiting:
            yield window.next()


@dataclass(frozen=True, slots=True, eq=False)
class _Analysed:
    """A frame with its thumbnail, its signature, and the flow to and from the frame before it."""

    frame: Frame
    view: NDArray[np.uint8]
    signature: FrameSignature
    back: FlowField | None = None
    forward: FlowField | None = None


def _analyse(frame: Frame, before: _Analysed | None, flow: Flow) -> _Analysed:
    view = motion_plane(frame)
    view.flags.writeable = False
    if before is None:
        return _Analysed(frame, view, frame_signature(view))
    back, forward = flow(view, before.view), flow(before.view, view)
    back.flags.writeable = forward.flags.writeable = False
    return _Analysed(frame, view, frame_signature(view, before.view, back, forward), back, forward)


class _Window:
    """The window of frames around the next one to output: those that wait for later frames, and some before them."""

    def __init__(self) -> None:
        self._flow = Flow()
        self._frames: list[_Analysed] = []
        self._at = 0
        self._cut = False
        self._since = -1

    @property
    def waiting(self) -> int:
        """Number of frames not yet output."""
        return len(self._frames) - self._at

    def add(self, frame: Frame) -> None:
        """Add a frame."""
        if not self._frames:
            self._cut = frame.index == 0
        self._frames.append(_analyse(frame, self._frames[-1] if self._frames else None, self._flow))

    def next(self) -> Frame:
        """Output the next frame with its motion."""
        here = self._frames[self._at]
        cut, self._cut = self._cut, self.waiting > 1 and begins_shot([each.signature for each in self._frames], self._at + 1)
        self._since = 0 if cut else self._since + 1
        back = None if cut else here.back
        on = None if self._cut or self.waiting == 1 else self._frames[self._at + 1].forward
        self._at += 1
        if self._at > REACH + 1:
            del self._frames[0]
            self._at -= 1
        return replace(here.frame, motion=Motion(here.view, cut, self._since, back, on))
