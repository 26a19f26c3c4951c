"""Decodes the frames of a video."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from heapq import heappop, heappush
from itertools import chain, dropwhile
from typing import NamedTuple, cast

import av.error
import cv2
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from bwpipe.core.frame import Frame, Luma, StoredChroma, Unit
from bwpipe.errors import MediaError
from bwpipe.pixels.ycbcr import to_codes
from bwpipe.video.file import VideoFile, decoder_of, demux, stored_chroma, video_stream
from bwpipe.video.interlacing import NEIGHBOURS, deinterlace
from bwpipe.video.pixel_formats import alpha_plane, chroma_codes, layout, luma_plane, rgb_chroma
from bwpipe.video.side_data import SideData, read_side_data

Warn = Callable[[str], None]
"""Called with a warning about an unavoidable loss, a sentence without the file name."""
_REORDERED = 16
"""The most frames by which decoding order and presentation order differ."""


class _Decoded(NamedTuple):
    """What a frame of a film has, in memory of its own.

    Views of the decoder's frames would keep all of its buffers, in use or not, as long as one of them is left: at the end of a
    segment, as much again as all frames between the stages.

    Attributes:
        luma, stored, alpha, side_data: As in `Frame`.
        damaged: Whether the decoder concealed errors in it.
        scaled: Whether its size differs from the video's.
        clipped: Whether it had samples beyond the video's depth.
    """

    luma: Luma
    stored: StoredChroma | None
    alpha: Luma | None
    side_data: SideData
    damaged: bool
    scaled: bool
    clipped: bool


class SharedDecoder:
    """A decoder shared by consecutive segments that start from the same keyframe (`Unit.since`).

    In a damaged video, how a frame decodes may depend on where decoding began. A segment is therefore always decoded from the
    same starting point, shared by several segments, so its frames do not depend on who asks. A video without usable keyframes
    has one starting point, its first frame. Not for concurrent segments.
    """

    def __init__(self, video: VideoFile, *, chroma: bool = False) -> None:
        """Create the decoder; the file is opened on first use. `chroma` says whether frames come with the film's, if any."""
        self.film = video
        self._chroma = chroma and video.colour != "grey"
        self._since = 0
        self._frames = frames_from(video, 0)
        self._buffer: deque[tuple[int, _Decoded]] = deque()
        self._dropped = -1

    def frames(self, first: int, *, since: int, keep_from: int) -> Iterator[tuple[int, _Decoded]]:
        """(index, frame) pairs in ascending order, counted from 0. Raises MediaError.

        Args:
            first: Index of the first frame to yield.
            since: Index of the frame from which to start decoding, at most `first`.
            keep_from: Frames from this index on stay in memory, so that the next call can yield them again.
        """
        since = since if len(self.film.keys) > 1 else 0
        if since != self._since or first <= self._dropped:
            self.close()
            self._frames, self._since, self._dropped = frames_from(self.film, since), since, -1
        yield from [indexed for indexed in self._buffer if indexed[0] >= first]
        while indexed := self._next(first):
            self._buffer.append(indexed)
            while self._buffer and self._buffer[0][0] < keep_from:
                self._dropped, _ = self._buffer.popleft()
            yield indexed

    def close(self) -> None:
        """Release the decoder and the buffered frames."""
        self._frames.close()
        self._buffer.clear()

    def _next(self, first: int) -> tuple[int, _Decoded] | None:
        """The next frame from index `first` on; None after the last."""
        try:
            for index, frame in self._frames:
                if index >= first:
                    return index, _decoded(frame, self.film, index, chroma=self._chroma)
                self._dropped = index
        except BaseException:
            self._dropped = len(self.film.times)  # makes the next segment restart decoding; the generator is exhausted
            raise
        return None


def read_video(
    unit: Unit, context: int = 0, *, warn: Warn, onward: SharedDecoder | None = None, chroma: bool = False
) -> Iterator[Frame]:
    """The frames of a unit in presentation order, with up to `context` context frames on either side, marked as such.

    Segments read alone yield the same frames as segments read consecutively. Timestamps and durations are the file's, in its
    time base. Frames that fail to decode are skipped and reported after the last frame.

    Args:
        unit: A video, or a part of it.
        context: Number of context frames on either side of the unit.
        warn: Called for each loss.
        onward: Shared decoder for segments read consecutively; None for a decoder of the unit's own.
        chroma: Whether frames of a decoder of the unit's own come with the film's chroma, if it has any (`VideoFile.colour`).

    Raises:
        MediaError: No frame can be decoded, or its depth, range or colour model changes midway.
    """
    video = unit.media
    if not isinstance(video, VideoFile):
        raise TypeError(f"{video.name} is not a film")
    if not video.deinterlaced:
        yield from _stored_frames(unit, video, context, warn=warn, onward=onward, chroma=chroma)
        return
    start, stop = _bounds(unit, video)
    stored = _stored_frames(unit, video, context + NEIGHBOURS, warn=warn, onward=onward, chroma=chroma)
    for frame in deinterlace(stored, video):
        if start - context <= frame.index < stop + context:
            yield frame


def sample_video(unit: Unit, video: VideoFile, indices: Sequence[int]) -> Iterator[Frame]:
    """The frames of a unit at some indices, ascending, with the film's chroma; those that can't be decoded are left out.

    Each is decoded from the last keyframe before it, or on from the frame before it if that comes later.
    """
    decoder = SharedDecoder(video, chroma=True)
    try:
        for index in indices:
            number = int(np.searchsorted(video.keys[:, 0], index, side="right")) - 1
            since = int(video.keys[number, 0]) if number > 0 else 0
            one = replace(unit, start=index, stop=index + 1, since=since)
            for frame in read_video(one, warn=lambda text: None, onward=decoder):
                yield replace(frame, unit=unit)
    finally:
        decoder.close()


def _bounds(unit: Unit, video: VideoFile) -> tuple[int, int]:
    """Index of a unit's first frame, and of the one after its last."""
    total = len(video.times)
    return unit.start, total if unit.stop is None else min(unit.stop, total)


def _stored_frames(
    unit: Unit, video: VideoFile, context: int, *, warn: Warn, onward: SharedDecoder | None, chroma: bool
) -> Iterator[Frame]:
    """The frames as stored in the file; see `read_video`."""
    total, (start, stop) = len(video.times), _bounds(unit, video)
    decoded = damaged = scaled = clipped = 0
    first, since = (max(index - context, 0) for index in (start, start if unit.since is None else unit.since))
    decoder = onward or SharedDecoder(video, chroma=chroma)
    for index, frame in decoder.frames(first, since=since, keep_from=stop - context):
        if index >= min(stop + context, total):
            break
        inside = start <= index < stop
        decoded += inside
        damaged += inside and frame.damaged
        scaled += inside and frame.scaled
        clipped += inside and frame.clipped
        yield Frame(
            luma=frame.luma,
            unit=unit,
            index=index,
            pts=int(video.times[index]),
            duration=video.duration(index),
            chroma=frame.stored.chroma if frame.stored else None,
            alpha=frame.alpha if inside else None,
            stored=frame.stored,
            side_data=frame.side_data if inside else (),
            context=not inside,
        )
    if not decoded and stop - start == total:
        raise MediaError("none of its frames can be decoded")
    extent = f"{stop - start} frames" if stop - start == total else f"frames {start} to {stop - 1}"
    if decoded < stop - start:
        warn(f"{stop - start - decoded} of {extent} failed to decode and are skipped")
    if damaged:
        warn(f"{damaged} of {extent} are damaged: the decoder concealed the errors")
    if clipped:
        warn(f"{clipped} of {extent} have samples of more than {video.depth} bits, which are clipped")
    if scaled:
        warn(f"{scaled} of {extent} differ in size from the first and are scaled to {video.width}x{video.height}")


def packets(container: InputContainer, stream: VideoStream, key: int | None = None) -> "Iterator[Packet[VideoStream]]":
    """A video's packets, from the keyframe with this decoding timestamp, or from the start.

    If the container seeks to a later keyframe, they start there. Damage that ends the file early ends the packets too: the
    index pass has reported it.
    """
    with suppress(av.error.FFmpegError):
        if key is not None:
            container.seek(key, stream=stream)
        demuxed = cast("Iterator[Packet[VideoStream]]", demux(container, [stream]))
        yield from demuxed if key is None else dropwhile(lambda packet: not packet.is_keyframe, demuxed)


def numbered(packets: "Iterable[Packet[VideoStream]]") -> "Iterator[Packet[VideoStream]]":
    """The packets with their number instead of timestamps: the decoder gives it to the frame that each holds."""
    for number, packet in enumerate(packets):
        packet.pts = packet.dts = number
        yield packet


def decode_packets(stream: VideoStream, packets: "Iterable[Packet[VideoStream]]") -> Iterator[VideoFrame | None]:
    """Decode packets; yields None for one that can't be decoded."""
    decoder = decoder_of(stream)
    for packet in chain(packets, [None]):
        try:
            yield from decoder.decode(packet)
        except av.error.FFmpegError:
            yield None


def frames_from(video: VideoFile, first: int) -> Generator[tuple[int, VideoFrame], None, None]:
    """(index, frame) pairs from `first` on, in ascending order, counted from 0. Raises MediaError.

    Decoding starts at the last keyframe at or before `first`. If that does not yield `first`, because the container seeks too
    late or the keyframe depends on earlier frames, earlier keyframes are tried, and finally the start of the video.
    """
    for key in _keys_before(video, first):
        frames = dropwhile(lambda indexed: indexed[0] < first, _decode(video, key))
        head = next(frames, None)
        if head and (head[0] == first or key is None):
            yield head
            yield from frames
            return


def _keys_before(video: VideoFile, first: int) -> Iterator[int | None]:
    """Decoding timestamps of keyframes to start at, nearest first, in growing steps; finally None, the start of the video."""
    number, step = int(np.searchsorted(video.keys[:, 0], first, side="right")) - 1, 1
    while number > 0:
        yield int(video.keys[number, 1])
        number, step = number - step, 2 * step
    yield None


def _decode(video: VideoFile, key: int | None) -> Generator[tuple[int, VideoFrame], None, None]:
    """Decode from a keyframe on; yields (index, frame) pairs in ascending order."""
    with video.open() as container:
        stream = video_stream(container, video.picture)
        if stream is None:
            raise MediaError("it has changed since it was opened")
        coded = packets(container, stream, key)
        if video.timing == "decoded":
            shown = (frame for frame in decode_packets(stream, numbered(coded)) if frame is not None)
            yield from zip(range(len(video.times)), shown, strict=False)
            return
        lowest = 0
        if key is not None:
            head = next(coded, None)
            start = _keyframe_index(video, head) if head else None
            if head is None or start is None:
                return
            # frames shown before the keyframe may depend on frames that were not decoded
            lowest, coded = start, chain([head], coded)
        if video.timing == "none":
            yield from (
                (number, frame)
                for number, frame in enumerate(decode_packets(stream, coded))
                if frame is not None and number < len(video.times)
            )
            return
        indexed = ((_frame_index(video, frame.pts), frame) for frame in decode_packets(stream, coded) if frame is not None)
        yield from _in_order(((index, frame) for index, frame in indexed if index is not None), lowest)


def _in_order(frames: Iterable[tuple[int, VideoFrame]], lowest: int) -> Iterator[tuple[int, VideoFrame]]:
    """Frames with increasing indices from `lowest` on, in the order in which the decoder shows them.

    Where a few are shown in another order than that of their timestamps, which the index pass did not notice, they exchange
    their indices, so that none is lost. Only where an index is missing do frames wait for that.
    """
    waiting: deque[VideoFrame] = deque()
    indices: list[int] = []
    for index, frame in frames:
        if index < lowest or index in indices:
            continue
        heappush(indices, index)
        waiting.append(frame)
        while indices and (indices[0] == lowest or len(indices) > _REORDERED):
            lowest = heappop(indices) + 1
            yield lowest - 1, waiting.popleft()
    yield from zip(sorted(indices), waiting, strict=True)


def _keyframe_index(video: VideoFile, packet: "Packet[VideoStream]") -> int | None:
    """Index of a keyframe; None if it is not the one that the index pass saw: some demuxers guess timestamps after a seek."""
    index = _frame_index(video, packet.pts)
    known = video.keys[video.keys[:, 0] == index, 2]
    return index if packet.size in known else None


def _frame_index(video: VideoFile, pts: int | None) -> int | None:
    """Index of the frame with this timestamp; None for a timestamp that the index pass did not see."""
    if pts is None:
        return None
    index = int(np.searchsorted(video.times, pts))
    return index if index < len(video.times) and video.times[index] == pts else None


def _decoded(frame: VideoFrame, video: VideoFile, index: int, *, chroma: bool) -> _Decoded:
    """Copy what is needed of a decoded frame. Raises MediaError."""
    clip, size = _Clipping(video.depth), (video.height, video.width)
    alpha = alpha_plane(frame)
    return _Decoded(
        luma=_own(clip(_scaled_luma(frame, video, index))),
        stored=_stored_chroma(frame, video, clip) if chroma else None,
        alpha=None if alpha is None else _own(clip(_scaled(alpha, size))),
        side_data=read_side_data(frame),
        damaged=frame.is_corrupt,
        scaled=(frame.height, frame.width) != size,
        clipped=clip.needed,
    )


def _own(plane: Luma) -> Luma:
    """A plane in memory of its own, read-only."""
    if plane.base is None:
        return plane
    copy = plane.copy()
    copy.flags.writeable = False
    return copy


def _scaled_luma(frame: VideoFrame, video: VideoFile, index: int) -> Luma:
    """A frame's luma, scaled to the video's size if it differs. Raises MediaError if its codes are not comparable."""
    current, initial = frame.format.name, video.pix_fmt
    if current != initial and _code_format(current) != _code_format(initial):
        raise MediaError(f"frame {index} is {current} after {initial}: cut the film there first")
    return _scaled(luma_plane(frame, video.matrix), (video.height, video.width))


class _Clipping:
    """Clips planes to the codes of a depth, which files with 16 bits a sample can exceed, and remembers whether any did."""

    def __init__(self, depth: int) -> None:
        self._most = (1 << depth) - 1
        self.needed = False

    def __call__(self, plane: Luma) -> Luma:
        """The plane itself if it needs no clipping, else a copy; read-only."""
        if plane.dtype == np.uint8 or int(plane.max(initial=0)) <= self._most:
            return plane
        self.needed = True
        clipped: Luma = np.minimum(plane, plane.dtype.type(self._most))
        clipped.flags.writeable = False
        return clipped


def _stored_chroma(frame: VideoFrame, video: VideoFile, clip: _Clipping) -> StoredChroma:
    """A frame's chroma, on the video's own grid."""
    form = layout(video.pix_fmt)
    size = -(-video.height >> form.chroma[1]), -(-video.width >> form.chroma[0])
    codes = chroma_codes(frame)
    if codes is None:  # RGB, or grey frames in a film that is otherwise in colour
        rgb = layout(frame.format.name).kind == "rgb"
        chroma = rgb_chroma(frame, video.matrix) if rgb else np.zeros((2, *size), np.float32)
        codes = to_codes(chroma, video.matrix, video.depth, video.levels)
    return stored_chroma([clip(_scaled(plane, size)) for plane in codes], video)


def _scaled(plane: Luma, size: tuple[int, int]) -> Luma:
    """A plane (h, w) of a frame, scaled to a size, height and width, if it differs; read-only."""
    if plane.shape == size:
        return plane
    larger = plane.shape[0] * plane.shape[1] > size[0] * size[1]
    method = cv2.INTER_AREA if larger else cv2.INTER_CUBIC
    scaled: Luma = np.asarray(cv2.resize(plane, size[::-1], interpolation=method), plane.dtype)  # type: ignore[assignment]
    scaled.flags.writeable = False
    return scaled


def _code_format(pix_fmt: str) -> tuple[str | int | bool, ...]:
    """What two pixel formats must have in common for their luma codes to mean the same."""
    form = layout(pix_fmt)
    return form.depth, form.kind == "rgb", pix_fmt.startswith("yuvj")
