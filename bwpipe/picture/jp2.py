"""JPEG 2000: its header (ITU-T T.800, annex A.5.1)."""

from typing import BinaryIO

from PIL import Image

from bwpipe.errors import MediaError
from bwpipe.picture import Header

_SIZE_SEGMENT = b"\xff\x4f\xff\x51"
_COMPONENTS = 40
_LONGEST_HEADER = 2**20


def header(file: BinaryIO) -> Header:
    """What a JPEG 2000 file says of itself. Raises MediaError: damaged, or samples that are neither 8 nor 16 bits."""
    with Image.open(file, formats=["JPEG2000"]) as image:
        size, mode = image.size, image.mode
    file.seek(0)
    segment = file.read(_LONGEST_HEADER).partition(_SIZE_SEGMENT)[2]
    at = _COMPONENTS - len(_SIZE_SEGMENT)
    count = int.from_bytes(segment[at : at + 2])
    bits = {1 + depth for depth in segment[at + 2 : at + 2 + 3 * count : 3]}  # a signed component's is above 128
    if bits == {16} and count in (1, 3):
        return Header(*size, "I;16" if count == 1 else "RGB;16")
    if bits != {8}:
        raise MediaError("has samples that are not plain 8 or 16 bits, which are not read; convert it to PNG or TIFF first")
    return Header(*size, mode)
