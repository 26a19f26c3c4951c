"""Writes small test films in every container, depth, range, size and audio format that bwpipe reads."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from bwpipe.core.frame import Frame, Luma, Unit
from bwpipe.core.provenance import read_note
from bwpipe.video.container import container_for, conversion_notes
from bwpipe.video.decoder import read_video
from bwpipe.video.encoding import Encoding, chroma_grid, coded_depth
from bwpipe.video.file import ColourTags, VideoFile, open_container, video_stream
from bwpipe.video.muxer import VideoMuxer
from bwpipe.video.pixel_formats import layout, plane
from bwpipe.video.probe import open_video
from bwpipe.video.segment_encoder import SegmentWriter
from bwpipe.video.stream_copy import portable_tags

MS = Fraction(1, 1000)
UNTAGGED = ColourTags(0, 2, 2, 2)
EVEN = range(0, 30 * 512, 512)
UNEVEN = [0, *(int(time) for time in np.cumsum([512, 400, 1300, 700] * 7))]
H264, FFV1 = Encoding(preset="veryfast"), Encoding(codec="ffv1")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Properties of a test film."""

    suffix: str = ".mp4"
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    size: tuple[int, int] = (96, 64)
    times: Sequence[int] = EVEN
    time_base: Fraction = Fraction(1, 12800)
    sound: str | None = None
    sound_start: Fraction = Fraction(0)
    options: dict[str, str] = field(default_factory=dict)
    tags: ColourTags = UNTAGGED
    aspect: Fraction | None = None
    turn: tuple[int, bool] | None = None


MKV = Kind(suffix=".mkv", codec="ffv1", time_base=MS, times=range(0, 1200, 40))
AVI = Kind(suffix=".avi", time_base=Fraction(1, 25), times=range(30))
TS = Kind(suffix=".ts", time_base=Fraction(1, 90000), times=range(0, 30 * 3600, 3600))
KINDS: dict[str, Kind] = {
    "uneven times, late sound": Kind(times=UNEVEN, sound="aac", sound_start=Fraction(123, 1000)),
    "late start": Kind(times=range(12800, 30000, 512), sound="aac", sound_start=Fraction(1, 2)),
    "PCM sound": Kind(suffix=".mov", sound="pcm_s16le", sound_start=Fraction(1, 24)),
    "Matroska": replace(MKV, codec="libx264", sound="aac"),
    "AVI": replace(AVI, sound="pcm_s16le"),
    "AVI, MPEG-4": replace(AVI, codec="mpeg4", options={"bf": "2"}),
    "transport stream": replace(TS, sound="aac"),
    "10 bits": Kind(pix_fmt="yuv420p10le"),
    "10 bits, 4:2:2": replace(MKV, pix_fmt="yuv422p10le"),
    "full range": Kind(tags=ColourTags(2, 5, 5, 6)),
    "10 bits, full range": replace(MKV, pix_fmt="yuv420p10le", tags=ColourTags(2, 1, 1, 1)),
    "turned": Kind(turn=(-90, False)),
    "turned and mirrored": replace(MKV, turn=(90, True)),
    "wide pixels": Kind(aspect=Fraction(16, 11)),
    "wide pixels, FFV1": Kind(codec="ffv1", aspect=Fraction(16, 11)),
    "odd size": replace(MKV, size=(97, 63)),
    "grey": replace(MKV, pix_fmt="gray"),
    "RGB": Kind(suffix=".mov", codec="png", pix_fmt="rgb24"),
    "RGB, 10 bits": replace(MKV, pix_fmt="gbrp10le"),
    "packed": Kind(suffix=".mov", codec="rawvideo", pix_fmt="uyvy422"),
    "one frame": Kind(times=[0]),
    "interlaced": Kind(options={"flags": "+ildct+ilme"}),
    "interlaced, MPEG-2": replace(
        MKV, codec="mpeg2video", time_base=Fraction(1, 25), times=range(30), options={"flags": "+ildct"}
    ),
}


def make_film(path: Path, kind: Kind, muxer: dict[str, str] | None = None) -> Path:
    """Write a film: moving stripes with noise, and audio noise."""
    random = np.random.default_rng(7)
    with av.open(str(path), "w", container_options=muxer or {}) as output:
        stream = output.add_stream(kind.codec, rate=25, options=dict(kind.options), time_base=kind.time_base)
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        (context.width, context.height), context.pix_fmt, context.thread_count = kind.size, kind.pix_fmt, 1
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = kind.tags
        context.sample_aspect_ratio = kind.aspect or Fraction(0)
        if kind.turn:
            stream.set_display_rotation(kind.turn[0], vflip=kind.turn[1])
        if kind.sound:
            sound = output.add_stream(kind.sound, rate=48000)
            assert isinstance(sound, AudioStream)
            sound.metadata["language"], sound.disposition = "fra", Disposition.default | Disposition.dub
            for samples in [*audio_frames(kind, sound.codec_context.format.name, random), None]:
                output.mux(sound.encode(samples))
        for number, time in enumerate(kind.times):
            frame = video_frame(number, kind, random)
            frame.pts, frame.time_base = time, kind.time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@dataclass(frozen=True, kw_only=True)
class Rich(Kind):
    """Properties of a test film with all kinds of streams: first a second video stream, then the film, audio and the rest."""

    subtitle: str = "mov_text"
    cover: bool = True
    attachment: bool = False
    extra: tuple[str, ...] = ()


RICH = {
    "MP4": Rich(sound="aac"),
    "MP4, unusual tags": Rich(sound="aac", times=UNEVEN, cover=False, extra=("director", "com.apple.quicktime.make")),
    "QuickTime": Rich(suffix=".mov", sound="pcm_s16le", cover=False),
    "Matroska": Rich(suffix=".mkv", sound="flac", subtitle="subrip", time_base=MS, times=range(0, 1200, 40), attachment=True),
}
_CHAPTERS = [(0, 500, "One"), (500, 1100, "Two")]


def make_rich_film(path: Path, kind: Rich) -> Path:
    """Write a film with a second video stream, two audio streams, a subtitle, chapters, tags, cover art and an attachment."""
    plain = make_film(path.with_name(f"plain{path.suffix}"), replace(kind, subtitle="", cover=False))
    ntsc = replace(kind, subtitle="", cover=False, time_base=Fraction(1, 30000), times=range(0, 20 * 1001, 1001))
    other = make_film(path.with_name(f"other{path.suffix}"), ntsc)
    still = make_film(path.with_name("still.mkv"), replace(MKV, codec="mjpeg", pix_fmt="yuvj420p", times=[0]))
    tags = {"title": "Homecoming", "artist": "Nobody", "comment": "found in an attic", "date": "1922"}
    options = {"movflags": "use_metadata_tags"} if kind.extra else {}
    with av.open(str(other)) as one, av.open(str(plain)) as two, av.open(str(path), "w", container_options=options) as output:
        output.metadata.update(tags | dict.fromkeys(kind.extra, "x"))
        copies = {}
        for number, source in enumerate((one, two)):
            for stream in source.streams:
                copy = output.add_stream_from_template(stream, opaque=True)
                copy.metadata.update({"language": ["fra", "eng"][number], "title": f"{stream.type} {number}"})
                copy.disposition = Disposition.default if number else Disposition(0)
                copies[number, stream.index] = copy
        text = add_text(output, kind.subtitle) if kind.subtitle else None
        cover = (
            output.add_stream_from_template(still_stream(still), opaque=True) if kind.cover and kind.suffix != ".mkv" else None
        )
        if cover:
            cover.disposition = Disposition.attached_pic
        elif kind.cover:
            output.add_attachment("cover.jpg", "image/jpeg", still_file(still))
        if kind.attachment:
            output.add_attachment("font.ttf", "font/ttf", b"letters")
        output.set_chapters(
            [
                {"id": number, "start": start, "end": end, "time_base": MS, "metadata": {"title": title}}
                for number, (start, end, title) in enumerate(_CHAPTERS, 1)
            ]
        )
        output.start_encoding()
        if cover:
            put(output, cover, still_file(still), 0, 0)
        for number in range(3 if text else 0):
            put(output, text, b"\0\5hello" if kind.subtitle == "mov_text" else b"hello", number * 300, 200)
        for number, source in enumerate((one, two)):
            for packet in source.demux():
                if packet.size:
                    packet.stream = copies[number, packet.stream.index]
                    output.mux(packet)
    return path


def add_text(output: OutputContainer, codec: str) -> Stream:
    stream = output.add_mux_stream(codec)
    stream.time_base, stream.disposition = MS, Disposition.forced | Disposition.default
    stream.metadata["language"] = "ger"
    return stream


def put(output: OutputContainer, stream: Stream | None, data: bytes, pts: int, duration: int) -> None:
    packet = Packet(data)
    packet.stream, packet.time_base = stream, MS  # type: ignore[assignment]
    packet.pts = packet.dts = pts
    packet.duration, packet.is_keyframe = duration, True
    output.mux_one(packet)


def still_file(path: Path) -> bytes:
    with av.open(str(path)) as container:
        return next(bytes(packet) for packet in container.demux() if packet.size)


def still_stream(path: Path) -> Stream:
    return av.open(str(path)).streams[0]


def contents(path: Path) -> dict[str, Any]:
    """Everything that has to be kept of a film's file, besides the video stream that is coloured."""
    with open_container(path) as container:
        streams = [stream for stream in container.streams if stream.discard != Discard.all]
        main = video_stream(container)
        described = [
            (stream.type, portable_tags(stream.metadata, "mp4"), stream.disposition, getattr(stream, "data", None))
            for stream in streams
        ]
        whole = {
            "streams": described,
            "tags": read_note(portable_tags(container.metadata, "mp4"))[0],
            "chapters": [
                (
                    chapter["start"] * (chapter["time_base"] or 1),
                    chapter["end"] * (chapter["time_base"] or 1),
                    chapter["metadata"],
                )
                for chapter in container.chapters()
            ],
        }
        packets: dict[int, list[Any]] = {stream.index: [] for stream in streams if stream is not main}
        for packet in container.demux():
            if packet.size and packet.stream_index in packets:
                pts, duration = packet.pts or 0, packet.duration or 0
                packets[packet.stream_index].append((pts * packet.time_base, duration * packet.time_base, bytes(packet)))
    return {**whole, "packets": list(packets.values())}


def video_frame(number: int, kind: Kind, random: np.random.Generator) -> VideoFrame:
    frame = VideoFrame(*kind.size, kind.pix_fmt)
    depth = layout(kind.pix_fmt).depth
    for index in range(len(frame.planes)):
        samples = plane(frame, index, depth, writeable=True)
        memory = np.lib.stride_tricks.as_strided(samples, (samples.shape[0], frame.planes[index].line_size // samples.itemsize))
        down, across = np.mgrid[: memory.shape[0], : memory.shape[1]]
        memory[:] = ((2 * down + 3 * across + 5 * number) % 180 + 30 + random.integers(0, 8, memory.shape)) << (depth - 8)
    return frame


def audio_frames(kind: Kind, form: str, random: np.random.Generator) -> Iterator[AudioFrame]:
    start = round(kind.sound_start * 48000)
    for pts in range(start, round(kind.times[-1] * kind.time_base * 48000), 1024):
        frame = AudioFrame(form, "stereo", 1024)
        for samples in frame.planes:
            noise = random.standard_normal(samples.buffer_size // (4 if "flt" in form else 2)) / 20
            samples.update((noise.astype(np.float32) if "flt" in form else (noise * 32767).astype(np.int16)).tobytes())
        frame.sample_rate, frame.pts, frame.time_base = 48000, pts, Fraction(1, 48000)
        yield frame


def opened(path: Path) -> VideoFile:
    return open_video(path, PurePosixPath(path.name), max_pixels=1_000_000)


def read(
    film: VideoFile, start: int = 0, stop: int | None = None, context: int = 0, warn: Callable[[str], None] = lambda text: None
) -> list[Frame]:
    for fault in film.faults:
        warn(fault)
    return list(read_video(Unit(film, start=start, stop=stop), context, warn=warn))


def rewritten(
    film: VideoFile, folder: Path, encoding: Encoding, warn: Callable[[str], None] = lambda text: None, stop: int | None = None
) -> VideoFile:
    """The film written with constant chroma, and opened."""
    path = folder / f"written{container_for(film, encoding).suffix}"
    grid = chroma_grid(film, encoding)
    depth = coded_depth(film, encoding)
    chroma = np.full((2, grid.height, grid.width), 100 << (depth - 8), np.uint8 if depth == 8 else np.uint16)
    for text in conversion_notes(film, encoding):
        warn(text)
    joined(path, film, encoding, [segment(folder / "fragment", film, encoding, chroma, stop=stop)], warn=warn, stop=stop)
    return opened(path)


def segment(path: Path, film: VideoFile, encoding: Encoding, chroma: Luma, start: int = 0, stop: int | None = None) -> Path:
    """Write some frames of a film with the same chroma as a fragment."""
    writer = SegmentWriter(path, film, encoding)
    try:
        for frame in read(film, start, stop):
            assert frame.pts is not None
            writer.write(frame.luma, chroma, frame.pts, frame.duration)
        writer.close()
    finally:
        writer.abandon()
    return path


def joined(
    path: Path,
    film: VideoFile,
    encoding: Encoding,
    fragments: Sequence[Path],
    warn: Callable[[str], None],
    stop: int | None = None,
) -> None:
    writer = VideoMuxer(path, film, encoding, stop=stop, warn=warn)
    try:
        writer.join(fragments)
        writer.close()
    finally:
        writer.abandon()


def moments(film: VideoFile) -> list[Fraction]:
    return [int(time) * film.time_base for time in film.times]


def sound_of(film: VideoFile) -> list[tuple[Fraction, Fraction, bytes]]:
    """Timestamp, duration and payload of each audio packet, without the 7-byte ADTS header of AAC in a transport stream."""
    with open_container(film.path) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size] if container.streams.audio else []
    skip = 7 if film.container == "mpegts" else 0
    return [
        ((packet.pts or 0) * packet.time_base, (packet.duration or 0) * packet.time_base, bytes(packet)[skip:])
        for packet in packets
    ]


def make_corpus(folder: Path) -> dict[str, VideoFile]:
    """A film of each of the `KINDS`, by name."""
    return {name: opened(make_film(folder / f"{index}{kind.suffix}", kind)) for index, (name, kind) in enumerate(KINDS.items())}


def spoil(path: Path, numbers: slice, kept: float = 0) -> Path:
    """Zero the coded frames with these numbers, except for the leading fraction `kept` of each."""
    content = bytearray(path.read_bytes())
    with open_container(path) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    for packet in packets[numbers]:
        stop = content.index(packet) + len(packet)
        lost = len(packet) - int(kept * len(packet))
        content[stop - lost : stop] = bytes(lost)
    path.write_bytes(content)
    return path
