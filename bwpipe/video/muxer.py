"""Writes the output video: joins fragments, keeps timestamps and tags, and copies the other streams."""

from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from fractions import Fraction
from io import BufferedWriter, FileIO
from itertools import chain
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.error
import numpy as np
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from bwpipe.core.parallel import scheduling_kept
from bwpipe.core.provenance import add_note
from bwpipe.errors import MediaError
from bwpipe.video.container import container_for
from bwpipe.video.cropping import NO_CROPPING, add_cropped_stream, can_write_cropping
from bwpipe.video.decoder import Warn
from bwpipe.video.encoding import Encoding, encoder
from bwpipe.video.file import VideoFile, open_container
from bwpipe.video.segment_encoder import configure, encoding_error
from bwpipe.video.segment_outline import coded_frames, open_segment
from bwpipe.video.side_data import add_to_block
from bwpipe.video.stream_copy import StreamCopier, lost_tags, portable_tags

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from av.container.core import Chapter

_BUFFER = 1 << 18
_ITUNES_TAGS = frozenset(
    {"title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright", "grouping", "lyrics"}
    | {"description", "synopsis", "show", "episode_id", "network", "keywords", "creation_time", "language"}
)
"""Tags that MP4's iTunes metadata can hold. With any others, all go into QuickTime's list of keys, which has no cover art."""
_HALF_MS = Fraction(1, 2000)
"""By how much rounding moves a time in Matroska."""
_MAX_TIMESCALE = 2**31 - 1
"""The most ticks per second that MP4 allows."""


class _Written(BufferedWriter):
    """A file that is written at once: to move its index to the front, the muxer opens it a second time."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write all of it. Raises OSError."""
        count = super().write(data)
        self.flush()
        return count


class VideoMuxer:
    """Joins the fragments of a video without re-encoding, and copies the other streams in.

    The same fragments give the same bytes. Memory grows by about 50 bytes per frame.
    """

    def __init__(
        self,
        path: Path,
        video: VideoFile,
        encoding: Encoding,
        *,
        stop: int | None = None,
        line: str = "",
        warn: Warn,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the file and write its header.

        Args:
            path: The file, replaced if it exists; its format is `container_for(video, encoding)`, whatever its name.
            video: The source of the other streams.
            encoding: How the frames were encoded.
            stop: The unit's `stop`: if the frames end before the source does, the audio ends with them.
            line: Provenance line for the metadata; none if empty.
            warn: Called for each thing that can't be kept.
            tick: Called before each packet; may raise to stop.

        Raises:
            MediaError: The video can't be encoded like this.
            OSError: The file can't be written.
        """
        self._path = path
        self._video = video
        self._warn = warn
        self._tick = tick
        self._whole = stop is None or stop >= len(video.times)
        self._container = container_for(video, encoding)
        self._earliest = Fraction(0)
        self._file = _Written(FileIO(path, "wb"))
        try:
            self._output = av.open(
                self._file,
                "w",
                format=self._container.muxer,
                container_options=self._muxer_options(),
                metadata_errors="surrogateescape",
                buffer_size=_BUFFER,
            )
            self._output.metadata.update(add_note(portable_tags(video.metadata[0], self._container.muxer), line))
            self._stream = self._add_streams(encoding)
            self._output.set_chapters(self._chapters(stop))
            with scheduling_kept():  # it opens an encoder, to describe the stream
                self._output.start_encoding()
            covers = {track.index for track in video.tracks if track.cover}
            self._written = sorted({video.stream_index, *self._copier.outputs} - covers)
        except BaseException as error:
            self.abandon()
            if isinstance(error, av.error.FFmpegError):
                raise encoding_error(encoding, error) from error
            raise

    def join(self, paths: Sequence[Path], finished: Path | None = None) -> None:
        """Write the frames of the fragments and the other streams.

        Args:
            paths: The fragments, in order, or outlines in place of some.
            finished: The finished video that has the coded frames of the outlines.

        Raises:
            MediaError: They don't fit together or are damaged, or the container rejects them.
            OSError: A file can't be read or written.
        """
        dts = self._decoding_times(paths)
        number, start, end = 0, int(self._video.times[-1]), 0
        with closing(coded_frames(paths, finished)) as frames:
            for coded, data, additions in frames:
                packet = Packet(data)
                if additions:
                    add_to_block(packet, additions)
                packet.stream, packet.time_base = self._stream, self._video.time_base
                packet.pts, packet.dts, packet.duration = coded.pts, int(dts[number]), coded.duration
                packet.is_keyframe = coded.key
                number, start, end = number + 1, min(start, coded.pts), max(end, coded.pts + coded.duration)
                if number == len(dts) and self._container.muxer in {"mp4", "mov"}:
                    # readers take the sum of the decoding deltas for the duration of the stream: correct it, in case
                    # another packet is shown last and has a different duration
                    missing = end - start - int(dts[-1] - dts[0])
                    packet.duration = max(coded.duration, min(missing, end - coded.pts))
                self._mux(self._copier.until(packet.dts * packet.time_base))
                self._mux([packet])
        self._mux(self._copier.until(None if self._whole else end * self._video.time_base))

    def close(self) -> None:
        """Finish the file. Raises MediaError, OSError."""
        try:
            self._output.close()
        except av.error.FFmpegError as error:
            raise MediaError(f"the file can't be finished ({error.strerror})") from error
        self._file.close()
        self._copier.close()
        if (later := self._delay()) > _HALF_MS:
            self._warn(f"all of it is {float(later):.3f} s later: its sound begins before zero, and Matroska has no such times")
        for text in chain(self._copier.losses(), lost_tags(self._video, self._path, self._container.muxer, self._written)):
            self._warn(text)

    def _delay(self) -> Fraction:
        """By how much the finished file is later than its source, in seconds, since some of that is before zero."""
        if self._earliest >= 0 or self._container.muxer not in {"matroska", "webm"}:
            return Fraction(0)
        with open_container(self._path) as container:  # whether FFmpeg moves it depends on the sound's codec and its header
            stream = container.streams[self._stream.index]
            if stream.start_time is None or stream.time_base is None:
                return Fraction(0)
            return stream.start_time * stream.time_base - int(self._video.times[0]) * self._video.time_base

    def abandon(self) -> None:
        """Close the unfinished file; does nothing after `close`."""
        with suppress(OSError):  # such as a full disk, which has been reported
            self._file.close()  # first, so that the muxer writes no trailer
        for part in ("_output", "_copier"):
            if hasattr(self, part):
                getattr(self, part).close()

    def _decoding_times(self, paths: Sequence[Path]) -> NDArray[np.int64]:
        """Decoding timestamps of all coded frames. Raises MediaError for fragments that no decoder could read consecutively."""
        shown = array("q")
        extradata = self._stream.codec_context.extradata or b""
        for path in paths:
            with closing(open_segment(path)) as fragment:
                if fragment.extradata != extradata:
                    raise MediaError("its segments come from different encoders: run with --restart")
                for packet in fragment.packets():
                    self._tick()
                    shown.append(packet.pts)
        if not shown:
            raise MediaError("none of its frames were written")
        return decoding_times(np.array(shown, np.int64))

    def _mux(self, packets: Iterable["Packet[Stream]"]) -> None:
        try:
            for packet in packets:
                self._tick()
                if packet.pts is not None and packet.pts < 0:
                    self._earliest = min(self._earliest, packet.pts * packet.time_base)
                self._output.mux_one(packet)
        except av.error.FFmpegError as error:
            raise MediaError(f"{self._container.suffix} can't hold it ({error.strerror})") from error

    def _add_streams(self, encoding: Encoding) -> VideoStream:
        """Add all streams in the order of the source file; returns the video stream."""
        video = self._video
        self._copier = StreamCopier(video, self._output, self._container.muxer, self._warn)
        for track in video.tracks:
            if track.index < video.stream_index:
                self._copier.add(track)
        stream = self._add_video(encoding)
        for track in video.tracks:
            if track.index > video.stream_index:
                self._copier.add(track)
        return stream

    def _chapters(self, stop: int | None) -> "list[Chapter]":
        """The source's chapters up to where the frames end."""
        with self._video.open() as container:
            chapters = container.chapters()
        if self._whole or stop is None:
            return chapters
        end = int(self._video.times[stop]) * self._video.time_base
        started = []
        for chapter in chapters:
            ticks = chapter["time_base"] or Fraction(1)
            if chapter["start"] * ticks < end:
                chapter["end"] = min(chapter["end"], int(end / ticks))
                started.append(chapter)
        return started

    def _add_video(self, encoding: Encoding) -> VideoStream:
        video = self._video
        codec = encoder(encoding.codec)
        if video.cropping != NO_CROPPING and can_write_cropping(codec.canonical_name):
            context = codec.create("video")
            configure(context, video, encoding)
            with scheduling_kept():
                context.open()
            stream = add_cropped_stream(self._output, context, video.cropping)
        else:
            added = self._output.add_stream(codec.name, rate=video.rate or 25, time_base=video.time_base)
            assert isinstance(added, VideoStream)
            stream = added
            configure(stream.codec_context, video, encoding)
        if codec.canonical_name == "hevc" and self._container.muxer in {"mp4", "mov"}:
            stream.codec_context.codec_tag = "hvc1"  # parameter sets in the header: Apple's players take no other
        stream.set_display_matrix(video.display)
        stream.metadata.update(portable_tags(video.metadata[1], self._container.muxer))
        stream.disposition = video.disposition
        return stream

    def _muxer_options(self) -> dict[str, str]:
        options = {"fflags": "+bitexact"}  # no date, no random number, no version
        if self._container.muxer not in {"mp4", "mov"}:
            return options
        ticks = self._video.time_base.denominator
        # start times are stored in this timescale, which should represent each video tick and each audio sample exactly
        common = lcm(ticks, *(track.rate for track in self._video.tracks if track.rate))
        unusual = set(portable_tags(self._video.metadata[0], self._container.muxer)) - _ITUNES_TAGS
        options["movflags"] = "faststart"  # the index goes first, so that players can begin before they have all of the file
        if unusual and not any(track.cover for track in self._video.tracks):
            options["movflags"] += "+use_metadata_tags"
        if not any(track.kind == "video" and not track.cover for track in self._video.tracks):
            options["video_track_timescale"] = str(ticks)  # applies to all video streams: a second one would lose precision
        return {**options, "movie_timescale": str(common if common <= _MAX_TIMESCALE else ticks)}


def decoding_times(shown: NDArray[np.int64]) -> NDArray[np.int64]:
    """Decoding timestamps for separately encoded segments, increasing and never after the presentation timestamp.

    They are the sorted presentation timestamps, delayed by the largest reordering delay of any frame: segments differ in delay,
    so the timestamps from each encoder do not fit those of the segment before. Before the first frame is shown they have the
    spacing of the first frames (as in x264's `x264_encoder_encode`).

    Args:
        shown: (frames,) Presentation timestamps in decoding order, all different.

    Returns:
        (frames,) Decoding timestamps in the same units.
    """
    count = len(shown)
    ordered = np.sort(shown)
    positions = np.searchsorted(ordered, shown)
    delay = int((np.arange(count) - positions).max(initial=0))
    if not delay:
        return ordered
    lead = ordered[:delay] - ordered[delay]
    return np.concatenate([ordered[0] + lead, ordered[: count - delay]])
