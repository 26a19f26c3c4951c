"""Copies a few runs of coded frames, spread over a long video, into a short one: the sample for a trial run."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
import av.error
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream

from bwpipe.video.decoder import packets
from bwpipe.video.file import VideoFile, video_stream
from bwpipe.video.muxer import decoding_times

APART = 2
"""Seconds from one run to the next: as far as key frames of the film's memory are apart at least, so that each run has one."""
RUNS = 3
"""More runs would mean more keyframes, which are larger and slower to encode than a video's average frame."""


def write_excerpt(video: VideoFile, path: Path, frames: int) -> bool:
    """Write a Matroska file with that many frames of a video stream, in runs that start at evenly spaced keyframes.

    Args:
        video: The source.
        path: The file, replaced if it exists.
        frames: Number of frames, at least `RUNS`.

    Returns:
        Whether the file is complete: not if there are too few keyframes to start at, or Matroska can't hold the codec.
    """
    length = -(-frames // RUNS)
    keys = _keys(video, length)
    if not keys:
        return False
    try:
        with video.open() as source, av.open(str(path), "w", format="matroska") as output:
            stream = video_stream(source, video.picture)
            if stream is None or stream.time_base is None:
                return False
            copy = output.add_stream_from_template(stream, opaque=True)
            copy.time_base = stream.time_base
            coded: list[Packet[VideoStream]] = []
            shown: list[int] = []
            for key in keys:
                run = list(islice(_from_key(packets(source, stream, key)), min(length, frames - len(coded))))
                times = [packet.pts or 0 for packet in run]
                offset = max(shown, default=0) + round(APART / stream.time_base) - min(times, default=0)
                coded, shown = coded + run, shown + [offset + time for time in times]
            for packet, pts, dts in zip(coded, shown, decoding_times(np.array(shown, np.int64)), strict=True):
                packet.stream, packet.pts, packet.dts = copy, pts, int(dts)
                output.mux_one(packet)
    except (av.error.FFmpegError, ValueError):
        return False
    return len(coded) == frames


def _keys(video: VideoFile, length: int) -> list[int]:
    """Decoding timestamps of the keyframes that start the runs; empty if there are too few or the runs would overlap."""
    total = len(video.times)
    targets = [int((number + 0.5) * total / RUNS) for number in range(RUNS)]
    chosen = np.searchsorted(video.keys[:, 0], targets, side="right") - 1
    if not len(video.keys) or chosen.min() < 0:
        return []
    starts = [int(video.keys[number, 0]) for number in chosen]
    spacing = np.diff([*starts, total]).min()
    return [int(video.keys[number, 1]) for number in chosen] if spacing >= length else []


def _from_key(coded: "Iterator[Packet[VideoStream]]") -> "Iterator[Packet[VideoStream]]":
    """The packets of a run, without those shown before its keyframe: they may depend on frames that are not copied."""
    first = None
    for packet in coded:
        first = packet.pts if first is None else first
        if packet.pts is not None and first is not None and packet.pts >= first:
            yield packet
