"""Digests of a video's other streams, to check that each was copied packet by packet."""

from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from hashlib import blake2b
from typing import Any

import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from numpy.typing import NDArray

from bwpipe.errors import MediaError
from bwpipe.video.file import Track, VideoFile, demux, video_stream
from bwpipe.video.pcm import plain_codec
from bwpipe.video.stream_copy import in_step, without_hidden

_NAL_CODECS = {"h264": 1, "hevc": 1}
"""Codecs whose packets hold NAL units, each after a length or a start code depending on the container."""
_HASH_SIZE = 8


@dataclass(slots=True)
class StreamDigest:
    """Digest of a stream, packet by packet.

    Attributes:
        track: The stream.
        metadata: Tags such as its language and title.
        disposition: Its disposition flags.
        time_base: Time base of `times` and `durations`.
        whole: Hash of all payloads concatenated: some containers split raw samples into packets of another size.
        each: A short hash of each packet's payload.
        times: Presentation timestamp of each packet.
        durations: Duration of each packet; 0 if unspecified.
        size: Total size of the payloads in bytes.
        increasing: Whether the decoding timestamps are strictly increasing, as they should be.
    """

    track: Track
    metadata: dict[str, str]
    disposition: Disposition
    time_base: Fraction
    whole: Any = field(default_factory=lambda: blake2b(digest_size=16))
    each: bytearray = field(default_factory=bytearray)
    times: "array[int]" = field(default_factory=lambda: array("q"))
    durations: "array[int]" = field(default_factory=lambda: array("q"))
    size: int = 0
    increasing: bool = True
    _last_dts: int = -(2**63)

    @property
    def packets(self) -> int:
        """Number of packets."""
        return len(self.each) // _HASH_SIZE

    @property
    def shown(self) -> NDArray[np.int64]:
        """The presentation timestamps as an array."""
        return np.array(self.times, np.int64)

    @property
    def digest(self) -> str:
        """The hash of all payloads."""
        return str(self.whole.hexdigest())

    def add(self, packet: "Packet[Stream]", samples: bytes | None = None) -> None:
        """Add a packet; `samples` are the bytes that it must become if its sound is stored as another kind of PCM."""
        payload = _payload(packet, self.track.codec) if samples is None else samples
        if self.track.kind == "subtitle" and len(payload) <= 2 and not any(payload):
            return  # MP4's encoding of a gap between subtitles
        self.whole.update(payload)
        self.size += len(payload)
        self.each += blake2b(payload, digest_size=_HASH_SIZE).digest()
        time = packet.pts if packet.pts is not None else packet.dts
        if time is not None:
            self.times.append(time)
            self.durations.append(packet.duration or 0)
        if packet.dts is not None:
            self.increasing = self.increasing and packet.dts > self._last_dts
            self._last_dts = packet.dts

    def first_difference(self, other: "StreamDigest", count: int) -> int | None:
        """Number of the first packet, among the first `count`, whose payload differs; None if there is none."""
        for number in range(count):
            at = slice(number * _HASH_SIZE, (number + 1) * _HASH_SIZE)
            if self.each[at] != other.each[at]:
                return number
        return None


@dataclass(frozen=True, slots=True)
class Streams:
    """What a video file holds besides the frames of its video stream.

    Attributes:
        copies: Its other streams.
        disposition: Disposition flags of the video stream.
        chapters: Chapters in PyAV's form.
        end: End of the video stream in seconds, as the file states it; None if it does not.
    """

    copies: list[StreamDigest]
    disposition: Disposition
    chapters: list[Any]
    end: Fraction | None

    @property
    def starts(self) -> Iterator[Fraction]:
        """When each other stream begins, in seconds."""
        return (copy.times[0] * copy.time_base for copy in self.copies if copy.times)

    def earlier(self, seconds: Fraction) -> "Streams":
        """The same with all packets, and the end, earlier by that much."""
        for copy in self.copies:
            ticks = round(seconds / copy.time_base)
            copy.times = array("q", (time - ticks for time in copy.times))
        return replace(self, end=None if self.end is None else self.end - seconds)


def read_streams(video: VideoFile) -> Streams:
    """Read all packets of a video's other streams. Raises MediaError."""
    with video.open() as container:
        main = video_stream(container, video.picture) if video.stream_index >= 0 else None
        if main is None and video.stream_index >= 0:
            raise MediaError("it has changed since it was opened")
        chapters = list(container.chapters())
        end = None
        if main is not None and main.start_time is not None and main.duration is not None and main.time_base:
            end = (main.start_time + main.duration) * main.time_base
        copies: dict[int, StreamDigest] = {}
        for track in video.tracks:
            stream = container.streams[track.index]
            time_base = stream.time_base or Fraction(1)
            copies[track.index] = StreamDigest(track, dict(stream.metadata), stream.disposition, time_base)
            if track.kind == "attachment":
                data = bytes(getattr(stream, "data", None) or b"")
                copies[track.index].whole.update(data)
                copies[track.index].size = len(data)
        with_packets = [container.streams[index] for index, copy in copies.items() if copy.track.kind != "attachment"]
        for stream in container.streams:
            stream.discard = Discard.default if stream in with_packets else Discard.all
        with suppress(av.error.FFmpegError):  # damage that ends the file early, which the index pass has reported
            for packet in without_hidden(in_step(demux(container, with_packets), video)) if with_packets else ():
                copies[packet.stream_index].add(packet, _samples(packet) if plain_codec(packet.stream) else None)
        others = [copy for copy in copies.values() if not _holds_chapters(copy, len(chapters))]
        return Streams(others, main.disposition if main else video.disposition, chapters, end)


def _samples(packet: "Packet[Stream]") -> bytes:
    """The samples of uncompressed sound in the order of a WAV file: 16 bits, or the upper 24 of 32."""
    data = b""
    with suppress(av.error.FFmpegError):
        for frame in packet.decode():
            assert isinstance(frame, AudioFrame)
            samples = frame.to_ndarray().reshape(-1)
            wide = samples.astype(f"<i{samples.itemsize}").view(np.uint8).reshape(-1, samples.itemsize)
            data += wide[:, samples.itemsize // 4 :].tobytes()
    return data


def _holds_chapters(copy: StreamDigest, chapters: int) -> bool:
    """Whether a stream only holds chapter titles, as in MP4: the muxer regenerates it."""
    return bool(chapters) and copy.track.kind == "data" and not copy.track.codec and copy.packets == chapters


def _payload(packet: "Packet[Stream]", codec: str) -> bytes:
    """The payload of a packet, without container-specific framing."""
    data = bytes(packet)
    if codec == "aac" and len(data) > 7 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0:  # ADTS (ISO/IEC 13818-7, 6.2)
        return data[7 if data[1] & 1 else 9 :]
    if codec in _NAL_CODECS:
        return b"".join(_nal_units(data))
    return data


def _nal_units(data: bytes) -> Iterator[bytes]:
    """The NAL units of an H.264 or H.265 packet, which have start codes (ITU-T H.264, annex B) or length prefixes."""
    if data.startswith((b"\0\0\1", b"\0\0\0\1")):
        yield from (unit.rstrip(b"\0") for unit in data.split(b"\0\0\1") if unit.rstrip(b"\0"))
        return
    at = 0
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 4 + size].rstrip(b"\0")
        at += 4 + size


def dispositions(bits: Disposition) -> str:
    """FFmpeg's names of disposition flags, comma-separated."""
    return ", ".join(name for name, flag in Disposition.__members__.items() if flag.value and flag in bits) or "none"
