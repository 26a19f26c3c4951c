"""Fragments: the coded picture of a segment of a film, packet by packet with exact times, in a plain file.

A fragment begins with a mark, and holds then a record a packet: time of presentation and duration (64 bits each), flags, size
and CRC-32 (32 bits each), little-endian, and the packet's bytes. The record of the encoder's setup comes first; one of size 0
with the number of packets as its time ends the file. Times of decoding are not kept: they follow from the whole film.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from bwpipe.errors import MediaError

_MARK = b"bwpipe fragment 1\n"
_RECORD = struct.Struct("<qqIII")
_KEY = 1


class Coded(NamedTuple):
    """A packet of a film's picture; times are in units of the film's time base.

    Attributes:
        pts: When it is shown.
        duration: How long it is shown.
        key: Whether decoding can start at it.
        place: Where its bytes begin in the fragment.
        size: How many bytes it has.
        checksum: Their CRC-32.
    """

    pts: int
    duration: int
    key: bool
    place: int
    size: int
    checksum: int


class FragmentWriter:
    """Writes a fragment, packet by packet."""

    def __init__(self, path: Path, setup: bytes) -> None:
        """Begin the file, replaced if it exists, with the encoder's setup ("extradata"). Raises OSError."""
        self._file = path.open("wb")
        self._count = 0
        self._file.write(_MARK)
        self._record(0, 0, 0, setup)

    def write(self, pts: int, duration: int, *, key: bool, data: bytes) -> None:
        """Add a packet of at least one byte. Raises OSError."""
        self._record(pts, duration, _KEY if key else 0, data)
        self._count += 1

    def close(self) -> None:
        """Finish the file. Raises OSError."""
        self._record(self._count, 0, 0, b"")
        self._file.close()

    def abandon(self) -> None:
        """Let go of the file, unfinished. Raises OSError."""
        self._file.close()

    def _record(self, pts: int, duration: int, flags: int, data: bytes) -> None:
        self._file.write(_RECORD.pack(pts, duration, flags, len(data), crc32(data)))
        self._file.write(data)


class Fragment:
    """A finished fragment.

    Attributes:
        setup: The encoder's setup.
    """

    def __init__(self, path: Path) -> None:
        """Open it. Raises MediaError, OSError."""
        self._path = path
        self._file = path.open("rb")
        try:
            self.setup = self._begin()
            self._start = self._file.tell()
        except BaseException:
            self._file.close()
            raise

    def packets(self) -> Iterator[Coded]:
        """Its packets in the order of decoding, without their bytes. Raises MediaError."""
        place, count = self._start, 0
        while True:
            self._file.seek(place)
            packet = self._next()
            if packet.size == 0:
                if packet.pts != count:
                    raise self._damaged()
                return
            count += 1
            place = packet.place + packet.size
            yield packet

    def data(self, packet: Coded) -> bytes:
        """The bytes of one of its packets. Raises MediaError."""
        self._file.seek(packet.place)
        data = self._file.read(packet.size)
        if len(data) != packet.size or crc32(data) != packet.checksum:
            raise self._damaged()
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _begin(self) -> bytes:
        if self._file.read(len(_MARK)) != _MARK:
            raise self._damaged()
        return self.data(self._next())

    def _next(self) -> Coded:
        head = self._file.read(_RECORD.size)
        if len(head) != _RECORD.size:
            raise self._damaged()
        pts, duration, flags, size, checksum = _RECORD.unpack(head)
        return Coded(pts, duration, bool(flags & _KEY), self._file.tell(), size, checksum)

    def _damaged(self) -> MediaError:
        return MediaError(f"its fragment {self._path.name} is damaged; run with --restart")
