"""Outlines: what remains of the fragments of a finished video, whose coded frames are in the video itself.

An outline has a fragment's extradata and, for each packet, all but its data. These are cut out of the finished video: the
packets that follow those of the segments before it. So one segment can be done again without the others, at 10 to 20 bytes a
frame on the disk instead of a second copy of the video.

An outline is written only if what is cut out gives the same bytes when it is muxed again, and is valid only for a finished
video of the size and time of modification that it names.
"""

import json
import struct
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path

import av
import av.error
from av.packet import Packet
from av.stream import Discard
from av.video.stream import VideoStream

from bwpipe.core.fingerprint import Fingerprint, fingerprint
from bwpipe.core.json_text import parse_json
from bwpipe.errors import DamagedRecord, MediaError
from bwpipe.video.segment_file import CodedPacket, Fragment, packet_of

_SIGNATURE = b"bwpipe outline 1\n"
_RECORD = struct.Struct("<qqIII")
_LONGEST = 1 << 26
"""Bytes of an outline beyond which it is not one of ours."""
_FORMATS = "mov,matroska"
_START = b"\0\0\1"
_DELIMITER = b"\x12\0"
"""A temporal delimiter of AV1, which containers leave out."""


class FinishedVideo:
    """The coded frames of a finished video, one after another."""

    def __init__(self, path: Path, stream: int | None = None) -> None:
        """Open it, and its video stream of this index among all, or its first one. Raises MediaError."""
        options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
        try:
            self._container = av.open(f"file:{path}", "r", options=options, metadata_errors="surrogateescape")
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(f"{path} can't be read to keep its frames ({error.strerror})") from error
        found = [each for each in self._container.streams.video if stream is None or each.index == stream]
        if not found:
            self._container.close()
            raise MediaError(f"{path} has no such video stream")
        self._stream = found[0]
        for each in self._container.streams:
            if each.index != self._stream.index:
                each.discard = Discard.all
        self.index = self._stream.index
        self._length = _length_size(self._stream)
        self._packets = self._read()
        self._next = 0

    @staticmethod
    def streams(path: Path) -> list[int]:
        """The indices of the video streams of a file. Raises MediaError."""
        with closing(FinishedVideo(path)) as video:
            return [each.index for each in video._container.streams.video]

    def packet(self, number: int) -> tuple[bytes, bytes]:
        """The coded frame of a packet, as an encoder would have given it, and its additions; numbers only rise."""
        found = None
        while self._next <= number:
            found = next(self._packets, None)
            if found is None:
                raise MediaError("the finished video has fewer frames than it should; run with --restart")
            self._next += 1
        if found is None:
            raise ValueError(f"packet {number} has been read already")
        data, additions = bytes(found), bytes(found.get_sidedata("matroska_block_additional"))
        return (_annex_b(data, self._length) if self._length else data), additions

    def close(self) -> None:
        """Close it."""
        self._container.close()

    def _read(self) -> "Iterator[Packet[VideoStream]]":
        try:
            yield from (packet for packet in self._container.demux(self._stream) if packet.size)
        except av.error.FFmpegError as error:
            raise MediaError(f"the finished video can't be read ({error.strerror}); run with --restart") from error


class Outline:
    """An outline, with the finished video that has its coded frames.

    Attributes:
        extradata: The encoder's extradata.
        first: Number of packets of the finished video before its own.
        stream: Index of the video stream in the finished video.
        finished: The fingerprint of the finished video.
    """

    def __init__(self, path: Path) -> None:
        """Read it. Raises MediaError, OSError."""
        self._name = path.name
        with path.open("rb") as file:
            text = file.read(_LONGEST)
        try:
            head, _, body = text.removeprefix(_SIGNATURE).partition(b"\n")
            values = parse_json(head)
            self.extradata = bytes.fromhex(values["extradata"])
            self.first, self.stream = int(values["first"]), int(values["stream"])
            self.finished = Fingerprint(int(values["size"]), int(values["mtime_ns"]))
            self._records = list(_RECORD.iter_unpack(zlib.decompress(body)))
        except (ValueError, KeyError, TypeError, zlib.error, struct.error) as error:
            raise DamagedRecord("its outline", path) from error
        self._video: FinishedVideo | None = None

    def cut_from(self, video: FinishedVideo) -> "Outline":
        """Take the coded frames from this video."""
        self._video = video
        return self

    def packets(self) -> Iterator[CodedPacket]:
        """Its packets in decoding order, without their data; their offsets are their numbers in the finished video."""
        for number, record in zip(count(self.first), self._records, strict=False):
            yield packet_of(record, number)

    def parts(self, packet: CodedPacket) -> tuple[bytes, bytes]:
        """The coded frame of one of its packets, and its additions. Raises MediaError."""
        if self._video is None:
            raise ValueError("an outline needs the finished video")
        data, additions = self._video.packet(packet.offset)
        if len(data) != packet.size or zlib.crc32(data + additions) != packet.checksum:
            raise MediaError(f"a frame of the finished video is not what its outline {self._name} says; run with --restart")
        return data, additions

    def close(self) -> None:
        """Nothing is open."""


def open_segment(path: Path) -> Fragment | Outline:
    """Open a fragment or an outline. Raises MediaError, OSError."""
    return Outline(path) if is_outline(path) else Fragment(path)


def coded_frames(paths: Sequence[Path], finished: Path | None) -> Generator[tuple[CodedPacket, bytes, bytes]]:
    """The packets of segments with their coded frames and additions. Raises MediaError, OSError.

    Args:
        paths: Fragments and outlines, in order.
        finished: The finished video that has the coded frames of the outlines.
    """
    video: FinishedVideo | None = None
    try:
        for path in paths:
            with closing(open_segment(path)) as segment:
                if isinstance(segment, Outline):
                    if finished is None or segment.finished != fingerprint(finished):
                        raise MediaError(f"the finished video of its outline {path.name} has changed; run again")
                    video = video or FinishedVideo(finished, segment.stream)
                    segment.cut_from(video)
                for packet in segment.packets():
                    yield packet, *segment.parts(packet)
    finally:
        if video:
            video.close()


def is_outline(path: Path) -> bool:
    """Whether a file is an outline, not a fragment. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(_SIGNATURE)) == _SIGNATURE


def is_outline_of(path: Path, finished: Path) -> bool:
    """Whether a file is an outline of a segment of a finished video as it is now."""
    try:
        return Outline(path).finished == fingerprint(finished)
    except (MediaError, OSError):
        return False


def outlines(finished: Path, fragments: Sequence[Path], tick: Callable[[], None] = lambda: None) -> Iterator[bytes]:
    """The outlines of the fragments of a finished video, or of outlines that were bound to the one before it.

    Args:
        finished: The finished video.
        fragments: The fragments or outlines that it was joined from, in order.
        tick: Called before each packet; may raise to stop.

    Raises:
        MediaError: What is cut out of the video does not give the same bytes when it is muxed again, or it can't be read.
        OSError: A file can't be read.
    """
    made = fingerprint(finished)
    if made is None:
        raise MediaError(f"{finished} is gone")
    stream = _stream_of(finished, fragments[0])
    with closing(FinishedVideo(finished, stream)) as video:
        first = 0
        for path in fragments:
            with closing(open_segment(path)) as segment:
                records = []
                for number, packet in enumerate(segment.packets(), first):
                    tick()
                    data, additions = video.packet(number)
                    checksum = zlib.crc32(data + additions)
                    if isinstance(segment, Fragment):
                        same = _same(*segment.parts(packet), data, additions)
                    else:
                        same = (packet.size, packet.checksum) == (len(data), checksum)
                    if not same:
                        raise MediaError("its coded frames can't be cut out of it again")
                    records.append(_RECORD.pack(packet.pts, packet.duration, packet.flags, len(data), checksum))
                values = {"first": first, "stream": stream, "size": made.size, "mtime_ns": made.mtime_ns}
                head = json.dumps({**values, "extradata": segment.extradata.hex()}).encode()
                yield _SIGNATURE + head + b"\n" + zlib.compress(b"".join(records), 6)
                first += len(records)


def _stream_of(finished: Path, fragment: Path) -> int:
    """The index of the stream of a finished video that begins with the first packet of a fragment. Raises MediaError."""
    if is_outline(fragment):
        return Outline(fragment).stream
    with closing(Fragment(fragment)) as segment:
        packet = next(segment.packets(), None)
        own = None if packet is None else segment.parts(packet)
    for index in FinishedVideo.streams(finished) if own else ():
        with closing(FinishedVideo(finished, index)) as video:
            if own and _same(*own, *video.packet(0)):
                return index
    raise MediaError("its coded frames can't be cut out of it again")


def _same(data: bytes, additions: bytes, found: bytes, found_additions: bytes) -> bool:
    """Whether what was cut out of a video is the same coded frame for a muxer as what the encoder gave."""
    if additions != found_additions:
        return False
    if data == found or data.removeprefix(_DELIMITER) == found:
        return True
    return _START in data[:4] and found.startswith(b"\0" + _START) and _units(data) == _units(found)


def _units(data: bytes) -> list[bytes]:
    """The NAL units of H.264 or H.265 with start codes, as muxers find them."""
    units = data.split(_START)[1:]
    return [*(unit.removesuffix(b"\0") for unit in units[:-1]), *units[-1:]]


def _annex_b(data: bytes, size: int) -> bytes:
    """NAL units with their lengths before them as NAL units with start codes. Raises MediaError."""
    units, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + size], "big")
        at += size
        if length > len(data) - at:
            raise MediaError("a frame of the finished video is damaged; run with --restart")
        units.append(b"\0" + _START + data[at : at + length])
        at += length
    return b"".join(units)


def _length_size(stream: VideoStream) -> int:
    """Bytes of the lengths before NAL units in a stream of H.264 or H.265; 0 if it has none."""
    place = {"h264": 4, "hevc": 21}.get(stream.codec_context.codec.canonical_name)
    extradata = stream.codec_context.extradata or b""
    return (extradata[place] & 3) + 1 if place is not None and len(extradata) > place and extradata[0] == 1 else 0
