"""The index pass: when each frame of a film is shown, and where decoding can start, without decoding anything."""

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

WAY = "index 1, libavformat {}.{}.{}".format(*av.library_versions["libavformat"])
"""What `read_index` finds and how; raise the number when that changes."""
_SHORTFALL = 0.5
"""Seconds by which a file may end before its header says: that is rarely exact."""


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """When the frames of a film are shown; the attributes are those of `bwpipe.film.Film`."""

    times: NDArray[np.int64]
    last: int | None
    timing: Timing
    keys: NDArray[np.int64]
    faults: tuple[str, ...]

    def packed(self) -> bytes:
        """It as bytes, a few for each frame."""
        rest = json.dumps({"last": self.last, "timing": self.timing, "faults": self.faults})
        file = BytesIO()
        np.savez_compressed(file, steps=np.diff(self.times, prepend=0), keys=self.keys, rest=np.array(rest))
        return file.getvalue()

    @staticmethod
    def unpacked(packed: bytes) -> "Index":
        """What was packed."""
        with np.load(BytesIO(packed), allow_pickle=False) as file:
            rest = json.loads(str(file["rest"]))
            return Index(np.cumsum(file["steps"]), rest["last"], rest["timing"], file["keys"], tuple(rest["faults"]))


def read_index(container: InputContainer, stream: VideoStream) -> Index:
    """Read all packets of a film's picture, and compare what the file promises with what it holds.

    A packet without a time of presentation gets its time of decoding, in AVI all do; one without either gets a tick more than
    the packet before it. Times that do not rise are raised as little as possible. Frames that an edit list hides are left out.
    """
    form = container.format.name
    promised = len(stream.index_entries) if "mov" in form else stream.frames
    by_end = not promised and form not in {"mpegts", "mpeg"}  # these two have no header: FFmpeg looks for their last packet
    for other in container.streams:
        other.discard = Discard.default if by_end or other is stream else Discard.all

    scan = _Scan(stream, decoding_times=form == "avi")
    try:
        for packet in container.demux():
            if packet.size:
                scan.take(packet)
    except av.error.FFmpegError as error:
        scan.faults.append(f"it can't be read to its end ({error.strerror})")
    if promised > scan.found:
        scan.faults.append(f"it is cut short: it promises {promised} frames and holds {scan.found}")
    if by_end and container.duration and container.duration / 1e6 > scan.end + _SHORTFALL:
        scan.faults.append(f"it is cut short: it promises {container.duration / 1e6:.1f} seconds and holds {scan.end:.1f}")
    return scan.index()


@dataclass(slots=True)
class _Scan:
    """What the packets tell: when frames are shown; time, decoding time and bytes of key frames; the end of all in seconds."""

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

    def take(self, packet: "Packet[Stream]") -> None:
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
        rising = np.maximum.accumulate(times - order) + order
        moved = int((rising != times).sum())
        if self.corrupt:
            self.faults.append(f"{self.corrupt} of its {self.found} coded frames are damaged")
        if self.untimed:
            self.faults.append(
                f"{self.untimed} of its {self.found} frames have no time of their own: it comes from their order"
            )
        if moved:
            self.faults.append(f"the times of {moved} of its {self.found} frames do not rise and were raised")
        timing: Timing = "partial" if self.untimed or moved else "exact"
        if self.decoding_times and self.stream.codec_context.reorder_depth:
            timing = "none"
        keys = np.array([] if self.faults or timing != "exact" else self.keys, np.int64).reshape(-1, 3)
        keys[:, 0] = np.searchsorted(rising, keys[:, 0])
        keys = keys[np.argsort(keys[:, 0], kind="stable")]
        return Index(rising, self.last[1] or None, timing, keys, tuple(self.faults))
