"""Uncompressed sound of discs and broadcasts, whose packing only their own containers know: the same samples as common PCM."""

from collections.abc import Iterator
from fractions import Fraction

import av.error
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

_PACKED = frozenset({"pcm_dvd", "pcm_bluray", "s302m"})
"""FFmpeg's decoders for sound of DVDs, Blu-ray discs and SMPTE 302M, of 16 to 24 bits."""


def plain_codec(stream: Stream) -> str | None:
    """The codec that holds exactly the samples of such a stream; None for another stream."""
    if not isinstance(stream, AudioStream) or stream.codec_context is None or stream.codec_context.name not in _PACKED:
        return None
    return "pcm_s16le" if stream.codec_context.format.name == "s16" else "pcm_s24le"


class PlainSound:
    """Writes the samples of an uncompressed sound stream as common PCM.

    Attributes:
        output: The output stream.
    """

    def __init__(self, container: OutputContainer, stream: Stream, codec: str) -> None:
        """Add the output stream. Raises ValueError, FFmpegError."""
        assert isinstance(stream, AudioStream)
        self._stream = stream
        context = stream.codec_context
        self.output = container.add_stream(codec, rate=context.sample_rate)
        assert isinstance(self.output, AudioStream)
        self.output.codec_context.layout = context.layout
        self.output.time_base = Fraction(1, context.sample_rate)

    def packets(self, packet: "Packet[Stream]") -> "Iterator[Packet[Stream]]":
        """The samples of a packet, at its timestamp; nothing if they do not decode."""
        try:
            frames = self._stream.decode(packet)
        except av.error.FFmpegError:
            return
        for frame in frames:
            assert isinstance(frame, AudioFrame)
            frame.pts, frame.time_base = packet.pts, packet.time_base
            assert isinstance(self.output, AudioStream)
            yield from self.output.encode(frame)
