"""Streams that begin after the header, in MPEG streams, FLV and Ogg: found without FFmpeg, so that it sees where they begin.

FFmpeg looks for streams in the first megabytes and seconds of a file, and PyAV hides those that appear later. To know all of
them from the beginning, a file is opened with a view of it: its head, followed by the places where the others begin.
"""

import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
from av.stream import Stream

from bwpipe.core.inputs import parts_of

Places: TypeAlias = tuple[tuple[int, int], ...]
"""Byte ranges of a file, start and stop."""

_HEAD, _BEFORE, _AFTER = 5_000_000, (1 << 12, 1 << 15, 1 << 18), 3 << 18
"""What FFmpeg reads by default, and what is shown before, in attempts, and after the place where a stream begins."""
_MOST = 64
"""The most places to show, so that memory is bounded."""
_BLOCK = 1 << 22
_START_CODE = re.compile(rb"\x00\x00\x01[\xb9-\xff]", re.DOTALL)
_PACK, _END, _PRIVATE = 0xBA, 0xB9, 0xBD
_FLV_KINDS = {8: "audio", 9: "video"}
_FLV_TAGS = frozenset({8, 9, 18})
_OGG_FIRST, _OGG_LAST = 2, 4
_OGG_HEADER = (0, 2**64 - 1)
"""End positions of pages with headers: before any sample, or no packet ends there."""


class PartsFile(io.RawIOBase):
    """Ranges of some files that follow each other, as one file to read and seek in.

    Attributes:
        size: Size of all files in bytes.
        ranges: Byte ranges, start and stop, in the row of files; may be replaced between two reads.
    """

    def __init__(self, paths: Sequence[Path], ranges: Places | None = None) -> None:
        """Open the files; without `ranges`, all of their bytes are read. Raises OSError."""
        self._files: list[io.FileIO] = []
        for path in paths:
            self._files.append(io.FileIO(path))
        self._sizes = [os.fstat(file.fileno()).st_size for file in self._files]
        self.size = sum(self._sizes)
        self.ranges: Places = ((0, self.size),) if ranges is None else ranges
        self._at = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """The position."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence, sum(stop - start for start, stop in self.ranges))
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; returns the number of bytes, 0 at the end. Raises OSError."""
        view = memoryview(buffer)
        at = self._at
        for start, stop in self.ranges:
            if at < stop - start:
                count = self._read(start + at, view[: stop - start - at])
                self._at += count
                return count
            at -= stop - start
        return 0

    def close(self) -> None:
        """Close the files; happens by itself when nobody refers to this any more."""
        for file in self._files:
            file.close()
        super().close()

    def _read(self, at: int, view: memoryview) -> int:
        for file, size in zip(self._files, self._sizes, strict=True):
            if at < size:
                file.seek(at)
                return file.readinto(view[: size - at]) or 0
            at -= size
        return 0


class Late(NamedTuple):
    """Streams that FFmpeg did not see.

    Attributes:
        views: What to show to FFmpeg for it to see them, attempt by attempt; none if there are no such streams. Of an Ogg file,
            the whole file in another order.
        more: How many there are beyond the most that can be shown.
    """

    views: tuple[Places, ...]
    more: int


def late_streams(path: Path, demuxer: str, known: frozenset[int]) -> Late:
    """Find streams of an MPEG transport or program stream, an FLV or an Ogg file that FFmpeg did not see when it opened it.

    Args:
        path: The file; if it stands for several, they are searched in a row, as far as they can be read.
        demuxer: FFmpeg's name of its format; others than "mpegts", "mpeg", "flv" and "ogg" are not searched.
        known: The `identifier` of each of the streams that it saw.
    """
    if demuxer == "ogg":
        with suppress(OSError), PartsFile([path]) as parts, io.BufferedReader(parts, _BLOCK) as file:
            return _late_ogg_streams(file, parts.size)
        return Late((), 0)
    if demuxer == "flv" and known >= _FLV_KINDS.keys():
        return Late((), 0)
    scan = {"mpegts": _transport_streams, "mpeg": _program_streams, "flv": _flv_streams}.get(demuxer)
    found: dict[int, int] = {}
    size = 0
    if scan is not None:
        with suppress(OSError), PartsFile(parts_of(path)) as parts, io.BufferedReader(parts, _BLOCK) as file:
            size = parts.size
            for stream, at in scan(file):
                found.setdefault(stream, at)
    begins = sorted(at for stream, at in found.items() if stream not in known)
    if not begins:
        return Late((), 0)
    if demuxer == "flv":  # both ranges have to begin and end with a tag
        at = begins[0]
        return Late((((0, _flv_head(path, min(_HEAD, at))), (at, min(at + _AFTER, size))),), 0)
    head = (0, min(_HEAD, size))
    views: list[Places] = [(head, *_around(begins, _BEFORE[-1], size))]
    if demuxer == "mpegts":
        # FFmpeg stops looking once it knows all streams that the tables have named so far: it is first shown what comes before
        # their packets, then the places, with the tables before them and as few packets of the others as possible
        tables = (0, min(found.values()))
        views = [(tables, *_around(begins, before, size), head) for before in _BEFORE] + views
    return Late(tuple(views), max(len(begins) - _MOST, 0))


def identifier(stream: Stream, demuxer: str) -> int:
    """What tells a stream from others of its file: FFmpeg's identifier, or in FLV, where all have the same, the kind of tag."""
    return next((tag for tag, kind in _FLV_KINDS.items() if kind == stream.type), 0) if demuxer == "flv" else stream.id


def _around(begins: Sequence[int], before: int, size: int) -> Iterator[tuple[int, int]]:
    """Ranges around the places where streams begin, without overlap."""
    start = stop = 0
    for at in begins[:_MOST]:
        if stop and at - before > stop:
            yield start, stop
            stop = 0
        start = start if stop else max(at - before, 0)
        stop = min(at + _AFTER, size)
    yield start, stop


def _transport_streams(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Packet identifier of each elementary stream, and where it begins (ISO/IEC 13818-1, 2.4.3)."""
    head = file.read(_BLOCK)
    grids = ((length, at) for length in (188, 192, 204) for at in range(length))
    grid = next((grid for grid in grids if not head[grid[1] : grid[1] + 8 * grid[0] : grid[0]].strip(b"\x47")), None)
    if grid is None:
        return
    length, at = grid
    found: set[int] = set()
    file.seek(at)
    while len(block := file.read(length * (_BLOCK // length))) >= length:
        cells = np.frombuffer(block, np.uint8, len(block) // length * length).reshape(-1, length)
        # the start of a payload that is not scrambled, and begins as elementary streams do
        begins = (cells[:, 0] == 0x47) & (cells[:, 1] & 0x40 != 0) & (cells[:, 3] & 0x10 != 0)
        for number in np.flatnonzero(begins):
            cell = cells[number]
            stream = int(cell[1] & 0x1F) << 8 | int(cell[2])
            if stream not in found:
                start = 5 + int(cell[4]) if cell[3] & 0x20 else 4
                if bytes(cell[start : start + 3]) == b"\0\0\1":
                    found.add(stream)
                    yield stream, at + int(number) * length
        at += len(block)


def is_flv(file: BinaryIO | PartsFile) -> bool:
    """Whether a file begins as FLV does; it is read from its start afterwards."""
    file.seek(0)
    start = file.read(3)
    file.seek(0)
    return start == b"FLV"


def _flv_tags(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Kind and position of each tag of an FLV file (Adobe Flash Video File Format 10.1, E.3), up to where it is damaged."""
    head = file.read(9)
    if len(head) < 9:
        return
    at = int.from_bytes(head[5:9], "big") + 4
    while True:
        file.seek(at)
        tag = file.read(4)
        if len(tag) < 4 or tag[0] & 0x1F not in _FLV_TAGS:
            return
        yield tag[0] & 0x1F, at
        at += 15 + int.from_bytes(tag[1:], "big")


def _flv_streams(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Kind and position of each tag of sound or video."""
    yield from ((kind, at) for kind, at in _flv_tags(file) if kind in _FLV_KINDS)


def _flv_head(path: Path, most: int) -> int:
    """Where the last tag begins that does so within the first `most` bytes."""
    with PartsFile([path]) as parts, io.BufferedReader(parts, _BLOCK) as file:
        return max(takewhile(lambda at: at <= most, (at for _, at in _flv_tags(file))), default=most)


class _OggPage(NamedTuple):
    """A page of an Ogg file: its place, flags, end position, serial number, and the first bytes of its payload."""

    start: int
    stop: int
    flags: int
    ends: int
    serial: int
    magic: bytes


def _late_ogg_streams(file: BinaryIO, size: int) -> Late:
    """The streams of an Ogg file that begin when others have begun, with their headers where FFmpeg looks for them.

    FFmpeg stops at such a stream. Pages of different streams may follow each other in any order (RFC 3533, 4 and 6), so the
    late ones' headers are shown to it behind the first pages of the others, and every page after that where it is.

    A link of a chain, which begins when all streams before it have ended, goes on with the streams of the link before as far as
    it has the same codecs; others in it are late, and can't be shown.
    """
    firsts: list[tuple[int, int]] = []
    headers: list[tuple[int, int]] = []
    begun = 0  # where the first pages of the first streams end
    codecs: list[bytes] = []  # of the first link
    spare: list[bytes] = []  # of these, those that this link has not gone on with
    running: set[int] = set()
    in_headers: set[int] = set()
    chained = False
    for page in _ogg_pages(file):
        place = (page.start, page.stop)
        if page.flags & _OGG_FIRST:
            if not running and begun:
                spare, chained = list(codecs), True
            if begun and page.magic not in spare:
                firsts.append(place)
                in_headers.add(page.serial)
                continue
            (spare.remove if begun else codecs.append)(page.magic)
            running.add(page.serial)
        else:
            begun = begun or page.start
            if page.serial in in_headers:
                if page.ends in _OGG_HEADER:
                    headers.append(place)
                else:
                    in_headers.remove(page.serial)
        if page.flags & _OGG_LAST:
            running.discard(page.serial)
    if not firsts or chained or len(firsts) > _MOST:
        return Late((), len(firsts))
    moved = [*firsts, *headers]
    rest = [begun, *(at for place in sorted(moved) for at in place), size]
    between = zip(rest[::2], rest[1::2], strict=True)
    return Late((((0, begun), *moved, *((start, stop) for start, stop in between if start < stop)),), 0)


def _ogg_pages(file: BinaryIO) -> Iterator[_OggPage]:
    """The pages of an Ogg file, up to any damage."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(27)
        if len(head) < 27 or not is_ogg(head):
            return
        table = file.read(head[26])
        stop = at + 27 + len(table) + sum(table)
        ends, serial = (int.from_bytes(head[start:end], "little") for start, end in ((6, 14), (14, 18)))
        yield _OggPage(at, stop, head[5], ends, serial, file.read(7))
        at = stop


def is_ogg(head: bytes) -> bool:
    """Whether a file that begins so is an Ogg file."""
    return head[:4] == b"OggS"


def _program_streams(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """FFmpeg's identifier and the position of each packet of an elementary stream (ISO/IEC 13818-1, 2.5.3)."""
    for code, at, payload in _stream_packets(file):
        stream = (payload[0] if payload else 0) if code == _PRIVATE else 0x100 | code
        if _is_elementary(stream):
            yield stream, at


def _is_elementary(stream: int) -> bool:
    """Whether FFmpeg makes a stream of it: sound, video, and the private streams of discs."""
    return 0x1C0 <= stream <= 0x1EF or 0x20 <= stream <= 0x3F or 0x80 <= stream <= 0xCF


def _stream_packets(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Stream identifier, position and first byte of the payload of each packet of a program stream."""
    base, block = 0, file.read(_BLOCK)
    at = 0
    while True:
        if at + 64 > len(block):
            more = file.read(_BLOCK)
            base, block, at = base + at, block[at:] + more, 0
            if len(block) < 9:
                return
        if block[at : at + 3] != b"\0\0\1" or block[at + 3] < _END:
            match = _START_CODE.search(block, at)  # damaged: go on at the next packet
            at = match.start() if match else max(len(block) - 3, at + 1)
            continue
        code = block[at + 3]
        if code == _PACK:
            at += 14 + (block[at + 13] & 7) if block[at + 4] >> 6 == 1 else 12
        elif code == _END:
            at += 4
        else:
            length = 6 + int.from_bytes(block[at + 4 : at + 6], "big")
            yield code, base + at, block[(start := _payload(block, at)) : start + 1]
            while at + length > len(block) and (more := file.read(_BLOCK)):
                base, block, at = base + at, block[at:] + more, 0
            at += length


def _payload(block: bytes, at: int) -> int:
    """Where the payload of a packet begins."""
    if block[at + 6] >> 6 == 2:
        return at + 9 + block[at + 8]
    at += 6  # MPEG-1: stuffing, buffer size and timestamps
    while block[at : at + 1] == b"\xff":
        at += 1
    if block[at : at + 1] and block[at] >> 6 == 1:
        at += 2
    return at + {2: 5, 3: 10}.get(block[at] >> 4 if at < len(block) else 0, 1)
