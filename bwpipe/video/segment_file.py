"""Fragments: the coded frames of one segment, packet by packet with exact timestamps, in a simple file format.

A fragment starts with a signature, followed by one record per packet: presentation timestamp and duration (64 bits each),
flags, size and CRC-32 (32 bits each), little-endian, then the packet's bytes. The first record holds the encoder's extradata;
a record of size 0 with the packet count as its timestamp ends the file. Decoding timestamps are not stored: they are derived
from the whole video.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from bwpipe.errors import DamagedRecord, MediaError

_SIGNATURE = b"bwpipe fragment 1\n"
_RECORD = struct.Struct("<qqIII")
_KEY, _KEPT, _LUMA_OF_COLOUR, _ADDITIONS = 1, 2, 4, 8
"""Flags of a packet. Fragments from before all but the first existed have none of these."""
_LENGTH = struct.Struct("<I")


class CodedPacket(NamedTuple):
    """A packet of a fragment; times are in units of the source's time base.

    Attributes:
        pts: Presentation timestamp.
        duration: Duration.
        key: Whether it is a keyframe.
        kept: Whether its frame kept the film's own colour.
        luma_of_colour: Whether its frame's luma was computed from its colour.
        added: Whether its data begin with additions, and these with their length.
        offset: Byte offset of its data in the fragment.
        size: Size of its data in bytes.
        checksum: CRC-32 of its data.
    """

    pts: int
    duration: int
    key: bool
    kept: bool
    luma_of_colour: bool
    added: bool
    offset: int
    size: int
    checksum: int

    @property
    def flags(self) -> int:
        """What it is, as in a record."""
        return _KEY * self.key | _KEPT * self.kept | _LUMA_OF_COLOUR * self.luma_of_colour | _ADDITIONS * self.added


def packet_of(record: tuple[int, int, int, int, int], offset: int) -> CodedPacket:
    """The packet of a record: its timestamp, duration, flags, size and checksum."""
    pts, duration, flags, size, checksum = record
    key, kept, luma_of_colour, added = (bool(flags & mark) for mark in (_KEY, _KEPT, _LUMA_OF_COLOUR, _ADDITIONS))
    return CodedPacket(pts, duration, key, kept, luma_of_colour, added, offset, size, checksum)


class FragmentWriter:
    """Writes a fragment, packet by packet."""

    def __init__(self, path: Path, extradata: bytes) -> None:
        """Start the file, replaced if it exists, with the encoder's extradata. Raises OSError."""
        self._file = path.open("wb")
        self._count = 0
        self._file.write(_SIGNATURE)
        self._record(0, 0, 0, extradata)

    def write(
        self,
        pts: int,
        duration: int,
        *,
        key: bool,
        data: bytes,
        additions: bytes = b"",
        kept: bool = False,
        luma_of_colour: bool = False,
    ) -> None:
        """Add a packet of at least one byte; the attributes are those of `CodedPacket`. Raises OSError.

        The additions are what Matroska stores beside a coded frame (BlockAdditional, as FFmpeg's side data have it), such as
        VP9's alpha channel.
        """
        flags = _KEY * key | _KEPT * kept | _LUMA_OF_COLOUR * luma_of_colour | _ADDITIONS * bool(additions)
        self._record(pts, duration, flags, _LENGTH.pack(len(additions)) + additions + data if additions else data)
        self._count += 1

    def close(self) -> None:
        """Finish the file. Raises OSError."""
        self._record(self._count, 0, 0, b"")
        self._file.close()

    def abandon(self) -> None:
        """Close the unfinished file. Raises OSError."""
        self._file.close()

    def _record(self, pts: int, duration: int, flags: int, data: bytes) -> None:
        self._file.write(_RECORD.pack(pts, duration, flags, len(data), crc32(data)))
        self._file.write(data)


class Fragment:
    """A finished fragment.

    Attributes:
        extradata: The encoder's extradata.
    """

    def __init__(self, path: Path) -> None:
        """Open it. Raises MediaError, OSError."""
        self._path = path
        self._file = path.open("rb")
        try:
            self.extradata = self._read_header()
            self._start = self._file.tell()
        except BaseException:
            self._file.close()
            raise

    def packets(self) -> Iterator[CodedPacket]:
        """Its packets in decoding order, without their data. Raises MediaError."""
        offset, count = self._start, 0
        while True:
            self._file.seek(offset)
            packet = self._next()
            if packet.size == 0:
                if packet.pts != count:
                    raise self._damaged()
                return
            count += 1
            offset = packet.offset + packet.size
            yield packet

    def parts(self, packet: CodedPacket) -> tuple[bytes, bytes]:
        """The coded frame of one of its packets, and its additions. Raises MediaError."""
        data = self._data(packet)
        if not packet.added:
            return data, b""
        start = _LENGTH.size
        end = start + _LENGTH.unpack_from(data)[0]
        return data[end:], data[start:end]

    def _data(self, packet: CodedPacket) -> bytes:
        self._file.seek(packet.offset)
        data = self._file.read(packet.size)
        if len(data) != packet.size or crc32(data) != packet.checksum:
            raise self._damaged()
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read_header(self) -> bytes:
        if self._file.read(len(_SIGNATURE)) != _SIGNATURE:
            raise self._damaged()
        return self._data(self._next())

    def _next(self) -> CodedPacket:
        head = self._file.read(_RECORD.size)
        if len(head) != _RECORD.size:
            raise self._damaged()
        return packet_of(_RECORD.unpack(head), self._file.tell())

    def _damaged(self) -> MediaError:
        return DamagedRecord("its fragment", self._path)
