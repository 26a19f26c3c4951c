"""The memory of a film: its key frames, what those of a scene agree on, and how a frame is drawn towards it."""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import Frame
from bwpipe.errors import MediaError
from bwpipe.memory.hinted import HintedFrame, Meant, meant, with_hints
from bwpipe.memory.key_frame import KeyFrame, key_frame
from bwpipe.memory.matching import Array, Cells, cells, cosines, drawn, from_blocks, product, recall
from bwpipe.pixels.resize import resize_area, squash

MOST_BYTES = 64_000_000
"""Size up to which a memory is kept; of a larger one every second key frame is left out, until it fits."""
_CHANNELS = 24
"""Channels to which features are reduced: the principal components within the film. With 32, colours hold as well, and one
coloured still says less of the frames after it (correlation of 0.925 instead of 0.932 on six films made of photographs); with
all 112 of `unet` they hold less well (drift of 2.0 instead of 1.2 on one film, 11.7 instead of 5.2 on another)."""
_OVERVIEW = (4, 6)
"""Grid of the summary by which frames of one scene are found. Its cosine is above 0.75 within a shot, and below 0.55 between
different ones (two films of 1922 and the 1950s)."""
_OTHER_SCENE, _SAME_SCENE = 0.5, 0.7
"""Cosine of the summaries up to which a key frame does not count, and that from which it counts fully."""
_CONSULTED = 4
"""Key frames of one scene, and most that a frame consults: each takes a millisecond a frame."""
_REFERENCES = 3
"""Most references that a frame consults."""
_MOST_REFERENCES = 128
_COMPARED = 8
"""Most key frames on whose colours one is averaged."""
_FADE = 0.03
"""Difference of summaries over which a key frame fades in that others have crowded out."""
_PREPARED = 32
"""Key frames that are held ready for matching."""
_DIGEST = 16


class FilmMemory:
    """The memory of a film. A frame drawn towards it depends on the frame and the memory alone."""

    def __init__(self, mean: Array, basis: Array, key_frames: Sequence[KeyFrame], references: Sequence[KeyFrame] = ()) -> None:
        """Create it.

        Args:
            mean: (C,) What is subtracted from features, whose largest is 1.
            basis: (C, c) The directions on which they are then projected.
            key_frames: The key frames, of the colours that they agree on.
            references: Frames whose colours come before those of key frames.
        """
        self._mean, self._basis = mean, basis
        self._key_frames, self._references = list(key_frames), list(references)
        self._prepared: OrderedDict[int, Cells] = OrderedDict()
        self._hinted: Mapping[int, HintedFrame] = {}
        self._shots: Mapping[int, range] = {}
        self._own: Collection[int] = ()
        self._meant: dict[int, Meant] = {}
        self._stills: list[KeyFrame] = []
        self._of_shots: list[range] = []
        self._of_stills = np.zeros((0, 1), np.float32)
        self._overviews, self._of_references = (
            np.stack([_overview(self._cells(each)) for each in frames]) if frames else np.zeros((0, 1), np.float32)
            for frames in (self._key_frames, self._references)
        )

    def __len__(self) -> int:
        """Number of key frames, without references."""
        return len(self._key_frames)

    def hold_hints(self, frames: Mapping[int, HintedFrame], shots: Mapping[int, range], own: Collection[int]) -> None:
        """Also draw frames towards hinted frames of their shot.

        Args:
            frames: The hinted frames, by their indices.
            shots: The frames of the shot of each.
            own: Those of them that have hints of their own; to the others they are followed.
        """
        if self._basis.shape[0] > 1:
            self._hinted, self._shots, self._own, self._meant = frames, shots, own, {}

    def knows(self, frame: Frame) -> bool:
        """Whether a frame has features of the same network, or of one with as many."""
        return frame.features is not None and len(frame.features) == len(self._mean)

    def hold_stills(self, stills: Sequence[KeyFrame], shots: Sequence[range]) -> None:
        """Also draw frames towards stills: each those of its shot, after the references for all."""
        if self._basis.shape[0] > 1:
            self._stills, self._of_shots = list(stills), list(shots)
            overviews = [_overview(self._cells(each)) for each in stills]
            self._of_stills = np.stack(overviews) if overviews else np.zeros((0, 1), np.float32)
            self._prepared.clear()

    def drawn(self, frame: Frame) -> NDArray[np.float16] | None:
        """The chroma of a frame, drawn towards the memory, on its own grid; None for a frame that nothing here resembles."""
        seen = key_frame(frame)
        if seen is None or frame.chroma is None or not (self._key_frames or self._references or self._hinted):
            return None
        here = self._cells(seen)
        overview = _overview(here)
        colours = here.colours
        if chosen := list(self._consulted(self._overviews, overview, _CONSULTED)):
            places, weights = zip(*chosen, strict=True)
            colours = drawn(here, [self._ready(place) for place in places], weights)
        for chosen in (list(self._told(frame, overview)), list(self._of_its_shot(frame, overview))):
            if chosen:
                places, weights = zip(*chosen, strict=True)
                told, strength = recall(here, [self._ready(place) for place in places], weights)
                colours = np.asarray(colours + strength[:, None] * (told - colours), np.float32)
        if hinted := [self._ready_hint(index) for index in self._nearest(frame.index)]:
            colours = with_hints(here, colours, frame.index, hinted)
        if colours is here.colours:
            return None
        change = from_blocks(np.asarray(colours - here.colours), here.size)
        height, width = frame.chroma.shape[1:]
        moved = [own.astype(np.float32) + squash(plane, height, width) for own, plane in zip(frame.chroma, change, strict=True)]
        return np.stack(moved).astype(np.float16)

    def _told(self, frame: Frame, overview: Array) -> Iterator[tuple[int, float]]:
        """The references for a frame, by place, with their weights: of a film those of the frame's scene, else all."""
        if frame.unit.media.kind == "film":
            chosen = self._consulted(self._of_references, overview, _REFERENCES)
        else:
            chosen = ((place, 1.0) for place in range(min(len(self._references), _REFERENCES)))
        return ((len(self._key_frames) + place, weight) for place, weight in chosen)

    def _of_its_shot(self, frame: Frame, overview: Array) -> Iterator[tuple[int, float]]:
        """The stills for the shot of a frame, by place, with their weights."""
        own = [number for number, shot in enumerate(self._of_shots) if frame.index in shot]
        before = len(self._key_frames) + len(self._references)
        return ((before + own[at], weight) for at, weight in self._consulted(self._of_stills[own], overview, _REFERENCES))

    @staticmethod
    def _consulted(overviews: Array, overview: Array, most: int) -> Iterator[tuple[int, float]]:
        """The remembered frames of a frame's scene, by index, with their weights 0..1: the most alike, up to a number."""
        if not len(overviews):
            return
        alike = cosines(overviews, overview)
        order = np.argsort(-alike, kind="stable")
        crowding = alike[order[most]] if len(order) > most else -1.0
        order = order[:most]
        apart = np.clip((alike[order] - crowding) / _FADE, 0, 1)
        apart = apart / apart[0] if apart[0] > 0 else np.ones_like(apart)  # the most alike count whatever they crowd out
        scene = np.clip((alike[order] - _OTHER_SCENE) / (_SAME_SCENE - _OTHER_SCENE), 0, 1)
        for place, weight in zip(order.tolist(), np.minimum(scene, apart).tolist(), strict=True):
            if weight > 0:
                yield place, weight

    def _ready(self, place: int) -> Cells:
        """A key frame, a reference or a still, in this order, prepared for matching; those asked for lately are kept."""
        found = self._prepared.pop(place, None)
        if found is None:
            found = self._cells([*self._key_frames, *self._references, *self._stills][place])
            if len(self._prepared) >= _PREPARED:
                self._prepared.popitem(last=False)
        self._prepared[place] = found
        return found

    def _nearest(self, index: int) -> list[int]:
        """The hinted frames of a frame's shot next before and after it, or the frame itself, and those with hints of their own.

        A hint may be lost on its way: what it was on is then known again from the frame for which it was given.
        """
        of_shot = [each for each in self._hinted if index in self._shots[each]]
        found: set[int] = set()
        for some in (of_shot, [each for each in of_shot if each in self._own]):
            found.update(max([[each] for each in some if each <= index], default=[]))
            found.update(min([[each] for each in some if each >= index], default=[]))
        return sorted(found)

    def _ready_hint(self, index: int) -> Meant:
        """A hinted frame, prepared for matching; few are kept."""
        found = self._meant.get(index)
        if found is None:
            if len(self._meant) >= _PREPARED:
                self._meant = {}
            found = self._meant[index] = meant(index, self._hinted[index], self._cells(self._hinted[index].frame))
        return found

    def _cells(self, frame: KeyFrame) -> Cells:
        _, height, width = frame.features.shape
        projected = product(_rows(frame) - self._mean, self._basis).T.reshape(-1, height, width)
        luma, confidence = (plane.astype(np.float32) / np.float32(255) for plane in (frame.luma, frame.confidence))
        return cells(projected, luma, frame.chroma.astype(np.float32), confidence)

    def agreed(self) -> "FilmMemory":
        """The memory whose key frames have the colours that those of their scene agree on, and few of each scene."""
        agreed = []
        for frame, overview in zip(self._key_frames, self._overviews, strict=True):
            here = self._cells(frame)
            places, weights = zip(*self._consulted(self._overviews, overview, _COMPARED), strict=True)
            colours = drawn(here, [self._ready(place) for place in places], weights)
            agreed.append(from_blocks(colours, here.size).astype(np.float16))
        kept = [place for scene in self._scenes() for place in self._spread(scene)]
        frames = [_replaced(self._key_frames[place], agreed[place]) for place in sorted(kept)]
        return FilmMemory(self._mean, self._basis, frames, self._references)

    def _scenes(self) -> list[list[int]]:
        """The key frames of each scene: those alike to its first one, in the order of the film."""
        scenes: list[list[int]] = []
        for place, overview in enumerate(self._overviews):
            heads = self._overviews[[scene[0] for scene in scenes]]
            alike = cosines(heads, overview)
            if len(alike) and alike.max() >= _SAME_SCENE:
                scenes[int(np.argmax(alike))].append(place)
            else:
                scenes.append([place])
        return scenes

    def _spread(self, scene: Sequence[int]) -> list[int]:
        """Key frames of a scene that differ most: the first, then again and again the one least like those chosen."""
        chosen = [scene[0]]
        overviews = self._overviews[list(scene)]
        nearest = cosines(overviews, overviews[0])
        while len(chosen) < min(_CONSULTED, len(scene)):
            farthest = int(np.argmin(nearest))
            chosen.append(scene[farthest])
            nearest = np.maximum(nearest, cosines(overviews, overviews[farthest]))
            nearest[farthest] = 2
        return chosen

    def to_bytes(self) -> bytes:
        """Serialise it, with a digest before it."""
        frames = self._key_frames
        while frames and sum(_size(frame) for frame in frames) > MOST_BYTES:
            frames = frames[::2]
        file = BytesIO()
        counts = np.array([len(frames), len(self._references)])
        arrays: dict[str, NDArray[Any]] = {"mean": self._mean, "basis": self._basis, "counts": counts}
        for number, frame in enumerate([*frames, *self._references]):
            planes: tuple[NDArray[Any], ...] = (frame.features, frame.luma, frame.chroma, frame.confidence)
            for name, plane in zip("flcs", planes, strict=True):
                arrays[f"{name}{number}"] = plane
        np.savez(file, allow_pickle=False, **arrays)
        data = file.getvalue()
        return blake2b(data, digest_size=_DIGEST).digest() + data

    @staticmethod
    def from_bytes(data: bytes) -> "FilmMemory":
        """The inverse of `to_bytes`. Raises MediaError for bytes that are not what it returned."""
        digest, data = data[:_DIGEST], data[_DIGEST:]
        if blake2b(data, digest_size=_DIGEST).digest() != digest:
            raise MediaError("the memory of its colours in `.bwpipe/fragments` is damaged; run again, and it is made again")
        with np.load(BytesIO(data), allow_pickle=False) as file:
            own, references = file["counts"].tolist()
            frames = [KeyFrame(*(file[f"{name}{number}"] for name in "flcs")) for number in range(own + references)]
            return FilmMemory(file["mean"], file["basis"], frames[:own], frames[own:])


def remember(frames: Iterable[Frame], references: Iterable[Frame] = ()) -> FilmMemory:
    """The memory of key frames, in the order of the film, and of references; those without features or chroma are left out.

    The frames are used up before the references are asked for.
    """
    found = [each for each in map(key_frame, frames) if each is not None]
    told = [each for each in map(key_frame, references) if each is not None][:_MOST_REFERENCES]
    if not (found or told):
        return FilmMemory(np.zeros(1, np.float32), np.zeros((1, 1), np.float32), ())
    mean, basis = _principal([*found, *told])
    return FilmMemory(mean, basis, found, told).agreed()


def _principal(frames: Sequence[KeyFrame]) -> tuple[Array, Array]:
    """The mean (C,) of the features, and the principal components (C, c) of what remains of them, scaled to unit length."""
    channels = len(frames[0].features)
    mean = np.mean([_rows(frame).mean(axis=0, dtype=np.float64) for frame in frames], axis=0).astype(np.float32)
    moments = np.zeros((channels, channels))
    for frame in frames:
        centred = _rows(frame) - mean
        centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), np.float32(1e-6))
        moments += product(np.ascontiguousarray(centred.T), centred)
    _, _, vectors = cv2.eigen(moments)  # by one thread; numpy's may use several, on whose number the last bits depend
    return mean, np.ascontiguousarray(vectors[:_CHANNELS].T.astype(np.float32))


def _rows(frame: KeyFrame) -> Array:
    """The features of each cell, (N, C), at most 1."""
    rows = frame.features.reshape(len(frame.features), -1).T.astype(np.float32)
    return np.asarray(rows / np.float32(127), np.float32)


def _overview(frame: Cells) -> Array:
    """The summary of a frame: its features averaged to a coarse grid, of unit length."""
    height, width = frame.size
    features = frame.query[:, :-5].reshape(height, width, -1)
    size = tuple(min(sides) for sides in zip(_OVERVIEW, frame.size, strict=True))
    coarse = np.stack([resize_area(np.ascontiguousarray(features[..., i]), size) for i in range(features.shape[2])]).ravel()
    return np.asarray(coarse / max(float(np.linalg.norm(coarse)), 1e-6), np.float32)


def _replaced(frame: KeyFrame, chroma: NDArray[np.float16]) -> KeyFrame:
    return KeyFrame(frame.features, frame.luma, chroma, frame.confidence)


def _size(frame: KeyFrame) -> int:
    return frame.features.nbytes + frame.luma.nbytes + frame.chroma.nbytes + frame.confidence.nbytes
