"""WebP: header and chunks (RFC 9649)."""

import struct
from collections.abc import Iterator
from io import SEEK_END, BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bwpipe.errors import MediaError
from bwpipe.image.file import Header, Metadata, several
from bwpipe.image.tiff_ifd import (
    RESOLUTION,
    Directory,
    directories,
    exif_bytes,
    orientation,
    resolution,
    with_tags,
    without_thumbnail,
)

MOST_PIXELS_A_SIDE = 16383
_MOST_CHUNKS = 2**18
_EFFORT: dict[str, Any] = {"method": 1, "quality": 0}  # encoder effort; the decoded samples are the same

_EXIF_PREFIX = b"Exif\0\0"  # belongs to JPEG, but some encoders write it here too


def header(file: BinaryIO) -> Header:
    """Read the header of a WebP file. Raises MediaError: damaged, or several frames."""
    found = list(_walk(file))
    if not found:
        raise MediaError("can't be read: it is cut short")
    if (count := sum(name == b"ANMF" for name, _, _ in found)) > 1:
        raise several(count, "frames")
    name, at, _ = found[0]
    file.seek(at)
    start = file.read(10).ljust(10, b"\0")
    if name == b"VP8X":
        width, height = (int.from_bytes(start[i : i + 3], "little") + 1 for i in (4, 7))
    elif name == b"VP8L":
        bits = int.from_bytes(start[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", start, 6))
    return Header(width, height, "RGB", orientation(_chunk(file, b"EXIF").removeprefix(_EXIF_PREFIX)))


def _walk(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Name, offset and size of each chunk. Raises MediaError if the file is cut short or its first chunk is invalid."""
    end = file.seek(0, SEEK_END)
    file.seek(4)
    last = 8 + int.from_bytes(file.read(4), "little")
    at = 12
    count = 0
    while at + 8 <= last:
        if (count := count + 1) > _MOST_CHUNKS:
            raise MediaError(f"can't be read: it has more than {_MOST_CHUNKS} chunks")
        file.seek(at)
        name, size = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
        if at + 8 + size > end:
            raise MediaError("can't be read: it is cut short")
        if at == 12 and name not in (b"VP8X", b"VP8L", b"VP8 "):
            raise MediaError("can't be read: its header is damaged")
        yield name, at + 8, size
        at += 8 + size + size % 2


def _chunk(file: BinaryIO, wanted: bytes) -> bytes:
    """The bytes of the first chunk with that name; empty if there is none."""
    for name, at, size in _walk(file):
        if name == wanted:
            file.seek(at)
            return file.read(size)
    return b""


def lossy(data: bytes) -> bool:
    """Whether the file is compressed lossily."""
    return any(name == b"VP8 " for name, _, _ in _walk(BytesIO(data)))


def metadata(data: bytes) -> Metadata:
    """Read the metadata of a WebP file. Raises MediaError."""
    exif, icc, xmp = (_chunk(BytesIO(data), name) for name in (b"EXIF", b"ICCP", b"XMP "))
    return Metadata(exif=without_thumbnail(exif.removeprefix(_EXIF_PREFIX)), icc=icc, xmp=xmp)


def encode(samples: NDArray[np.uint8], metadata: Metadata) -> bytes:
    """Encode (H, W, 3 or 4) RGB and alpha as lossless WebP; colours of transparent pixels are kept."""
    exif = _with_resolution(metadata.exif, metadata.dpi) if metadata.dpi else metadata.exif
    file = BytesIO()
    image = Image.fromarray(samples)
    image.save(file, "WEBP", lossless=True, exact=True, exif=exif, icc_profile=metadata.icc, xmp=metadata.xmp, **_EFFORT)
    return file.getvalue()


def _with_resolution(exif: bytes, dpi: tuple[float, float]) -> bytes:
    """EXIF with the resolution, which WebP can store nowhere else; unchanged if it has one or is damaged."""
    if not exif:
        return exif_bytes(Directory("<", resolution("<", dpi)))
    try:
        first = next(directories(BytesIO(exif)))
        return exif if first.tags.keys() & set(RESOLUTION) else with_tags(exif, resolution(first.order, dpi))
    except (MediaError, StopIteration):
        return exif
