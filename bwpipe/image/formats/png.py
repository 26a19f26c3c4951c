"""PNG: header and chunks, and which of them are copied (PNG specification, third edition, 2025)."""

import struct
import zlib
from collections.abc import Iterator
from io import SEEK_END, BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bwpipe.errors import MediaError
from bwpipe.image.file import DAMAGED_PROFILE, Buffer, Chunk, Header, Metadata, is_grey_profile, several
from bwpipe.image.formats import sixteen_bit
from bwpipe.image.tiff_ifd import orientation, without_thumbnail

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COPIED = {b"tEXt", b"zTXt", b"iTXt", b"tIME", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"cICP"}
"""Chunks that still hold for the colourised image."""
_SAMPLES = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_MODES = {
    (1, 0): "1",
    (2, 0): "L",
    (4, 0): "L",
    (8, 0): "L",
    (16, 0): "I;16",
    (8, 2): "RGB",
    (16, 2): "RGB;16",
    (1, 3): "P",
    (2, 3): "P",
    (4, 3): "P",
    (8, 3): "P",
    (8, 4): "LA",
    (16, 4): "LA;16",
    (8, 6): "RGBA",
    (16, 6): "RGBA;16",
}
"""Sample layouts by bit depth and colour type."""
_XMP = b"XML:com.adobe.xmp"
_MAX_INFLATED = 2**26
_MOST_CHUNKS = 2**20
_INCH, _METRE = 0.0254, 1
_COMPRESS_LEVEL = 3


def header(file: BinaryIO) -> Header:
    """Read the header of a PNG file. Raises MediaError: damaged, or several frames."""
    found = {name: _read(file, at, size) for name, at, size in _walk(file) if name in (b"IHDR", b"acTL", b"eXIf", b"iCCP")}
    width, height, bits, colour = struct.unpack_from(">IIBB", found.get(b"IHDR", b""))
    if b"acTL" in found and (count := struct.unpack_from(">I", found[b"acTL"])[0]) > 1:
        raise several(count, "frames")
    if (bits, colour) not in _MODES:
        raise MediaError("can't be read: its header is damaged")
    grey = is_grey_profile(_profile(found.get(b"iCCP", b""), most=20) or b"")
    return Header(width, height, _MODES[bits, colour], orientation(found.get(b"eXIf", b"")), grey)


def check(data: bytes) -> None:
    """Raise MediaError if a chunk's checksum is wrong or the end is missing, which decoders may tolerate."""
    for name, at, size in _walk(BytesIO(data)):
        if zlib.crc32(data[at - 4 : at + size]).to_bytes(4, "big") != data[at + size : at + size + 4]:
            raise MediaError(f"can't be read: its chunk {name.decode('ascii', 'replace')!r} is damaged")


def bare(data: bytes) -> bytes:
    """The file reduced to its samples, so that a decoder can't fail on anything else."""
    chunks = [data[at - 8 : at + size + 4] for name, at, size in _walk(BytesIO(data)) if name in _SAMPLES]
    return b"".join([SIGNATURE, *chunks])


def deep_samples(data: bytes) -> NDArray[np.uint16]:
    """Decode a 16-bit file that `bare` returned: (H, W), or (H, W, 2, 3 or 4) with alpha last. Raises MediaError."""
    samples = sixteen_bit.decode(data)
    transparent = next((data[at : at + size] for name, at, size in _walk(BytesIO(data)) if name == b"tRNS"), b"")
    if samples.ndim == 2 and transparent:  # OpenCV ignores it for grey
        samples = np.dstack([samples, np.where(samples == int.from_bytes(transparent, "big"), np.uint16(0), np.uint16(65535))])
    return samples


def _walk(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Name, offset and size of each chunk, in order. Raises MediaError if the file is cut short, or not made of chunks."""
    end = file.seek(0, SEEK_END)
    file.seek(len(SIGNATURE))
    name = b""
    for number in range(_MOST_CHUNKS):
        if name == b"IEND":
            return
        start = file.read(8)
        at = file.tell()
        size = int.from_bytes(start[:4], "big")
        if len(start) < 8 or at + size + 4 > end:
            raise MediaError("can't be read: it is cut short")
        name = start[4:]
        if not name.isalpha() or (number == 0) != (name == b"IHDR"):
            raise MediaError("can't be read: its chunks are damaged")
        yield name, at, size
        file.seek(at + size + 4)
    raise MediaError(f"can't be read: it has more than {_MOST_CHUNKS} chunks")


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)


def metadata(data: bytes) -> Metadata:
    """Read the metadata of a PNG file. Raises MediaError, zlib.error."""
    chunks = [Chunk(name, data[at : at + size]) for name, at, size in _walk(BytesIO(data))]
    named = {chunk.name: chunk.data for chunk in reversed(chunks)}
    icc = _profile(named.get(b"iCCP", b""))
    return Metadata(
        exif=without_thumbnail(named.get(b"eXIf", b"")),
        icc=icc or b"",
        xmp=next(filter(None, map(_xmp, chunks)), b""),
        dpi=_dpi(named.get(b"pHYs", b"")),
        own=tuple(chunk for chunk in chunks if chunk.name in _COPIED),
        lost=(DAMAGED_PROFILE,) if icc is None else (),
    )


def _profile(data: bytes, most: int = _MAX_INFLATED) -> bytes | None:
    """The ICC profile in a chunk's data, at most `most` bytes of it; None if it is damaged."""
    packed = data.partition(b"\0")[2][1:]
    try:
        return _inflated(packed, most) if data else b""
    except zlib.error:
        return None


def _xmp(chunk: Chunk) -> bytes:
    """The XMP packet, if the chunk holds one."""
    keyword, _, rest = chunk.data.partition(b"\0")
    if chunk.name != b"iTXt" or keyword != _XMP or len(rest) < 2:
        return b""
    text = rest[2:].split(b"\0", 2)[-1]
    return _inflated(text) if rest[0] else text


def _dpi(data: bytes) -> tuple[float, float] | None:
    if len(data) != 9 or data[8] != _METRE:
        return None
    across, down = struct.unpack_from(">II", data)
    return across * _INCH, down * _INCH


def _inflated(data: bytes, most: int = _MAX_INFLATED) -> bytes:
    return zlib.decompressobj().decompress(data, most)


def encode(samples: NDArray[Any], metadata: Metadata) -> list[Buffer]:
    """Encode (H, W, 3 or 4) RGB and alpha of 8 or 16 bits as the pieces of a PNG file; 16-bit samples are overwritten."""
    if samples.dtype == np.uint16:
        data = sixteen_bit.encode_png(samples)
    else:
        file = BytesIO()
        Image.fromarray(samples).save(file, "PNG", compress_level=_COMPRESS_LEVEL)
        data = file.getbuffer()
    chunks = list(metadata.own)
    names = {chunk.name for chunk in chunks}
    if metadata.icc:
        chunks.append(Chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.exif:
        chunks.append(Chunk(b"eXIf", metadata.exif))
    if metadata.dpi and b"pHYs" not in names:
        across, down = (round(value / _INCH) for value in metadata.dpi)
        chunks.append(Chunk(b"pHYs", struct.pack(">IIB", across, down, _METRE)))
    if metadata.xmp and not any(map(_xmp, chunks)):
        chunks.append(Chunk(b"iTXt", _XMP + bytes(5) + metadata.xmp))
    start = len(SIGNATURE) + 25  # the signature and the header chunk
    return [data[:start], *map(_serialise, chunks), data[start:]]


def _serialise(chunk: Chunk) -> bytes:
    named = chunk.name + chunk.data
    return struct.pack(">I", len(chunk.data)) + named + zlib.crc32(named).to_bytes(4, "big")
