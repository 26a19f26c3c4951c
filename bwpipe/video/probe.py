"""Opens a video: its header, its packet index and a sample of its frames."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path, PurePosixPath

import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.stream import Discard, Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from bwpipe.core.frame import Matrix
from bwpipe.core.ports import ScanCache
from bwpipe.errors import MediaError
from bwpipe.pixels.levels import range_of_counts
from bwpipe.pixels.tint_detection import ColourKind, colour_kind
from bwpipe.pixels.ycbcr import from_codes
from bwpipe.video.cropping import read_cropping
from bwpipe.video.decoder import decode_packets, packets
from bwpipe.video.file import (
    ALPHA_MODE,
    FULL,
    ColourTags,
    Track,
    VideoFile,
    colour_tags,
    luma_weights,
    open_container,
    video_stream,
)
from bwpipe.video.hdr_metadata import read_hdr_metadata
from bwpipe.video.interlacing import field_order
from bwpipe.video.packet_index import INDEX_VERSION, Index, read_index
from bwpipe.video.pixel_formats import chroma_codes, layout, luma_plane, rgb_chroma
from bwpipe.video.side_data import read_side_data, side_data_of, start_time_code
from bwpipe.video.stream_copy import MUXERS, can_hold

_SAMPLES = 32
"""Number of frames to sample."""
RUN = 128
"""Number of frames to decode for that if there are few keyframes."""
_ONE = 1 << 16
"""1 in the numbers of a display matrix that turn."""
_ENOUGH = 256
"""Samples along the short side that are enough of a frame's chroma."""
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
"""EXIF orientation by the signs of a display matrix's a, b, c, d, where (x, y) is shown at (ax + cy, bx + dy)."""


def open_video(
    path: Path, name: PurePosixPath, *, max_pixels: int, picture: int | None = None, scans: ScanCache | None = None
) -> VideoFile:
    """Open a video without reading all of its frames: reads all packets, decodes about 32 frames.

    Args:
        path: The file, absolute.
        name: Its path relative to the folder that is read.
        max_pixels: Refuse larger frames before any is decoded.
        picture: Number of the video stream, counted from 1; None for the first that is marked as default, else the first.
        scans: Cache of earlier index passes.

    Raises:
        MediaError: It can't be opened, is too large, or has no video stream that can be decoded and has luma.
    """

    def choose(container: InputContainer) -> VideoStream:
        return _checked_stream(container, max_pixels, picture)

    def scan() -> bytes:
        return read_index(path, choose).to_bytes()

    key = f"{INDEX_VERSION}, picture {picture or 'as marked'}"
    index = scans.find(path, key, scan, Index.from_bytes) if scans else Index.from_bytes(scan())
    with open_container(path, index.places) as container:
        stream = choose(container)
        samples = _sample_frames(container, stream, index)
        first = next(samples, None)
        if first is None or stream.time_base is None:
            raise MediaError("none of its frames can be decoded")
        pix_fmt, context = first.format.name, stream.codec_context
        stated = ColourTags(context.color_range, context.colorspace, context.color_primaries, context.color_trc)
        tags = colour_tags(stated, pix_fmt=pix_fmt, codec=context.name, height=first.height)
        matrix, depth, display = luma_weights(tags), layout(pix_fmt).depth, _display(first)
        black, white = (0, (1 << depth) - 1) if tags.range == FULL else (16 << depth - 8, 235 << depth - 8)
        counts, kinds, carries = _looked_at(chain([first], samples), matrix, depth, (black, white))
        coloured = kinds.count("colour") / max(len(kinds), 1)
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
            tones=range_of_counts(counts),
            colour=kind_of_film(kinds),
            coloured=coloured,
            carries=frozenset(carries),
            cropping=read_cropping(stream),
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
            stream_index=stream.index,
            places=index.places,
            clocks=index.clocks,
            disposition=stream.disposition,
            tracks=tuple(
                describe_track(other) for other in container.streams if other is not stream and not _is_redundant(other)
            ),
            chapters=len(container.chapters()),
            metadata=(dict(container.metadata), _stream_tags(container, stream, first)),
            faults=index.faults,
            hdr=read_hdr_metadata(first),
        )


def _checked_stream(container: InputContainer, max_pixels: int, number: int | None) -> VideoStream:
    stream = video_stream(container, number)
    if stream is None and number:
        raise MediaError(f"it has no video stream number {number}; set `picture` to a lower number, or leave it out")
    if stream is None:
        raise MediaError("it has no video stream")
    if stream.codec_context is None:
        raise MediaError("its video codec can't be decoded here")
    if stream.width * stream.height > max_pixels:
        raise MediaError(
            f"its frames of {stream.width}x{stream.height} exceed the limit of {max_pixels} pixels: raise max_pixels"
        )
    return stream


def sample_numbers(count: int) -> list[int]:
    """The numbers of the frames to sample of that many, in ascending order: the same whatever holds the film."""
    return [int(number) for number in np.linspace(0, count - 1, min(count, _SAMPLES))]


def _sample_frames(container: InputContainer, stream: VideoStream, index: Index) -> Iterator[VideoFrame]:
    """About 32 frames, evenly spaced: keyframes if there are many, else some of the run that follows each.

    They are those of `sample_numbers` if all frames are keyframes, or there are no more than can be decoded for this.
    """
    count = len(index.times)
    if len(index.keys) < count <= RUN:
        wanted = sample_numbers(count)
        decoded = (frame for frame in decode_packets(stream, packets(container, stream)) if frame is not None)
        yield from (frame for number, frame in enumerate(decoded) if number in wanted)
        return
    keys = index.keys[sample_numbers(len(index.keys)), 1]
    run = 1 if len(keys) >= _SAMPLES // 2 else RUN // max(len(keys), 1)
    for key in (int(key) for key in keys) if len(keys) else [None]:
        coded = packets(container, stream, key)
        if run == 1:  # a single packet, so that the decoder does not wait for the frames around it
            coded = islice(coded, 1)
        decoded = (frame for frame in decode_packets(stream, coded) if frame is not None)
        yield from islice(decoded, 0, run, RUN // _SAMPLES)


def _looked_at(
    frames: Iterable[VideoFrame], matrix: Matrix, depth: int, levels: tuple[int, int]
) -> tuple[NDArray[np.int64], list[ColourKind], set[str]]:
    """How often each luma code occurs in some frames, of what kind each is, and the kinds of their side data."""
    counts = np.zeros(1 << depth, np.int64)
    carries: set[str] = set()
    kinds: list[ColourKind] = []
    for frame in frames:
        form = layout(frame.format.name)
        if form.depth != depth:  # it changes midway, which `read_video` reports
            continue
        carries.update(kind for kind, _ in read_side_data(frame))
        luma = luma_plane(frame, matrix)
        sampled = luma[::2, ::2].ravel()
        if sampled.max(initial=0) >= len(counts):
            raise MediaError(f"it is damaged: it has samples of more than its {depth} bits")
        counts += np.bincount(sampled, minlength=len(counts))
        codes = chroma_codes(frame)
        if codes is not None:
            step = max(1, min(codes.shape[1:]) // _ENOUGH)
            kinds.append(colour_kind(luma, from_codes(codes[:, ::step, ::step], matrix, depth, levels)))
        else:
            kinds.append(colour_kind(luma, rgb_chroma(frame, matrix)) if form.kind == "rgb" else "grey")
    return counts, kinds, carries


def kind_of_film(kinds: list[ColourKind]) -> ColourKind:
    """The kind of a film, by those of the frames that were looked at: half of them decide."""
    if 2 * kinds.count("colour") >= max(len(kinds), 1):
        return "colour"
    return "toned" if 2 * (len(kinds) - kinds.count("grey")) >= max(len(kinds), 1) else "grey"


def _stream_tags(container: InputContainer, stream: VideoStream, first: VideoFrame) -> dict[str, str]:
    """The tags of the video stream, and if the file has no other time code, that of its first GOP (MPEG-2)."""
    tags = {key: value for key, value in stream.metadata.items() if key.lower() != ALPHA_MODE}
    known = any("timecode" in {key.lower() for key in other.metadata} for other in (container, *container.streams))
    code = None if known else start_time_code(first)
    return {**tags, "timecode": code} if code else tags


def _display(frame: VideoFrame) -> tuple[int, ...] | None:
    matrix = side_data_of(frame).get(Type.DISPLAYMATRIX)
    if matrix is not None:
        return tuple(int(number) for number in np.frombuffer(matrix, np.int32))
    if not frame.rotation:
        return None
    turn = np.deg2rad(frame.rotation)  # where side data can't be read as such; FFmpeg's layout is that of libavutil/display.h
    cosine, sine = round(np.cos(turn) * _ONE), round(np.sin(turn) * _ONE)
    return cosine, -sine, 0, sine, cosine, 0, 0, 0, 1 << 30


def display_matrix(orientation: int) -> tuple[int, ...] | None:
    """The display matrix of an EXIF orientation, in FFmpeg's layout; None for an upright one."""
    if orientation == 1:
        return None
    a, b, c, d = (_ONE * sign for signs, found in _ORIENTATIONS.items() if found == orientation for sign in signs)
    return a, b, 0, c, d, 0, 0, 0, 1 << 30


def _rate(stream: VideoStream, times: NDArray[np.int64]) -> Fraction | None:
    """Frames per second: the header's value if it is within 5 % (a DV file may state 60000), else measured."""
    stated = stream.average_rate
    if len(times) < 2 or not stream.time_base:
        return stated
    measured = (len(times) - 1) / (int(times[-1] - times[0]) * stream.time_base)
    return stated if stated and abs(stated / measured - 1) < 0.05 else measured.limit_denominator(1001)


def _orientation(display: tuple[int, ...] | None) -> int:
    """EXIF orientation of a display matrix; 1 for one that does more than rotate and mirror."""
    if display is None:
        return 1
    a, b, _, c, d, *_ = (int(np.sign(number)) for number in display)
    return _ORIENTATIONS.get((a, b, c, d), 1)


def describe_track(stream: Stream) -> Track:
    """What is known of a stream other than the video stream."""
    codec = stream.codec_context.name if stream.codec_context is not None else ""
    words = (stream.metadata.get(key, "") for key in ("language", "title", "filename"))
    label = ", ".join(word for word in words if word not in {"", "und"})
    rate = stream.codec_context.sample_rate if isinstance(stream, AudioStream) and stream.codec_context is not None else 0
    cover = bool(stream.disposition & Disposition.attached_pic)
    fits = frozenset(muxer for muxer in MUXERS if can_hold(muxer, stream))
    return Track(stream.index, stream.type, codec, label, cover, rate, fits)


def _is_redundant(stream: Stream) -> bool:
    """Whether an MP4 or QuickTime stream only holds chapter titles, or the time code that is in the video stream's tags."""
    return stream.discard == Discard.all or (stream.type == "data" and "timecode" in stream.metadata)
