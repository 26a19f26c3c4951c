"""Decodes a video whose timestamps are wrong once, to repair them, and to keep its other streams in step."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple, TypeAlias, cast

import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard
from av.video.stream import VideoStream
from numpy.typing import NDArray

from bwpipe.video.decoder import decode_packets, numbered
from bwpipe.video.file import Clock, demux
from bwpipe.video.timeline import Part, Timeline, repair, usual_step

Coded: TypeAlias = Mapping[int, int | None]
"""The stated timestamp, if any, of each frame to be shown, by the number of its packet in decoding order."""
_OVERLAP = 0.1
"""Seconds by which the sound of two parts may overlap at their joint; if it is more, there is a gap in the picture instead."""
_WRAP = 2**33
"""Ticks after which the clock of an MPEG stream starts again (ISO/IEC 13818-1, 2.4.3.7)."""
_SEAM = 100
"""Packets of sound around a joint among which the jump of its clock is looked for."""
_NEAR = 10
"""Seconds of video around a joint within which packets of other streams may belong to either part."""
LONG = 60
"""Seconds: a single frame at either end beyond a longer gap, in which there is no sound, is taken for wrong."""


class Survey(NamedTuple):
    """What was found by decoding.

    Attributes:
        timeline: The repaired timestamps.
        shown: The number of the packet of each frame that decodes, in the order in which they are shown; None if unknown.
        clocks: By the index of another stream: how its timestamps are shifted (`bwpipe.video.file.VideoFile.clocks`).
    """

    timeline: Timeline
    shown: Sequence[int | None]
    clocks: Mapping[int, Clock]


@dataclass(slots=True)
class _Track:
    """Timestamps and durations of another stream's packets, in ticks of the video, and how many video packets came before."""

    sound: bool
    times: "array[int]" = field(default_factory=lambda: array("q"))
    durations: "array[int]" = field(default_factory=lambda: array("q"))
    places: "array[int]" = field(default_factory=lambda: array("q"))


def survey(container: InputContainer, stream: VideoStream, coded: Coded, *, jump: int | None) -> Survey | None:
    """Decode a video and repair its timestamps; None if they are right after all.

    Args:
        container: The file, at its start.
        stream: Its video stream.
        coded: The stated timestamps.
        jump: Gaps longer than this many seconds are jumps of the clock unless the sound goes on; None if none are.
    """
    tracks: dict[int, _Track] = {}
    shown: list[int | None] = []
    for frame in decode_packets(stream, numbered(_video_packets(container, stream, tracks))):
        if frame is not None:
            shown.append(frame.pts if frame.pts in coded and frame.pts not in shown[-2:] else None)
    stated = [None if number is None else coded[number] for number in shown]
    ticks = 1 / float(stream.time_base or 1)
    known = np.array([time for time in stated if time is not None], np.int64)
    step = usual_step(known, ticks / float(stream.average_rate or 25))
    places = np.array([-1 if number is None else number for number in shown], np.int64)
    np.maximum.accumulate(places, out=places)

    def continues(before: int, after: int) -> bool:
        first, last = (stated[frame] or 0 for frame in (before, after))
        quarter = (last - first) // 4
        return any(
            track.sound and _between(track, first + quarter, last - quarter, places[before] - 50, places[after] + 50)
            for track in tracks.values()
        )

    timeline = repair(
        stated,
        step,
        jump=None if jump is None else round(jump * ticks),
        long=round(LONG * ticks),
        continues=continues,
        least=-(-round(ticks) // 1000),
    )
    if jump is not None and int(timeline.times[0]) < 0:  # FFmpeg subtracts it from what comes before the clock passes zero
        timeline = timeline.shifted(_WRAP)
    if not timeline.wrong and len(timeline.parts) == 1 and stated == timeline.times.tolist():
        return None
    if len(timeline.parts) == 1 and not timeline.parts[0].offset:
        return Survey(timeline, shown, {})
    joints = _Joints(timeline, places, step, ticks)
    timeline = joints.spread(tracks.values())
    return Survey(timeline, shown, {index: joints.clock(track, timeline.parts) for index, track in tracks.items()})


def _video_packets(
    container: InputContainer, stream: VideoStream, tracks: dict[int, _Track]
) -> "Iterator[Packet[VideoStream]]":
    """The packets of the video stream; the timestamps of the others are added to `tracks`."""
    for other in container.streams:
        other.discard = Discard.default
    seen = 0
    with suppress(av.error.FFmpegError):  # the index pass has reported it
        for packet in demux(container):
            if packet.stream is stream:
                seen += 1
                yield cast("Packet[VideoStream]", packet)
                continue
            track = tracks.setdefault(packet.stream_index, _Track(packet.stream.type == "audio"))
            time = packet.dts if packet.dts is not None else packet.pts
            scale = packet.time_base / (stream.time_base or 1)
            track.times.append(round(time * scale) if time is not None else track.times[-1] if track.times else 0)
            track.durations.append(round((packet.duration or 0) * scale))
            track.places.append(seen)


def _between(track: _Track, first: int, last: int, start: int, stop: int) -> bool:
    """Whether a packet has a timestamp between two others, and stands between two places in the file."""
    times, places = np.array(track.times), np.array(track.places)
    return bool(((times > first) & (times < last) & (places >= start) & (places <= stop)).any())


class _Joints:
    """Where other streams pass from one part of a video to the next."""

    def __init__(self, timeline: Timeline, places: NDArray[np.int64], step: int, ticks: float) -> None:
        """Lay out the parts in the order of the file.

        Args:
            timeline: The repaired timestamps.
            places: (frames,) Number of the packet of each frame.
            step: The usual step between frames, in ticks.
            ticks: Ticks per second.
        """
        self._timeline, self._ticks = timeline, ticks
        self._near = _NEAR * ticks / step
        bounds = [*(part.start for part in timeline.parts), len(places)]
        ranges = [slice(start, stop) for start, stop in pairwise(bounds)]
        self._places = [np.sort(places[frames]) for frames in ranges]
        self._stated = [timeline.times[frames] - part.offset for frames, part in zip(ranges, timeline.parts, strict=True)]
        self._starts = np.array([int(part[0]) for part in self._places])

    def spread(self, tracks: Iterable[_Track]) -> Timeline:
        """The timeline with a gap where the sound of one part would overlap that of the next by too much."""
        times, parts = self._timeline.times.copy(), list(self._timeline.parts)
        heard = [(track, self._part_of(track)) for track in tracks if track.sound]
        for number in range(1, len(parts)):
            overlap = 0
            for track, part_of in heard:
                before, after = np.flatnonzero(part_of == number - 1), np.flatnonzero(part_of == number)
                if len(before) and len(after):
                    end = track.times[before[-1]] + track.durations[before[-1]] + parts[number - 1].offset
                    overlap = max(overlap, end - track.times[after[0]] - parts[number].offset)
            if _OVERLAP * self._ticks < overlap < _NEAR * self._ticks:
                times[parts[number].start :] += overlap
                parts[number:] = [Part(part.start, part.offset + overlap) for part in parts[number:]]
        return Timeline(times, tuple(parts), self._timeline.wrong)

    def clock(self, track: _Track, parts: Sequence[Part]) -> Clock:
        """How the timestamps of a stream are shifted, from which of its packets on."""
        part_of = self._part_of(track)
        changes = np.flatnonzero(np.diff(part_of, prepend=-1 if parts[0].offset else 0))
        return tuple((int(first), parts[int(part_of[first])].offset) for first in changes)

    def _part_of(self, track: _Track) -> NDArray[np.int64]:
        """(packets,) The part that each packet of a stream belongs to, never decreasing.

        It is that of the video packets around it. Near a joint, where the streams are not cut at the same place, it is the one
        whose clock fits its timestamp best.
        """
        times, places = np.array(track.times, np.int64), np.array(track.places, np.int64)
        here = np.clip(np.searchsorted(self._starts, places, side="right") - 1, 0, None)
        ahead = int(np.median(times - self._clocks(here, places)))  # how far the stream is interleaved from the video
        best = np.full(len(times), np.inf)
        chosen = here.copy()
        ends = np.append(self._starts[1:], np.iinfo(np.int64).max)
        for step, near in (
            (0, np.full(len(times), True)),
            (-1, (places - self._starts[here] <= self._near) & (here > 0)),
            (1, (ends[here] - places <= self._near) & (here + 1 < len(self._starts))),
        ):
            part = np.where(near, here + step, here)
            distance = np.where(near, np.abs(times - ahead - self._clocks(part, places)), np.inf)
            chosen = np.where(distance < best, part, chosen)
            best = np.minimum(distance, best)
        chosen = np.asarray(np.maximum.accumulate(chosen), np.int64)
        for joint in np.flatnonzero(np.diff(chosen)) if track.sound else ():
            moved = self._seam(track, int(joint) + 1, int(chosen[joint]), int(chosen[joint + 1]))
            low, high = sorted((int(joint) + 1, moved))
            chosen[low:high] = chosen[joint + 1] if moved <= joint else chosen[joint]
        return chosen

    def _seam(self, track: _Track, joint: int, before: int, after: int) -> int:
        """Where exactly the clock of a sound jumps, near a packet: where its step is most like that of the video's clock."""
        jump = self._timeline.parts[before].offset - self._timeline.parts[after].offset
        start, stop = max(joint - _SEAM, 1), min(joint + _SEAM, len(track.times))
        times = np.array(track.times[start - 1 : stop], np.int64)
        off = np.abs(np.diff(times) - np.array(track.durations[start - 1 : stop - 1], np.int64) - jump)
        best = int(off.argmin())
        return start + best if 4 * off[best] < abs(jump) else joint

    def _clocks(self, parts: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.float64]:
        """What the clock of a part shows at a place in the file; beyond its ends, what it shows there."""
        shown = np.zeros(len(parts))
        for part in np.unique(parts):
            at = parts == part
            shown[at] = np.interp(places[at], self._places[part], self._stated[part])
        return shown
