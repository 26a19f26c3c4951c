"""Writes a film: its luma as it came, new chroma, every time and tag, and its sound unchanged."""

from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from math import lcm
from pathlib import Path

import av
import av.error
from av.codec.context import Flags as CodecFlags
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from bwpipe.errors import MediaError
from bwpipe.film import Film
from bwpipe.film.codec import Encoding, container_for, encoder, encoder_options, pixel_format
from bwpipe.film.pixels import layout, plane
from bwpipe.film.read import Warn
from bwpipe.film.sound import Sound, kept
from bwpipe.frame import Luma
from bwpipe.provenance import noted

_BUFFER = 1 << 18
_FINEST = 2**31 - 1
"""The most ticks a second that MP4 can count."""


class FilmWriter:
    """Writes one film. The same frames and encoding give the same bytes, whatever the number of cores."""

    def __init__(
        self, path: Path, film: Film, encoding: Encoding, *, stop: int | None = None, line: str = "", warn: Warn
    ) -> None:
        """Open the file and write its header.

        Args:
            path: The file, replaced if it exists; it becomes a `container_for(film, encoding)`, whatever its name.
            film: Where the frames and the sound come from.
            encoding: How to code the picture.
            stop: The unit's: where the frames end before the film does, its sound ends with them.
            line: What its metadata are to say of how it was made; nothing if empty.
            warn: Told of each thing that can't be kept.

        Raises:
            MediaError: The film can't be coded like this.
            OSError: The file can't be written.
        """
        self._film = film
        self._warn = warn
        self._whole = stop is None or stop >= len(film.times)
        self._pix_fmt = pixel_format(film, encoding)
        self._container = container_for(film, encoding)
        self._durations: dict[int | None, int] = {}
        self._end = Fraction(0)
        self._file = path.open("wb")
        try:
            self._output = av.open(
                self._file,
                "w",
                format=self._container.muxer,
                container_options=self._muxer_options(),
                metadata_errors="surrogateescape",
                buffer_size=_BUFFER,
            )
            self._output.metadata.update(noted(kept(film.metadata[0]), line))
            self._picture = self._add_picture(encoding)
            self._sound = Sound(film, self._output, self._container, warn)
            self._output.start_encoding()
        except BaseException as error:
            self.abandon()
            if isinstance(error, av.error.FFmpegError):
                raise MediaError(
                    f"its picture can't be coded with {encoding.codec} and these options ({error.strerror})"
                ) from error
            raise
        self._warn_of_changes(encoding)

    def write(self, luma: Luma, chroma: Luma, pts: int, duration: int | None) -> None:
        """Add a frame.

        Args:
            luma: (H, W) in the film's depth, copied as it is.
            chroma: (2, h, w) codes of Cb and Cr in the film's depth and range, on `chroma_grid(film, encoding)`.
            pts: When it is shown, in the film's time base; later than the frame before it.
            duration: How long, in the same units; None for the film's usual time.

        Raises:
            MediaError: The encoder or the container refuses it.
            OSError: The file can't be written.
        """
        frame = VideoFrame(self._film.width, self._film.height, self._pix_fmt)
        for index, samples in enumerate((luma, *chroma)):
            target = plane(frame, index, self._film.depth, writeable=True)
            if samples.shape != target.shape or samples.dtype != target.dtype:
                raise ValueError(f"plane {index} is {samples.dtype} {samples.shape}, not {target.dtype} {target.shape}")
            target[:] = samples
        time_base = self._film.time_base
        shown = duration or max(round(1 / ((self._film.rate or 25) * time_base)), 1)
        self._durations[pts] = shown
        self._end = (pts + shown) * time_base
        frame.pts, frame.time_base, frame.duration = pts, time_base, shown
        frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc = self._film.tags
        self._encode(frame)

    def close(self) -> None:
        """Write what is left, and finish the file. Raises MediaError, OSError."""
        self._encode(None)
        self._mux(self._sound.until(None if self._whole else self._end))
        try:
            self._output.close()
        except av.error.FFmpegError as error:
            raise MediaError(f"the file can't be finished ({error.strerror})") from error
        self._file.close()
        self._sound.close()

    def abandon(self) -> None:
        """Let go of the file, unfinished; after `close` it does nothing."""
        with suppress(OSError):  # such as of a full disk, which has been said
            self._file.close()  # first: the muxer then writes no end into it
        for part in ("_output", "_sound"):
            if hasattr(self, part):
                getattr(self, part).close()

    def _encode(self, frame: VideoFrame | None) -> None:
        try:
            for packet in self._picture.encode(frame):
                packet.duration = self._durations.pop(packet.pts, 0)
                self._mux(self._sound.until((packet.dts or 0) * packet.time_base))
                self._mux([packet])
        except av.error.FFmpegError as error:
            raise MediaError(f"the encoder refuses a frame ({error.strerror})") from error

    def _mux(self, packets: Iterable["Packet[Stream]"]) -> None:
        for packet in packets:
            self._output.mux_one(packet)

    def _add_picture(self, encoding: Encoding) -> VideoStream:
        film = self._film
        stream = self._output.add_stream(
            encoder(encoding.codec).name,
            rate=film.rate or 25,
            options=encoder_options(encoding),
            width=film.width,
            height=film.height,
            pix_fmt=self._pix_fmt,
            time_base=film.time_base,
        )
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = film.tags
        context.thread_count = encoding.threads
        context.flags |= CodecFlags.bitexact.value | CodecFlags.frame_duration.value
        if film.sample_aspect:
            context.sample_aspect_ratio = film.sample_aspect
        stream.set_display_matrix(film.display)
        stream.metadata.update(kept(film.metadata[1]))
        return stream

    def _muxer_options(self) -> dict[str, str]:
        same = {"fflags": "+bitexact"}  # no date, no random number, no version
        if self._container.muxer not in {"mp4", "mov"}:
            return same
        ticks = self._film.time_base.denominator
        # in these parts of a second starts are counted: each tick of the picture and each sample of sound should be a number
        common = lcm(ticks, *(track.rate for track in self._film.tracks if track.rate))
        return {**same, "video_track_timescale": str(ticks), "movie_timescale": str(common if common <= _FINEST else ticks)}

    def _warn_of_changes(self, encoding: Encoding) -> None:
        film, suffix = self._film, self._container.suffix
        if film.name.suffix.lower() != suffix:
            self._warn(
                f"it becomes {suffix}, since its own container can't hold {encoding.codec} with all sound, times and tags"
            )
        if self._container.muxer in {"matroska", "webm"} and "matroska" not in film.container:
            sound = any(track.rate for track in film.tracks)
            if sound or (film.times * film.time_base.numerator * 1000 % film.time_base.denominator).any():
                self._warn("Matroska counts in milliseconds: times that are none are rounded, each by itself")
        finer = layout(self._pix_fmt).chroma == (0, 0) and layout(film.pix_fmt).chroma != (0, 0)
        if finer and (film.width % 2 or film.height % 2) and not encoding.pix_fmt:
            self._warn(f"it becomes {self._pix_fmt}, which not every player shows: {encoding.codec} needs that for an odd size")
        if film.interlaced:
            self._warn("its lines are interlaced and are kept so, but are no longer marked as such")
        if film.chapters:
            self._warn("its chapters are left out")
