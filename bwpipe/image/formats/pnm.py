"""PBM, PGM and PPM files, plain and raw (netpbm formats): reading at exact values, and writing of PPM."""

import re
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import Luma
from bwpipe.errors import MediaError
from bwpipe.image.file import Header, several

_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_START = re.compile(rb"P([1-6])" + _GAP + rb"(\d{1,10})" + _GAP + rb"(\d{1,10})")
_MAXVAL = re.compile(_GAP + rb"(\d{1,5})(?=\s)")
_COMMENT = re.compile(rb"#[^\r\n]*")
_LONGEST_HEADER = 65536


class _Start(NamedTuple):
    """Kind (1 to 6), size, maximum value, and offset of the samples."""

    kind: int
    width: int
    height: int
    maxval: int
    at: int

    @property
    def channels(self) -> int:
        return 3 if self.kind in (3, 6) else 1

    @property
    def bits(self) -> bool:
        return self.kind in (1, 4)

    @property
    def plain(self) -> bool:
        return self.kind <= 3


def _start(head: bytes) -> _Start:
    found = _START.match(head)
    maxval = found and _MAXVAL.match(head, found.end())
    if not found or not (found[1] in b"14" or (maxval and 0 < int(maxval[1]) < 65536)):
        raise MediaError("can't be read: its header is damaged")
    kind, width, height = map(int, found.groups())
    if kind in (1, 4):
        return _Start(kind, width, height, 1, found.end() + 1)
    assert maxval is not None
    return _Start(kind, width, height, int(maxval[1]), maxval.end() + 1)


def header(file: BinaryIO) -> Header:
    """Read the header. Raises MediaError: damaged, or several images."""
    file.seek(0)
    start = _start(file.read(_LONGEST_HEADER))
    if not start.plain:
        file.seek(start.at + _size(start))
        if re.match(rb"\s*P[1-6]\s", file.read(8)):
            raise several("several", "pictures")
    mode = "1" if start.bits else "RGB" if start.channels == 3 else "L" if start.maxval < 256 else "I"
    return Header(start.width, start.height, mode + (";16" if start.maxval > 255 else ""))


def _size(start: _Start) -> int:
    """Size of raw samples in bytes."""
    if start.bits:
        return (start.width + 7) // 8 * start.height
    return start.width * start.height * start.channels * (1 if start.maxval < 256 else 2)


def samples(data: bytes) -> NDArray[Any]:
    """Decode the samples, (H, W) or (H, W, 3), to the full range of 8 or 16 bits. Raises MediaError: too few, or too large."""
    start = _start(data)
    values: NDArray[Any]
    shape = (start.height, start.width, 3)[: 3 if start.channels == 3 else 2]
    if start.bits:
        return _bits(data, start).reshape(shape)
    if start.plain:
        values = np.array(_COMMENT.sub(b"", data[start.at - 1 :]).split()[: int(np.prod(shape))], np.int64)
    else:
        values = np.frombuffer(data[start.at : start.at + _size(start)], ">u2" if start.maxval > 255 else "u1")
    if values.size < np.prod(shape):
        raise MediaError("can't be read: it is cut short")
    if values.max() > start.maxval:
        raise MediaError(f"can't be read: it has samples above its own maximum of {start.maxval}")
    peak, kind = (255, np.uint8) if start.maxval < 256 else (65535, np.uint16)
    if start.maxval != peak:
        values = (values.astype(np.int64) * peak + start.maxval // 2) // start.maxval
    return values.astype(kind).reshape(shape)


def _bits(data: bytes, start: _Start) -> NDArray[np.uint8]:
    """Decode bits: 1 is black, 0 is white."""
    if start.plain:
        body = np.frombuffer(_COMMENT.sub(b"", data[start.at - 1 :]), np.uint8)
        ones = body[(body == ord("0")) | (body == ord("1"))][: start.width * start.height] == ord("1")
    else:
        rows = np.frombuffer(data[start.at : start.at + _size(start)], np.uint8)
        rows = rows[: rows.size // max(1, (start.width + 7) // 8) * ((start.width + 7) // 8)]
        ones = np.unpackbits(rows.reshape(-1, (start.width + 7) // 8), axis=1)[:, : start.width] == 1
    if ones.size < start.width * start.height:
        raise MediaError("can't be read: it is cut short")
    return np.where(ones, np.uint8(0), np.uint8(255))


def encode(samples: Luma) -> bytes:
    """Encode (H, W, 3) RGB as a raw PPM file."""
    height, width, _ = samples.shape
    start = f"P6\n{width} {height}\n{np.iinfo(samples.dtype).max}\n".encode()
    return start + np.ascontiguousarray(samples, samples.dtype.newbyteorder(">")).tobytes()
