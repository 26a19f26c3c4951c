"""The `shots` stage."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from threading import local
from typing import ClassVar, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bwpipe import Count, Frame, NoEffect, UnitMap, stage
from bwpipe.core.frame import FlowField, Motion
from bwpipe.core.parallel import cores, ordered_map
from bwpipe.motion.key_frames import KeyFrames
from bwpipe.motion.optical_flow import Flow, motion_plane
from bwpipe.motion.shot_detection import REACH, FrameSignature, begins_shot, frame_signature

MOST_WORKERS = 4
"""Enough for any film: two searches take 2 ms of a core."""


@stage("shots")
class Shots(UnitMap):
    """Detects the shots of a film and computes the optical flow within them. Pictures pass through unchanged.

    A dissolve counts as a cut at its middle, a fade as a cut at the end of its black.
    """

    revision: ClassVar[int] = 4
    provides: ClassVar[frozenset[str]] = frozenset({"motion"})
    changes_only: ClassVar[str | None] = "film"

    workers: NoEffect[Count] = Field(default_factory=lambda: min(MOST_WORKERS, cores()))
    """Number of frames analysed in parallel; by default the number of cores, but at most 4."""

    @property
    def context(self) -> int:
        """The frames needed to detect a cut, and one more, for a cut at the next frame."""
        return REACH + 1

    def apply(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Set the `Motion` of each frame of a film."""
        window = _Window()
        for analysed in ordered_map(_analyse, _with_previous(frames), self.workers):
            if isinstance(analysed, Frame):
                yield analysed
                continue
            window.add(analysed)
            if window.waiting > REACH + 1:
                yield window.next()
        while window.waiting:
            yield window.next()


class _Pair(NamedTuple):
    """A frame of a film and its thumbnail, with that of the frame before it."""

    frame: Frame
    view: NDArray[np.uint8]
    before: NDArray[np.uint8] | None


@dataclass(frozen=True, slots=True, eq=False)
class _Analysed:
    """A frame with its thumbnail, its signature, and the flow to and from the frame before it."""

    frame: Frame
    view: NDArray[np.uint8]
    signature: FrameSignature
    back: FlowField | None = None
    forward: FlowField | None = None


def _with_previous(frames: Iterator[Frame]) -> Iterator[Frame | _Pair]:
    """The frames of films with their thumbnails; other frames as they are."""
    before: NDArray[np.uint8] | None = None
    for frame in frames:
        if frame.unit.media.kind != "film":
            yield frame
            continue
        view = motion_plane(frame)
        view.flags.writeable = False
        yield _Pair(frame, view, before)
        before = view


def _analyse(item: Frame | _Pair) -> Frame | _Analysed:
    """What is found out about a frame of a film; may be called by several threads."""
    if isinstance(item, Frame):
        return item
    frame, view, before = item
    if before is None:
        return _Analysed(frame, view, frame_signature(view))
    flow = _flow()
    back, forward = flow(view, before), flow(before, view)
    back.flags.writeable = forward.flags.writeable = False
    return _Analysed(frame, view, frame_signature(view, before, back, forward), back, forward)


_OF_THREAD = local()


def _flow() -> Flow:
    """This thread's own search for optical flow."""
    if not hasattr(_OF_THREAD, "flow"):
        _OF_THREAD.flow = Flow()
    return cast(Flow, _OF_THREAD.flow)


class _Window:
    """The frames that wait for later ones, and the signatures of these and of some before them."""

    def __init__(self) -> None:
        self._frames: deque[_Analysed] = deque()
        self._signatures: list[FrameSignature] = []
        self._at = 0
        self._cut = False
        self._since = -1
        self._key_frames = KeyFrames()

    @property
    def waiting(self) -> int:
        """Number of frames not yet output."""
        return len(self._frames)

    def add(self, analysed: _Analysed) -> None:
        """Add a frame."""
        if not self._signatures:
            self._cut = analysed.frame.index == 0
        self._frames.append(analysed)
        self._signatures.append(analysed.signature)

    def next(self) -> Frame:
        """Output the next frame with its motion."""
        here = self._frames.popleft()
        cut, self._cut = self._cut, bool(self._frames) and begins_shot(self._signatures, self._at + 1)
        self._since = 0 if cut else self._since + 1
        back = None if cut else here.back
        on = self._frames[0].forward if self._frames and not self._cut else None
        key = self._key_frames.is_key(here.view, back, None if back is None else here.forward, ends=on is None)
        self._at += 1
        if self._at > REACH + 1:
            del self._signatures[0]
            self._at -= 1
        return replace(here.frame, motion=Motion(here.view, cut, self._since, back, on, key))
