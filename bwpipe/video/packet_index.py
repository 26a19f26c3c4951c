"""The index pass: timestamps and keyframes of a video, found without decoding if the timestamps make sense."""

import json
from array import array
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Stream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from bwpipe.video import gop_time_codes
from bwpipe.video.file import Clock, Timing, demux, has_parameters, open_container
from bwpipe.video.gop_time_codes import GopTimeCodes
from bwpipe.video.late_streams import Places, identifier, late_streams
from bwpipe.video.timeline import Timeline, is_regular
from bwpipe.video.timeline_survey import LONG, Coded, survey

INDEX_VERSION = "index 4, libavformat {}.{}.{}".format(*av.library_versions["libavformat"])
"""Cache key for the result of `read_index`; raise the number when the result changes."""
_SHORTFALL = 0.5
"""Seconds by which a file may fall short of the duration in its header, which is rarely exact."""
_JUMP = 10
"""Seconds: a longer gap, where a format's clock may restart, is a jump unless the sound goes on (as in FFmpeg)."""
_AROUND = 4
"""How many packets before a joint FFmpeg may take for damaged: those that it was putting together."""
_CLOCK_MAY_RESTART = 0x0200
"""FFmpeg's AVFMT_TS_DISCONT."""


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Timestamps and keyframes of a video; the attributes are those of `bwpipe.video.file.VideoFile`."""

    times: NDArray[np.int64]
    last: int | None
    timing: Timing
    keys: NDArray[np.int64]
    faults: tuple[str, ...]
    places: Places = ()
    clocks: Mapping[int, Clock] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Serialise it, in a few bytes per frame."""
        rest = json.dumps(
            {
                "last": self.last,
                "timing": self.timing,
                "faults": self.faults,
                "places": self.places,
                "clocks": list(self.clocks.items()),
            }
        )
        file = BytesIO()
        np.savez_compressed(file, steps=np.diff(self.times, prepend=0), keys=self.keys, rest=np.array(rest))
        return file.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> "Index":
        """The inverse of `to_bytes`."""
        with np.load(BytesIO(data), allow_pickle=False) as file:
            rest = json.loads(str(file["rest"]))
            return Index(
                np.cumsum(file["steps"]),
                rest["last"],
                rest["timing"],
                file["keys"],
                tuple(rest["faults"]),
                tuple((start, stop) for start, stop in rest["places"]),
                {stream: tuple((first, offset) for first, offset in clock) for stream, clock in rest["clocks"]},
            )


def read_index(path: Path, choose: Callable[[InputContainer], VideoStream]) -> Index:
    """Read all packets of a file's video stream, and compare what the header states with what the file holds.

    A packet of AVI has its decoding timestamp only. Frames hidden by an edit list are skipped. If the timestamps can't be those
    of frames in the order in which the decoder shows them, the video is decoded once to learn it, and they are repaired.

    Args:
        path: The file.
        choose: Chooses its video stream, or refuses the file.

    Raises:
        MediaError: It can't be opened or is refused.
    """
    places, more = _late_streams(path, choose)
    with open_container(path, places) as container:
        scan = _read_packets(container, choose(container))
        jump = _JUMP if container.format.flags & _CLOCK_MAY_RESTART else None
    if more:
        scan.faults.append(
            "it has streams that begin late and can't be found, so they are left out, in Ogg files with what follows; remux it"
        )
    if scan.is_regular(jump):
        return scan.index(places)
    with open_container(path, places) as container:
        found = survey(container, choose(container), scan.coded(), jump=jump)
    return scan.index(places) if found is None else scan.repaired(found.timeline, found.shown, found.clocks, places)


def _late_streams(path: Path, choose: Callable[[InputContainer], VideoStream]) -> tuple[Places, int]:
    """What to show to FFmpeg for it to find all streams, those that it finds by itself first; how many can't be shown."""
    with open_container(path) as container:
        choose(container)
        seen = [stream.id for stream in container.streams if has_parameters(stream)]
        form = container.format.name
        known = frozenset(identifier(stream, form) for stream in container.streams if has_parameters(stream))
        late = late_streams(path, form, known)
    best: Places = ()
    most = 0
    for view in late.views:
        with open_container(path, view) as container:
            found = [stream.id for stream in container.streams if has_parameters(stream)]
            if found[: len(seen)] == seen and len(found) > len(seen) + most:
                best, most = view, len(found) - len(seen)
    return best, late.more + (bool(late.views) and not best)


def _read_packets(container: InputContainer, stream: VideoStream) -> "_Scan":
    form = container.format.name
    expected = len(stream.index_entries) if "mov" in form else stream.frames
    by_end = not expected and form not in {"mpegts", "mpeg"}  # these have no header: FFmpeg takes the duration from packets
    for other in container.streams:
        other.discard = Discard.default if by_end or other is stream else Discard.all

    scan = _Scan(stream, decoding_times=form == "avi", reordered=stream.codec_context.reorder_depth)
    if stream.codec_context.name in gop_time_codes.CODECS and (rate := stream.base_rate or stream.average_rate):
        scan.time_codes = GopTimeCodes(rate)
    try:
        for packet in demux(container):
            scan.add(packet)
    except av.error.FFmpegError as error:
        scan.faults.append(f"it can't be read to its end ({error.strerror})")
    if expected > scan.found:
        scan.faults.append(f"it is cut short: its header states {expected} frames, and it holds {scan.found}")
    if by_end and container.duration and container.duration / 1e6 > scan.end + _SHORTFALL:
        stated = container.duration / 1e6
        scan.faults.append(f"it is cut short: its header states {stated:.1f} seconds, and it holds {scan.end:.1f}")
    return scan


@dataclass(slots=True)
class _Scan:
    """State of the index pass: stated timestamps, and those of keyframes with decoding timestamp and size; end in seconds."""

    stream: VideoStream
    decoding_times: bool
    reordered: int
    times: "array[int]" = field(default_factory=lambda: array("q"))
    durations: "array[int]" = field(default_factory=lambda: array("q"))
    numbers: "array[int]" = field(default_factory=lambda: array("q"))
    unknown: "array[int]" = field(default_factory=lambda: array("q"))
    keys: "array[int]" = field(default_factory=lambda: array("q"))
    found: int = 0
    corrupt: list[int] = field(default_factory=list)
    end: float = 0.0
    faults: list[str] = field(default_factory=list)
    time_codes: GopTimeCodes | None = None

    def add(self, packet: "Packet[Stream]") -> None:
        if packet.pts is not None:
            self.end = max(self.end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream is not self.stream:
            return
        shown = packet.dts if self.decoding_times or (packet.pts is None and not self.reordered) else packet.pts
        number = self.found
        self.found += 1
        if self.time_codes:
            self.time_codes.add(memoryview(packet), None if packet.dts is None else float(packet.dts * packet.time_base))
        if packet.is_corrupt:
            self.corrupt.append(number)
        if packet.is_keyframe and shown is not None:
            self.keys.extend((shown, shown if packet.dts is None else packet.dts, packet.size))
        if packet.is_discard:
            return
        if shown is None:
            self.unknown.append(number)
        self.numbers.append(number)
        self.times.append(shown or 0)
        self.durations.append(packet.duration or 0)

    @property
    def _timeless(self) -> bool:
        """Whether the file has decoding timestamps only, which are not in the order in which frames are shown."""
        return self.decoding_times and bool(self.reordered)

    def is_regular(self, jump: int | None) -> bool:
        """Whether the stated timestamps can be used without decoding."""
        ticks = 1 / float(self.stream.time_base or 1)
        wrapped = jump is not None and min(self.times, default=0) < 0
        return self._timeless or not (
            self.unknown
            or wrapped
            or not is_regular(
                np.array(self.times, np.int64),
                self.reordered,
                least=ticks / 1000,
                jump=np.inf if jump is None else jump * ticks,
                long=LONG * ticks,
            )
        )

    def coded(self) -> Coded:
        """The stated timestamps by the number of the packet."""
        unknown = set(self.unknown)
        return {number: None if number in unknown else time for number, time in zip(self.numbers, self.times, strict=True)}

    def index(self, places: Places) -> Index:
        """The index with the stated timestamps."""
        order = np.argsort(np.array(self.times, np.int64), kind="stable")
        times = np.array(self.times, np.int64)[order]
        if self._timeless:
            times = np.maximum.accumulate(times - np.arange(len(times))) + np.arange(len(times))
        self._add_corrupt(())
        timing: Timing = "none" if self._timeless else "exact"
        keys = np.array([] if self.faults or timing != "exact" else self.keys, np.int64).reshape(-1, 3)
        keys[:, 0] = np.searchsorted(times, keys[:, 0])
        keys = keys[np.argsort(keys[:, 0], kind="stable")]
        return Index(times, self._duration(order[-1:]), timing, keys, self._all_faults(), places)

    def repaired(self, timeline: Timeline, shown: Sequence[int | None], clocks: Mapping[int, Clock], places: Places) -> Index:
        """The index with repaired timestamps of the frames that decode."""
        self._add_corrupt([shown[part.start] for part in timeline.parts[1:]])
        at = {number: place for place, number in enumerate(self.numbers)}
        unknown = set(self.unknown)
        untimed = sum(shown[frame] is None or shown[frame] in unknown for frame in timeline.wrong)
        if untimed:
            self.faults.append(f"{untimed} of its {self.found} frames have no timestamp: it is derived from their neighbours")
        corrected = [frame for frame in timeline.wrong if shown[frame] is not None and shown[frame] not in unknown]
        if corrected:
            self.faults.append(
                f"the timestamps of {len(corrected)} of its {self.found} frames contradict those around them (first: frame"
                f" {corrected[0]}) and are derived from their neighbours"
            )
        if joints := len(timeline.parts) - 1:
            self.faults.append(
                f"its clock restarts or jumps at {joints} {'place' if joints == 1 else 'places'} (first: frame"
                f" {timeline.parts[1].start}): the parts are joined there without a gap, with their sound and subtitles"
            )
        if len(timeline.times) < len(self.numbers):
            self.faults.append(f"{len(self.numbers) - len(timeline.times)} of its {self.found} coded frames can't be decoded")
        last = [at[number] for number in shown[-1:] if number in at]
        keys = np.zeros((0, 3), np.int64)
        return Index(
            timeline.times, self._duration(np.array(last, np.int64)), "decoded", keys, self._all_faults(), places, clocks
        )

    def _all_faults(self) -> tuple[str, ...]:
        """What is wrong with the file; jumps of its time codes put no key frame in doubt, so that they come last."""
        jumps = self.time_codes.sentence() if self.time_codes else ""
        return (*self.faults, jumps) if jumps else tuple(self.faults)

    def _add_corrupt(self, joints: Collection[int | None]) -> None:
        """Report damaged frames, except around a joint, where whole ones seem damaged since their packets are not in line."""
        around = {number - before for number in joints if number is not None for before in range(_AROUND)}
        if corrupt := [number for number in self.corrupt if number not in around]:
            self.faults.append(f"{len(corrupt)} of its {self.found} coded frames are damaged")

    def _duration(self, last: NDArray[np.int64]) -> int | None:
        """The stated duration of the frame in this place, if there is one."""
        return (self.durations[int(last[0])] or None) if len(last) else None
