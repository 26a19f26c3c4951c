"""Report on the shots of a film: chroma flicker, confidence of the network, and which shots to check."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from bwpipe.core.frame import Frame
from bwpipe.core.json_text import parse_json
from bwpipe.motion.drift import GAPS, Drift, DriftMeter, Gap

FLICKER = "flicker"
"""Key of the note on a frame that holds its change from the previous frame: a `Step`."""
_MAX_LISTED = 3
"""Maximum number of shots listed in a line."""
_INVISIBLE = 0.1
"""Change of chroma from frame to frame, in code values, that is allowed whatever the budget: where nothing moves, as on a title
card, luma changes by a hundredth of a code value, and the budget would be as small."""


class Step(NamedTuple):
    """Change from one frame to the next along the flow, in code values: means over where forward and backward flow agree.

    Attributes:
        luma: Of luma.
        before: Of the network's chroma; None where it did not run on both frames.
        after: Of the chroma that is written.
        budget: The highest allowed change of chroma, as a share of luma's.
    """

    luma: float
    before: float | None
    after: float
    budget: float


@dataclass(slots=True)
class Shot:
    """Consecutive frames of one shot: all of them, or those in one segment of the film.

    Attributes:
        begins: Whether the shot begins with the first of them.
        first: Index of the first frame in the film, from 0.
        frames: Number of frames.
        start: Presentation time of the first frame, in seconds from the film's zero.
        stop: End of the last frame's presentation, in seconds.
        steps: Number of pairs of neighbours between which change was measured.
        luma, before, after: The sums of these changes, see `Step`; `before` is None if it is not known for all.
        budget: The budget; None if there was none.
        confidences: The sum of the mean confidences, 0..1, of `judged` frames whose network reported one.
        drift: For each of `drift.GAPS`, the drift of what is written between frames of the same segment.
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
    budget: float | None = None
    confidences: float = 0.0
    judged: int = 0
    drift: Sequence[Sequence[float]] = ()

    def extend(self, other: "Shot") -> None:
        """Append the frames that follow."""
        self.frames += other.frames
        self.stop = other.stop
        self.steps += other.steps
        self.luma += other.luma
        self.before = None if self.before is None or other.before is None else self.before + other.before
        self.after += other.after
        self.budget = self.budget if other.budget is None else other.budget
        self.confidences += other.confidences
        self.judged += other.judged
        self.drift = _sum(self.drift, other.drift)

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.stop - self.start

    @property
    def flicker(self) -> tuple[float | None, float | None]:
        """Change of chroma over that of luma, for the network's chroma and for what is written; None where not known."""
        if not (self.steps and self.luma):
            return None, None
        return None if self.before is None else self.before / self.luma, self.after / self.luma

    @property
    def confidence(self) -> float | None:
        """The mean confidence, 0..1; None if the network does not report it."""
        return self.confidences / self.judged if self.judged else None

    @property
    def drifts(self) -> dict[str, float | None]:
        """For each of `drift.GAPS`, the change of chroma relative to its length; None where nothing holds still for as long."""
        known = dict(zip(GAPS, self.drift, strict=False))
        return {f"drift_{gap}": Drift(*known[gap]).share if gap in known else None for gap in GAPS}  # type: ignore[arg-type]

    @property
    def drifting(self) -> float | None:
        """The largest of `drifts`; None if none is known."""
        return max((share for share in self.drifts.values() if share is not None), default=None)

    @property
    def doubt(self) -> float:
        """How much there is to check: the duration in seconds, times how little confidence is left after drift."""
        if self.confidence is None and self.drifting is None:
            return 0.0
        trust = 1.0 if self.confidence is None else self.confidence
        return (1 - trust * (1 - min(self.drifting or 0.0, 1.0))) * self.seconds

    @property
    def missed(self) -> bool:
        """Whether what is written flickers more than the budget, both as displayed, and more than `_INVISIBLE`."""
        after = self.flicker[1]
        if self.budget is None or after is None or self.after < _INVISIBLE * self.steps:
            return False
        return round(after, 2) > self.budget

    def to_json(self) -> dict[str, Any]:
        """The shot as a JSON object: times in seconds, changes in code values from frame to frame."""
        before, after = self.flicker
        figures = {
            "luma_change": self.luma / self.steps if self.steps else None,
            "chroma_change_before": self.before / self.steps if self.steps and self.before is not None else None,
            "chroma_change": self.after / self.steps if self.steps else None,
            "flicker_before": before,
            "flicker": after,
            "max_flicker": self.budget,
            **self.drifts,
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
        """Build the list from consecutive segments, each given by its `text`."""
        self.shots: list[Shot] = []
        self._meter = DriftMeter()
        for text in notes:
            for values in parse_json(text) if text else ():
                self._add(Shot(*values))

    def add_frame(self, frame: Any) -> None:
        """Add the next item; items that are not frames, or that did not pass through `shots`, are ignored."""
        if not isinstance(frame, Frame) or frame.motion is None or frame.pts is None or frame.unit.media.time_base is None:
            return
        start = float(frame.pts * frame.unit.media.time_base)
        stop = float((frame.pts + (frame.duration or 0)) * frame.unit.media.time_base)
        shot = Shot(frame.motion.cut, frame.index, 1, start, stop)
        step = frame.notes.get(FLICKER)
        if step:
            shot.steps, (shot.luma, shot.before, shot.after, shot.budget) = 1, step
        if frame.confidence is not None:
            shot.confidences, shot.judged = float(frame.confidence.mean(dtype=np.float32)), 1
        ended = self._meter.begin() if shot.begins else Drift()
        if self.shots:
            self.shots[-1].drift = _sum(self.shots[-1].drift, _row("half", ended))
        self._add(shot)
        motion = frame.motion
        chroma = None if frame.chroma is None else np.ascontiguousarray(frame.chroma.transpose(1, 2, 0), np.float32)
        for gap, drift in self._meter.add(motion.seen, chroma, motion.back).items():
            self.shots[-1].drift = _sum(self.shots[-1].drift, _row(gap, drift))

    def _add(self, shot: Shot) -> None:
        if shot.begins or not self.shots:
            self.shots.append(shot)
        else:
            self.shots[-1].extend(shot)

    @property
    def text(self) -> str:
        """The shots as stored in the ledger; empty if there are none. Ask after the last frame: the last shot ends here."""
        if self.shots:
            self.shots[-1].drift = _sum(self.shots[-1].drift, _row("half", self._meter.begin()))
        return json.dumps([astuple(shot) for shot in self.shots]) if self.shots else ""

    @property
    def doubtful(self) -> list[Shot]:
        """The most doubtful shots, worst first."""
        return sorted((shot for shot in self.shots if shot.doubt), key=lambda shot: -shot.doubt)[:_MAX_LISTED]

    def describe(self) -> Iterator[str]:
        """The parts of the closing line on the film."""
        yield "1 shot" if len(self.shots) == 1 else f"{len(self.shots)} shots"
        whole = replace(self.shots[0])
        for shot in self.shots[1:]:
            whole.extend(shot)
        before, after = whole.flicker
        if after is not None:
            yield f"flicker {after:.2f}" if before is None else f"flicker {before:.2f} -> {after:.2f}"
        share = whole.drifts["drift_48"]
        if share is not None:
            yield f"drift {share:.0%} of chroma in 48 frames"
        if self.doubtful:
            names = (f"{clock(shot.start)} ({', '.join(_reasons(shot))})" for shot in self.doubtful)
            yield f"most doubtful: {', '.join(names)}"

    def warning(self) -> str | None:
        """The warning if shots exceed the budget, else None."""
        missed = sorted((shot for shot in self.shots if shot.missed), key=lambda shot: -(shot.flicker[1] or 0))
        if not missed:
            return None
        names = ", ".join(f"{clock(shot.start)} ({shot.flicker[1]:.2f})" for shot in missed[:_MAX_LISTED])
        worst = "" if len(missed) <= _MAX_LISTED else "the worst "
        return (
            f"{len(missed)} of {len(self.shots)} shots flicker more than `max_flicker: {missed[0].budget:g}` allows, {worst}at "
            f"{names}; a larger `window` of `steady` reduces flicker"
        )


_NOTABLE = 0.2
"""Drift from which the closing line says that it makes a shot doubtful."""


def _reasons(shot: Shot) -> Iterator[str]:
    """Why a shot is doubtful, in a few words each."""
    yield f"{shot.seconds:.1f} s"
    if shot.confidence is not None:
        yield f"confidence {shot.confidence:.2f}"
    if shot.drifting is not None and shot.drifting >= _NOTABLE:
        yield f"drift {shot.drifting:.0%}"


def _row(gap: Gap, drift: Drift) -> Sequence[Sequence[float]]:
    """The drift over one gap as `Shot.drift`."""
    return [drift if each == gap else Drift() for each in GAPS] if drift.cells else ()


def _sum(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> Sequence[Sequence[float]]:
    """The sum of two `Shot.drift`."""
    if not (one and other):
        return one or other
    return [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(one, other, strict=True)]


def clock(seconds: float) -> str:
    """A time as players show it: hours, minutes and seconds."""
    whole = abs(int(seconds))
    return f"{'-' * (int(seconds) < 0)}{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
