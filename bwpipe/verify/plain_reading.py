"""A video file as a plain demuxer and decoder see it, without the index, the repairs and the choices of the reader."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

import av.error
from av.codec.context import CodecContext
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from bwpipe.errors import MediaError
from bwpipe.video.file import VideoFile, open_container, video_stream

_CLUES = re.compile(
    rb"GA94|DTG1"  # captions and active format of ATSC A/53, in any codec
    rb"|\xb5\x00\x3c\x00\x01\x04|\xb5\x00\x3b\x00\x00\x08"  # HDR10+ and Dolby Vision by ITU-T T.35
    rb"|\x00\x00\x01\xb2CC\x01"  # captions of DVDs
)
"""What coded frames contain if they may carry side data. A false alarm only costs time."""
_TIME_CODE_TAGS = ("timecode", "reel_name")


@dataclass(frozen=True, slots=True)
class Survey:
    """What a file holds.

    Attributes:
        packets: Number of coded packets of the video stream that are to be shown.
        clues: Whether some of them seem to carry side data.
        alpha: Whether its frames have an alpha channel.
        streams: Number of all streams that the file's header or beginning states.
        ids: Their numbers in the container.
        time_codes: Values of the tags for time code and reel, wherever they are, by name.
    """

    packets: int
    clues: bool
    alpha: bool
    streams: int
    ids: frozenset[int]
    time_codes: dict[str, set[str]] = field(default_factory=dict)


def survey(video: VideoFile) -> Survey:
    """Demux a file and count. Raises MediaError."""
    with open_container(video.path) as container:
        stream = _stream(container, video)
        time_codes: dict[str, set[str]] = {}
        for tags in (container.metadata, *(each.metadata for each in container.streams)):
            for name, value in tags.items():
                if name.lower() in _TIME_CODE_TAGS and value:
                    time_codes.setdefault(name.lower(), set()).add(value)
        packets, clues = 0, False
        for packet in _packets(container, stream):
            packets += not packet.is_discard
            clues = clues or _CLUES.search(memoryview(packet)) is not None
        ids = frozenset(each.id for each in container.streams)
        return Survey(packets, clues, _has_alpha(stream), len(container.streams), ids, time_codes)


def decoded(video: VideoFile, count: int | None = None) -> Iterator[VideoFrame]:
    """The first frames of a file's video stream that decode, or all of them, in the order in which the decoder shows them."""
    with open_container(video.path) as container:
        stream = _stream(container, video)
        yield from islice(_frames(container, stream), count)


def _frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    context = _decoder(stream)
    for packet in _packets(container, stream):
        with suppress(av.error.FFmpegError):
            yield from context.decode(packet)
    with suppress(av.error.FFmpegError):
        yield from context.decode(None)


def _decoder(stream: VideoStream) -> VideoCodecContext:
    """The decoder of a stream: libvpx for VP8 and VP9 with alpha, which FFmpeg's own decoders ignore."""
    library = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.name, "")
    if not (library in av.codecs_available and _states_alpha(stream)):
        return stream.codec_context
    context = CodecContext.create(library, "r")
    assert isinstance(context, VideoCodecContext)
    context.extradata = stream.codec_context.extradata
    return context


def _packets(container: InputContainer, stream: VideoStream) -> "Iterator[Packet[VideoStream]]":
    """Its packets, up to where damage ends the file."""
    with suppress(av.error.FFmpegError, IndexError):  # PyAV's, after the last packet, if streams appear after the header
        for packet in container.demux(stream):
            if packet.size:
                yield packet


def _stream(container: InputContainer, video: VideoFile) -> VideoStream:
    stream = video_stream(container, video.picture)
    if stream is None:
        raise MediaError("it has changed since it was opened")
    return stream


def _has_alpha(stream: VideoStream) -> bool:
    form = stream.codec_context.format
    return _states_alpha(stream) or (form is not None and any(each.is_alpha for each in form.components))


def _states_alpha(stream: VideoStream) -> bool:
    """Whether a WebM stream says that it has alpha, which is stored beside its coded frames."""
    return any(name.lower() == "alpha_mode" and value == "1" for name, value in stream.metadata.items())
