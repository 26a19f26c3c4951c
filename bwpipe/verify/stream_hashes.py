"""The streams of a film beside its picture: whether each was copied packet by packet."""

from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import blake2b
from typing import Any

import av.error
import numpy as np
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from numpy.typing import NDArray

from bwpipe.errors import MediaError
from bwpipe.video.file import Track, VideoFile, open_container, video_stream

_NALS = {"h264": 1, "hevc": 1}
"""Codecs whose packets are units with a length or a start code before each, as the container likes it."""
_HASH = 8


@dataclass(slots=True)
class StreamDigest:
    """A stream of a file, packet by packet.

    Attributes:
        track: Which.
        metadata: Its language, title and the like.
        disposition: What it is for.
        time_base: Of `times`.
        whole: Of all payloads in a row: some containers cut plain samples into packets of another size.
        each: A short hash of each packet's payload.
        times: When each packet is shown.
        lasting: How long, in the same units; 0 where the file does not say.
        size: Bytes of all payloads.
        rising: Whether the times of decoding rise, as they should.
    """

    track: Track
    metadata: dict[str, str]
    disposition: Disposition
    time_base: Fraction
    whole: Any = field(default_factory=lambda: blake2b(digest_size=16))
    each: bytearray = field(default_factory=bytearray)
    times: "array[int]" = field(default_factory=lambda: array("q"))
    lasting: "array[int]" = field(default_factory=lambda: array("q"))
    size: int = 0
    rising: bool = True
    _decoded: int = -(2**63)

    @property
    def packets(self) -> int:
        """How many there are."""
        return len(self.each) // _HASH

    @property
    def shown(self) -> NDArray[np.int64]:
        """The times as an array."""
        return np.array(self.times, np.int64)

    @property
    def digest(self) -> str:
        """The hash of all payloads."""
        return str(self.whole.hexdigest())

    def take(self, packet: "Packet[Stream]") -> None:
        """Add a packet."""
        payload = _payload(packet, self.track.codec)
        if self.track.kind == "subtitle" and len(payload) <= 2 and not any(payload):
            return  # MP4's way to say that nothing is shown
        self.whole.update(payload)
        self.size += len(payload)
        self.each += blake2b(payload, digest_size=_HASH).digest()
        time = packet.pts if packet.pts is not None else packet.dts
        if time is not None:
            self.times.append(time)
            self.lasting.append(packet.duration or 0)
        if packet.dts is not None:
            self.rising = self.rising and packet.dts > self._decoded
            self._decoded = packet.dts

    def first_other(self, made: "StreamDigest", count: int) -> int | None:
        """The first of the first `count` packets that has another payload; None if there is none."""
        for number in range(count):
            at = slice(number * _HASH, (number + 1) * _HASH)
            if self.each[at] != made.each[at]:
                return number
        return None


@dataclass(frozen=True, slots=True)
class Streams:
    """What a film's file holds beside the frames of its picture.

    Attributes:
        copies: Its other streams.
        disposition: Of the picture.
        chapters: As PyAV gives them.
        end: When the picture ends, in seconds, by what the file states; None where it does not.
    """

    copies: list[StreamDigest]
    disposition: Disposition
    chapters: list[Any]
    end: Fraction | None


def read_streams(film: VideoFile) -> Streams:
    """Read all packets of a film's other streams, one after another. Raises MediaError."""
    with open_container(film.path) as container:
        picture = video_stream(container, film.picture)
        if picture is None:
            raise MediaError("it has changed since it was opened")
        chapters = list(container.chapters())
        end = None
        if picture.start_time is not None and picture.duration is not None and picture.time_base:
            end = (picture.start_time + picture.duration) * picture.time_base
        copies: dict[int, StreamDigest] = {}
        for track in film.tracks:
            stream = container.streams[track.index]
            time_base = stream.time_base or Fraction(1)
            copies[track.index] = StreamDigest(track, dict(stream.metadata), stream.disposition, time_base)
            if track.kind == "attachment":
                data = bytes(getattr(stream, "data", None) or b"")
                copies[track.index].whole.update(data)
                copies[track.index].size = len(data)
        moving = [container.streams[index] for index, copy in copies.items() if copy.track.kind != "attachment"]
        for stream in container.streams:
            stream.discard = Discard.default if stream in moving else Discard.all
        with suppress(av.error.FFmpegError):  # damage that ends the file early, which the index pass has noted
            for packet in container.demux(moving) if moving else ():
                if packet.size:
                    copies[packet.stream_index].take(packet)
        kept = [copy for copy in copies.values() if not _is_of_chapters(copy, len(chapters))]
        return Streams(kept, picture.disposition, chapters, end)


def _is_of_chapters(copy: StreamDigest, chapters: int) -> bool:
    """Whether a stream only holds the chapters' titles, as MP4 has it: a writer makes it anew."""
    return bool(chapters) and copy.track.kind == "data" and not copy.track.codec and copy.packets == chapters


def _payload(packet: "Packet[Stream]", codec: str) -> bytes:
    """What a packet holds, without what only its container wants."""
    data = bytes(packet)
    if codec == "aac" and len(data) > 7 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0:  # ADTS (ISO/IEC 13818-7, 6.2)
        return data[7 if data[1] & 1 else 9 :]
    if codec in _NALS:
        return b"".join(_units(data))
    return data


def _units(data: bytes) -> Iterator[bytes]:
    """The NAL units of an H.264 or H.265 packet, with start codes (ITU-T H.264, annex B) or with lengths before them."""
    if data.startswith((b"\0\0\1", b"\0\0\0\1")):
        yield from (unit.rstrip(b"\0") for unit in data.split(b"\0\0\1") if unit.rstrip(b"\0"))
        return
    at = 0
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 4 + size].rstrip(b"\0")
        at += 4 + size


def dispositions(bits: Disposition) -> str:
    """FFmpeg's words for its bits."""
    return ", ".join(name for name, flag in Disposition.__members__.items() if flag.value and flag in bits) or "none"
