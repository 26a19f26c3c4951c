"""Interlaced films: which field of a frame is shown first, told to encoders."""

from fractions import Fraction
from typing import Literal, TypeAlias

from av.filter import Graph
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

Fields: TypeAlias = Literal["", "tff", "bff"]
"""Top field first, bottom field first, or none: the lines of a frame belong to one moment."""

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


def code_fields(context: VideoCodecContext, fields: Fields) -> None:
    """Set up an encoder that is not open yet for interlaced frames."""
    if fields:
        context.field_order = _NUMBERS[fields]
        if context.height % _ROWS == 0:
            context.flags |= _INTERLACED
