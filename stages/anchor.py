"""The `anchor` stage."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from threading import Lock
from typing import Any, ClassVar

import numpy as np
from pydantic import PrivateAttr

from bwpipe import Frame, MediaError, NoEffect, RunContext, Unit, stage
from bwpipe.core.first_pass import HOLDS_HINTS, INSTANCE, FirstPass, Hinting, TwoPassMap
from bwpipe.core.frame import Media
from bwpipe.core.ports import ShotFinder
from bwpipe.core.provenance import KEPT
from bwpipe.core.segments import frame_range
from bwpipe.core.stage import Needs, Stage
from bwpipe.memory import shot_references
from bwpipe.memory.film_memory import FilmMemory, remember
from bwpipe.memory.followed_hints import followed_frames, followed_hints
from bwpipe.memory.hinted import from_bytes, pairs, to_bytes
from bwpipe.memory.key_frame import key_frame
from bwpipe.memory.key_frames import choose_key_frames, near
from bwpipe.memory.references import COLOURS, References, Still, still_frame, with_own_colours
from bwpipe.memory.shot_references import SHOWN
from bwpipe.video.file import VideoFile


@stage("anchor")
class Anchor(TwoPassMap):
    """Holds the colours of a film through its shots: draws every frame towards what the film's key frames agree on.

    Key frames, at most one in two seconds, are coloured before the film; of each, the network's features and its chroma are
    kept. A frame takes their colours where its features match theirs, and keeps its own elsewhere; frames of other scenes
    do not count, and shots that show a scene again share its colours. Pictures without a `reference` pass through unchanged,
    and so does everything if the network has no features.
    """

    revision: ClassVar[int] = 5
    changes_only: ClassVar[str | None] = "film"
    provides: ClassVar[frozenset[str]] = frozenset({HOLDS_HINTS})
    correction_folders: ClassVar[Mapping[str, str]] = {"reference": "references"}

    reference: NoEffect[str | list[str] | None] = None  # no effect by itself: the recipe has the hashes of the stills
    """Coloured stills, a folder of them or files, whose colours are taken before the network's where they show the same things.
    For a film those in a folder named like it: `reel.mp4/000123.png` for the shot of that frame, counted from 0, and
    `reel.mp4/any.png` for the whole film; and those in no folder, for all films. For a picture that of the same name, or, if
    there is one still only, that one."""

    _references: References | None = PrivateAttr(default=None)
    _run: RunContext = PrivateAttr()
    _memories: dict[Media, dict[str, FilmMemory]] = PrivateAttr(default_factory=dict)
    _units_left: Counter[Media] = PrivateAttr(default_factory=Counter)
    _lock: Lock = PrivateAttr(default_factory=Lock)
    _hinting: Hinting | None = PrivateAttr(default=None)
    _finder: ShotFinder | None = PrivateAttr(default=None)

    @property
    def needs(self) -> Needs:
        """It needs the network's features from a stage above."""
        return Needs(above=frozenset({"features"}))

    def setup(self, run: RunContext) -> None:
        """Keep the run, for warnings."""
        self._run = run

    def placed(self, above: Sequence[Stage], below: Sequence[Sequence[Stage]]) -> None:
        """Find the stage above that colours frames with hints."""
        self._hinting = next((stage for stage in reversed(above) if isinstance(stage, Hinting)), None)

    def shots_by(self, finder: ShotFinder) -> None:
        """Take what finds shots."""
        self._finder = finder

    def recipe(self, unit: Unit | None = None) -> dict[str, Any]:
        """The hashes of the stills that concern the unit; empty for a picture without any."""
        stills = [still for still in self._stills(unit) if unit is None or self._concerns(still, unit)]
        told = {"references": [still.digest for still in stills]} if stills else {}
        if unit and unit.media.kind != "film":
            return {"stage": self.registered, "revision": self.revision_for(unit), **told} if told else {}
        return {**super().recipe(unit), **told}

    def revision_for(self, unit: Unit | None) -> int:
        """Of films the latest: 2 chose other key frames where groups of pictures are short, 3 rounds otherwise.

        4 matches by fewer channels, as does 2 of pictures, holds hints that are lost on their way, and places them on what is
        shown. 5 keeps the mean length of chroma where colours are averaged, as does 3 of pictures, asks four key frames, and
        follows hints on striped things.
        """
        return self.revision if unit is None or unit.media.kind == "film" else 3

    def _stills(self, unit: Unit | None) -> list[Still]:
        """The stills that concern a unit, or any. Raises UsageError."""
        found = self._found_references()
        return list(found.of(unit.media) if unit else found.all()) if found else []

    def _found_references(self) -> References | None:
        """The stills, if the option is set. Raises UsageError."""
        if self.reference and self._references is None:
            self._references = References([self.reference] if isinstance(self.reference, str) else self.reference)
        return self._references

    def unmatched(self, names: Mapping[PurePosixPath, str]) -> Iterator[str]:
        """The stills that concern none of these inputs. Raises UsageError."""
        if found := self._found_references():
            yield from found.unmatched(names)

    def _concerns(self, still: Still, unit: Unit) -> bool:
        """Whether a unit has frames that a still may be for: any, or those of one shot."""
        return unit.media.kind != "film" or still.frame is None or self._reaches(still.frame, unit)

    def _reaches(self, index: int, unit: Unit) -> bool:
        """Whether a unit has frames of the shot that holds a frame."""
        start, stop = frame_range(unit)
        shot = self._shot(unit, index)
        return shot.start < (start if stop is None else stop) and start < shot.stop

    def first_passes(self, unit: Unit, instances: Mapping[str, Sequence[range]]) -> list[FirstPass]:
        """For each instance the key frames of a film with the stills for all of it, the stills for shots, and hinted frames.

        Raises MediaError.
        """
        media = unit.media
        all_stills = self._stills(unit)
        start, stop = frame_range(unit)
        if not isinstance(media, VideoFile) or stop is None:
            frames_of_stills = [still_frame(still, unit) for still in all_stills]
            return [FirstPass((), frames_of_stills)] if frames_of_stills else []
        stills = [still_frame(still, unit) for still in all_stills if still.frame is None]
        of_shots = {still: still.frame for still in all_stills if still.frame is not None}
        seconds = media.times.astype(np.float64) * float(media.time_base)
        key_frames = choose_key_frames(seconds, media.keys[:, 0], start, min(stop, len(seconds)))
        hints = self._hinting.hinted(unit) if self._hinting else {}
        found = []
        for key, ranges in instances.items():
            whole = ranges == [range(start, stop)]
            chosen = key_frames if whole or not key else near(key_frames, ranges)
            about: dict[str, Any] = {} if whole or not key else {"frames": [[each.start, each.stop] for each in ranges]}
            found.append(FirstPass(chosen, stills, name=key, instance=key, recipe=about))
            if of_shots:
                shown = [_shown(still_frame(still, unit), index) for still, index in of_shots.items()]
                about = {"stills": [[index, still.digest] for still, index in of_shots.items()]}
                found.append(FirstPass((), shown, name=_stills_of(key), instance=key, recipe=about))
            if hints:
                shots = {index: self._shot(unit, index) for index in hints}
                frames = followed_frames(hints, shots)
                about = {"hints": {str(index): digest for index, digest in hints.items()}}
                follow = partial(self._followed, media, hints, shots)
                found.append(FirstPass(frames, name=_hints_of(key), instance=key, again=follow, recipe=about))
        return found

    def corrected(self, unit: Unit) -> list[int]:
        """The frames that stills are of."""
        return [still.frame for still in self._stills(unit) if still.frame is not None and unit.media.kind == "film"]

    def _followed(self, media: Media, hints: Mapping[int, str], shots: Mapping[int, range]) -> dict[int, dict[str, Any]]:
        """The notes with hints for the frames of their shots that are coloured with them. Raises MediaError."""
        return dict(followed_hints(media, self._hinting, hints, shots, self._finder)) if self._hinting else {}

    def collect(self, unit: Unit, wanted: FirstPass, items: Iterator[Any]) -> bytes:
        """The memory of a film: what its key frames agree on, and what the stills show; or what hints change."""
        if wanted.name == _hints_of(wanted.instance):
            return to_bytes(pairs(self._usable(items)))
        if wanted.name == _stills_of(wanted.instance):
            seen = ((frame.notes[SHOWN], key_frame(with_own_colours(frame))) for frame in self._usable(items))
            return shot_references.to_bytes([(index, each) for index, each in seen if each is not None])
        told: list[Frame] = []
        return remember(self._key_frames(items, told), told).to_bytes()

    def _key_frames(self, frames: Iterator[Frame], told: list[Frame]) -> Iterator[Frame]:
        """The key frames; stills are put aside, with their own colours."""
        for frame in self._usable(frames):
            if COLOURS in frame.notes:
                told.append(with_own_colours(frame))
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

    def is_whole(self, name: str, kept: bytes) -> bool:
        """Whether a memory is undamaged."""
        kind = name.partition(" ")[0] if " " in name else ""
        try:
            {"hints": from_bytes, "stills": shot_references.from_bytes}.get(kind, FilmMemory.from_bytes)(kept)
        except MediaError:
            return False
        return True

    def use(self, unit: Unit, kept: Mapping[str, bytes], units: int) -> None:
        """Load the memories of a film, for as long as units of it come. Raises MediaError."""
        memories = {}
        for key in kept.keys() - {*map(_hints_of, kept), *map(_stills_of, kept)}:
            memories[key] = memory = FilmMemory.from_bytes(kept[key])
            if stills := shot_references.from_bytes(kept[_stills_of(key)]) if _stills_of(key) in kept else []:
                memory.hold_stills([each for _, each in stills], [self._shot(unit, index) for index, _ in stills])
            if hinted := from_bytes(kept[_hints_of(key)]) if _hints_of(key) in kept else {}:
                own = self._hinting.hinted(unit) if self._hinting else {}
                memory.hold_hints(hinted, {index: self._shot(unit, index) for index in hinted}, own)
        with self._lock:
            self._memories[unit.media], self._units_left[unit.media] = memories, units

    def _shot(self, unit: Unit, index: int) -> range:
        """The shot that holds a frame."""
        start, stop = frame_range(unit)
        return self._finder.around(unit.media, index) if self._finder else range(start, stop or start)

    def apply(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Draw the chroma of a film's frames towards its memory."""
        media: Media | None = None
        try:
            for frame in frames:
                media = frame.unit.media
                memory = self._memories.get(media, {}).get(frame.notes.get(INSTANCE, ""))
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


def _shown(frame: Frame, index: int) -> Frame:
    """The frame of a still, with a note on which frame of the film it is of."""
    return replace(frame, notes={**frame.notes, SHOWN: index})


def _stills_of(key: str) -> str:
    """The name of the first pass over the stills for shots, for an instance."""
    return f"stills {key}"


def _hints_of(key: str) -> str:
    """The name of the first pass over the frames with hints, for an instance."""
    return f"hints {key}"
