"""What networks see of frames."""

from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.frame import Frame
from bwpipe.orientation import upright
from bwpipe.shrink import averaged

T = TypeVar("T", bound=np.generic)


def view(frame: Frame, height: int, width: int) -> NDArray[np.float32]:
    """A frame's guide, or its luma where it has none, upright, brought to (height, width), in 0..1: black is 0, white is 1."""
    media = frame.unit.media
    plane, (black, white) = (frame.luma, media.levels) if frame.guide is None else (frame.guide, (0, 255))
    small = squash(upright(plane, media.orientation), height, width)
    return np.clip((small.astype(np.float32) - black) / (white - black), 0, 1)


def squash(plane: NDArray[T], height: int, width: int) -> NDArray[T]:
    """Bring a plane (h, w) or (h, w, C) to (height, width): by area averaging where it gets smaller, else linearly."""
    smaller: Any = averaged(np.ascontiguousarray(plane), (min(plane.shape[0], height), min(plane.shape[1], width)))
    return np.asarray(cv2.resize(smaller, (width, height), interpolation=cv2.INTER_LINEAR), plane.dtype)
