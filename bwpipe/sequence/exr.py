"""OpenEXR files of scan lines: the header, and how one of half-precision samples is written.

The layout is that of "OpenEXR File Layout" (openexr.com); FFmpeg decodes the samples.
"""

import re
import struct
import zlib
from collections.abc import Mapping
from itertools import chain, count, takewhile
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bwpipe.errors import MediaError

MAGIC = b"v/1\x01"
MOST_HEADER = 1 << 20
"""Bytes in which a header has to end."""
_MULTIPART, _DEEP = 0x1000, 0x800
_ZIP, _LINES = 3, 16
"""Compression by zlib, of 16 lines at a time."""
_LAYOUT = {"channels", "compression", "dataWindow", "displayWindow", "lineOrder", "screenWindowCenter", "screenWindowWidth"}
_FOR_OTHER_LAYOUTS = {"tiles", "type", "version", "chunkCount", "maxSamplesPerPixel", "preview", "dwaCompressionLevel"}
_HALF = 1
_NOTE = "bwpipe"
"""The attribute that tells how a file was made."""
_IS_NOTE = re.compile(rf"{_NOTE}\d*")
_MOST_NOTE = 255
"""Bytes of an attribute that FFmpeg up to version 5 skips: it does not read a file with a longer one that it does not know."""


class Attribute(NamedTuple):
    """An attribute of a header: the name of its type, and its bytes."""

    kind: bytes
    value: bytes


class ExrHeader(NamedTuple):
    """The header of an OpenEXR file.

    Attributes:
        attributes: All of them, by name.
        width, height: Of the window that is shown, in pixels.
        channels: The names of the channels.
    """

    attributes: Mapping[str, Attribute]
    width: int
    height: int
    channels: tuple[str, ...]


def is_exr(head: bytes) -> bool:
    """Whether a file that begins so is in OpenEXR."""
    return head[:4] == MAGIC


def read_header(data: bytes) -> ExrHeader:
    """Read the header of an OpenEXR file. Raises MediaError."""
    try:
        attributes = _attributes(data)
        channels = _channel_names(attributes["channels"].value)
        windows = [struct.unpack("<4i", attributes[name].value) for name in ("displayWindow", "dataWindow")]
    except (KeyError, ValueError, IndexError, struct.error) as error:
        raise MediaError("its OpenEXR header is damaged or cut short") from error
    width, height = (max(window[2 + i] - window[i] + 1 for window in windows) for i in range(2))
    if width < 1 or height < 1:
        raise MediaError("its OpenEXR header is damaged")
    if windows[0] != windows[1]:
        raise MediaError("it holds another part of the picture than is shown (dataWindow is not displayWindow); crop it first")
    return ExrHeader(attributes, width, height, channels)


def _attributes(data: bytes) -> dict[str, Attribute]:
    (version,) = struct.unpack_from("<I", data, 4)
    if version & (_MULTIPART | _DEEP):
        raise MediaError("it has several parts or deep samples, which are not supported; write it as a flat picture first")
    found: dict[str, Attribute] = {}
    at = 8
    while data[at]:
        name, at = _text(data, at)
        kind, at = _text(data, at)
        (size,) = struct.unpack_from("<i", data, at)
        if not 0 <= size <= len(data) - at - 4:
            raise ValueError(size)
        found[name.decode("latin-1")] = Attribute(kind, data[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    end = data.index(0, at)
    return data[at:end], end + 1


def _channel_names(value: bytes) -> tuple[str, ...]:
    names, at = [], 0
    while value[at]:
        name, at = _text(value, at)
        names.append(name.decode("latin-1"))
        at += 16
    return tuple(names)


def encode(planes: Mapping[str, NDArray[np.float16]], source: bytes, *, note: str = "") -> bytes:
    """An OpenEXR file of half-precision samples, compressed by zlib.

    Args:
        planes: (H, W) by the name of their channel.
        source: An OpenEXR file whose attributes are kept but for those of the layout; empty for none.
        note: What `read_note` finds, in ASCII; it takes the place of an earlier one.
    """
    names = sorted(planes)
    height, width = planes[names[0]].shape
    box = struct.pack("<4i", 0, 0, width - 1, height - 1)
    channels = b"".join(name.encode("latin-1") + struct.pack("<xiB3xii", _HALF, 0, 1, 1) for name in names) + b"\0"
    layout = {
        "channels": Attribute(b"chlist", channels),
        "compression": Attribute(b"compression", bytes([_ZIP])),
        "dataWindow": Attribute(b"box2i", box),
        "displayWindow": Attribute(b"box2i", box),
        "lineOrder": Attribute(b"lineOrder", b"\0"),
        "pixelAspectRatio": Attribute(b"float", struct.pack("<f", 1.0)),
        "screenWindowCenter": Attribute(b"v2f", struct.pack("<2f", 0.0, 0.0)),
        "screenWindowWidth": Attribute(b"float", struct.pack("<f", 1.0)),
    }
    kept = kept_attributes(source) if source else {}
    kept.update(_note(note))
    head = MAGIC + struct.pack("<I", 2)
    for name, attribute in sorted({**layout, **kept}.items()):
        head += (
            name.encode("latin-1") + b"\0" + attribute.kind + b"\0" + struct.pack("<i", len(attribute.value)) + attribute.value
        )
    head += b"\0"
    samples = np.stack([planes[name].astype("<f2") for name in names], axis=1)  # (H, channels, W)
    chunks = [_chunk(samples[top : top + _LINES].tobytes(), top) for top in range(0, height, _LINES)]
    starts = np.cumsum([len(head) + 8 * len(chunks), *map(len, chunks[:-1])])
    return head + starts.astype("<u8").tobytes() + b"".join(chunks)


def _note(text: str) -> dict[str, Attribute]:
    """A text as attributes that each are short enough: bwpipe, bwpipe2, bwpipe3, ..."""
    parts = [text[at : at + _MOST_NOTE] for at in range(0, len(text), _MOST_NOTE)]
    return {
        f"{_NOTE}{number if number > 1 else ''}": Attribute(b"string", part.encode()) for number, part in enumerate(parts, 1)
    }


def read_note(source: bytes) -> str:
    """The note in a file that `encode` wrote; empty if there is none. Raises MediaError."""
    attributes = read_header(source).attributes
    names = takewhile(attributes.__contains__, chain([_NOTE], (f"{_NOTE}{number}" for number in count(2))))
    return "".join(attributes[each].value.decode("latin-1") for each in names)


def kept_attributes(source: bytes) -> dict[str, Attribute]:
    """The attributes of a file that stay true of one with other samples: not its layout, nor a note. Raises MediaError."""
    leave = _LAYOUT | _FOR_OTHER_LAYOUTS
    found = read_header(source).attributes.items()
    return {name: each for name, each in found if name not in leave and not _IS_NOTE.fullmatch(name)}


def _chunk(raw: bytes, top: int) -> bytes:
    """Some lines: compressed, or as they are if that is smaller."""
    split = np.frombuffer(raw[::2] + raw[1::2], np.uint8).astype(np.int16)
    split[1:] = split[1:] - split[:-1].copy() + 128
    packed = zlib.compress(split.astype(np.uint8).tobytes(), 4)
    data = packed if len(packed) < len(raw) else raw
    return struct.pack("<ii", top, len(data)) + data
