"""Makes frames whose lines belong to two moments into frames of one: the first field as it is, the other lines anew."""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import av.error
import numpy as np
from av.filter import Graph
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from bwpipe.core.frame import Frame, Luma
from bwpipe.errors import MediaError
from bwpipe.video.file import Fields, VideoFile
from bwpipe.video.pixel_formats import plane

_ORDERS: dict[int, Fields] = {2: "tff", 3: "bff", 4: "bff", 5: "tff"}
"""By FFmpeg's number of the order in which fields are coded and shown."""
_NUMBERS = {"tff": 2, "bff": 3}
_INTERLACED = 1 << 18 | 1 << 29
"""FFmpeg's flags for coding (AV_CODEC_FLAG_INTERLACED_DCT) and predicting (AV_CODEC_FLAG_INTERLACED_ME) field by field."""
_ROWS = 4
"""An interlaced picture has a multiple of so many lines: two of chroma, in each of two fields, at half height."""


def field_order(interlaced: bool, number: int, codec: str) -> Fields:
    """The fields of a film, from whether its first frame is interlaced and FFmpeg's number for it.

    Where that is unknown, it is bottom first for DV, as IEC 61834 has it, and top first else.
    """
    if not interlaced:
        return ""
    return _ORDERS.get(number, "bff" if codec == "dvvideo" else "tff")


class FieldMarker:
    """Marks frames as interlaced, which PyAV can't by itself: FFmpeg's filter `setfield` does, without a copy."""

    def __init__(self, fields: Fields, width: int, height: int, pix_fmt: str, time_base: Fraction) -> None:
        """Make it for frames of one form."""
        self._graph: Graph | None = None
        if fields:
            self._graph = Graph()
            given = self._graph.add_buffer(width=width, height=height, format=VideoFormat(pix_fmt), time_base=time_base)
            self._graph.link_nodes(given, self._graph.add("setfield", fields), self._graph.add("buffersink")).configure()

    def mark(self, frame: VideoFrame) -> VideoFrame:
        """The same frame, marked; itself where there are no fields."""
        if self._graph is None:
            return frame
        self._graph.push(frame)
        marked = self._graph.pull()
        assert isinstance(marked, VideoFrame)
        return marked


def set_field_coding(context: VideoCodecContext, fields: Fields) -> None:
    """Set up an encoder that is not open yet for interlaced frames."""
    if fields:
        context.field_order = _NUMBERS[fields]
        if context.height % _ROWS == 0:
            context.flags |= _INTERLACED


NEIGHBOURS = 1
"""How many frames before and after a frame `deinterlaced` looks at."""


def of_one_moment(film: VideoFile) -> VideoFile:
    """The film as it is when reading deinterlaces it; itself where it is not interlaced."""
    return replace(film, fields="", deinterlaced=film.fields) if film.fields else film


def deinterlace(frames: Iterator[Frame], film: VideoFile) -> Iterator[Frame]:
    """Each frame with luma of one moment, made by FFmpeg's filter `bwdif`: the lines of its first field stay as they are.

    A frame follows from itself and the one on either side. Where one of these is missing, at the ends of the film or since it
    did not decode, it follows from the others alone: never from one further away, so that it is the same in any segment.

    Args:
        frames: Of the film, rising.
        film: Its `deinterlaced` says which field comes first.

    Raises:
        MediaError: The frames are too small.
    """
    filtered: _Filter | None = None
    before = -1
    for frame in frames:
        if filtered and frame.index != before + 1:
            yield from filtered.rest()
            filtered = None
        filtered = filtered or _Filter(film)
        before = frame.index
        yield from filtered.take(frame)
    if filtered:
        yield from filtered.rest()


class _Filter:
    """The filter, for frames without a gap."""

    def __init__(self, film: VideoFile) -> None:
        self._film = film
        # luma alone; what has more than 8 bits uses the lower ones of 16, which the filter only adds and compares
        self._format = "gray" if film.depth == 8 else "gray16le"
        self._waiting: deque[Frame] = deque()
        self._graph = Graph()
        self._graph.threads = 1
        given = self._graph.add_buffer(
            width=film.width, height=film.height, format=VideoFormat(self._format), time_base=film.time_base
        )
        made = self._graph.add("bwdif", f"mode=send_frame:parity={film.deinterlaced}:deint=all")
        try:
            self._graph.link_nodes(given, made, self._graph.add("buffersink")).configure()
        except av.error.FFmpegError as error:
            raise MediaError(
                f"its frames of {film.width}x{film.height} can't be deinterlaced; set `deinterlace: off`"
            ) from error

    def take(self, frame: Frame) -> Iterator[Frame]:
        """Add a frame; what comes out is the one before it."""
        picture = VideoFrame(self._film.width, self._film.height, self._format)
        plane(picture, 0, self._film.depth, writeable=True)[:] = frame.luma
        picture.pts, picture.time_base = frame.index, self._film.time_base
        self._graph.push(picture)
        if self._waiting:
            yield self._next()
        self._waiting.append(frame)

    def rest(self) -> Iterator[Frame]:
        """The last frame."""
        self._graph.push(None)
        yield self._next()

    def _next(self) -> Frame:
        picture = self._graph.pull()
        assert isinstance(picture, VideoFrame)
        luma = np.minimum(plane(picture, 0, self._film.depth), (1 << self._film.depth) - 1)
        luma.flags.writeable = False
        return replace(self._waiting.popleft(), luma=luma)


def first_field(luma: Luma, fields: Fields) -> Luma:
    """Luma (H, W) of the moment of its first field alone: each line of the other becomes the mean of those above and below.

    What a guide wants: it follows from the one frame, and is averaged down in any case.
    """
    height = len(luma)
    kept = 0 if fields == "tff" else 1
    if height < 2:
        return luma
    made = luma.copy()
    other = np.arange(1 - kept, height, 2)
    above, below = np.where(other > 0, other - 1, other + 1), np.where(other < height - 1, other + 1, other - 1)
    made[other] = (luma[above].astype(np.uint32) + luma[below] + 1) // 2
    return made
