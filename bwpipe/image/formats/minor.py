"""BMP: its header, its resolution, and a writer."""

import struct
from io import BytesIO
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bwpipe.picture import Header, Metadata
from bwpipe.picture.deep import swapped

_RESOLUTION_AT = 38
_INCH = 0.0254


def header(file: BinaryIO) -> Header:
    """What a BMP file says of itself."""
    with Image.open(file, formats=["BMP"]) as image:
        return Header(*image.size, image.mode)


def metadata(data: bytes) -> Metadata:
    """What a BMP file holds beside its samples."""
    with Image.open(BytesIO(data), formats=["BMP"]) as image:
        across, down = image.info.get("dpi", (0, 0))
    return Metadata(dpi=(across, down) if across > 0 and down > 0 else None)


def encode(samples: NDArray[np.uint8], metadata: Metadata) -> bytes:
    """A BMP file of (H, W, 3 or 4) RGB and alpha: of those at hand, OpenCV's encoder is the one that says there is alpha."""
    data = bytearray(cv2.imencode(".bmp", swapped(samples))[1].tobytes())
    if metadata.dpi:
        struct.pack_into("<2i", data, _RESOLUTION_AT, *(round(value / _INCH) for value in metadata.dpi))
    return bytes(data)
