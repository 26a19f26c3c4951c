"""DPX files (SMPTE ST 268): the header, and how a file with other samples and the same header is made.

All that describes the film stays as it is in the header: its makers, time code, film edge code, position and slate.
"""

import struct
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bwpipe.errors import MediaError
from bwpipe.sequence.transfer import Transfer

HEADER = 2048
"""Bytes of the generic and the industry header together."""
_MAGIC = {b"SDPX": ">", b"XPDS": "<"}
_LOG, _LINEAR, _BT709 = (1, 3), 2, 6
"""Transfer characteristics: printing density and logarithmic; linear; ITU-R BT.709."""
_RGB = 50
_FILLED_A = 1
"""Packing of 10 bits: three samples in 32 bits, the two lowest of which are 0."""
_ELEMENT = 780
_ORIENTATIONS = {0: 1, 1: 4, 2: 2, 3: 3}
"""EXIF orientation by that of a DPX file, where lines run from left to right or from right to left."""


class DpxHeader(NamedTuple):
    """What is known of a DPX file by its header.

    Attributes:
        width, height: In pixels.
        depth: Bits of a sample.
        transfer: What the header says of its codes; "linear" is what programs write that do not know better.
        orientation: EXIF tag 274.
        aspect: Width of a pixel over its height; None if not stated.
        rate: Frames per second; None if not stated.
        time_code: "01:02:03:04"; None if not stated.
    """

    width: int
    height: int
    depth: int
    transfer: Transfer
    orientation: int
    aspect: Fraction | None
    rate: Fraction | None
    time_code: str | None


def is_dpx(head: bytes) -> bool:
    """Whether a file that begins so is in DPX."""
    return head[:4] in _MAGIC


def read_header(data: bytes) -> DpxHeader:
    """Read the header of a DPX file, at least `HEADER` bytes of it. Raises MediaError."""
    if not is_dpx(data) or len(data) < HEADER:
        raise MediaError("its DPX header is damaged or cut short")
    order = _MAGIC[data[:4]]
    orientation, elements, width, height = struct.unpack_from(f"{order}HHII", data, 768)
    transfer, depth = data[_ELEMENT + 21], data[_ELEMENT + 23]
    across, down = struct.unpack_from(f"{order}II", data, 1628)
    rates = [value for at in (1724, 1940) for value in struct.unpack_from(f"{order}f", data, at)]
    (code,) = struct.unpack_from(f"{order}I", data, 1920)
    if not (width and height and elements):
        raise MediaError("its DPX header is damaged")
    if elements > 1:
        raise MediaError(f"it has {elements} image elements, of which only the first would be kept; split it first")
    digits = f"{code:08x}"
    return DpxHeader(
        width,
        height,
        depth,
        "log" if transfer in _LOG else "linear" if transfer == _LINEAR else "video",
        _ORIENTATIONS.get(orientation, 1),
        Fraction(across, down) if 0 < across < 2**16 and 0 < down < 2**16 else None,
        next((Fraction(rate).limit_denominator(1001) for rate in rates if 1 <= rate <= 1000), None),
        ":".join(digits[i : i + 2] for i in range(0, 8, 2)) if digits.isdecimal() else None,
    )


def encode(rgb: NDArray[np.uint16], source: bytes, *, transfer: Transfer, name: bytes, rate: Fraction | None) -> bytes:
    """A DPX file of 10 bits.

    Args:
        rgb: (H, W, 3) codes 0 to 1023.
        source: A DPX file whose header is kept but for what describes the samples; empty for a new header.
        transfer: What the codes mean, for a new header.
        name: The name of the file, for the header.
        rate: Frames per second, for a new header.
    """
    height, width = rgb.shape[:2]
    kept = is_dpx(source) and len(source) >= HEADER
    order = _MAGIC[source[:4]] if kept else ">"
    (offset,) = struct.unpack_from(f"{order}I", source, 4) if kept else (HEADER,)
    start = offset if HEADER <= offset <= len(source) else HEADER
    head = bytearray(source[:start] if kept else b"\xff" * HEADER)
    if not kept:
        _fill_new(head, transfer, rate)
    size = start + 4 * width * height
    struct.pack_into(f"{order}I", head, 4, start)
    struct.pack_into(f"{order}I", head, 16, size)
    struct.pack_into("100s", head, 36, name[:99])
    struct.pack_into(f"{order}HII", head, 770, 1, width, height)
    struct.pack_into(f"{order}I", head, _ELEMENT, 0)
    if not kept or source[_ELEMENT + 23] != 10:  # references of another depth
        struct.pack_into(f"{order}IfIf", head, _ELEMENT + 4, 0, 0.0, 1023, 0.0)
    head[_ELEMENT + 20], head[_ELEMENT + 23] = _RGB, 10
    struct.pack_into(f"{order}HHIII", head, _ELEMENT + 24, _FILLED_A, 0, start, 0, 0)
    codes = rgb.astype(np.uint32)
    packed = codes[..., 0] << 22 | codes[..., 1] << 12 | codes[..., 2] << 2
    return bytes(head) + packed.astype(f"{order}u4").tobytes()


def _fill_new(head: bytearray, transfer: Transfer, rate: Fraction | None) -> None:
    """What a new header says: texts are empty, and what nobody knows is undefined."""
    struct.pack_into(">4s4x8s", head, 0, b"SDPX", b"V2.0")
    struct.pack_into(">IIII", head, 20, 1, 1664, 384, 0)
    head[36:660] = bytes(624)
    struct.pack_into(">H", head, 768, 0)
    head[_ELEMENT + 21] = head[_ELEMENT + 22] = {"log": _LOG[0], "linear": _LINEAR, "video": _BT709}[transfer]
    head[_ELEMENT + 40 : _ELEMENT + 72] = bytes(32)
    head[1432:1628] = bytes(196)
    struct.pack_into(">II", head, 1628, 1, 1)
    head[1664:1712] = bytes(48)
    head[1732:1920] = bytes(188)
    if rate:
        struct.pack_into(">f", head, 1724, float(rate))
        struct.pack_into(">f", head, 1940, float(rate))


def film_headers(data: bytes) -> dict[str, bytes]:
    """What a header says of the film, by topic, in big-endian order: what a written file has to keep."""
    swap = data[:4] == b"XPDS"

    def words(start: int, stop: int) -> bytes:
        raw = data[start:stop]
        return np.frombuffer(raw, "<u4").astype(">u4").tobytes() if swap else raw

    return {
        "time stamp": data[136:160],
        "creator": data[160:260],
        "project": data[260:460],
        "copyright": data[460:660],
        "film edge code": data[1664:1712],
        "frame position": words(1712, 1732),
        "frame identification and slate": data[1732:1864],
        "time code": words(1920, 1924),
        "user bits": words(1924, 1928),
    }
