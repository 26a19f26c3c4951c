"""Writes a film: its fragments joined, every time and tag, and its sound unchanged."""

from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from fractions import Fraction
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

from bwpipe.core.provenance import add_note
from bwpipe.errors import MediaError
from bwpipe.video.container import container_for
from bwpipe.video.decoder import Warn
from bwpipe.video.encoding import Encoding, encoder
from bwpipe.video.file import VideoFile, open_container
from bwpipe.video.segment_encoder import configure, refused
from bwpipe.video.segment_file import Fragment
from bwpipe.video.stream_copy import StreamCopier, kept, lost_tags

if TYPE_CHECKING:
    from av.container.core import Chapter

_BUFFER = 1 << 18
_KNOWN = frozenset(
    {"title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright", "grouping", "lyrics"}
    | {"description", "synopsis", "show", "episode_id", "network", "keywords", "creation_time", "language"}
)
"""The tags that iTunes' list in MP4 has a place for. With others, all go into QuickTime's list of keys, which has no covers."""
_FINEST = 2**31 - 1
"""The most ticks a second that MP4 can count."""


class VideoMuxer:
    """Joins the fragments of a film, without coding them again, and copies the other streams in.

    The same fragments give the same bytes. Memory grows by some 50 bytes a frame.
    """

    def __init__(
        self,
        path: Path,
        film: VideoFile,
        encoding: Encoding,
        *,
        stop: int | None = None,
        line: str = "",
        warn: Warn,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the file and write its header.

        Args:
            path: The file, replaced if it exists; it becomes a `container_for(film, encoding)`, whatever its name.
            film: Where the other streams come from.
            encoding: How the picture was coded.
            stop: The unit's: where the frames end before the film does, its sound ends with them.
            line: What its metadata are to say of how it was made; nothing if empty.
            warn: Told of each thing that can't be kept.
            tick: Called before each packet; what it raises ends the work.

        Raises:
            MediaError: The film can't be coded like this.
            OSError: The file can't be written.
        """
        self._path = path
        self._film = film
        self._warn = warn
        self._tick = tick
        self._whole = stop is None or stop >= len(film.times)
        self._container = container_for(film, encoding)
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
            self._output.metadata.update(add_note(kept(film.metadata[0], self._container.muxer), line))
            self._picture = self._add_streams(encoding)
            self._output.set_chapters(self._chapters(stop))
            self._output.start_encoding()
            covers = {track.index for track in film.tracks if track.cover}
            self._copies = sorted({film.place, *self._carried.outputs} - covers)
        except BaseException as error:
            self.abandon()
            if isinstance(error, av.error.FFmpegError):
                raise refused(encoding, error) from error
            raise

    def join(self, paths: Sequence[Path]) -> None:
        """Write the frames of fragments and the other streams.

        Args:
            paths: The fragments, in order.

        Raises:
            MediaError: They don't fit together or are damaged, or the container refuses them.
            OSError: A file can't be read or written.
        """
        decoded = self._decoding_times(paths)
        number, start, end = 0, int(self._film.times[-1]), 0
        for path in paths:
            with closing(Fragment(path)) as fragment:
                for coded in fragment.packets():
                    packet = Packet(fragment.data(coded))
                    packet.stream, packet.time_base = self._picture, self._film.time_base
                    packet.pts, packet.dts, packet.duration = coded.pts, int(decoded[number]), coded.duration
                    packet.is_keyframe = coded.key
                    number, start, end = number + 1, min(start, coded.pts), max(end, coded.pts + coded.duration)
                    if number == len(decoded) and self._container.muxer in {"mp4", "mov"}:
                        # who reads it takes the sum of the distances of decoding times for the length of the film: so it
                        # should be also where another packet is shown last, and not as long as the others
                        missing = end - start - int(decoded[-1] - decoded[0])
                        packet.duration = max(coded.duration, min(missing, end - coded.pts))
                    self._mux(self._carried.until(packet.dts * packet.time_base))
                    self._mux([packet])
        self._mux(self._carried.until(None if self._whole else end * self._film.time_base))

    def close(self) -> None:
        """Finish the file. Raises MediaError, OSError."""
        try:
            self._output.close()
        except av.error.FFmpegError as error:
            raise MediaError(f"the file can't be finished ({error.strerror})") from error
        self._file.close()
        self._carried.close()
        for text in lost_tags(self._film, self._path, self._container.muxer, self._copies):
            self._warn(text)

    def abandon(self) -> None:
        """Let go of the file, unfinished; after `close` it does nothing."""
        with suppress(OSError):  # such as of a full disk, which has been said
            self._file.close()  # first: the muxer then writes no end into it
        for part in ("_output", "_carried"):
            if hasattr(self, part):
                getattr(self, part).close()

    def _decoding_times(self, paths: Sequence[Path]) -> NDArray[np.int64]:
        """When each coded frame is to be decoded. Raises MediaError for fragments that no decoder could read in a row."""
        shown = array("q")
        setup = self._picture.codec_context.extradata or b""
        for path in paths:
            with closing(Fragment(path)) as fragment:
                if fragment.setup != setup:
                    raise MediaError("its segments were coded by encoders that differ: run with --restart")
                for packet in fragment.packets():
                    self._tick()
                    shown.append(packet.pts)
        if not shown:
            raise MediaError("none of its frames came to be written")
        return decoding_times(np.array(shown, np.int64))

    def _mux(self, packets: Iterable["Packet[Stream]"]) -> None:
        try:
            for packet in packets:
                self._tick()
                self._output.mux_one(packet)
        except av.error.FFmpegError as error:
            raise MediaError(f"{self._container.suffix} can't hold it ({error.strerror})") from error

    def _add_streams(self, encoding: Encoding) -> VideoStream:
        """All streams, in the order of the film's file; the picture's is returned."""
        film = self._film
        self._carried = StreamCopier(film, self._output, self._container.muxer, self._warn)
        for track in film.tracks:
            if track.index < film.place:
                self._carried.add(track)
        picture = self._add_picture(encoding)
        for track in film.tracks:
            if track.index > film.place:
                self._carried.add(track)
        return picture

    def _chapters(self, stop: int | None) -> "list[Chapter]":
        """The film's chapters, as far as it is read."""
        with open_container(self._film.path) as container:
            chapters = container.chapters()
        if self._whole or stop is None:
            return chapters
        end = int(self._film.times[stop]) * self._film.time_base
        begun = []
        for chapter in chapters:
            ticks = chapter["time_base"] or Fraction(1)
            if chapter["start"] * ticks < end:
                chapter["end"] = min(chapter["end"], int(end / ticks))
                begun.append(chapter)
        return begun

    def _add_picture(self, encoding: Encoding) -> VideoStream:
        film = self._film
        stream = self._output.add_stream(encoder(encoding.codec).name, rate=film.rate or 25, time_base=film.time_base)
        assert isinstance(stream, VideoStream)
        configure(stream.codec_context, film, encoding)
        stream.set_display_matrix(film.display)
        stream.metadata.update(kept(film.metadata[1], self._container.muxer))
        stream.disposition = film.disposition
        return stream

    def _muxer_options(self) -> dict[str, str]:
        same = {"fflags": "+bitexact"}  # no date, no random number, no version
        if self._container.muxer not in {"mp4", "mov"}:
            return same
        ticks = self._film.time_base.denominator
        # in these parts of a second starts are counted: each tick of the picture and each sample of sound should be a number
        common = lcm(ticks, *(track.rate for track in self._film.tracks if track.rate))
        unusual = set(kept(self._film.metadata[0], self._container.muxer)) - _KNOWN
        if unusual and not any(track.cover for track in self._film.tracks):
            same["movflags"] = "use_metadata_tags"
        if not any(track.kind == "video" and not track.cover for track in self._film.tracks):
            same["video_track_timescale"] = str(ticks)  # it holds of all pictures: a second one would lose its own times
        return {**same, "movie_timescale": str(common if common <= _FINEST else ticks)}


def decoding_times(shown: NDArray[np.int64]) -> NDArray[np.int64]:
    """Times of decoding for a film whose segments were coded apart, rising and never after the frame is shown.

    They are the times at which frames are shown, in rising order, delayed by as many frames as the one that waits longest for
    others: where each segment has its own delay, the times that its encoder gave do not fit those of the one before. Before the
    first frame is shown they have the distances of the film's first frames (as x264 does, in `x264_encoder_encode`).

    Args:
        shown: (frames,) When each is shown, in the order of decoding; no two are the same.

    Returns:
        (frames,) When each is decoded, in the same units.
    """
    count = len(shown)
    order = np.sort(shown)
    places = np.searchsorted(order, shown)
    delay = int((np.arange(count) - places).max(initial=0))
    if not delay:
        return order
    ahead = order[:delay] - order[delay]
    return np.concatenate([order[0] + ahead, order[: count - delay]])
