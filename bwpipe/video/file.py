"""What a film is, and the one way in which its file is opened."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import av
import av.error
import numpy as np
from av.codec.context import ThreadType
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from bwpipe.core.frame import Matrix, Media
from bwpipe.errors import MediaError
from bwpipe.video.hdr_metadata import HdrMetadata
from bwpipe.video.pixel_formats import layout

CONTAINERS = "mov,matroska,avi,mpegts,mpeg,mxf,asf,ogg,flv,dv,yuv4mpegpipe,nut,rm,ivf"
"""The demuxers that may read an input, by their FFmpeg names: none of them opens another file (playlists do)."""

Timing: TypeAlias = Literal["exact", "partial", "none"]
Fields: TypeAlias = Literal["", "tff", "bff"]
"""Top field first, bottom field first, or none: the lines of a frame belong to one moment."""
UNSPECIFIED = 2
LIMITED, FULL = 1, 2
_WEIGHTS: dict[int, Matrix] = {1: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 7: "bt709", 9: "bt2020"}
_ASSUMED = {1: (1, 1), 4: (6, 6), 5: (5, 6), 6: (6, 6), 7: (7, 7), 9: (9, 14)}
"""The primaries and transfer that go with a matrix."""

_FILM = re.compile(
    rb"""
      \x00...(?:ftyp|moov|free|skip|wide|pnot) | ....mdat    # MP4, QuickTime
    | \x1a\x45\xdf\xa3                                       # Matroska, WebM
    | RIFF....AVI\x20
    | .{0,203}?(?:\x47.{187}){3}\x47                         # MPEG transport stream, from anywhere in it
    | .{4}(?:\x47.{191}){3}\x47                              # the same, from a disc: each packet with a time before it
    | \x00\x00\x01\xba                                       # MPEG program stream
    | \x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02           # MXF
    | \x30\x26\xb2\x75\x8e\x66\xcf\x11                       # ASF, Windows Media
    | OggS | FLV\x01 | \x1f\x07\x00 | YUV4MPEG2\x20 | nut/multimedia\x20container | \.RMF | DKIF
    """,
    re.DOTALL | re.VERBOSE,
)
_PICTURE = re.compile(rb"....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1|avi[fs]|crx )", re.DOTALL)


class ColourTags(NamedTuple):
    """How a film's codes are to be understood: range as FFmpeg counts (1 limited, 2 full), the others as ITU-T H.273 does.

    0 is an unspecified range, 2 an unspecified matrix, primaries or transfer.
    """

    range: int
    matrix: int
    primaries: int
    transfer: int


@dataclass(frozen=True, slots=True)
class Track:
    """A stream of a film's file besides the picture.

    Attributes:
        index: Its place in the file.
        kind: "audio", "subtitle", "video", "data" or "attachment".
        codec: Its FFmpeg name, "" where nothing here knows it.
        label: Its language and title, for messages.
        cover: A still picture of the film, not a second film.
        rate: Samples of sound a second; 0 for what is no sound.
        fits: The muxers, by FFmpeg's names, that take it as it is.
    """

    index: int
    kind: str
    codec: str
    label: str
    cover: bool = False
    rate: int = 0
    fits: frozenset[str] = frozenset()

    def __str__(self) -> str:
        name = "cover picture" if self.cover else {"audio": "sound", "video": "second picture"}.get(self.kind, self.kind)
        return f"{name} track {self.index} ({', '.join(word for word in (self.codec, self.label) if word)})"


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoFile(Media):
    """A video file, and what is known of it before its frames are read. `open_film` makes it.

    Attributes:
        container: The demuxer's FFmpeg name, e.g. "mov,mp4,m4a,3gp,3g2,mj2".
        brand: The major brand of an MP4 or QuickTime file, else "".
        codec: What it is coded with, by FFmpeg's name, e.g. "h264".
        pix_fmt: How its samples are stored, by FFmpeg's name, e.g. "yuv420p10le".
        stated: The colour tags that the file has.
        tags: The same with what is unspecified filled in: what the output carries.
        sample_aspect: Width of a pixel over its height; None where the file does not say.
        display: The nine numbers of the display matrix, as FFmpeg lays it out; None where there is none.
        rate: Frames per second on average; a hint only.
        times: (frames,) When each frame is shown, rising, in units of `time_base`.
        last: How long the last of them is shown, in the same units; None where the file does not say.
        timing: "exact" where each frame has a time of its own, "partial" where some have none or one that does not rise, "none"
            where the file has none: the n-th decoded frame is shown at `times[n]`.
        keys: (keys, 3) For each frame that decoding can start at, its place in `times`, its decoding time, both rising, and how
            many bytes it has. None where times are not exact or the film is damaged: it is decoded from its start.
        fields: Which field comes first in its frames, if their lines belong to two moments.
        deinterlaced: Which field comes first in the file's frames, where reading makes them frames of one moment: `fields` is
            none then.
        place: Which of the file's streams the picture is.
        disposition: What the picture's stream is said to be, such as the default.
        tracks: The file's other streams, but for those that only repeat its chapters or time code.
        chapters: How many chapters it has.
        metadata: Title, date and the like, of the file and of the picture's stream.
        light: What it says of its brightness, if it is in HDR.
        faults: What the index pass found wrong with the file, in sentences without its name.
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
    place: int
    disposition: Disposition
    tracks: tuple[Track, ...]
    chapters: int
    metadata: tuple[Mapping[str, str], Mapping[str, str]]
    faults: tuple[str, ...]
    light: HdrMetadata
    deinterlaced: Fields = ""

    @property
    def picture(self) -> int:
        """Which of the file's moving pictures it is, counted from 1."""
        others = (track.index for track in self.tracks if track.kind == "video" and not track.cover)
        return 1 + sum(index < self.place for index in others)

    def duration(self, index: int) -> int | None:
        """How long a frame is shown, in units of `time_base`: until the next one is."""
        return int(self.times[index + 1] - self.times[index]) if index + 1 < len(self.times) else self.last


def sniff(path: Path) -> bool:
    """Whether a file is a film, by its content: also a broken one, so that `open_film` can say what is wrong with it.

    Sound alone, with or without a cover picture, is no film. Raises OSError.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if not _FILM.match(head) or _PICTURE.match(head):
        return False
    try:
        with open_container(path) as container:
            return video_stream(container) is not None
    except MediaError:
        return True


def open_container(path: Path) -> InputContainer:
    """Open a file for reading, itself and nothing else: only containers that need no other file, only the `file:` protocol.

    `path` is absolute. Raises MediaError.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
    try:
        return av.open(f"file:{path}", "r", options=options, metadata_errors="surrogateescape")
    except av.error.FFmpegError as error:
        raise MediaError(f"it can't be opened as a film: it is damaged or of an unknown kind ({error.strerror})") from error


def video_stream(container: InputContainer, number: int | None = None) -> VideoStream | None:
    """The stream of a file that is coloured: its first moving picture, of those marked as default if any is; or that number.

    It is set to decode with one thread: what a damaged frame becomes then does not depend on the moment, nor memory on the
    number of cores, and two threads took 1.5 times the processor time for a tenth less waiting (H.264, 720p, two cores).
    """
    moving = [
        stream
        for stream in container.streams.video
        if not (stream.disposition & Disposition.attached_pic or stream.discard == Discard.all)
    ]
    default = [stream for stream in moving if stream.disposition & Disposition.default]
    for stream in moving[number - 1 : number] if number else default or moving:
        if stream.codec_context is not None:
            stream.thread_type, stream.thread_count = ThreadType.NONE, 1
        return stream
    return None


def colour_tags(stated: ColourTags, *, pix_fmt: str, codec: str, height: int) -> ColourTags:
    """Fill in what a film does not state of its colour.

    Untagged films are in BT.601 up to 576 lines and in BT.709 above, in limited range, but for what has no such range: RGB,
    and grey from codecs that know nothing of ranges.
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
    """Which weights made the luma. Raises MediaError for a matrix whose first plane is no luma."""
    try:
        return _WEIGHTS[tags.matrix]
    except KeyError:
        raise MediaError(f"its colour matrix (number {tags.matrix} in ITU-T H.273) can't be coloured") from None
