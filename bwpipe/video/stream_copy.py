"""Copies a video's other streams unchanged: audio, subtitles, data, second video streams, cover art and attachments."""

import io
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.container import OutputContainer
from av.packet import Packet
from av.stream import AttachmentStream, Discard, Disposition, Stream

from bwpipe.core.provenance import read_note
from bwpipe.video.decoder import Warn
from bwpipe.video.file import Track, VideoFile, open_container

MUXERS = ("mp4", "mov", "matroska", "webm")
"""Output muxers, by FFmpeg name."""
_COVERS = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}
"""File name and MIME type of cover art in Matroska, where it is an attachment, by codec."""
_FILE_SPECIFIC = (
    "major_brand",
    "minor_version",
    "compatible_brands",
    "duration",
    "bps",
    "number_of_",
    "_statistics",
    "vendor_id",
)
"""Prefixes of tags that describe one file rather than its content."""
_PROGRAMS = {"encoder", "software", "writing_app", "muxing_app"}
"""Tags that name the program that wrote the file."""
_QUICKTIME_LANGUAGES = {"deu": "ger", "nld": "dut", "ell": "gre", "isl": "ice", "zho": "chi", "swe": "sve"}
"""QuickTime's names for languages whose ISO 639-2 codes it does not know."""


class StreamCopier:
    """Copies the packets of a video's other streams, read in step with the video stream to bound memory.

    Attributes:
        outputs: The output stream for the index of each input stream that is copied packet by packet.
    """

    def __init__(self, video: VideoFile, output: OutputContainer, muxer: str, warn: Warn) -> None:
        """Open the source file. Raises MediaError."""
        self._video, self._output, self._muxer, self._warn = video, output, muxer, warn
        self._input = open_container(video.path)
        self.outputs: dict[int, Stream] = {}
        self._finest = max(stream.time_base.denominator for stream in self._input.streams if stream.time_base)
        for stream in self._input.streams:
            stream.discard = Discard.all
        self._packets = self._demux()
        self._pending: Packet[Stream] | None = None

    def add(self, track: Track) -> None:
        """Add a track to the output if its container can hold it."""
        stream = self._input.streams[track.index]
        if self._muxer not in track.fits:
            return
        if isinstance(stream, AttachmentStream):
            self._output.add_attachment(stream.name or "", stream.mimetype or "application/octet-stream", stream.data)
        elif track.cover and self._muxer == "matroska":
            name, mimetype = _COVERS[track.codec]
            name, mimetype = stream.metadata.get("filename", name), stream.metadata.get("mimetype", mimetype)
            self._output.add_attachment(name, mimetype, _first_packet(self._video, track))
        else:
            stream.discard = Discard.default
            copy = self.outputs[track.index] = add_copy(self._output, stream)
            copy.metadata.clear()
            copy.metadata.update(portable_tags(stream.metadata, self._muxer))
            copy.disposition = stream.disposition
            if track.codec == "mov_text" and stream.time_base:
                # the MP4 muxer compares the subtitle's timestamps with unscaled ones of other streams and pads it if these are
                # larger, so the subtitle needs the finest time base
                ticks = stream.time_base.denominator
                copy.time_base = Fraction(1, ticks * -(-self._finest // ticks))

    def until(self, end: Fraction | None) -> Iterator["Packet[Stream]"]:
        """The next packets with decoding timestamps before `end`, in seconds; None for all that remain."""
        while packet := self._pending or next(self._packets, None):
            time = packet.dts if packet.dts is not None else packet.pts
            if end is not None and time is not None and time * packet.time_base >= end:
                self._pending = packet
                return
            self._pending = None
            packet.stream = self.outputs[packet.stream.index]
            yield packet

    def close(self) -> None:
        """Close the source file."""
        self._packets.close()
        self._input.close()

    def _demux(self) -> "Generator[Packet[Stream], None, None]":
        """All packets, or those before damage that ends the file early, which the index pass has reported."""
        last: dict[int, int] = {}
        with suppress(av.error.FFmpegError):
            for packet in self._input.demux([self._input.streams[index] for index in self.outputs]) if self.outputs else ():
                if not packet.size:
                    continue
                if packet.dts is not None:
                    if packet.dts <= last.get(packet.stream_index, packet.dts - 1):
                        self._warn(
                            f"some timestamps of its {packet.stream.type} track {packet.stream_index} were not increasing"
                            " and are raised"
                        )
                        packet.dts = last[packet.stream_index] + 1
                        packet.pts = max(packet.dts, packet.pts or packet.dts)
                    last[packet.stream_index] = packet.dts
                yield packet


def can_hold(muxer: str, stream: Stream) -> bool:
    """Whether a container can hold an input stream unchanged, tested by writing a header with that stream alone to memory."""
    cover = bool(stream.disposition & Disposition.attached_pic)
    codec = stream.codec_context.name if stream.codec_context is not None else ""
    if stream.type == "attachment" or (cover and muxer == "matroska"):
        return muxer == "matroska" and (stream.type == "attachment" or codec in _COVERS)
    if cover and (codec not in _COVERS or muxer == "webm"):
        return False
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as output:
            copy = add_copy(output, stream)
            copy.disposition = stream.disposition
            output.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def add_copy(output: OutputContainer, stream: Stream) -> Stream:
    """Add an output stream for the packets of an input stream. Raises ValueError."""
    copy = output.add_stream_from_template(stream, opaque=stream.codec_context is not None)
    copy.time_base = stream.time_base
    return copy


def portable_tags(metadata: Mapping[str, str], muxer: str) -> dict[str, str]:
    """The tags that are true of a copy as well, under the names that a muxer expects."""
    tags = {
        key: value
        for key, value in metadata.items()
        if not (key.lower().startswith(_FILE_SPECIFIC) or key.lower() in _PROGRAMS)
    }
    if "name" in tags and "title" not in tags:  # MP4's name for the title of a track
        tags["title"] = tags.pop("name")
    if muxer == "mov" and tags.get("language") in _QUICKTIME_LANGUAGES:
        tags["language"] = _QUICKTIME_LANGUAGES[tags["language"]]
    if muxer in {"matroska", "webm"}:
        tags.pop("handler_name", None)  # specific to MP4
    return tags


def _first_packet(video: VideoFile, track: Track) -> bytes:
    """The first packet of a track, which holds all of a cover image."""
    with open_container(video.path) as container:
        return next((bytes(packet) for packet in container.demux(container.streams[track.index]) if packet.size), b"")


_MAX_NAMED = 8
"""The most lost tags to name in a warning."""


def lost_tags(video: VideoFile, path: Path, muxer: str, streams: Sequence[int]) -> Iterator[str]:
    """Report the tags and dispositions of a video that are missing from, or changed in, the file written from it.

    Args:
        video: The source.
        path: The finished file.
        muxer: Its muxer.
        streams: Indices of the source's streams that were written, without cover art, in the order of the source file.

    Yields:
        A sentence, without the file name, about tags, and one about dispositions.

    Raises:
        MediaError: A file can't be opened.
    """
    tags: list[str] = []
    lost: list[str] = []
    with open_container(video.path) as source, open_container(path) as output:
        tags += _missing(portable_tags(source.metadata, muxer), portable_tags(read_note(output.metadata)[0], muxer), "")
        for one, other in zip((source.streams[index] for index in streams), filter(_is_copy, output.streams), strict=False):
            tags += _missing(
                portable_tags(one.metadata, muxer), portable_tags(other.metadata, muxer), f" of {_name(video, one)}"
            )
            if missing := one.disposition & ~other.disposition:
                flags = " and ".join(flag.name or "" for flag in Disposition if flag & missing)
                lost.append(f"{flags} ({_name(video, one)})")
    if tags:
        more = f" and {len(tags) - _MAX_NAMED} more" if len(tags) > _MAX_NAMED else ""
        yield f"its container can't hold some tags unchanged, so they are lost: {', '.join(tags[:_MAX_NAMED])}{more}"
    if lost:
        yield f"its container can't hold the dispositions of some streams: {', '.join(lost)}"


def _is_copy(stream: Stream) -> bool:
    return not (stream.discard == Discard.all or stream.disposition & Disposition.attached_pic)


def _missing(before: Mapping[str, str], after: Mapping[str, str], where: str) -> list[str]:
    known = {key.lower(): value for key, value in after.items()}
    return [f"{key}{where}" for key, value in before.items() if known.get(key.lower()) != value and value not in {"", "und"}]


def _name(video: VideoFile, stream: Stream) -> str:
    return "the video stream" if stream.index == video.stream_index else f"{stream.type} track {stream.index}"
