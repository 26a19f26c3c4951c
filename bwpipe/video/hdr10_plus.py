"""HDR10+ metadata (SMPTE ST 2094-40): from FFmpeg's structure to the bits of the standard."""

import struct
from collections.abc import Iterator
from fractions import Fraction

_WINDOWS = 3
"""The most windows of a frame; the first is the whole frame."""
_WINDOW = struct.Struct("=8i HHBx HHH i 6i 2i B3x 180s 2i B3x 4i B3x 30i B3x 2i")
"""FFmpeg's AVHDRPlusColorTransformParams."""
_PERCENTILE = struct.Struct("=B3x2i")
_SIDE = 25
"""Rows and columns of its tables of peak luminance."""
_TABLE = struct.Struct(f"=3Bx{2 * _SIDE * _SIDE}i")
_HEAD = struct.Struct("=3Bx")
_RATIO = struct.Struct("=2i")
_PEAK, _RGB, _BRIGHT, _KNEE, _ANCHOR, _SATURATION = 15, 100_000, 1000, 4095, 1023, 8
"""Units per 1 of its numbers."""


def hdr10_plus_payload(data: bytes) -> bytes:
    """The bits of HDR10+ metadata from their `application_version` on (ST 2094-40, annex A; CTA-861, annex S).

    Args:
        data: FFmpeg's AVDynamicHDRPlus, as version 60 of libavutil lays it out in memory.
    """
    bits = "".join(f"{value:0{width}b}" for value, width in _fields(data))
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def _fields(data: bytes) -> Iterator[tuple[int, int]]:
    """Each number and its width in bits."""
    _, version, count = _HEAD.unpack_from(data)
    at = _HEAD.size
    windows = [_WINDOW.unpack_from(data, at + index * _WINDOW.size) for index in range(min(count, _WINDOWS))]
    at += _WINDOWS * _WINDOW.size
    yield from ((version, 8), (count, 2))
    for window in windows[1:]:
        yield from ((_scaled(window[index : index + 2], 1), 16) for index in range(0, 8, 2))
        yield from zip(window[8:15], (16, 16, 8, 16, 16, 16, 1), strict=True)
    yield _scaled(_RATIO.unpack_from(data, at), 1), 27
    at += _RATIO.size
    yield from _table(data, at)
    for window in windows:
        yield from ((_scaled(window[index : index + 2], _RGB), 17) for index in range(15, 23, 2))
        number, percentiles = window[23], window[24]
        yield number, 4
        for index in range(number):
            percentage, *ratio = _PERCENTILE.unpack_from(percentiles, index * _PERCENTILE.size)
            yield from ((percentage, 7), (_scaled(ratio, _RGB), 17))
        yield _scaled(window[25:27], _BRIGHT), 10
    yield from _table(data, at + _TABLE.size)
    for window in windows:
        yield window[27], 1
        if window[27]:
            yield from ((_scaled(window[28:30], _KNEE), 12), (_scaled(window[30:32], _KNEE), 12), (window[32], 4))
            yield from ((_scaled(window[33 + 2 * index : 35 + 2 * index], _ANCHOR), 10) for index in range(window[32]))
        yield window[63], 1
        if window[63]:
            yield _scaled(window[64:66], _SATURATION), 6


def _table(data: bytes, at: int) -> Iterator[tuple[int, int]]:
    """A table of peak luminance, if there is one."""
    present, rows, columns, *numbers = _TABLE.unpack_from(data, at)
    yield present, 1
    if present:
        yield from ((rows, 5), (columns, 5))
        for row in range(rows):
            for column in range(columns):
                index = 2 * (row * _SIDE + column)
                yield _scaled(numbers[index : index + 2], _PEAK), 4


def _scaled(ratio: "tuple[int, ...] | list[int]", units: int) -> int:
    """A rational number in units."""
    top, bottom = ratio
    return round(Fraction(top, bottom or 1) * units)
