"""Writes films with every kind of stream, and copies of films with one change, for tests."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from bwpipe.video.file import open_container
from bwpipe.video.pixel_formats import plane
from tests.support.made_films import MKV, MS, make_film, opened, read

SUBTITLES = b"1\n00:00:00,100 --> 00:00:00,400\nA hat.\n\n2\n00:00:00,500 --> 00:00:00,900\nA cat.\n\n"
CHAPTERS = [
    {"id": 1, "start": 0, "end": 500, "time_base": MS, "metadata": {"title": "One"}},
    {"id": 2, "start": 500, "end": 1200, "time_base": MS, "metadata": {"title": "Two"}},
]
TAGS = {"title": "Grandmother", "date": "1931", "comment": "from the blue box"}


def make_rich_film(folder: Path) -> Path:
    """A Matroska film with sound, two subtitles, an attachment, two chapters and tags."""
    plain = make_film(folder / "plain.mkv", replace(MKV, sound="aac"))
    rich = folder / "rich.mkv"
    with (
        open_container(plain) as film,
        av.open(BytesIO(SUBTITLES), "r", format="srt") as subtitles,
        av.open(str(rich), "w") as output,
    ):
        output.metadata.update(TAGS)
        output.set_chapters(CHAPTERS)  # type: ignore[arg-type]
        copies = {id(stream): copied(stream, output) for stream in film.streams}
        texts = []
        for language in ("eng", "fra"):
            text = output.add_stream_from_template(subtitles.streams[0])
            text.metadata["language"] = language
            texts.append(text)
        output.add_attachment("font.ttf", "font/ttf", b"letters")
        for packet in subtitles.demux():
            for text in texts if packet.size else ():
                copy = av.Packet(bytes(packet))
                copy.pts, copy.dts, copy.duration, copy.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
                copy.stream = text
                output.mux(copy)
        for packet in film.demux():
            if packet.size:
                packet.stream = copies[id(packet.stream)]
                output.mux(packet)
    return rich


def copied(stream: Stream, output: Any) -> Stream:
    copy: Stream = output.add_stream_from_template(stream, **({"opaque": True} if stream.type == "video" else {}))
    copy.metadata.update(stream.metadata)
    copy.disposition = stream.disposition
    return copy


def recoded(
    source: Path,
    target: Path,
    codec: str,
    change: Callable[[int, Any], Any] = lambda number, luma: luma,
    *,
    comment: str = "",
    count: int | None = None,
) -> Path:
    """Re-encode a film in one colour, with its audio, without bwpipe's own writer.

    Args:
        source: The source, in 4:2:0 with 8 bits.
        target: The file to write.
        codec: FFmpeg's encoder name.
        change: Maps the number and luma of a frame to other luma, or to None to drop the frame.
        comment: The comment tag.
        count: Number of frames to write, with the audio up to their end; None for all.
    """
    film = opened(source)
    options = {"crf": "17", "preset": "veryfast"} if codec == "libx264" else {}
    frames = read(film, stop=count)
    end = (frames[-1].pts or 0) + (frames[-1].duration or 0) if count else None
    durations = {frame.pts: frame.duration or 0 for frame in frames}
    with open_container(source) as audio, av.open(str(target), "w", container_options={"fflags": "+bitexact"}) as output:
        if comment:
            output.metadata["comment"] = comment
        stream = output.add_stream(codec, rate=25, options=options, time_base=film.time_base)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = film.width, film.height, "yuv420p", 1
        sounds = {track.index: copied(track, output) for track in audio.streams.audio}
        for packet in audio.demux([audio.streams[index] for index in sounds]) if sounds else ():
            if packet.size and (end is None or (packet.dts or 0) * packet.time_base < end * film.time_base):
                packet.stream = sounds[packet.stream_index]
                output.mux(packet)
        for frame in [*frames, None]:
            luma = None if frame is None else change(frame.index, frame.luma.copy())
            if frame is not None and luma is None:
                continue
            image = None if frame is None else VideoFrame(film.width, film.height, "yuv420p")
            if image is not None and frame is not None:
                planes: list[Any] = [luma, 100, 100]
                for index, samples in enumerate(planes):
                    plane(image, index, 8, writeable=True)[:] = samples
                image.pts, image.time_base = frame.pts, film.time_base
            for coded in stream.encode(image):
                coded.duration = durations.get(coded.pts, 0)
                output.mux(coded)
    return target


def remuxed(
    source: Path,
    target: Path,
    *,
    keep: Callable[[Stream], bool] = lambda stream: True,
    packet: Callable[[Any, int], Any] = lambda packet, number: packet,
    longer: Mapping[int, int] | None = None,
    tags: Mapping[str, str] = TAGS,
    chapters: Any = CHAPTERS,
    dispositions: Mapping[int, Disposition] | None = None,
    languages: Mapping[int, str] | None = None,
) -> Path:
    """Remux a film with changes.

    Args:
        source: The film.
        target: The copy.
        keep: Whether to keep a stream.
        packet: Maps a video packet and its number to another packet, or to None to drop it.
        longer: Increase of packet durations, by stream index.
        tags: Tags of the file.
        chapters: Chapters in PyAV's form.
        dispositions, languages: New values, by stream index.
    """
    with open_container(source) as film, av.open(str(target), "w") as output:
        output.metadata.update(tags)
        output.set_chapters(chapters)
        copies = {}
        for stream in film.streams:
            if not keep(stream):
                continue
            if stream.type == "attachment":
                output.add_attachment(stream.metadata["filename"], stream.metadata["mimetype"], b"letters")
                continue
            copy = copies[stream.index] = copied(stream, output)
            copy.disposition = (dispositions or {}).get(stream.index, copy.disposition)
            copy.metadata["language"] = (languages or {}).get(stream.index, stream.metadata.get("language", "und"))
        number = 0
        for each in film.demux([film.streams[index] for index in copies]):
            if not each.size:
                continue
            changed = each
            if each.stream.type == "video":
                changed = packet(each, number)
                number += 1
            if changed is not None:
                changed.duration = (changed.duration or 0) + (longer or {}).get(each.stream_index, 0)
                changed.stream = copies[each.stream_index]
                output.mux(changed)
    return target
