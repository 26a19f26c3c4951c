"""Coloured stills for single shots of a film: which shot each is for, and how they are kept."""

import zlib
from collections.abc import Sequence
from io import BytesIO
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from bwpipe.errors import MediaError
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
    file = BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def from_bytes(data: bytes) -> list[tuple[int, KeyFrame]]:
    """The inverse of `to_bytes`. Raises MediaError for bytes that are not what it returned."""
    try:
        with np.load(BytesIO(data), allow_pickle=False) as file:
            indices = file["indices"].tolist()
            return [(index, KeyFrame(*(file[f"{name}{i}"] for name in _PLANES))) for i, index in enumerate(indices)]
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error) as error:
        raise MediaError("the memory of its stills in `.bwpipe/fragments` is damaged; run again with `--restart`") from error
