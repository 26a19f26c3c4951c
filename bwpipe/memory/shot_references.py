"""Coloured stills for single shots of a film: which shot each is for, and how they are kept."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bwpipe.memory.kept_arrays import packed, unpacked
from bwpipe.memory.key_frame import KeyFrame

SHOWN = "shown"
"""Key of the note on a frame of a still that says of which frame of the film it is."""
_PLANES = ("features", "luma", "chroma", "confidence")


def to_bytes(stills: Sequence[tuple[int, KeyFrame]]) -> bytes:
    """Serialise stills, each with the index of the frame that it is of."""
    arrays: dict[str, NDArray[Any]] = {"indices": np.array([index for index, _ in stills], np.int64)}
    for number, (_, each) in enumerate(stills):
        planes: tuple[NDArray[Any], ...] = (each.features, each.luma, each.chroma, each.confidence)
        arrays.update((f"{name}{number}", plane) for name, plane in zip(_PLANES, planes, strict=True))
    return packed(arrays)


def from_bytes(data: bytes) -> list[tuple[int, KeyFrame]]:
    """The inverse of `to_bytes`. Raises MediaError for bytes that are not what it returned."""
    with unpacked(data, "its stills") as arrays:
        indices = arrays["indices"].tolist()
        return [(index, KeyFrame(*(arrays[f"{name}{i}"] for name in _PLANES))) for i, index in enumerate(indices)]
