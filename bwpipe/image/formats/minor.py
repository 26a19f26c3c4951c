"""BMP, GIF and JPEG 2000: headers; for BMP also the resolution and an encoder.

GIF after the GIF89a specification, JPEG 2000 after ITU-T T.800, annex A.5.1.
"""

import struct
from io import BytesIO
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bwpipe.errors import MediaError
from bwpipe.image.file import Header, Metadata, several
from bwpipe.image.formats.sixteen_bit import swapped

_RESOLUTION_AT = 38
_INCH = 0.0254


def bmp_header(file: BinaryIO) -> Header:
    """Read the header of a BMP file."""
    with Image.open(file, formats=["BMP"]) as image:
        return Header(*image.size, image.mode)


def bmp_metadata(data: bytes) -> Metadata:
    """Read the metadata of a BMP file."""
    with Image.open(BytesIO(data), formats=["BMP"]) as image:
        across, down = image.info.get("dpi", (0, 0))
    return Metadata(dpi=(across, down) if across > 0 and down > 0 else None)


def encode_bmp(samples: NDArray[np.uint8], metadata: Metadata) -> bytes:
    """Encode (H, W, 3 or 4) RGB and alpha as BMP, with OpenCV, since Pillow's encoder does not declare alpha."""
    data = bytearray(cv2.imencode(".bmp", swapped(samples))[1].tobytes())
    if metadata.dpi:
        struct.pack_into("<2i", data, _RESOLUTION_AT, *(round(value / _INCH) for value in metadata.dpi))
    return bytes(data)


_EXTENSION, _IMAGE, _END = b"!", b",", b";"
_HAS_TABLE = 0x80
_MOST_PIECES = 2**22
"""Sub-blocks of 255 bytes: 1 GiB."""


def gif_header(file: BinaryIO) -> Header:
    """Read the header of a GIF file. Raises MediaError: damaged, or several frames."""
    file.seek(6)
    width, height, flags = struct.unpack("<HHB2x", file.read(7).ljust(7, b"\0"))
    _skip_table(file, flags)
    frames = pieces = 0
    while (block := file.read(1)) != _END:
        if block == _IMAGE:
            frames += 1
            _skip_table(file, file.read(9).ljust(9, b"\0")[8])
            file.read(1)
        elif block == _EXTENSION:
            file.read(1)
        else:
            raise MediaError("can't be read: it is cut short")
        while size := int.from_bytes(file.read(1), "little"):
            file.seek(size, 1)
            if (pieces := pieces + 1) > _MOST_PIECES:
                raise MediaError("can't be read: it is too long for a GIF file")
    if frames > 1:
        raise several(frames, "frames")
    return Header(width, height, "P")


def _skip_table(file: BinaryIO, flags: int) -> None:
    """Skip the colour table, if there is one."""
    if flags & _HAS_TABLE:
        file.seek(3 * 2 ** ((flags & 7) + 1), 1)


_SIZE_SEGMENT = b"\xff\x4f\xff\x51"
_COMPONENTS = 40
_LONGEST_HEADER = 2**20


def jp2_header(file: BinaryIO) -> Header:
    """Read the header of a JPEG 2000 file. Raises MediaError: damaged, or samples that are neither 8 nor 16 bits."""
    start = file.read(_LONGEST_HEADER)
    segment = start.partition(_SIZE_SEGMENT)[2]
    if not segment:
        raise MediaError("can't be read: its header is damaged, or further in than 1 MiB")
    with Image.open(BytesIO(start), formats=["JPEG2000"]) as image:
        size, mode = image.size, image.mode
    at = _COMPONENTS - len(_SIZE_SEGMENT)
    count = int.from_bytes(segment[at : at + 2])
    bits = {1 + depth for depth in segment[at + 2 : at + 2 + 3 * count : 3]}  # above 128 for signed components
    if bits == {16} and count in (1, 3):
        return Header(*size, "I;16" if count == 1 else "RGB;16")
    if bits != {8}:
        raise MediaError(
            "has samples that are not unsigned 8 or 16 bits, which is not supported; convert it to PNG or TIFF first"
        )
    return Header(*size, mode)
