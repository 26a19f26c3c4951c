"""The index pass: timestamps and keyframes of a video, found without decoding."""

import json
from array import array
from dataclasses import dataclass, field
from io import BytesIO

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Stream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from bwpipe.video.file import Timing

INDEX_VERSION = "index 1, libavformat {}.{}.{}".format(*av.library_versions["libavformat"])
"""Cache key for the result of `read_index`; raise the number when the result changes."""
_SHORTFALL = 0.5
"""Seconds by which a file may fall short of the duration in its header, which is rarely exact."""


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Timestamps and keyframes of a video; the attributes are those of `bwpipe.video.file.VideoFile`."""

    times: NDArray[np.int64]
    last: int | None
    timing: Timing
    keys: NDArray[np.int64]
    faults: tuple[str, ...]

    def to_bytes(self) -> bytes:
        """Serialise it, in a few bytes per frame."""
        rest = json.dumps({"last": self.last, "timing": self.timing, "faults": self.faults})
        file = BytesIO()
        np.savez_compressed(file, steps=np.diff(self.times, prepend=0), keys=self.keys, rest=np.array(rest))
        return file.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> "Index":
        """The inverse of `to_bytes`."""
        with np.load(BytesIO(data), allow_pickle=False) as file:
            rest = json.loads(str(file["rest"]))
            return Index(np.cumsum(file["steps"]), rest["last"], rest["timing"], file["keys"], tuple(rest["faults"]))


def read_index(container: InputContainer, stream: VideoStream) -> Index:
    """Read all packets of a video stream, and compare what the header states with what the file holds.

    A packet without a presentation timestamp gets its decoding timestamp, as do all in AVI; one without either gets one tick
    more than the packet before it. Timestamps that are not increasing are raised by the least amount. Frames hidden by an edit
    list are skipped.
    """
    form = container.format.name
    expected = len(stream.index_entries) if "mov" in form else stream.frames
    by_end = not expected and form not in {"mpegts", "mpeg"}  # these have no header: FFmpeg takes the duration from packets
    for other in container.streams:
        other.discard = Discard.default if by_end or other is stream else Discard.all

    scan = _Scan(stream, decoding_times=form == "avi")
    try:
        for packet in container.demux():
            if packet.size:
                scan.add(packet)
    except av.error.FFmpegError as error:
        scan.faults.append(f"it can't be read to its end ({error.strerror})")
    if expected > scan.found:
        scan.faults.append(f"it is cut short: its header states {expected} frames, and it holds {scan.found}")
    if by_end and container.duration and container.duration / 1e6 > scan.end + _SHORTFALL:
        stated = container.duration / 1e6
        scan.faults.append(f"it is cut short: its header states {stated:.1f} seconds, and it holds {scan.end:.1f}")
    return scan.index()


@dataclass(slots=True)
class _Scan:
    """State of the index pass: frame timestamps; timestamp, decoding timestamp and size of keyframes; end in seconds."""

    stream: VideoStream
    decoding_times: bool
    times: "array[int]" = field(default_factory=lambda: array("q"))
    last: tuple[int, int] = (-(2**63), 0)
    keys: "array[int]" = field(default_factory=lambda: array("q"))
    found: int = 0
    corrupt: int = 0
    untimed: int = 0
    end: float = 0.0
    faults: list[str] = field(default_factory=list)

    def add(self, packet: "Packet[Stream]") -> None:
        if packet.pts is not None:
            self.end = max(self.end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream is not self.stream:
            return
        shown = packet.dts if self.decoding_times else packet.pts
        self.found += 1
        self.corrupt += packet.is_corrupt
        self.untimed += shown is None
        time = next((time for time in (shown, packet.dts) if time is not None), self.times[-1] + 1 if self.times else 0)
        if packet.is_keyframe:
            self.keys.extend((time, time if packet.dts is None else packet.dts, packet.size))
        if not packet.is_discard:
            self.times.append(time)
            self.last = max(self.last, (time, packet.duration or 0))

    def index(self) -> Index:
        times = np.array(self.times, np.int64)
        times.sort()
        order = np.arange(len(times))
        increasing = np.maximum.accumulate(times - order) + order
        raised = int((increasing != times).sum())
        if self.corrupt:
            self.faults.append(f"{self.corrupt} of its {self.found} coded frames are damaged")
        if self.untimed:
            self.faults.append(f"{self.untimed} of its {self.found} frames have no timestamp: it is derived from their order")
        if raised:
            self.faults.append(f"the timestamps of {raised} of its {self.found} frames were not increasing and are raised")
        timing: Timing = "partial" if self.untimed or raised else "exact"
        if self.decoding_times and self.stream.codec_context.reorder_depth:
            timing = "none"
        keys = np.array([] if self.faults or timing != "exact" else self.keys, np.int64).reshape(-1, 3)
        keys[:, 0] = np.searchsorted(increasing, keys[:, 0])
        keys = keys[np.argsort(keys[:, 0], kind="stable")]
        return Index(increasing, self.last[1] or None, timing, keys, tuple(self.faults))
