"""The sound of a film, packet by packet as it is in its file."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from fractions import Fraction

import av.error
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Discard, Stream

from bwpipe.film import Film, open_container
from bwpipe.film.codec import Container, codecs_in
from bwpipe.film.read import Warn

_OF_THE_FILE = (
    "major_brand",
    "minor_version",
    "compatible_brands",
    "encoder",
    "software",
    "duration",
    "bps",
    "number_of_",
    "_statistics",
)
"""How metadata begin that tell of one file and not of its content."""


class Sound:
    """The sound packets of a film, for an output: read in step with its picture, so that memory does not grow with the film."""

    def __init__(self, film: Film, output: OutputContainer, container: Container, warn: Warn) -> None:
        """Add a stream to `output` for each sound track that its container can hold. Raises MediaError."""
        self._warn = warn
        self._input = open_container(film.path)
        self._outputs: dict[int, Stream] = {}
        for stream in self._input.streams:
            stream.discard = Discard.all
        for track in film.tracks:
            if track.kind != "audio":
                warn(f"{track} is left out")
            elif track.codec not in codecs_in(container):
                warn(f"{track} is left out: {container.suffix} can't hold it")
            else:
                stream = self._input.streams[track.index]
                stream.discard = Discard.default
                self._outputs[track.index] = _copy(stream, output)
        self._packets = self._demux()
        self._waiting: Packet[Stream] | None = None

    def until(self, moment: Fraction | None) -> Iterator["Packet[Stream]"]:
        """The packets not yet given that are decoded before a moment, in seconds; None for all."""
        while packet := self._waiting or next(self._packets, None):
            time = packet.dts if packet.dts is not None else packet.pts
            if moment is not None and time is not None and time * packet.time_base >= moment:
                self._waiting = packet
                return
            self._waiting = None
            packet.stream = self._outputs[packet.stream.index]
            yield packet

    def close(self) -> None:
        """Close the film's file."""
        self._packets.close()
        self._input.close()

    def _demux(self) -> "Generator[Packet[Stream], None, None]":
        """All packets, or those before the damage that ends the file early: the index pass has noted it."""
        last: dict[int, int] = {}
        with suppress(av.error.FFmpegError):
            for packet in self._input.demux([self._input.streams[index] for index in self._outputs]) if self._outputs else ():
                if not packet.size:
                    continue
                if packet.dts is not None:
                    if packet.dts <= last.get(packet.stream_index, packet.dts - 1):
                        self._warn("some times of its sound do not rise and were raised")
                        packet.dts = last[packet.stream_index] + 1
                        packet.pts = max(packet.dts, packet.pts or packet.dts)
                    last[packet.stream_index] = packet.dts
                yield packet


def kept(metadata: Mapping[str, str]) -> dict[str, str]:
    """Of a film's metadata, those that hold of its copy too."""
    return {key: value for key, value in metadata.items() if not key.lower().startswith(_OF_THE_FILE)}


def _copy(stream: Stream, output: OutputContainer) -> Stream:
    copy = output.add_stream_from_template(stream)
    copy.metadata.update(kept(stream.metadata))
    copy.disposition = stream.disposition
    return copy
