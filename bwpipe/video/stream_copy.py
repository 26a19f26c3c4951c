"""Copies a video's other streams unchanged: audio, subtitles, data, second video streams, cover art and attachments."""

import io
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import islice, takewhile
from math import ceil
from pathlib import Path

import av
import av.error
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import AttachmentStream, Discard, Disposition, Stream

from bwpipe.core.provenance import read_note
from bwpipe.video.decoder import Warn
from bwpipe.video.file import ALPHA_MODE, Track, VideoFile, demux, has_parameters, open_container
from bwpipe.video.pcm import PlainSound, plain_codec

MUXERS = ("mp4", "mov", "matroska", "webm")
"""Output muxers, by FFmpeg name."""
_COVERS = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}
"""File name and MIME type of cover art in Matroska, where it is an attachment, by codec."""
_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""FFmpeg's default arrangement of a number of channels."""
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

_MILLISECOND = Fraction(1, 1000)
_PRIMING = 2
"""The most packets that a sound's decoder needs to get ready."""


class StreamCopier:
    """Copies the packets of a video's other streams, read in step with the video stream to bound memory.

    Attributes:
        outputs: The output stream for the index of each input stream that is copied packet by packet.
    """

    def __init__(self, video: VideoFile, output: OutputContainer, muxer: str, warn: Warn) -> None:
        """Open the source file. Raises MediaError."""
        self._video, self._output, self._muxer, self._warn = video, output, muxer, warn
        self._input = video.open()
        self.outputs: dict[int, Stream] = {}
        self._plain: dict[int, PlainSound] = {}
        self._raised: dict[Track, int] = {}
        self._finest = max(stream.time_base.denominator for stream in self._input.streams if stream.time_base)
        for stream in self._input.streams:
            stream.discard = Discard.all
        self._packets = self._demux()
        self._pending: tuple[int, Packet[Stream]] | None = None

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
            copy = self.outputs[track.index] = self._add_stream(stream)
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
        while found := self._pending or next(self._packets, None):
            index, packet = found
            time = packet.dts if packet.dts is not None else packet.pts
            if end is not None and time is not None and time * packet.time_base >= end:
                self._pending = found
                return
            self._pending = None
            if index in self._plain:
                yield from self._plain[index].packets(packet)
            else:
                packet.stream = self.outputs[index]
                yield packet

    def losses(self) -> Iterator[str]:
        """What happened to the streams so far, as sentences without the file name."""
        for track, count in self._raised.items():
            yield f"{count} timestamps of its {track.kind} track {track.index} were not increasing and are raised"

    def close(self) -> None:
        """Close the source file."""
        self._packets.close()
        self._input.close()

    def _add_stream(self, stream: Stream) -> Stream:
        codec = plain_codec(stream)
        if codec is None or _holds(self._muxer, stream):
            return add_copy(self._output, stream)
        self._plain[stream.index] = PlainSound(self._output, stream, codec)
        return self._plain[stream.index].output

    def _demux(self) -> "Generator[tuple[int, Packet[Stream]], None, None]":
        """All packets, or those before damage that ends the file early, which the index pass has reported."""
        tracks = {track.index: track for track in self._video.tracks}
        last: dict[int, int] = {}
        streams = [self._input.streams[index] for index in self.outputs]
        with suppress(av.error.FFmpegError):
            for packet in without_hidden(in_step(demux(self._input, streams), self._video)) if streams else ():
                index = packet.stream_index
                if packet.dts is not None:
                    if packet.dts <= last.get(index, packet.dts - 1):
                        self._raised[tracks[index]] = self._raised.get(tracks[index], 0) + 1
                        packet.dts = last[index] + self._least(packet)
                        packet.pts = max(packet.dts, packet.pts or packet.dts)
                    last[index] = packet.dts
                yield index, packet

    def _least(self, packet: "Packet[Stream]") -> int:
        """The least step between two timestamps that remain different in the output, in ticks."""
        return ceil(_MILLISECOND / packet.time_base) if self._muxer in {"matroska", "webm"} else 1


def in_step(packets: "Iterable[Packet[Stream]]", video: VideoFile) -> "Iterator[Packet[Stream]]":
    """The packets of a video's other streams, from its start, with timestamps shifted where those of its frames are."""
    seen: dict[int, int] = {}
    for packet in packets:
        index = packet.stream_index
        number = seen[index] = seen.get(index, -1) + 1
        offset = next((offset for first, offset in reversed(video.clocks.get(index, ())) if first <= number), 0)
        if offset:
            ticks = round(offset * video.time_base / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        yield packet


def without_hidden(packets: "Iterable[Packet[Stream]]") -> "Iterator[Packet[Stream]]":
    """The packets without the sound and subtitles that an edit list hides.

    One or two hidden packets at the start of a sound stay, which its decoder needs to get ready; the output hides them, too.
    Where a piece of PCM sound would begin before the end of the last one, that much is cut off.
    """
    at_start: dict[int, bool] = {}
    ends: dict[int, tuple[int, bool]] = {}  # of the last packet, and whether hidden ones followed
    for packet in packets:
        stream = packet.stream
        if stream.type in {"audio", "subtitle"}:
            if stream.index not in at_start:
                at_start[stream.index] = stream.type == "audio" and _hidden_at_start(stream) <= _PRIMING
            end, hidden = ends.get(stream.index, (0, False))
            if packet.is_discard and not at_start[stream.index]:
                ends[stream.index] = end, True
                continue
            at_start[stream.index] = at_start[stream.index] and packet.is_discard
            ends[stream.index] = max((packet.pts or 0) + (packet.duration or 0), end if hidden else 0), False
            if hidden:
                yield _without_overlap(packet, end)
                continue
        yield packet


def _without_overlap(packet: "Packet[Stream]", end: int) -> "Packet[Stream]":
    """A packet of PCM sound without the samples before a time in its ticks; another packet is returned as it is."""
    codec = packet.stream.codec_context
    early, length = end - (packet.pts or 0), packet.duration or 0
    if codec is None or not codec.name.startswith("pcm_") or not 0 < early < length or packet.size * early % length:
        return packet
    rest: Packet[Stream] = Packet(bytes(packet)[packet.size * early // length :])
    rest.stream, rest.time_base, rest.is_keyframe = packet.stream, packet.time_base, True
    rest.pts, rest.dts, rest.duration = end, end, length - early
    return rest


def _hidden_at_start(stream: Stream) -> int:
    entries = takewhile(lambda entry: entry.is_discard, stream.index_entries)
    return sum(1 for _ in islice(entries, _PRIMING + 1))


def can_hold(muxer: str, stream: Stream) -> bool:
    """Whether a container can hold an input stream unchanged, or at least exactly the samples of an uncompressed sound."""
    return _holds(muxer, stream) or (plain_codec(stream) is not None and _holds(muxer, stream, plain_codec(stream)))


def _holds(muxer: str, stream: Stream, plain: str | None = None) -> bool:
    """Whether a container can hold an input stream, tested by writing a header with that stream alone to memory.

    It is tested unchanged, or with its samples as the codec `plain`.
    """
    cover = bool(stream.disposition & Disposition.attached_pic)
    codec = stream.codec_context.name if stream.codec_context is not None else ""
    if stream.type == "attachment" or (cover and muxer == "matroska"):
        return muxer == "matroska" and (stream.type == "attachment" or codec in _COVERS)
    if (cover and (codec not in _COVERS or muxer == "webm")) or not has_parameters(stream):
        return False
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as output:
            copy = PlainSound(output, stream, plain).output if plain else add_copy(output, stream)
            copy.disposition = stream.disposition
            output.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def add_copy(output: OutputContainer, stream: Stream) -> Stream:
    """Add an output stream for the packets of an input stream. Raises ValueError."""
    copy = output.add_stream_from_template(stream, opaque=stream.codec_context is not None)
    copy.time_base = stream.time_base
    if isinstance(copy, AudioStream) and output.format.name == "mp4" and (layout := _usual_layout(copy)):
        copy.codec_context.layout = layout
    return copy


def _usual_layout(stream: AudioStream) -> str | None:
    """The usual arrangement of as many channels, for PCM of which the container says their number only; None for other sound.

    Matroska and AVI need no arrangement of channels; MP4 does, and its muxer fails without one when all packets are written.
    """
    context = stream.codec_context
    unknown = context.name.startswith("pcm_") and context.layout.name == f"{context.layout.nb_channels} channels"
    return _LAYOUTS.get(context.layout.nb_channels) if unknown else None


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
    with video.open() as container:
        return next((bytes(packet) for packet in demux(container, [container.streams[track.index]])), b"")


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
    with video.open() as source, open_container(path) as output:
        tags += _missing(portable_tags(video.metadata[0], muxer), portable_tags(read_note(output.metadata)[0], muxer), "")
        for index, other in zip(streams, filter(_is_copy, output.streams), strict=False):
            if index < 0:  # frames that are in no container
                tags += _missing(video.metadata[1], portable_tags(other.metadata, muxer), " of the video stream")
                continue
            one = source.streams[index]
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
    return [
        f"{key}{where}"
        for key, value in before.items()
        if known.get(key.lower()) != value and value not in {"", "und"} and key.lower() != ALPHA_MODE
    ]


def _name(video: VideoFile, stream: Stream) -> str:
    return "the video stream" if stream.index == video.stream_index else f"{stream.type} track {stream.index}"
