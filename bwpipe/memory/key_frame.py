"""What is remembered of a frame."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import Frame
from bwpipe.memory.matching import BLOCK
from bwpipe.pixels.resize import squash


@dataclass(frozen=True, slots=True, eq=False)
class KeyFrame:
    """A frame to remember.

    Attributes:
        features: (C, h, w) int8: of each cell in proportion to its largest.
        luma: (h, w) uint8, full range.
        chroma: (2, BLOCK h, BLOCK w) float16.
        confidence: (h, w) uint8, in 1/255.
    """

    features: NDArray[np.int8]
    luma: NDArray[np.uint8]
    chroma: NDArray[np.float16]
    confidence: NDArray[np.uint8]


def key_frame(frame: Frame) -> KeyFrame | None:
    """What to remember of a frame; None if it has no features or no chroma."""
    if frame.features is None or frame.chroma is None:
        return None
    features = frame.features.astype(np.float32)
    _, height, width = features.shape
    largest = np.maximum(np.abs(features).max(axis=0), np.float32(1e-6))
    chroma = [squash(plane.astype(np.float32), height * BLOCK, width * BLOCK) for plane in frame.chroma]
    sure = np.ones((height, width), np.float32)
    if frame.confidence is not None:
        sure = squash(frame.confidence.astype(np.float32), height, width)
    return KeyFrame(
        np.rint(features / largest * 127).astype(np.int8),
        _luma(frame, height, width),
        np.stack(chroma).astype(np.float16),
        np.rint(np.clip(sure, 0, 1) * 255).astype(np.uint8),
    )


def _luma(frame: Frame, height: int, width: int) -> NDArray[np.uint8]:
    guide = frame.guide
    assert guide is not None, "`grayscale` makes it"
    return squash(guide, height, width)
