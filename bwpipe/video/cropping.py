"""Cropping that a container states: `PixelCrop` of Matroska (RFC 9559), the clean aperture `clap` of MP4 and QuickTime.

FFmpeg reads and writes both, as side data of a stream. PyAV shows none of it, and copies it from one stream to another only.
So it is read from the header of a Matroska file in memory with a copy of the stream, and written by copying a stream from
another such header.
"""

import io
from collections.abc import Iterator
from typing import NamedTuple

import av
import av.error
from av.container import InputContainer, OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream


class Cropping(NamedTuple):
    """How many rows and columns of stored pixels are not to be shown."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def __str__(self) -> str:
        return ", ".join(f"{number} at the {edge}" for edge, number in self._asdict().items() if number)


NO_CROPPING = Cropping()
"""For a video that is shown as it is stored, as nearly all are."""
_SEGMENT, _TRACKS, _TRACK, _VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0xE0
_CODECS = {
    "h264": "V_MPEG4/ISO/AVC",
    "hevc": "V_MPEGH/ISO/HEVC",
    "av1": "V_AV1",
    "vp8": "V_VP8",
    "vp9": "V_VP9",
    "ffv1": "V_FFV1",
    "prores": "V_PRORES",
    "mpeg4": "V_MPEG4/ISO/ASP",
    "mpeg2video": "V_MPEG2",
}
"""Matroska's names of codecs."""
_CROPS = {0x54BB: "top", 0x54AA: "bottom", 0x54CC: "left", 0x54DD: "right"}


def read_cropping(stream: VideoStream) -> Cropping:
    """What the container of an input stream says is not to be shown."""
    file = io.BytesIO()
    try:
        with av.open(file, "w", format="matroska") as output:
            copy = output.add_stream_from_template(stream, opaque=True)
            copy.time_base = stream.time_base
            output.start_encoding()
    except (av.error.FFmpegError, ValueError):  # a codec that Matroska can't hold
        return NO_CROPPING
    found: dict[str, int] = {}
    for path, data in _elements(file.getvalue()):
        if path[:-1] == (_SEGMENT, _TRACKS, _TRACK, _VIDEO) and path[-1] in _CROPS:
            found[_CROPS[path[-1]]] = int.from_bytes(data, "big")
    return Cropping(**found)


def can_write_cropping(codec: str) -> bool:
    """Whether the cropping of a video in this codec, by FFmpeg's name, can be written."""
    return codec in _CODECS


def add_cropped_stream(output: OutputContainer, encoder: VideoCodecContext, cropping: Cropping) -> VideoStream:
    """Add a stream for the packets of an open encoder, of which the container says what is not to be shown.

    Raises ValueError for a codec for which `can_write_cropping` is false.
    """
    with _header(encoder, cropping) as source:
        stream = output.add_stream_from_template(source.streams.video[0], opaque=True)
    assert isinstance(stream, VideoStream)
    context = stream.codec_context
    context.pix_fmt, context.extradata, context.field_order = encoder.pix_fmt, encoder.extradata, encoder.field_order
    context.framerate = encoder.framerate
    context.color_range, context.colorspace = encoder.color_range, encoder.colorspace
    context.color_primaries, context.color_trc = encoder.color_primaries, encoder.color_trc
    context.profile, context.level, context.bit_rate = encoder.profile, encoder.level, 0
    if encoder.codec_tag.strip("\0"):
        context.codec_tag = encoder.codec_tag
    if encoder.sample_aspect_ratio:
        context.sample_aspect_ratio = encoder.sample_aspect_ratio
    stream.time_base = encoder.time_base
    return stream


def _header(encoder: VideoCodecContext, cropping: Cropping) -> InputContainer:
    """A Matroska file without frames, with one video track."""
    crops = b"".join(_element(number, _integer(getattr(cropping, edge))) for number, edge in _CROPS.items())
    size = _element(0xB0, _integer(encoder.width)) + _element(0xBA, _integer(encoder.height))
    track = b"".join(
        [
            *(_element(number, _integer(1)) for number in (0xD7, 0x73C5, 0x83)),  # its number, unique number, and type: video
            _element(0x86, _CODECS[encoder.codec.canonical_name].encode()),
            _element(_VIDEO, size + crops),
        ]
    )
    kind = _element(0x1A45DFA3, _element(0x4282, b"matroska"))
    cluster = _element(
        0x1F43B675, _element(0xE7, _integer(0))
    )  # an empty one: without any, FFmpeg takes the file for cut short
    file = io.BytesIO(kind + _element(_SEGMENT, _element(_TRACKS, _element(_TRACK, track)) + cluster))
    return av.open(file, "r", format="matroska")


def _element(identifier: int, content: bytes) -> bytes:
    """An EBML element, whose size takes four bytes."""
    return (
        identifier.to_bytes((identifier.bit_length() + 7) // 8, "big") + (len(content) | 1 << 28).to_bytes(4, "big") + content
    )


def _integer(value: int) -> bytes:
    return value.to_bytes(4, "big")


def _elements(data: bytes, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], bytes]]:
    """The elements of an EBML document (RFC 8794) that lead to a video track: their identifiers from the root, and contents."""
    at = 0
    while at < len(data):
        identifier, at = _number(data, at, marker=True)
        size, at = _number(data, at, marker=False)
        here = (*path, identifier)
        content = data[at : at + size]
        yield here, content
        if identifier in {_SEGMENT, _TRACKS, _TRACK, _VIDEO}:
            yield from _elements(content, here)
        at += size


def _number(data: bytes, at: int, *, marker: bool) -> tuple[int, int]:
    """A variable-length number, with or without the bit that marks its length, and where the next thing begins."""
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length], "big")
    if not marker:
        value &= (1 << 7 * length) - 1
        if value == (1 << 7 * length) - 1:  # unknown: to the end of the file
            value = len(data)
    return value, at + length
