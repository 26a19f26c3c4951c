"""A short film of runs of frames from all over a long one, copied as they are coded: what a trial is to be tried on."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
import av.error
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream

from bwpipe.video.decoder import packets
from bwpipe.video.file import VideoFile, open_container, video_stream
from bwpipe.video.muxer import decoding_times

RUNS = 3
"""More would begin with more key frames, which are larger and slower to code than what a film mostly has."""


def write_excerpt(film: VideoFile, path: Path, frames: int) -> bool:
    """Write a Matroska file with so many frames of a film's picture, in runs that begin with evenly spaced key frames.

    Args:
        film: The film.
        path: The file, replaced if it exists.
        frames: How many, at least `RUNS`.

    Returns:
        Whether there is such a file: not where there are too few key frames to decode from, or Matroska can't hold them.
    """
    length = -(-frames // RUNS)
    keys = _keys(film, length)
    if not keys:
        return False
    try:
        with open_container(film.path) as source, av.open(str(path), "w", format="matroska") as output:
            stream = video_stream(source, film.picture)
            if stream is None or stream.time_base is None:
                return False
            copy = output.add_stream_from_template(stream, opaque=True)
            copy.time_base = stream.time_base
            coded: list[Packet[VideoStream]] = []
            shown: list[int] = []
            for key in keys:
                run = list(islice(_from_key(packets(source, stream, key)), min(length, frames - len(coded))))
                times = [packet.pts or 0 for packet in run]
                # a second after the run before it: that is no shorter than any frame
                begin = max(shown, default=0) + round(1 / stream.time_base) - min(times, default=0)
                coded, shown = coded + run, shown + [begin + time for time in times]
            for packet, pts, dts in zip(coded, shown, decoding_times(np.array(shown, np.int64)), strict=True):
                packet.stream, packet.pts, packet.dts = copy, pts, int(dts)
                output.mux_one(packet)
    except (av.error.FFmpegError, ValueError):
        return False
    return len(coded) == frames


def _keys(film: VideoFile, length: int) -> list[int]:
    """Decoding times of the key frames that the runs begin with; none where these are too few or the runs would overlap."""
    total = len(film.times)
    wanted = [int((number + 0.5) * total / RUNS) for number in range(RUNS)]
    places = np.searchsorted(film.keys[:, 0], wanted, side="right") - 1
    if not len(film.keys) or places.min() < 0:
        return []
    begins = [int(film.keys[place, 0]) for place in places]
    apart = np.diff([*begins, total]).min()
    return [int(film.keys[place, 1]) for place in places] if apart >= length else []


def _from_key(coded: "Iterator[Packet[VideoStream]]") -> "Iterator[Packet[VideoStream]]":
    """The packets of a run, but for those that are shown before its key frame: they may need others."""
    first = None
    for packet in coded:
        first = packet.pts if first is None else first
        if packet.pts is not None and first is not None and packet.pts >= first:
            yield packet
