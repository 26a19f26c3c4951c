"""The `anchor` stage."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from threading import Lock
from typing import Any, ClassVar

import numpy as np
from pydantic import PrivateAttr

from bwpipe import Frame, NoEffect, RunContext, Unit, stage
from bwpipe.core.first_pass import FirstPass, TwoPassMap
from bwpipe.core.frame import Media
from bwpipe.core.provenance import KEPT
from bwpipe.core.segments import frame_range
from bwpipe.core.stage import Needs
from bwpipe.memory.film_memory import FilmMemory, remember
from bwpipe.memory.key_frames import choose_key_frames
from bwpipe.memory.references import COLOURS, References, Still, still_frame
from bwpipe.video.file import VideoFile


@stage("anchor")
class Anchor(TwoPassMap):
    """Holds the colours of a film through its shots: draws every frame towards what the film's key frames agree on.

    Key frames, at most one in two seconds, are coloured before the film; of each, the network's features and its chroma are
    kept. A frame takes their colours where its features match theirs, and keeps its own elsewhere; frames of other scenes
    do not count, and shots that show a scene again share its colours. Pictures without a `reference` pass through unchanged,
    and so does everything if the network has no features.
    """

    revision: ClassVar[int] = 3
    changes_only: ClassVar[str | None] = "film"

    reference: NoEffect[str | list[str] | None] = None  # no effect by itself: the recipe has the hashes of the stills
    """Coloured stills, a folder of them or files, whose colours are taken before the network's where they show the same things.
    For a film those in a folder named like it (`reel.mp4/000123.png`), and those in no folder, which are for all films; for a
    picture that of the same name, or, if there is one still only, that one."""

    _references: References | None = PrivateAttr(default=None)
    _run: RunContext = PrivateAttr()
    _memories: dict[Media, FilmMemory] = PrivateAttr(default_factory=dict)
    _units_left: Counter[Media] = PrivateAttr(default_factory=Counter)
    _lock: Lock = PrivateAttr(default_factory=Lock)

    @property
    def needs(self) -> Needs:
        """It needs the network's features from a stage above."""
        return Needs(above=frozenset({"features"}))

    def setup(self, run: RunContext) -> None:
        """Keep the run, for warnings."""
        self._run = run

    def recipe(self, unit: Unit | None = None) -> dict[str, Any]:
        """The hashes of the stills that concern the unit; empty for a picture without any."""
        stills = self._stills(unit)
        told = {"references": [still.digest for still in stills]} if stills else {}
        if unit and unit.media.kind != "film":
            return {"stage": self.registered, "revision": self.revision_for(unit), **told} if told else {}
        return {**super().recipe(unit), **told}

    def revision_for(self, unit: Unit | None) -> int:
        """The latest for films only: 2 chose other key frames where groups of pictures are short, 3 rounds otherwise."""
        return self.revision if unit is None or unit.media.kind == "film" else 1

    def _stills(self, unit: Unit | None) -> list[Still]:
        """The stills that concern a unit, or any. Raises UsageError."""
        if not self.reference:
            return []
        if self._references is None:
            self._references = References([self.reference] if isinstance(self.reference, str) else self.reference)
        return list(self._references.of(unit.media) if unit else self._references.all())

    def first_pass(self, unit: Unit) -> FirstPass | None:
        """The key frames of a film, and the stills that concern it. Raises MediaError."""
        media = unit.media
        stills = [still_frame(still, unit) for still in self._stills(unit)]
        start, stop = frame_range(unit)
        if not isinstance(media, VideoFile) or stop is None:
            return FirstPass((), stills) if stills else None
        seconds = media.times.astype(np.float64) * float(media.time_base)
        return FirstPass(choose_key_frames(seconds, media.keys[:, 0], start, min(stop, len(seconds))), stills)

    def collect(self, unit: Unit, items: Iterator[Any]) -> bytes:
        """The memory of a film: what its key frames agree on, and what the stills show."""
        told: list[Frame] = []
        return remember(self._key_frames(items, told), told).to_bytes()

    def _key_frames(self, frames: Iterator[Frame], told: list[Frame]) -> Iterator[Frame]:
        """The key frames; stills are put aside, with their own colours."""
        for frame in self._usable(frames):
            if COLOURS in frame.notes:
                told.append(replace(frame, chroma=frame.notes[COLOURS], confidence=None))
            else:
                yield frame

    def _usable(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The frames that were coloured. Warns once if the network gave no features for them."""
        for frame in frames:
            if KEPT in frame.notes:
                continue
            if frame.features is None:
                self._run.warn("`anchor` does nothing for this network, which has no features; use `model: unet`")
                continue
            yield frame

    def use(self, unit: Unit, kept: bytes, units: int) -> None:
        """Load the memory of a film, for as long as units of it come. Raises MediaError."""
        memory = FilmMemory.from_bytes(kept)
        with self._lock:
            self._memories[unit.media], self._units_left[unit.media] = memory, units

    def apply(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Draw the chroma of a film's frames towards its memory."""
        media: Media | None = None
        try:
            for frame in frames:
                media = frame.unit.media
                memory = self._memories.get(media)
                chroma = memory.drawn(frame) if memory is not None and KEPT not in frame.notes else None
                yield replace(frame, features=None) if chroma is None else replace(frame, chroma=chroma, features=None)
        finally:
            if media is not None:
                self._release(media)

    def _release(self, media: Media) -> None:
        """A unit of a film has gone through; the memory goes with the last one."""
        with self._lock:
            self._units_left[media] -= 1
            if self._units_left[media] <= 0:
                self._memories.pop(media, None)
                del self._units_left[media]

    def close(self) -> None:
        """Release the memories."""
        self._memories.clear()
        self._units_left.clear()
