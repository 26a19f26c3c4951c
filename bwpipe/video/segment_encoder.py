"""Encodes a segment of a video into a fragment: the source's luma and timestamps, with new chroma."""

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av.error
import numpy as np
from av.codec.context import Flags as CodecFlags
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from bwpipe.core.frame import Luma
from bwpipe.core.parallel import scheduling_kept
from bwpipe.errors import MediaError
from bwpipe.video.encoding import Encoding, coded_depth, encoder, encoder_options, pixel_format, threads_of
from bwpipe.video.file import FULL, VideoFile
from bwpipe.video.interlacing import FieldMarker, set_field_coding
from bwpipe.video.pixel_formats import in_depth, layout, plane, rescale
from bwpipe.video.segment_file import FragmentWriter
from bwpipe.video.side_data import SideData, add_side_data, lost_side_data


class _Pending(NamedTuple):
    """What is known of a frame until the encoder gives its packet."""

    duration: int
    side_data: SideData
    kept: bool
    luma_of_colour: bool


class SegmentWriter:
    """Encodes one segment, starting with a keyframe. The same frames and encoding give the same bytes on any machine.

    Attributes:
        lost: The kinds of side data that frames had and the codec can't store, by FFmpeg's names.
    """

    def __init__(self, path: Path, video: VideoFile, encoding: Encoding) -> None:
        """Open the encoder and the file.

        Args:
            path: The fragment, replaced if it exists.
            video: The source of the frames.
            encoding: How to encode them.

        Raises:
            MediaError: The video can't be encoded like this.
            OSError: The file can't be written.
        """
        self._video = video
        self._pix_fmt, self._depth = pixel_format(video, encoding), coded_depth(video, encoding)
        self._pending: dict[int | None, _Pending] = {}
        self._alpha = layout(self._pix_fmt).alpha
        self._codec = encoder(encoding.codec).canonical_name
        self.lost: set[str] = set()
        self._fields = FieldMarker(video.fields, video.width, video.height, self._pix_fmt, video.time_base)
        self._context = encoder(encoding.codec).create("video")
        configure(self._context, video, encoding)
        try:
            with scheduling_kept():
                self._context.open()
        except av.error.FFmpegError as error:
            raise encoding_error(encoding, error) from error
        self._file = FragmentWriter(path, self._context.extradata or b"")

    def write(
        self,
        luma: Luma,
        chroma: Luma,
        pts: int,
        duration: int | None,
        *,
        alpha: Luma | None = None,
        side_data: SideData = (),
        kept: bool = False,
        luma_of_colour: bool = False,
    ) -> None:
        """Add a frame.

        Args:
            luma: (H, W) in the source's depth, copied unchanged, shifted if the output is deeper, or rounded if it is less
                deep (on request only).
            chroma: (2, h, w) codes of Cb and Cr in `coded_depth(video, encoding)` and the source's range, on
                `chroma_grid(video, encoding)`.
            pts: Its timestamp in the source's time base, later than that of the frame before it.
            duration: Its duration in the same units; None for that of the average frame rate.
            alpha: (H, W) in the source's depth and full range; None for opaque. Ignored if the output has no alpha channel.
            side_data: What else the frame carries.
            kept: Whether its chroma is the film's own.
            luma_of_colour: Whether its luma was computed from its colour.

        Raises:
            MediaError: The encoder rejects it.
            OSError: The file can't be written.
        """
        frame = VideoFrame(self._video.width, self._video.height, self._pix_fmt)
        full = self._video.tags.range == FULL
        planes = [in_depth(luma, self._video.depth, self._depth, full=full), *chroma]
        if self._alpha:
            opaque = np.full_like(luma, (1 << self._video.depth) - 1)
            planes.append(rescale(opaque if alpha is None else alpha, self._video.depth, self._depth))
        for index, samples in enumerate(planes):
            target = plane(frame, index, self._depth, writeable=True)
            if samples.shape != target.shape or samples.dtype != target.dtype:
                raise ValueError(f"plane {index} is {samples.dtype} {samples.shape}, not {target.dtype} {target.shape}")
            target[:] = samples
        time_base = self._video.time_base
        shown = duration or max(round(1 / ((self._video.rate or 25) * time_base)), 1)
        self._pending[pts] = _Pending(shown, side_data, kept, luma_of_colour)
        self.lost |= lost_side_data(side_data, self._codec)
        frame.pts, frame.time_base, frame.duration = pts, time_base, shown
        frame = self._fields.mark(frame)
        frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc = self._video.tags
        self._encode(frame)

    def close(self) -> None:
        """Flush the encoder, and finish the file. Raises MediaError, OSError."""
        if self._context.is_open:
            self._encode(None)
        self._file.close()

    def abandon(self) -> None:
        """Close the unfinished file; does nothing after `close`."""
        with suppress(OSError):  # such as a full disk, which has been reported
            self._file.abandon()

    def _encode(self, frame: VideoFrame | None) -> None:
        try:
            packets = self._context.encode(frame)
        except av.error.FFmpegError as error:
            raise MediaError(f"the encoder rejects a frame ({error.strerror})") from error
        for packet in packets:
            if packet.pts is None or packet.time_base != self._video.time_base:
                raise MediaError(f"{self._context.name} does not preserve timestamps: choose another `codec`")
            about = self._pending.pop(packet.pts, _Pending(0, (), kept=False, luma_of_colour=False))
            data = add_side_data(bytes(packet), about.side_data, self._codec, self._video.rate or Fraction(25))
            self._file.write(
                packet.pts,
                about.duration,
                key=packet.is_keyframe,
                data=data,
                additions=bytes(packet.get_sidedata("matroska_block_additional")),
                kept=about.kept,
                luma_of_colour=about.luma_of_colour,
            )


def configure(context: VideoCodecContext, video: VideoFile, encoding: Encoding) -> None:
    """Set up an encoder that is not yet open, for a video."""
    context.width, context.height, context.pix_fmt = video.width, video.height, pixel_format(video, encoding)
    context.time_base, context.framerate = video.time_base, video.rate or Fraction(25)
    context.bit_rate, context.bit_rate_tolerance = 0, 128_000  # the target is quality, not size
    context.color_range, context.colorspace, context.color_primaries, context.color_trc = video.tags
    context.thread_count = threads_of(encoding)
    context.flags |= CodecFlags.bitexact.value | CodecFlags.frame_duration.value | CodecFlags.global_header.value
    if video.sample_aspect:
        context.sample_aspect_ratio = video.sample_aspect
    set_field_coding(context, video.fields)
    context.options = encoder_options(encoding, video.hdr, context.pix_fmt)


def encoding_error(encoding: Encoding, error: av.error.FFmpegError) -> MediaError:
    """The error to raise if the encoder can't be opened."""
    return MediaError(f"it can't be encoded with {encoding.codec} and these options ({error.strerror})")
