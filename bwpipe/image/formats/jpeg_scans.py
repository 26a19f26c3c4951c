"""JPEG below the samples: puts the Y of one file beside the Cb and Cr of others, no coefficient changed (ITU-T T.81).

A file is taken apart into the scans of its components. Those that hold Y alone are copied byte for byte, which is all of them
for grey pictures, and all but the DC scans for progressive ones. Where Y is interleaved with chroma, its blocks are cut out of
the bit stream and put in the order of a scan of its own: the bits of AC coefficients are copied, DC is coded again,
since the preceding block is another one. The result has several scans, like a progressive file.
"""

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bwpipe.image.formats.jpeg_bits import BitStream, HuffmanTable, pack, unit_starts

TableKey: TypeAlias = tuple[int, int]
"""Class (0: DC, 1: AC) and number of a Huffman table."""
_SOI, _EOI, _SOS, _DQT, _DHT, _DRI = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1), 0xC2
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_ALONE = {0x01, *range(0xD0, 0xD8)}
"""Markers without a length."""
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_RESTART = re.compile(rb"\xff+[\xd0-\xd7]")
_BLOCK = 8
_MOST_DC_BITS = 11
_STANDARD_DC = HuffmanTable(bytes([0, 1, 5, 1, 1, 1, 1, 1, 1, *bytes(7)]), bytes(range(12)))
"""The table of T.81, K.3.1: it has a code for every DC difference of 8-bit samples."""


class UnsupportedJpegError(Exception):
    """The file is damaged, or coded in a way that is not taken apart here: arithmetic coding, 12 bits, lossless."""


class Component(NamedTuple):
    """A component of a frame: its number, sampling factors, and quantisation table, as in the file (Pq, then the steps)."""

    number: int
    across: int
    down: int
    table: bytes


@dataclass(frozen=True)
class Scan:
    """A scan.

    Attributes:
        members: Index of each component in the frame, in the order of the scan.
        selectors: The numbers of the Huffman tables of each: DC, AC.
        spectral: First and last coefficient, and the bit position of successive approximation.
        tables: The Huffman tables in force.
        interval: MCUs between restart markers; 0 for none.
        data: The entropy-coded data.
    """

    members: tuple[int, ...]
    selectors: tuple[tuple[int, int], ...]
    spectral: tuple[int, int, int]
    tables: Mapping[TableKey, HuffmanTable]
    interval: int
    data: bytes

    @property
    def needed(self) -> list[TableKey]:
        """The Huffman tables that decoding it uses."""
        first, last, approximation = self.spectral
        dc = [(0, dc) for dc, _ in self.selectors] if not first and not approximation >> 4 else []
        return dc + ([(1, ac) for _, ac in self.selectors] if last else [])


@dataclass(frozen=True)
class Jpeg:
    """A JPEG file, taken apart.

    Attributes:
        frame: The marker of its frame: baseline, extended sequential, or progressive.
        width, height: Its size.
        components: Its components.
        scans: Its scans.
        head: The application segments and comments, as they are in the file.
    """

    frame: int
    width: int
    height: int
    components: tuple[Component, ...]
    scans: tuple[Scan, ...]
    head: bytes


def take_apart(data: bytes) -> Jpeg:
    """Find the scans of a file. Raises UnsupportedJpegError."""
    try:
        return _Parser().parse(data)
    except (IndexError, KeyError, ValueError, struct.error) as error:
        raise UnsupportedJpegError from error


class _Parser:
    """What the segments read so far say."""

    def __init__(self) -> None:
        self.quantisation: dict[int, bytes] = {}
        self.huffman: dict[TableKey, HuffmanTable] = {}
        self.interval = 0
        self.frame: tuple[int, int, int, list[tuple[int, int, int, int]]] | None = None
        self.used: dict[int, bytes] = {}
        self.scans: list[Scan] = []
        self.head = b""

    def parse(self, data: bytes) -> Jpeg:
        at = 2
        while True:
            at = data.index(b"\xff", at)
            while data[at] == 0xFF:
                at += 1
            marker = data[at]
            at += 1
            if marker == _EOI:
                break
            if marker in _ALONE or not marker:
                continue
            size = int.from_bytes(data[at : at + 2], "big")
            body = data[at + 2 : at + size]
            at += size
            if marker == _SOS:
                end = found.start() if (found := _MARKER.search(data, at)) else len(data)
                self._scan(body, data[at:end])
                at = end
            else:
                self._segment(marker, body)
        if self.frame is None:
            raise UnsupportedJpegError
        frame, height, width, components = self.frame
        if len(self.used) < len(components):
            raise UnsupportedJpegError
        kept = (Component(number, across, down, self.used[i]) for i, (number, across, down, _) in enumerate(components))
        return Jpeg(frame, width, height, tuple(kept), tuple(self.scans), self.head)

    def _segment(self, marker: int, body: bytes) -> None:
        if marker in _FRAMES:
            if marker not in (*_SEQUENTIAL, _PROGRESSIVE) or body[0] != 8 or self.frame:
                raise UnsupportedJpegError
            height, width, count = struct.unpack_from(">HHB", body, 1)
            fields = (struct.unpack_from("BBB", body, 6 + 3 * i) for i in range(count))
            components = [(number, sampling >> 4, sampling & 15, table) for number, sampling, table in fields]
            if not width or not height or not all(1 <= a <= 4 and 1 <= d <= 4 for _, a, d, _ in components):
                raise UnsupportedJpegError
            self.frame = marker, height, width, components
        elif marker == _DQT:
            while body:
                size = 129 if body[0] >> 4 else 65
                self.quantisation[body[0] & 15] = bytes([body[0] & 0xF0]) + body[1:size]
                body = body[size:]
        elif marker == _DHT:
            while body:
                count = sum(body[1:17])
                self.huffman[body[0] >> 4, body[0] & 15] = HuffmanTable(body[1:17], body[17 : 17 + count])
                body = body[17 + count :]
        elif marker == _DRI:
            self.interval = int.from_bytes(body[:2], "big")
        elif marker >= 0xE0:
            self.head += bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body

    def _scan(self, body: bytes, data: bytes) -> None:
        if self.frame is None:
            raise UnsupportedJpegError
        count = body[0]
        numbers = [number for number, *_ in self.frame[3]]
        members = tuple(numbers.index(body[1 + 2 * i]) for i in range(count))
        for member in members:  # the table in force at a component's first scan is its own
            self.used.setdefault(member, self.quantisation[self.frame[3][member][3]])
        selectors = tuple((body[2 + 2 * i] >> 4, body[2 + 2 * i] & 15) for i in range(count))
        first, last, approximation = body[1 + 2 * count : 4 + 2 * count]
        self.scans.append(Scan(members, selectors, (first, last, approximation), dict(self.huffman), self.interval, data))


def only(jpeg: Jpeg, member: int) -> Jpeg:
    """The file with a single component, whose coefficients stay as they are. Raises UnsupportedJpegError."""
    try:
        scans = [_alone(jpeg, scan, member) for scan in jpeg.scans if member in scan.members]
    except (IndexError, KeyError, ValueError) as error:
        raise UnsupportedJpegError from error
    return replace(jpeg, components=(jpeg.components[member],), scans=tuple(replace(scan, members=(0,)) for scan in scans))


def sampling(jpeg: Jpeg) -> tuple[int, int]:
    """The largest sampling factors, across and down: those of a component that has the picture's full size."""
    return max(c.across for c in jpeg.components), max(c.down for c in jpeg.components)


def together(head: bytes, planes: Sequence[Jpeg], factors: Sequence[tuple[int, int]]) -> bytes:
    """A file with the scans of several.

    Args:
        head: Application segments and comments.
        planes: Files of a single component each, of the same size, all progressive or none.
        factors: The sampling factors of each, across and down.
    """
    first = planes[0]
    output = [b"\xff\xd8", head]
    components = [plane.components[0] for plane in planes]
    tables = list(dict.fromkeys(component.table for component in components))
    for number, table in enumerate(tables):
        output.append(_segment(_DQT, bytes([table[0] | number]) + table[1:]))
    fields = b"".join(
        bytes([number, across << 4 | down, tables.index(component.table)])
        for number, (component, (across, down)) in enumerate(zip(components, factors, strict=True), 1)
    )
    frame = max(plane.frame for plane in planes)
    output.append(_segment(frame, struct.pack(">BHHB", 8, first.height, first.width, len(planes)) + fields))
    huffman: dict[TableKey, HuffmanTable] = {}
    interval = 0
    for number, plane in enumerate(planes, 1):
        for scan in plane.scans:
            changed = [key for key in dict.fromkeys(scan.needed) if huffman.get(key) != scan.tables[key]]
            for key in changed:
                huffman[key] = codes = scan.tables[key]
                output.append(_segment(_DHT, bytes([key[0] << 4 | key[1]]) + codes.counts + codes.symbols))
            if scan.interval != interval:
                interval = scan.interval
                output.append(_segment(_DRI, struct.pack(">H", interval)))
            ((dc, ac),) = scan.selectors
            output += [_segment(_SOS, bytes([1, number, dc << 4 | ac, *scan.spectral])), scan.data]
    return b"".join([*output, b"\xff\xd9"])


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def _alone(jpeg: Jpeg, scan: Scan, member: int) -> Scan:
    """A scan of that component alone."""
    if len(scan.members) == 1:
        return scan
    place = scan.members.index(member)
    segments, expected = _segments(jpeg, scan)
    stream = BitStream(segments)
    order = _raster(jpeg, scan, place)
    alone = replace(scan, members=(member,), selectors=(scan.selectors[place],), interval=0)
    if scan.spectral[2] >> 4:  # successive approximation: one bit for each block
        bits = np.concatenate([first + np.arange(count) for first, count in zip(stream.firsts, expected, strict=True)])[order]
        none = np.zeros_like(bits)
        return replace(alone, data=pack(stream, none, none, bits, bits + 1))
    starts, ends = unit_starts(stream, _unit_tables(jpeg, scan), expected)
    key = (0, scan.selectors[place][0])
    differences, ac_starts = stream.dc_of(starts, scan.tables[key])
    restarts = np.cumsum([0, *expected])[:-1]
    values = _integrated(differences, _of_component(jpeg, scan, place, starts.size), restarts)[order]
    differences = np.diff(values, prepend=0)
    sizes = np.ceil(np.log2(np.abs(differences) + 1)).astype(np.int64)
    if sizes.max() > _MOST_DC_BITS:
        raise UnsupportedJpegError
    table = scan.tables[key] if {*np.unique(sizes).tolist()} <= {*scan.tables[key].symbols} else _STANDARD_DC
    codes, lengths = table.codes(sizes)
    magnitudes = np.where(differences < 0, differences + (1 << sizes) - 1, differences)
    data = pack(stream, codes << sizes | magnitudes, lengths + sizes, ac_starts[order], ends[order])
    return replace(alone, tables={**scan.tables, key: table}, data=data)


def _segments(jpeg: Jpeg, scan: Scan) -> tuple[list[bytes], list[int]]:
    """The data between restart markers, without stuffed bytes, and the number of blocks in each piece."""
    pieces = _RESTART.split(scan.data) if scan.interval else [scan.data]
    rows, columns = _mcus(jpeg)
    units = sum(jpeg.components[i].across * jpeg.components[i].down for i in scan.members)
    interval = scan.interval or rows * columns
    expected = [min(interval, rows * columns - at) * units for at in range(0, rows * columns, interval)]
    if len(pieces) != len(expected):
        raise UnsupportedJpegError
    return [piece.replace(b"\xff\x00", b"\xff") for piece in pieces], expected


def _mcus(jpeg: Jpeg) -> tuple[int, int]:
    """Rows and columns of MCUs in a scan of several components."""
    across, down = sampling(jpeg)
    return _over(jpeg.height, _BLOCK * down), _over(jpeg.width, _BLOCK * across)


def _unit_tables(jpeg: Jpeg, scan: Scan) -> list[tuple[HuffmanTable, HuffmanTable | None]]:
    """The tables, DC and AC, of each block of an MCU; in scans of DC alone, there are none for AC."""
    return [
        (scan.tables[0, dc], scan.tables[1, ac] if scan.spectral[1] else None)
        for member, (dc, ac) in zip(scan.members, scan.selectors, strict=True)
        for _ in range(jpeg.components[member].across * jpeg.components[member].down)
    ]


def _units(jpeg: Jpeg, scan: Scan, place: int) -> tuple[int, int]:
    """The blocks of an MCU that are of a component: the first, and the one after the last."""
    bounds = np.cumsum([0, *(jpeg.components[i].across * jpeg.components[i].down for i in scan.members)]).tolist()
    return list(pairwise(bounds))[place]


def _raster(jpeg: Jpeg, scan: Scan, place: int) -> NDArray[np.int64]:
    """Indices of a component's blocks among all of an interleaved scan, row by row, without those that fill up MCUs."""
    component = jpeg.components[scan.members[place]]
    rows, columns = _mcus(jpeg)
    first, after = _units(jpeg, scan, place)
    units = _units(jpeg, scan, len(scan.members) - 1)[1]
    blocks = np.arange(rows * columns * units).reshape(rows, columns, units)[..., first:after]
    blocks = blocks.reshape(rows, columns, component.down, component.across).transpose(0, 2, 1, 3)
    across, down = sampling(jpeg)
    high, wide = (
        _over(_over(side * own, largest), _BLOCK)
        for side, own, largest in ((jpeg.height, component.down, down), (jpeg.width, component.across, across))
    )
    return np.ascontiguousarray(blocks.reshape(rows * component.down, columns * component.across)[:high, :wide]).ravel()


def _over(amount: int, size: int) -> int:
    """How many of a size hold an amount."""
    return (amount + size - 1) // size


def _of_component(jpeg: Jpeg, scan: Scan, place: int, count: int) -> NDArray[np.bool_]:
    """Which of the blocks of an interleaved scan belong to a component."""
    first, after = _units(jpeg, scan, place)
    unit = np.arange(count) % _units(jpeg, scan, len(scan.members) - 1)[1]
    return (unit >= first) & (unit < after)


def _integrated(differences: NDArray[np.int64], own: NDArray[np.bool_], restarts: NDArray[np.int64]) -> NDArray[np.int64]:
    """DC values of the blocks for which `own` holds, from differences to the one before; they begin at 0 at each restart."""
    total = np.cumsum(np.where(own, differences, 0))
    before = np.concatenate([[0], total])[restarts]
    values: NDArray[np.int64] = total - np.repeat(before, np.diff([*restarts.tolist(), total.size]))
    return values
