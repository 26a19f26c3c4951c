"""Video files: what is known of them, and the only place where they are opened."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import av
import av.error
import numpy as np
from av.audio.stream import AudioStream
from av.codec.context import CodecContext, ThreadType
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream
from numpy.typing import NDArray

from bwpipe.core.frame import Luma, Matrix, Media, StoredChroma
from bwpipe.core.inputs import parts_of
from bwpipe.errors import MediaError
from bwpipe.pixels.tint_detection import ColourKind
from bwpipe.pixels.ycbcr import from_codes
from bwpipe.video.cropping import NO_CROPPING, Cropping
from bwpipe.video.hdr_metadata import HdrMetadata
from bwpipe.video.late_streams import PartsFile, Places, is_flv, is_ogg
from bwpipe.video.pixel_formats import layout

CONTAINERS = "mov,matroska,avi,mpegts,mpeg,mxf,asf,ogg,flv,dv,yuv4mpegpipe,nut,rm,ivf"
"""The demuxers that may read an input, by FFmpeg name: none of them opens other files, unlike those for playlists."""

Timing: TypeAlias = Literal["exact", "decoded", "none"]
Clock: TypeAlias = tuple[tuple[int, int], ...]
"""Numbers of packets of a stream, and what is added to the timestamps from there on, in ticks of the video stream."""
Fields: TypeAlias = Literal["", "tff", "bff"]
"""Top field first, bottom field first, or progressive ("")."""
_ROUNDING = 1e-6
"""Seconds by which times may differ that are equal but for their rounding."""
UNSPECIFIED = 2
LIMITED, FULL = 1, 2
_WEIGHTS: dict[int, Matrix] = {1: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 7: "bt709", 9: "bt2020"}
_ASSUMED = {1: (1, 1), 4: (6, 6), 5: (5, 6), 6: (6, 6), 7: (7, 7), 9: (9, 14)}
"""The primaries and transfer assumed for a matrix."""

ALPHA_MODE = "alpha_mode"
"""The tag by which FFmpeg tells that a stream of VP8 or VP9 has an alpha channel; no tag of the user's."""
_LIBVPX = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""The decoders of libvpx, by those of FFmpeg."""

_VIDEO_MAGIC = re.compile(
    rb"""
      \x00...(?:ftyp|moov|free|skip|wide|pnot) | ....mdat    # MP4, QuickTime
    | \x1a\x45\xdf\xa3                                       # Matroska, WebM
    | RIFF....AVI\x20
    | .{0,203}?(?:\x47.{187}){3}\x47                         # MPEG transport stream, starting anywhere within it
    | .{4}(?:\x47.{191}){3}\x47                              # the same from a disc: a timestamp before each packet
    | \x00\x00\x01\xba                                       # MPEG program stream
    | \x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02           # MXF
    | \x30\x26\xb2\x75\x8e\x66\xcf\x11                       # ASF, Windows Media
    | OggS | FLV\x01 | \x1f\x07\x00 | YUV4MPEG2\x20 | nut/multimedia\x20container | \.RMF | DKIF
    """,
    re.DOTALL | re.VERBOSE,
)
_IMAGE_MAGIC = re.compile(rb"....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1|avi[fs]|crx )", re.DOTALL)


class ColourTags(NamedTuple):
    """Meaning of a video's sample codes: range by FFmpeg's numbers (1 limited, 2 full), the others by those of ITU-T H.273.

    0 is an unspecified range, 2 an unspecified matrix, primaries or transfer.
    """

    range: int
    matrix: int
    primaries: int
    transfer: int


@dataclass(frozen=True, slots=True)
class Track:
    """A stream of a video file other than the video stream itself.

    Attributes:
        index: Its index in the file.
        kind: "audio", "subtitle", "video", "data" or "attachment".
        codec: FFmpeg's codec name, "" if unknown here.
        label: Its language and title, for messages.
        cover: Whether it is cover art, not a second video.
        rate: Audio sample rate in Hz; 0 for other kinds.
        fits: The muxers, by FFmpeg name, that can hold it unchanged.
    """

    index: int
    kind: str
    codec: str
    label: str
    cover: bool = False
    rate: int = 0
    fits: frozenset[str] = frozenset()

    def __str__(self) -> str:
        name = "cover image" if self.cover else {"video": "second video"}.get(self.kind, self.kind)
        return f"{name} track {self.index} ({', '.join(word for word in (self.codec, self.label) if word)})"


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoFile(Media):
    """A video file, and what is known of it before its frames are read. Created by `open_video`.

    Attributes:
        container: FFmpeg's demuxer name, e.g. "mov,mp4,m4a,3gp,3g2,mj2".
        brand: The major brand of an MP4 or QuickTime file, else "".
        codec: FFmpeg's codec name, e.g. "h264".
        pix_fmt: FFmpeg's pixel format name, e.g. "yuv420p10le".
        stated: The colour tags in the file.
        tags: The same with unspecified values filled in: what the output carries.
        sample_aspect: Width of a pixel over its height; None if unspecified.
        display: The nine numbers of the display matrix, in FFmpeg's layout; None if absent.
        rate: Average frames per second; a hint only.
        times: (frames,) Presentation timestamps, increasing, in units of `time_base`.
        last: Duration of the last frame in the same units; None if unspecified.
        timing: "exact" if each frame has its own timestamp; "none" if the file has none: the n-th coded frame is shown at
            `times[n]`; "decoded" if the stated timestamps are repaired: the n-th frame that decodes is shown at `times[n]`.
        keys: (keys, 3) For each keyframe its index in `times`, its decoding timestamp, both increasing, and its size in bytes.
            Empty if timestamps are not exact or the video is damaged: it is then decoded from its start.
        fields: Field order of its frames if they are interlaced, else "".
        deinterlaced: Field order of the file's frames if they are deinterlaced on reading; `fields` is then "".
        stream_index: Index of the video stream in the file; negative if its frames are in no container.
        places: What to show to FFmpeg first, for it to find streams that begin late: byte ranges; empty if none do.
        clocks: By the index of another stream: how its timestamps are shifted where the video's are.
        disposition: Disposition flags of the video stream, such as default.
        tracks: The file's other streams, except those that only repeat its chapters or time code.
        chapters: Number of chapters.
        metadata: Tags such as title and date, of the file and of the video stream.
        hdr: HDR metadata, if any.
        colour: Whether it is in real colour, toned or grey: what most of the sampled frames are.
        coloured: Share of the sampled frames that are in real colour.
        carries: The kinds of side data of the sampled frames, of those in `bwpipe.video.side_data`.
        faults: What the index pass found wrong with the file, as sentences without the file name.
    """

    kind: ClassVar[str] = "film"
    has_segments: ClassVar[bool] = True

    time_base: Fraction
    container: str
    brand: str
    codec: str
    pix_fmt: str
    stated: ColourTags
    tags: ColourTags
    sample_aspect: Fraction | None
    display: tuple[int, ...] | None
    rate: Fraction | None
    times: NDArray[np.int64]
    last: int | None
    timing: Timing
    keys: NDArray[np.int64]
    fields: Fields
    stream_index: int
    places: Places
    clocks: Mapping[int, Clock]
    disposition: Disposition
    tracks: tuple[Track, ...]
    chapters: int
    metadata: tuple[Mapping[str, str], Mapping[str, str]]
    faults: tuple[str, ...]
    hdr: HdrMetadata
    colour: ColourKind = "grey"
    coloured: float = 0.0
    carries: frozenset[str] = frozenset()
    cropping: Cropping = NO_CROPPING
    deinterlaced: Fields = ""

    @property
    def alpha(self) -> bool:
        """Whether its frames have an alpha channel."""
        return layout(self.pix_fmt).alpha

    @property
    def picture(self) -> int:
        """Number of the video stream among those of the file, counted from 1."""
        others = (track.index for track in self.tracks if track.kind == "video" and not track.cover)
        return 1 + sum(index < self.stream_index for index in others)

    def index_at(self, seconds: float) -> int:
        """The first frame that is shown at a time from its start, or later; the number of frames if there is none."""
        since = (self.times - self.times[0]) * float(self.time_base)
        return int(np.searchsorted(since, seconds - _ROUNDING))

    def open(self) -> InputContainer:
        """Open it, with all of its streams. Raises MediaError."""
        return open_container(self.path, self.places)

    def duration(self, index: int) -> int | None:
        """How long a frame is shown, until the next one, in units of `time_base`; None if unspecified."""
        return int(self.times[index + 1] - self.times[index]) if index + 1 < len(self.times) else self.last


def sniff(path: Path) -> bool:
    """Whether a file is a video, by its content. True for a broken one too, so that `open_video` can report what is wrong.

    Audio alone, with or without cover art, is not a video. Raises OSError.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if not _VIDEO_MAGIC.match(head) or _IMAGE_MAGIC.match(head):
        return False
    try:
        with open_container(path) as container:
            return video_stream(container) is not None
    except MediaError:
        return True


def open_container(path: Path, places: Places = ()) -> InputContainer:
    """Open a file for reading and nothing else: only self-contained formats, only the `file:` protocol.

    Args:
        path: The file, absolute. The first part of a DVD's title stands for all of them (`bwpipe.core.inputs.parts_of`).
        places: What to show to FFmpeg first, for it to find streams that begin late (`VideoFile.places`).

    Raises:
        MediaError: It can't be opened.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
    paths = parts_of(path)
    try:
        if not places and len(paths) == 1:
            return av.open(f"file:{path}", "r", options=options, metadata_errors="surrogateescape")
        parts = PartsFile(paths, places or None)
        if not places:
            return av.open(parts, "r", options=options, metadata_errors="surrogateescape")
        if is_ogg(parts.read(4)):  # all of it, in another order
            parts.seek(0)
            return av.open(parts, "r", options=options, metadata_errors="surrogateescape")
        parts.seek(0)
        probed = sum(stop - start for start, stop in parts.ranges)
        options |= {"probesize": str(probed), "analyzeduration": str(2**62)}
        if is_flv(parts):  # its clock never wraps around, but a stream that begins late looks like it
            options["correct_ts_overflow"] = "0"
        container = av.open(parts, "r", options=options, metadata_errors="surrogateescape")
        parts.ranges = ((0, parts.size),)
        container.seek(0, unsupported_byte_offset=True)
    except av.error.FFmpegError as error:
        raise MediaError(f"it can't be opened as a film: it is damaged or of an unknown format ({error.strerror})") from error
    except OSError as error:
        raise MediaError(f"a part of it can't be read ({error.strerror})") from error
    return container


def demux(container: InputContainer, streams: Sequence[Stream] = ()) -> "Iterator[Packet[Stream]]":
    """The packets of some streams, or of all, without the empty ones at the end. Raises FFmpegError."""
    try:
        yield from (packet for packet in container.demux(list(streams) or None) if packet.size)
    except IndexError:  # from PyAV, after the last packet: streams have appeared that it does not know
        return
    except av.error.FFmpegError:
        raise
    except OSError as error:  # from a `PartsFile`
        raise av.error.FFmpegError(error.errno or 0, error.strerror or "") from error


def has_parameters(stream: Stream) -> bool:
    """Whether FFmpeg has seen enough of a sound or video stream to know its sample rate or size; True for others."""
    if isinstance(stream, AudioStream) and stream.codec_context is not None:
        return bool(stream.codec_context.sample_rate and stream.codec_context.channels)
    return not isinstance(stream, VideoStream) or stream.codec_context is None or bool(stream.codec_context.width)


def video_stream(container: InputContainer, number: int | None = None) -> VideoStream | None:
    """The video stream to colour: the one with this number, counted from 1, or the first, preferring those marked as default.

    It is set to decode with one thread: damaged frames then decode deterministically, memory does not depend on the core
    count, and two threads took 1.5 times the CPU time for 10 % less wall time (H.264, 720p, two cores).
    """
    streams = [
        stream
        for stream in container.streams.video
        if not (stream.disposition & Disposition.attached_pic or stream.discard == Discard.all)
    ]
    default = [stream for stream in streams if stream.disposition & Disposition.default]
    for stream in streams[number - 1 : number] if number else default or streams:
        if stream.codec_context is not None:
            stream.thread_type, stream.thread_count = ThreadType.NONE, 1
        return stream
    return None


def decoder_of(stream: VideoStream) -> VideoCodecContext:
    """The decoder of a video stream: FFmpeg's own, but for VP8 and VP9 with an alpha channel, which only libvpx decodes.

    These two have it in additions to their packets (WebM's guidelines call it alpha mode 1).
    """
    context = stream.codec_context
    modes = {value for key, value in stream.metadata.items() if key.lower() == ALPHA_MODE}
    if context.name not in _LIBVPX or "1" not in modes:
        return context
    decoder = CodecContext.create(_LIBVPX[context.name], "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.extradata, decoder.thread_count = context.extradata, 1
    return decoder


def colour_tags(stated: ColourTags, *, pix_fmt: str, codec: str, height: int) -> ColourTags:
    """Fill in unspecified colour tags.

    Untagged videos are assumed to be BT.601 up to 576 lines and BT.709 above, in limited range, except where there is no such
    range: RGB, and grey from codecs without a notion of range.
    """
    kind = layout(pix_fmt).kind
    full = pix_fmt.startswith("yuvj") or (kind == "grey" and codec not in {"h264", "hevc"})
    small = (5 if height == 576 else 6) if height <= 576 else 1
    matrix = small if stated.matrix in {0, UNSPECIFIED} else stated.matrix
    primaries, transfer = _ASSUMED.get(matrix, (1, 1))
    return ColourTags(
        range=FULL if kind == "rgb" else stated.range or (FULL if full else LIMITED),
        matrix=matrix,
        primaries=primaries if stated.primaries == UNSPECIFIED else stated.primaries,
        transfer=transfer if stated.transfer == UNSPECIFIED else stated.transfer,
    )


def luma_weights(tags: ColourTags) -> Matrix:
    """The matrix that the luma was computed with. Raises MediaError for one whose first plane is not luma."""
    try:
        return _WEIGHTS[tags.matrix]
    except KeyError:
        raise MediaError(f"its colour matrix (number {tags.matrix} in ITU-T H.273) is not supported") from None


def stored_chroma(planes: Sequence[Luma], video: VideoFile) -> StoredChroma:
    """A frame's chroma, read-only, from the codes (h, w) of Cb and Cr in a video."""
    codes: Luma = np.stack(planes)  # type: ignore[assignment]
    chroma = from_codes(codes, video.matrix, video.depth, video.levels)
    codes.flags.writeable = chroma.flags.writeable = False
    return StoredChroma(codes, chroma)
