"""The other streams of a film: sound, subtitles, data, second pictures, covers and attachments, as they are in its file."""

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
"""What films are written into."""
_COVERS = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}
"""By its codec, how a cover picture is called in Matroska, where it is an attachment."""
_OF_THE_FILE = (
    "major_brand",
    "minor_version",
    "compatible_brands",
    "duration",
    "bps",
    "number_of_",
    "_statistics",
    "vendor_id",
)
"""How metadata begin that tell of one file and not of its content; and the programs that made it."""
_PROGRAMS = {"encoder", "software", "writing_app", "muxing_app"}
_OLD = {"deu": "ger", "nld": "dut", "ell": "gre", "isl": "ice", "zho": "chi", "swe": "sve"}
"""What QuickTime calls languages whose ISO 639-2 codes it does not know."""


class StreamCopier:
    """The packets of a film's other streams, for an output: read in step with its picture, so that memory does not grow.

    Attributes:
        outputs: For each stream of the film's file that is copied packet by packet, the copy.
    """

    def __init__(self, film: VideoFile, output: OutputContainer, muxer: str, warn: Warn) -> None:
        """Open the film's file. Raises MediaError."""
        self._film, self._output, self._muxer, self._warn = film, output, muxer, warn
        self._input = open_container(film.path)
        self.outputs: dict[int, Stream] = {}
        self._finest = max(stream.time_base.denominator for stream in self._input.streams if stream.time_base)
        for stream in self._input.streams:
            stream.discard = Discard.all
        self._packets = self._demux()
        self._waiting: Packet[Stream] | None = None

    def add(self, track: Track) -> None:
        """Add a track to the output, if its container can hold it."""
        stream = self._input.streams[track.index]
        if self._muxer not in track.fits:
            return
        if isinstance(stream, AttachmentStream):
            self._output.add_attachment(stream.name or "", stream.mimetype or "application/octet-stream", stream.data)
        elif track.cover and self._muxer == "matroska":
            name, mimetype = _COVERS[track.codec]
            name, mimetype = stream.metadata.get("filename", name), stream.metadata.get("mimetype", mimetype)
            self._output.add_attachment(name, mimetype, _first_packet(self._film, track))
        else:
            stream.discard = Discard.default
            copy = self.outputs[track.index] = add_copy(self._output, stream)
            copy.metadata.clear()
            copy.metadata.update(kept(stream.metadata, self._muxer))
            copy.disposition = stream.disposition
            if track.codec == "mov_text" and stream.time_base:
                # MP4's muxer takes times of other streams for the subtitle's own: where they are larger it puts empty ones in
                ticks = stream.time_base.denominator
                copy.time_base = Fraction(1, ticks * -(-self._finest // ticks))

    def until(self, moment: Fraction | None) -> Iterator["Packet[Stream]"]:
        """The packets not yet given that are decoded before a moment, in seconds; None for all."""
        while packet := self._waiting or next(self._packets, None):
            time = packet.dts if packet.dts is not None else packet.pts
            if moment is not None and time is not None and time * packet.time_base >= moment:
                self._waiting = packet
                return
            self._waiting = None
            packet.stream = self.outputs[packet.stream.index]
            yield packet

    def close(self) -> None:
        """Close the film's file."""
        self._packets.close()
        self._input.close()

    def _demux(self) -> "Generator[Packet[Stream], None, None]":
        """All packets, or those before the damage that ends the file early: the index pass has noted it."""
        last: dict[int, int] = {}
        with suppress(av.error.FFmpegError):
            for packet in self._input.demux([self._input.streams[index] for index in self.outputs]) if self.outputs else ():
                if not packet.size:
                    continue
                if packet.dts is not None:
                    if packet.dts <= last.get(packet.stream_index, packet.dts - 1):
                        self._warn(
                            f"some times of its {packet.stream.type} track {packet.stream_index} do not rise and were raised"
                        )
                        packet.dts = last[packet.stream_index] + 1
                        packet.pts = max(packet.dts, packet.pts or packet.dts)
                    last[packet.stream_index] = packet.dts
                yield packet


def takes(muxer: str, stream: Stream) -> bool:
    """Whether a container can hold a stream of an input as it is: its header is made, in memory, with nothing else in it."""
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
    """A stream of an output for the packets of an input's stream. Raises ValueError."""
    copy = output.add_stream_from_template(stream, opaque=stream.codec_context is not None)
    copy.time_base = stream.time_base
    return copy


def kept(metadata: Mapping[str, str], muxer: str) -> dict[str, str]:
    """Of a film's metadata, those that hold of its copy too, under the names that a muxer wants."""
    tags = {
        key: value for key, value in metadata.items() if not (key.lower().startswith(_OF_THE_FILE) or key.lower() in _PROGRAMS)
    }
    if "name" in tags and "title" not in tags:  # what MP4 calls the title of a track
        tags["title"] = tags.pop("name")
    if muxer == "mov" and tags.get("language") in _OLD:
        tags["language"] = _OLD[tags["language"]]
    if muxer in {"matroska", "webm"}:
        tags.pop("handler_name", None)  # a word of MP4's
    return tags


def _first_packet(film: VideoFile, track: Track) -> bytes:
    """The first packet of a track: a cover picture is in one."""
    with open_container(film.path) as container:
        return next((bytes(packet) for packet in container.demux(container.streams[track.index]) if packet.size), b"")


_MOST = 8
"""So many tags are named."""


def lost_tags(film: VideoFile, path: Path, muxer: str, streams: Sequence[int]) -> Iterator[str]:
    """Say which tags and dispositions of a film are not, or not the same, in what was written of it.

    Args:
        film: What it was made of.
        path: The finished file.
        muxer: What it was written with.
        streams: Which of the film's streams were written, covers left out, in the order of the file's.

    Yields:
        A sentence, without the file's name, of tags, and one of dispositions.

    Raises:
        MediaError: It can't be opened.
    """
    tags: list[str] = []
    said: list[str] = []
    with open_container(film.path) as source, open_container(path) as made:
        tags += _missing(kept(source.metadata, muxer), kept(read_note(made.metadata)[0], muxer), "")
        for one, other in zip((source.streams[index] for index in streams), filter(_is_copy, made.streams), strict=False):
            tags += _missing(kept(one.metadata, muxer), kept(other.metadata, muxer), f" of {_name(film, one)}")
            if unheld := one.disposition & ~other.disposition:
                words = " and ".join(flag.name or "" for flag in Disposition if flag & unheld)
                said.append(f"{words} ({_name(film, one)})")
    if tags:
        more = f" and {len(tags) - _MOST} more" if len(tags) > _MOST else ""
        yield f"its container can't hold some tags as they are, which are lost: {', '.join(tags[:_MOST])}{more}"
    if said:
        yield f"its container can't hold what some streams are marked as: {', '.join(said)}"


def _is_copy(stream: Stream) -> bool:
    return not (stream.discard == Discard.all or stream.disposition & Disposition.attached_pic)


def _missing(before: Mapping[str, str], after: Mapping[str, str], where: str) -> list[str]:
    known = {key.lower(): value for key, value in after.items()}
    return [f"{key}{where}" for key, value in before.items() if known.get(key.lower()) != value and value not in {"", "und"}]


def _name(film: VideoFile, stream: Stream) -> str:
    return "the picture" if stream.index == film.place else f"{stream.type} track {stream.index}"
