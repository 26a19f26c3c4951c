"""Codes a segment of a film: its luma as it came, new chroma, every time, in a fragment."""

from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av.error
from av.codec.context import Flags as CodecFlags
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from bwpipe.core.frame import Luma
from bwpipe.errors import MediaError
from bwpipe.video.encoding import Encoding, coded_depth, encoder, encoder_options, pixel_format
from bwpipe.video.file import VideoFile
from bwpipe.video.interlacing import FieldMarker, set_field_coding
from bwpipe.video.pixel_formats import plane, widen
from bwpipe.video.segment_file import FragmentWriter


class SegmentWriter:
    """Codes one segment, which begins with a key frame. The same frames and encoding give the same bytes on any machine."""

    def __init__(self, path: Path, film: VideoFile, encoding: Encoding) -> None:
        """Open the encoder and the file.

        Args:
            path: The fragment, replaced if it exists.
            film: Where the frames come from.
            encoding: How to code the picture.

        Raises:
            MediaError: The film can't be coded like this.
            OSError: The file can't be written.
        """
        self._film = film
        self._pix_fmt, self._depth = pixel_format(film, encoding), coded_depth(film, encoding)
        self._durations: dict[int | None, int] = {}
        self._fields = FieldMarker(film.fields, film.width, film.height, self._pix_fmt, film.time_base)
        self._context = encoder(encoding.codec).create("video")
        configure(self._context, film, encoding)
        try:
            self._context.open()
        except av.error.FFmpegError as error:
            raise refused(encoding, error) from error
        self._file = FragmentWriter(path, self._context.extradata or b"")

    def write(self, luma: Luma, chroma: Luma, pts: int, duration: int | None) -> None:
        """Add a frame.

        Args:
            luma: (H, W) in the film's depth, copied as it is, or shifted where the output is deeper.
            chroma: (2, h, w) codes of Cb and Cr in `coded_depth(film, encoding)` and the film's range, on
                `chroma_grid(film, encoding)`.
            pts: When it is shown, in the film's time base; later than the frame before it.
            duration: How long, in the same units; None for the film's usual time.

        Raises:
            MediaError: The encoder refuses it.
            OSError: The file can't be written.
        """
        frame = VideoFrame(self._film.width, self._film.height, self._pix_fmt)
        for index, samples in enumerate((widen(luma, self._film.depth, self._depth), *chroma)):
            target = plane(frame, index, self._depth, writeable=True)
            if samples.shape != target.shape or samples.dtype != target.dtype:
                raise ValueError(f"plane {index} is {samples.dtype} {samples.shape}, not {target.dtype} {target.shape}")
            target[:] = samples
        time_base = self._film.time_base
        shown = duration or max(round(1 / ((self._film.rate or 25) * time_base)), 1)
        self._durations[pts] = shown
        frame.pts, frame.time_base, frame.duration = pts, time_base, shown
        frame = self._fields.mark(frame)
        frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc = self._film.tags
        self._encode(frame)

    def close(self) -> None:
        """Write what is left, and finish the file. Raises MediaError, OSError."""
        if self._context.is_open:
            self._encode(None)
        self._file.close()

    def abandon(self) -> None:
        """Let go of the file, unfinished; after `close` it does nothing."""
        with suppress(OSError):  # such as of a full disk, which has been said
            self._file.abandon()

    def _encode(self, frame: VideoFrame | None) -> None:
        try:
            packets = self._context.encode(frame)
        except av.error.FFmpegError as error:
            raise MediaError(f"the encoder refuses a frame ({error.strerror})") from error
        for packet in packets:
            if packet.pts is None or packet.time_base != self._film.time_base:
                raise MediaError(f"{self._context.name} loses the times of frames: choose another `codec`")
            self._file.write(packet.pts, self._durations.pop(packet.pts, 0), key=packet.is_keyframe, data=bytes(packet))


def configure(context: VideoCodecContext, film: VideoFile, encoding: Encoding) -> None:
    """Set up an encoder that is not open yet, for a film."""
    context.width, context.height, context.pix_fmt = film.width, film.height, pixel_format(film, encoding)
    context.time_base, context.framerate = film.time_base, film.rate or Fraction(25)
    context.bit_rate, context.bit_rate_tolerance = 0, 128_000  # quality rules, not size
    context.color_range, context.colorspace, context.color_primaries, context.color_trc = film.tags
    context.thread_count = encoding.threads
    context.flags |= CodecFlags.bitexact.value | CodecFlags.frame_duration.value | CodecFlags.global_header.value
    if film.sample_aspect:
        context.sample_aspect_ratio = film.sample_aspect
    set_field_coding(context, film.fields)
    context.options = encoder_options(encoding, film.light)


def refused(encoding: Encoding, error: av.error.FFmpegError) -> MediaError:
    """What to say of an encoder that can't be opened."""
    return MediaError(f"its picture can't be coded with {encoding.codec} and these options ({error.strerror})")
