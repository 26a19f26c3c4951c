"""Frames of a film with hints: what these change, and how it is taken to the other frames of the shot."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.first_pass import HINTED
from bwpipe.core.frame import Frame
from bwpipe.memory.hint_spreading import TINT_MASK
from bwpipe.memory.kept_arrays import packed, unpacked
from bwpipe.memory.key_frame import KeyFrame, key_frame
from bwpipe.memory.matching import BLOCK, Array, Cells, product, shift, softmax_mean, to_blocks
from bwpipe.pixels.orientation import stored
from bwpipe.pixels.resize import squash

_CHANGED, _SURELY = 0.012, 0.04
"""Change of chroma by hints up to which a place is not meant by them, and that from which it is."""
_TEMPERATURE = np.float32(0.03)
"""Of the softmax inside a hinted frame."""
_LUMA, _PLACE = np.float32(2.0), np.float32(4.0)
"""Weights of the squared difference of luma (of its range) and of place (of the short side), against the cosine of features."""
_FAR = np.float32(0.15)
"""Limit of what a difference of place counts: things move."""
_FADED, _FULL = 0.35, 0.7
"""Best match of a cell up to which hints do not concern it, and that from which they do fully."""
_ROUNDING = 1e-4
STEP = 6
"""Frames after which hints are followed to a frame of their shot, which is coloured with them and remembered."""
_PLANES = ("features", "luma", "chroma", "confidence", "weight")


@dataclass(frozen=True, slots=True, eq=False)
class HintedFrame:
    """A frame that was coloured with hints, its own or those of another frame of its shot, as it is remembered.

    Attributes:
        frame: The frame with the colours that it has with hints.
        weight: (BLOCK h, BLOCK w) uint8, how far each place is meant by the hints, in 1/255.
    """

    frame: KeyFrame
    weight: NDArray[np.uint8]


def hinted_frame(plain: Frame, hinted: Frame) -> HintedFrame | None:
    """What to remember of a frame that was coloured without hints and with them; None if it has no features or no chroma.

    A place is meant if there is a hint, or if the hints changed its colour.
    """
    before, after = key_frame(plain), key_frame(hinted)
    hints = hinted.notes.get(HINTED)
    if before is None or after is None or not isinstance(hints, np.ndarray):
        return None
    chroma = after.chroma.astype(np.float32)
    height, width = chroma.shape[1:]
    planes = stored(hints, plain.unit.media.orientation)
    known = squash(planes[2], height, width)
    told = np.stack([squash(plane * planes[2], height, width) for plane in planes[:2]]) / np.maximum(known, np.float32(1e-6))
    sure = np.where(known > TINT_MASK + _ROUNDING, np.minimum(known * 4, 1), 0)  # a tint is for no place
    exact = chroma + sure * (told - chroma)
    change = np.linalg.norm(exact - before.chroma.astype(np.float32), axis=0)
    weight = np.maximum(sure, np.clip((change - _CHANGED) / (_SURELY - _CHANGED), 0, 1))
    frame = KeyFrame(after.features, after.luma, exact.astype(np.float16), after.confidence)
    return HintedFrame(frame, np.rint(weight * 255).astype(np.uint8))


def to_bytes(frames: Mapping[int, HintedFrame]) -> bytes:
    """Serialise hinted frames, by their indices in the film."""
    arrays: dict[str, NDArray[Any]] = {"indices": np.array(list(frames), np.int64)}
    for index, each in frames.items():
        key = each.frame
        planes: tuple[NDArray[Any], ...] = (key.features, key.luma, key.chroma, key.confidence, each.weight)
        arrays.update((f"{name}{index}", plane) for name, plane in zip(_PLANES, planes, strict=True))
    return packed(arrays)


def from_bytes(data: bytes) -> dict[int, HintedFrame]:
    """The inverse of `to_bytes`. Raises MediaError for bytes that are not what it returned."""
    with unpacked(data, "its hints") as arrays:
        found = {}
        for index in arrays["indices"].tolist():
            *planes, weight = (arrays[f"{name}{index}"] for name in _PLANES)
            found[index] = HintedFrame(KeyFrame(*planes), weight)
        return found


def pairs(frames: Iterable[Frame]) -> dict[int, HintedFrame]:
    """What to remember of frames that come twice each: without hints, then with them."""
    found: dict[int, HintedFrame] = {}
    plain: Frame | None = None
    for frame in frames:
        if HINTED not in frame.notes:
            plain = frame
        elif plain is not None and plain.index == frame.index and (each := hinted_frame(plain, frame)) is not None:
            found[frame.index] = each
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Meant:
    """A hinted frame, prepared for matching.

    Attributes:
        index: Its index in the film.
        cells: Its N cells.
        values: (N, 3 BLOCK BLOCK + 1) what is read of it: the colours times how far each place is meant, that, and 1.
    """

    index: int
    cells: Cells
    values: Array


def meant(index: int, hinted: HintedFrame, prepared: Cells) -> Meant:
    """Prepare a hinted frame, the cells of which have been."""
    weight = hinted.weight.astype(np.float32) / np.float32(255)
    blocks = to_blocks(np.stack([weight, weight]))[:, : BLOCK * BLOCK]
    one = np.ones((len(blocks), 1), np.float32)
    return Meant(index, prepared, np.hstack([prepared.colours * np.tile(blocks, 2), blocks, one]))


def with_hints(here: Cells, colours: Array, index: int, frames: Sequence[Meant]) -> Array:
    """The colours (N, 2 BLOCK BLOCK) of a frame where the hints of its shot are seen in it, and as they were elsewhere.

    Args:
        here: The frame.
        colours: Its colours so far.
        index: Its index in the film: frames nearer to it count for more.
        frames: The hinted frames of its shot.
    """
    part = BLOCK * BLOCK
    total = np.zeros((len(colours), part), np.float32)
    told: Array = np.zeros_like(colours)
    strength = np.zeros_like(total)
    for each in frames:
        scores = _scores(here, each.cells)
        match, found = softmax_mean(scores, each.values, _TEMPERATURE)
        seen = np.clip((match - np.float32(_FADED)) / np.float32(_FULL - _FADED), 0, 1)[:, None]
        near = np.float32(1 / (1 + abs(index - each.index)))
        total += near * seen * found[:, 2 * part : 3 * part]
        told += near * seen * found[:, : 2 * part]
        np.maximum(strength, seen * found[:, 2 * part : 3 * part], out=strength)
    mean = told / np.tile(np.maximum(total, np.float32(1e-6)), 2)
    return np.asarray(colours + np.tile(strength, 2) * (mean - colours), np.float32)


def _scores(here: Cells, there: Cells) -> Array:
    """How well each cell of a frame matches each of another, at most 1."""
    channels = here.query.shape[1] - 5
    scores = product(np.ascontiguousarray(here.key[:, :channels]), np.ascontiguousarray(there.key[:, :channels].T))
    own, other = (each.key[:, channels : channels + 3] for each in (here, there))
    scores -= _LUMA * np.square(own[:, :1] - other[:, 0])
    down, across = shift(here, there)
    far = _PLACE * (np.square(own[:, 1:2] + down - other[:, 1]) + np.square(own[:, 2:3] + across - other[:, 2]))
    scores -= far / (1 + far / _FAR)
    return scores
