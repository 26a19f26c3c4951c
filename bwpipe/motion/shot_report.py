"""The shots of a film: how much their chroma flickers, how sure the network is of it, and where to look."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from bwpipe.core.frame import Frame

FLICKER = "flicker"
"""The note on a frame of what changes from the frame before it: a `Step`."""
SHOWN = 3
"""How many shots of a film are named in a line."""
UNSEEN = 0.1
"""Code values by which chroma may change from frame to frame, whatever the budget is: where nothing moves, as on a title card,
luma changes by a hundredth of a code value, and so would chroma have to."""


class Step(NamedTuple):
    """What changes from a frame to the next along the motion, in code values: means over where the ways there and back agree.

    Attributes:
        luma: Of luma.
        before: Of the network's chroma; None where it was not asked for both frames.
        after: Of the chroma that is written.
        most: The budget: the share of luma's change that chroma's should not exceed.
    """

    luma: float
    before: float | None
    after: float
    most: float


@dataclass(slots=True)
class Shot:
    """Frames of one shot in a row: all of them, or those in one segment of the film.

    Attributes:
        begins: Whether the shot begins with the first of them.
        first: Its place in the film, from 0.
        frames: How many they are.
        start: When the first one is shown, in seconds from the film's zero.
        stop: When the last one is shown no more.
        steps: Between how many neighbours change was measured.
        luma, before, after: The sums of these changes, see `Step`; `before` is None if it is not known of all.
        most: The budget; None if nobody had one.
        sure: The sum of each frame's mean confidence, 0..1, of `judged` frames whose network told it.
    """

    begins: bool
    first: int
    frames: int
    start: float
    stop: float
    steps: int = 0
    luma: float = 0.0
    before: float | None = 0.0
    after: float = 0.0
    most: float | None = None
    sure: float = 0.0
    judged: int = 0

    def extend(self, other: "Shot") -> None:
        """Take the frames that follow."""
        self.frames += other.frames
        self.stop = other.stop
        self.steps += other.steps
        self.luma += other.luma
        self.before = None if self.before is None or other.before is None else self.before + other.before
        self.after += other.after
        self.most = self.most if other.most is None else other.most
        self.sure += other.sure
        self.judged += other.judged

    @property
    def seconds(self) -> float:
        """How long they are shown."""
        return self.stop - self.start

    @property
    def flicker(self) -> tuple[float | None, float | None]:
        """The change of chroma over that of luma, of the network's chroma and of what is written; None where not known."""
        if not (self.steps and self.luma):
            return None, None
        return None if self.before is None else self.before / self.luma, self.after / self.luma

    @property
    def confidence(self) -> float | None:
        """The mean confidence, 0..1; None where the network does not tell it."""
        return self.sure / self.judged if self.judged else None

    @property
    def doubt(self) -> float:
        """How much there is to be looked at: what is missing of full confidence, times the length in seconds."""
        return 0.0 if self.confidence is None else (1 - self.confidence) * self.seconds

    @property
    def missed(self) -> bool:
        """Whether what is written flickers more than the budget, as both are shown, and more than `UNSEEN`."""
        after = self.flicker[1]
        if self.most is None or after is None or self.after < UNSEEN * self.steps:
            return False
        return round(after, 2) > self.most

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it: times in seconds, changes in code values from frame to frame."""
        before, after = self.flicker
        figures = {
            "luma_change": self.luma / self.steps if self.steps else None,
            "chroma_change_before": self.before / self.steps if self.steps and self.before is not None else None,
            "chroma_change": self.after / self.steps if self.steps else None,
            "flicker_before": before,
            "flicker": after,
            "max_flicker": self.most,
            "confidence": self.confidence,
            "doubt": self.doubt,
        }
        return {
            "first": self.first,
            "frames": self.frames,
            "start": round(self.start, 3),
            "seconds": round(self.seconds, 3),
            **{name: None if value is None else round(value, 4) for name, value in figures.items()},
        }


class ShotList:
    """The shots of a film, or of one segment of it, in order."""

    def __init__(self, notes: Iterable[str] = ()) -> None:
        """Those of segments in a row, as their `text` has them."""
        self.shots: list[Shot] = []
        for text in notes:
            for values in json.loads(text) if text else ():
                self._add(Shot(*values))

    def see(self, frame: Any) -> None:
        """Take the next item; what is no frame, or was not seen by `shots`, has no shot."""
        if not isinstance(frame, Frame) or frame.motion is None or frame.pts is None or frame.unit.media.time_base is None:
            return
        start = float(frame.pts * frame.unit.media.time_base)
        stop = float((frame.pts + (frame.duration or 0)) * frame.unit.media.time_base)
        shot = Shot(frame.motion.cut, frame.index, 1, start, stop)
        step = frame.notes.get(FLICKER)
        if step:
            shot.steps, (shot.luma, shot.before, shot.after, shot.most) = 1, step
        if frame.confidence is not None:
            shot.sure, shot.judged = float(frame.confidence.mean(dtype=np.float32)), 1
        self._add(shot)

    def _add(self, shot: Shot) -> None:
        if shot.begins or not self.shots:
            self.shots.append(shot)
        else:
            self.shots[-1].extend(shot)

    @property
    def text(self) -> str:
        """As the ledger keeps them; empty if there is none."""
        return json.dumps([astuple(shot) for shot in self.shots]) if self.shots else ""

    @property
    def doubtful(self) -> list[Shot]:
        """The most doubtful ones, the worst first."""
        return sorted((shot for shot in self.shots if shot.doubt), key=lambda shot: -shot.doubt)[:SHOWN]

    def describe(self) -> Iterator[str]:
        """What the closing line says of the film, in parts."""
        yield "1 shot" if len(self.shots) == 1 else f"{len(self.shots)} shots"
        whole = replace(self.shots[0])
        for shot in self.shots[1:]:
            whole.extend(shot)
        before, after = whole.flicker
        if after is not None:
            yield f"flicker {after:.2f}" if before is None else f"flicker {before:.2f} -> {after:.2f}"
        if self.doubtful:
            names = (f"{clock(shot.start)} ({shot.seconds:.1f} s, confidence {shot.confidence:.2f})" for shot in self.doubtful)
            yield f"most doubtful: {', '.join(names)}"

    def complaint(self) -> str | None:
        """What is to be said where the budget was missed."""
        missed = sorted((shot for shot in self.shots if shot.missed), key=lambda shot: -(shot.flicker[1] or 0))
        if not missed:
            return None
        names = ", ".join(f"{clock(shot.start)} ({shot.flicker[1]:.2f})" for shot in missed[:SHOWN])
        worst = "" if len(missed) <= SHOWN else "the worst "
        return (
            f"{len(missed)} of {len(self.shots)} shots flicker more than `max_flicker: {missed[0].most:g}` allows, {worst}at "
            f"{names}; a larger `window` of `steady` makes them steadier"
        )


def clock(seconds: float) -> str:
    """A time in a film, as players show it: hours, minutes and seconds."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
