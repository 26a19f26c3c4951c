"""Interlaced video: field order, marking, and deinterlacing that keeps the first field and interpolates the other."""

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
from bwpipe.video.file import Fields, VideoFile, stored_chroma
from bwpipe.video.pixel_formats import plane

_FIELD_ORDERS: dict[int, Fields] = {2: "tff", 3: "bff", 4: "bff", 5: "tff"}
"""Display order by FFmpeg's AVFieldOrder, which gives the coded and the displayed order."""
_NUMBERS = {"tff": 2, "bff": 3}
_INTERLACED = 1 << 18 | 1 << 29
"""AV_CODEC_FLAG_INTERLACED_DCT and AV_CODEC_FLAG_INTERLACED_ME: interlaced transform and motion estimation."""
_ROWS = 4
"""The height of an interlaced frame is a multiple of this: half-height chroma, of which each of two fields has whole lines."""


def field_order(interlaced: bool, number: int, codec: str) -> Fields:
    """The field order of a video, from whether its first frame is interlaced and FFmpeg's AVFieldOrder.

    If unknown, bottom field first for DV, as IEC 61834 specifies, else top field first.
    """
    if not interlaced:
        return ""
    return _FIELD_ORDERS.get(number, "bff" if codec == "dvvideo" else "tff")


class FieldMarker:
    """Marks frames as interlaced with FFmpeg's filter `setfield`, without copying: PyAV has no other way."""

    def __init__(self, fields: Fields, width: int, height: int, pix_fmt: str, time_base: Fraction) -> None:
        """Build the filter for frames of one size and format."""
        self._graph: Graph | None = None
        if fields:
            self._graph = Graph()
            source = self._graph.add_buffer(width=width, height=height, format=VideoFormat(pix_fmt), time_base=time_base)
            self._graph.link_nodes(source, self._graph.add("setfield", fields), self._graph.add("buffersink")).configure()

    def mark(self, frame: VideoFrame) -> VideoFrame:
        """The frame, marked; unchanged if the video is progressive."""
        if self._graph is None:
            return frame
        self._graph.push(frame)
        marked = self._graph.pull()
        assert isinstance(marked, VideoFrame)
        return marked


def set_field_coding(context: VideoCodecContext, fields: Fields) -> None:
    """Set up an encoder that is not yet open for interlaced frames."""
    if fields:
        context.field_order = _NUMBERS[fields]
        if context.height % _ROWS == 0:
            context.flags |= _INTERLACED


NEIGHBOURS = 1
"""Number of frames on either side that `deinterlace` needs."""


def of_one_moment(video: VideoFile) -> VideoFile:
    """The video as seen when it is deinterlaced on reading; unchanged if it is progressive."""
    return replace(video, fields="", deinterlaced=video.fields) if video.fields else video


def deinterlace(frames: Iterator[Frame], video: VideoFile) -> Iterator[Frame]:
    """Deinterlace luma, and chroma if there is any, with FFmpeg's filter `bwdif`.

    The lines of the first field stay unchanged. A frame depends on itself and its two neighbours. If one of these is missing,
    at the ends of the video or because it did not decode, the frame depends on the others alone, never on one further away, so
    that it is the same in any segment.

    Args:
        frames: Frames in ascending order.
        video: Their video; `deinterlaced` is its field order.

    Raises:
        MediaError: The frames are too small.
    """
    current: _Filter | None = None
    previous = -1
    for frame in frames:
        if current and frame.index != previous + 1:
            yield from current.flush()
            current = None
        current = current or _Filter(video, frame)
        previous = frame.index
        yield from current.push(frame)
    if current:
        yield from current.flush()


class _Filter:
    """The filter for consecutive frames: their luma, and their chroma if they come with it."""

    def __init__(self, video: VideoFile, first: Frame) -> None:
        self._video = video
        self._pending: deque[Frame] = deque()
        self._planes = [_PlaneFilter(video, plane.shape) for plane in self._samples(first)]

    def push(self, frame: Frame) -> Iterator[Frame]:
        """Add a frame; yields the one before it."""
        for filtered, samples in zip(self._planes, self._samples(frame), strict=True):
            filtered.push(samples, frame.index)
        if self._pending:
            yield self._next()
        self._pending.append(frame)

    def flush(self) -> Iterator[Frame]:
        """The last frame."""
        for filtered in self._planes:
            filtered.push(None)
        yield self._next()

    def _samples(self, frame: Frame) -> list[Luma]:
        return [frame.luma, *(frame.stored.codes if frame.stored else ())]

    def _next(self) -> Frame:
        luma, *chroma = (filtered.pull() for filtered in self._planes)
        frame = self._pending.popleft()
        if not chroma:
            return replace(frame, luma=luma)
        stored = stored_chroma(chroma, self._video)
        return replace(frame, luma=luma, chroma=stored.chroma, stored=stored)


class _PlaneFilter:
    """The filter for one plane of consecutive frames."""

    def __init__(self, video: VideoFile, size: tuple[int, ...]) -> None:
        self._depth, self._time_base = video.depth, video.time_base
        # more than 8 bits occupy the low bits of 16, which is fine since the filter only adds and compares
        self._format = "gray" if video.depth == 8 else "gray16le"
        self._graph = Graph()
        self._graph.threads = 1
        source = self._graph.add_buffer(
            width=size[1], height=size[0], format=VideoFormat(self._format), time_base=video.time_base
        )
        bwdif = self._graph.add("bwdif", f"mode=send_frame:parity={video.deinterlaced}:deint=all")
        try:
            self._graph.link_nodes(source, bwdif, self._graph.add("buffersink")).configure()
        except av.error.FFmpegError as error:
            raise MediaError(
                f"its frames of {video.width}x{video.height} can't be deinterlaced; set `deinterlace: off`"
            ) from error

    def push(self, samples: Luma | None, index: int = 0) -> None:
        """Add the plane (h, w) of a frame, or the end."""
        if samples is None:
            self._graph.push(None)
            return
        grey = VideoFrame(samples.shape[1], samples.shape[0], self._format)
        plane(grey, 0, self._depth, writeable=True)[:] = samples
        grey.pts, grey.time_base = index, self._time_base
        self._graph.push(grey)

    def pull(self) -> Luma:
        """The next plane, read-only."""
        grey = self._graph.pull()
        assert isinstance(grey, VideoFrame)
        samples = np.minimum(plane(grey, 0, self._depth), (1 << self._depth) - 1)
        samples.flags.writeable = False
        return samples


def first_field(luma: Luma, fields: Fields) -> Luma:
    """Luma (H, W) of the first field alone: each line of the other field becomes the mean of the lines above and below.

    Good enough for a guide: it depends on a single frame, and is downscaled anyway.
    """
    height = len(luma)
    first = 0 if fields == "tff" else 1
    if height < 2:
        return luma
    filled = luma.copy()
    other = np.arange(1 - first, height, 2)
    above, below = np.where(other > 0, other - 1, other + 1), np.where(other < height - 1, other + 1, other - 1)
    filled[other] = (luma[above].astype(np.uint32) + luma[below] + 1) // 2
    return filled
