"""A film's header, its index and a look at its frames: all that is known before they are read."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.stream import Discard, Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from bwpipe.core.frame import Matrix
from bwpipe.core.stage import ScanCache
from bwpipe.errors import MediaError
from bwpipe.video.decoder import packets, pictures
from bwpipe.video.file import FULL, ColourTags, Track, VideoFile, colour_tags, luma_weights, open_container, video_stream
from bwpipe.video.hdr_metadata import read_hdr_metadata
from bwpipe.video.interlacing import field_order
from bwpipe.video.packet_index import WAY, Index, read_index
from bwpipe.video.pixel_formats import layout, luma_plane
from bwpipe.video.stream_copy import MUXERS, takes

_LOOKS, _RUN = 32, 128
"""How many frames are looked at, and how many are decoded for that where there are few key frames."""
_TAILS = (0.005, 0.995)
"""Below and above which shares of all samples a film's tones lie."""
_ORIENTATIONS = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}
"""EXIF's numbers for the signs of a display matrix's a, b, c, d, where (x, y) is shown at (ax + cy, bx + dy)."""


def open_video(
    path: Path, name: PurePosixPath, *, max_pixels: int, picture: int | None = None, scans: ScanCache | None = None
) -> VideoFile:
    """What is known of a film before its frames are read. Reads all of its packets, decodes about 32 frames.

    Args:
        path: The file, absolute.
        name: Its place below the folder that is read.
        max_pixels: Refuse larger frames before any is decoded.
        picture: Which of its moving pictures, counted from 1; None for the first that is marked as default, else the first.
        scans: Knows of packets that were read before, so that it need not be done again.

    Raises:
        MediaError: It can't be opened, is too large, or holds no picture that can be decoded and has luma.
    """

    def read_through() -> bytes:
        with open_container(path) as container:
            return read_index(container, _picture(container, max_pixels, picture)).packed()

    what = f"{WAY}, picture {picture or 'as marked'}"
    index = Index.unpacked(scans.find(path, what, read_through) if scans else read_through())
    with open_container(path) as container:
        stream = _picture(container, max_pixels, picture)
        looks = _look(container, stream, index)
        first = next(looks, None)
        if first is None or stream.time_base is None:
            raise MediaError("none of its frames can be decoded")
        pix_fmt, context = first.format.name, stream.codec_context
        stated = ColourTags(context.color_range, context.colorspace, context.color_primaries, context.color_trc)
        tags = colour_tags(stated, pix_fmt=pix_fmt, codec=context.name, height=first.height)
        matrix, depth, display = luma_weights(tags), layout(pix_fmt).depth, _display(first)
        black, white = (0, (1 << depth) - 1) if tags.range == FULL else (16 << depth - 8, 235 << depth - 8)
        return VideoFile(
            path=path,
            name=name,
            width=first.width,
            height=first.height,
            depth=depth,
            levels=(black, white),
            matrix=matrix,
            orientation=_orientation(display),
            time_base=stream.time_base,
            frames=len(index.times),
            tones=_tones(chain([first], looks), matrix, depth),
            container=container.format.name,
            brand=container.metadata.get("major_brand", "").strip(),
            codec=context.name,
            pix_fmt=pix_fmt,
            stated=stated,
            tags=tags,
            sample_aspect=stream.sample_aspect_ratio,
            display=display,
            rate=_rate(stream, index.times),
            times=index.times,
            last=index.last,
            timing=index.timing,
            keys=index.keys,
            fields=field_order(first.interlaced_frame, context.field_order, context.name),
            place=stream.index,
            disposition=stream.disposition,
            tracks=tuple(_track(other) for other in container.streams if other is not stream and not _repeats(other)),
            chapters=len(container.chapters()),
            metadata=(dict(container.metadata), dict(stream.metadata)),
            faults=index.faults,
            light=read_hdr_metadata(first),
        )


def _picture(container: InputContainer, max_pixels: int, number: int | None) -> VideoStream:
    stream = video_stream(container, number)
    if stream is None and number:
        raise MediaError(f"it holds no moving picture number {number}; set `picture` to a lower one, or leave it out")
    if stream is None:
        raise MediaError("it holds no moving picture")
    if stream.codec_context is None:
        raise MediaError("its picture is of a kind that can't be decoded here")
    if stream.width * stream.height > max_pixels:
        raise MediaError(
            f"its frames of {stream.width}x{stream.height} are above the limit of {max_pixels} pixels: raise max_pixels"
        )
    return stream


def _look(container: InputContainer, stream: VideoStream, index: Index) -> Iterator[VideoFrame]:
    """About 32 frames, evenly spaced: key frames where there are many, else some of a run after each."""
    keys = index.keys[np.linspace(0, len(index.keys) - 1, min(len(index.keys), _LOOKS)).astype(int), 1]
    run = 1 if len(keys) >= _LOOKS // 2 else _RUN // max(len(keys), 1)
    for key in (int(key) for key in keys) if len(keys) else [None]:
        coded = packets(container, stream, key)
        if run == 1:  # alone: the decoder is not made to wait for the frames around it
            coded = islice(coded, 1)
        decoded = (picture for picture in pictures(stream, coded) if picture is not None)
        yield from islice(decoded, 0, run, _RUN // _LOOKS)


def _tones(looks: Iterable[VideoFrame], matrix: Matrix, depth: int) -> tuple[int, int]:
    """The luma codes between which 99 of 100 samples lie."""
    counts = np.zeros(1 << depth, np.int64)
    for picture in looks:
        if layout(picture.format.name).depth != depth:  # it changes midway, which reading says
            continue
        counts += np.bincount(luma_plane(picture, matrix)[::2, ::2].ravel(), minlength=len(counts))
    low, high = np.searchsorted(np.cumsum(counts), np.array(_TAILS) * counts.sum())
    return int(low), int(high)


def _display(picture: VideoFrame) -> tuple[int, ...] | None:
    side_data: Any = picture.side_data  # PyAV's stub knows motion vectors only
    matrix = side_data.get(Type.DISPLAYMATRIX)
    return None if matrix is None else tuple(int(number) for number in np.frombuffer(matrix, np.int32))


def _rate(stream: VideoStream, times: NDArray[np.int64]) -> Fraction | None:
    """Frames per second: what the header says where that is about true (a DV file may say 60000), else as found."""
    said = stream.average_rate
    if len(times) < 2 or not stream.time_base:
        return said
    found = (len(times) - 1) / (int(times[-1] - times[0]) * stream.time_base)
    return said if said and abs(said / found - 1) < 0.05 else found.limit_denominator(1001)


def _orientation(display: tuple[int, ...] | None) -> int:
    """EXIF's number for a display matrix; 1 for one that does more than turn and mirror."""
    if display is None:
        return 1
    a, b, _, c, d, *_ = (int(np.sign(number)) for number in display)
    return _ORIENTATIONS.get((a, b, c, d), 1)


def _track(stream: Stream) -> Track:
    codec = stream.codec_context.name if stream.codec_context is not None else ""
    words = (stream.metadata.get(key, "") for key in ("language", "title", "filename"))
    label = ", ".join(word for word in words if word not in {"", "und"})
    rate = stream.codec_context.sample_rate if isinstance(stream, AudioStream) and stream.codec_context is not None else 0
    cover = bool(stream.disposition & Disposition.attached_pic)
    fits = frozenset(muxer for muxer in MUXERS if takes(muxer, stream))
    return Track(stream.index, stream.type, codec, label, cover, rate, fits)


def _repeats(stream: Stream) -> bool:
    """Whether a stream of MP4 or QuickTime only holds the titles of chapters, or the time code that the picture's tags have."""
    return stream.discard == Discard.all or (stream.type == "data" and "timecode" in stream.metadata)
