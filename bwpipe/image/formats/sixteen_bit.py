"""Images with 16 bits per sample, which Pillow can't read or write in colour: OpenCV's decoders and its PNG encoder."""

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.errors import MediaError
from bwpipe.pixels.ycbcr import bands

S = TypeVar("S", np.uint8, np.uint16)


def decode(data: bytes) -> NDArray[np.uint16]:
    """Decode a PNG, TIFF or JPEG 2000 file: (H, W) grey, or (H, W, 3 or 4) RGB and alpha. Raises MediaError."""
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.dtype != np.uint16:
        raise MediaError("can't be read: its 16-bit samples are damaged or packed in an unusual way")
    return swapped(samples.view(np.uint16))


def encode_png(samples: NDArray[np.uint16]) -> memoryview:
    """Encode (H, W, 3 or 4) RGB and alpha as PNG; the samples are overwritten."""
    for band in bands(*samples.shape[:2]):
        samples[band] = swapped(samples[band])
    return cv2.imencode(".png", samples)[1].data


def swapped(samples: NDArray[S]) -> NDArray[S]:
    """Swap RGB and BGR, keeping alpha last; grey is unchanged."""
    return samples if samples.ndim == 2 else samples[..., [2, 1, 0, 3][: samples.shape[2]]]
