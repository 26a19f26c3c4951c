"""Compares the other streams of two videos: packets, languages, dispositions and timestamps."""

import io
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from itertools import chain
from typing import Any

import av
import av.error
import numpy as np
from av.stream import Disposition

from bwpipe.verify.metadata import compare_tags
from bwpipe.verify.stream_hashes import StreamDigest, Streams, dispositions
from bwpipe.verify.timestamps import HALF_MS, Clock
from bwpipe.verify.verdict import Verdict
from bwpipe.video.file import VideoFile

_DEFAULT = Disposition.default
_COMMON = (
    Disposition.default
    | Disposition.dub
    | Disposition.comment
    | Disposition.forced
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
    | Disposition.descriptions
    | Disposition.attached_pic
)
_SUPPORTED = {
    "matroska": _COMMON | Disposition.original,
    "webm": _COMMON | Disposition.original,
    "mp4": _COMMON | Disposition.captions,
    "mov": Disposition.default | Disposition.attached_pic,
}
"""The dispositions that a container can hold."""


def compare_streams(
    before: Streams, after: Streams, output: VideoFile, tolerance: Fraction, verdict: Verdict, *, trial: bool
) -> None:
    """Match each stream of the input with one of the output, and report the differences.

    Args:
        before: The input's streams.
        after: The output's streams.
        output: The output.
        tolerance: Tolerance for timestamps, in seconds.
        verdict: Receives the findings.
        trial: Whether only the first frames were requested: the other streams then end with them.
    """
    unmatched = list(after.copies)
    facts: list[dict[str, Any]] = []
    kept = 0
    for copy in before.copies:
        partner = _partner(copy, unmatched, trial)
        changes: list[str] = []
        if partner is None:
            supported = copy.track.kind == "attachment" or copy.track.codec in _codecs_in(_muxer(output))
            if supported:
                changes.append(f"{copy.track} is lost")
            else:
                verdict.remarks.append(f"{copy.track} is lost: {output.path.suffix} can't hold it")
        else:
            unmatched.remove(partner)
            changes += _changes(copy, partner, output, tolerance, verdict, trial=trial)
            kept += not changes
        verdict.differences += changes
        facts.append(
            {
                "stream": str(copy.track),
                "packets": copy.packets,
                "checksum": copy.digest,
                "kept": partner is not None and not changes,
                "language": copy.metadata.get("language", "und"),
                "disposition": dispositions(copy.disposition),
            }
        )
    verdict.differences += [f"{copy.track} is not in the input" for copy in unmatched]
    counts = {"input": len(before.copies), "output": len(after.copies), "kept": kept, "each": facts}
    verdict.facts["streams"] = counts
    was, now = (streams.disposition & ~_DEFAULT for streams in (before, after))  # a sole video stream is the default anyway
    verdict.differences += _disposition_changes("the video stream's", was, now, output, verdict)


def _partner(copy: StreamDigest, others: list[StreamDigest], trial: bool) -> StreamDigest | None:
    """The counterpart of a stream: one of its kind with the same packets, else in the same language with mostly the same."""
    same_kind = [other for other in others if (other.track.kind, other.track.cover) == (copy.track.kind, copy.track.cover)]
    same_language = [other for other in same_kind if _language(other) == _language(copy)]
    identical = (other for other in [*same_language, *same_kind] if other.digest == copy.digest)
    prefix = (other for other in same_language if trial and copy.each.startswith(other.each))
    similar = (other for other in same_language if other.track.codec == copy.track.codec and _resembles(copy, other))
    return next(chain(identical, prefix, similar), None)


def _resembles(copy: StreamDigest, output: StreamDigest) -> bool:
    """Whether two streams share most packets; otherwise they are different streams."""
    if not (copy.packets and output.packets):
        return copy.packets == output.packets
    one, other = (np.frombuffer(bytes(stream.each), np.uint64) for stream in (copy, output))
    return 2 * int(np.isin(other, one).sum()) >= min(len(one), len(other))


def _changes(
    copy: StreamDigest, output: StreamDigest, video: VideoFile, tolerance: Fraction, verdict: Verdict, *, trial: bool
) -> Iterator[str]:
    """Differences between a stream and its counterpart."""
    same = copy.digest == output.digest
    shortened = trial and output.packets < copy.packets and copy.each.startswith(output.each)
    if not (same or shortened):
        count = min(copy.packets, output.packets)
        if copy.packets != output.packets:
            yield f"{copy.track} has {output.packets} packets instead of {copy.packets}"
        number = copy.first_difference(output, count)
        if number is not None:
            yield f"{copy.track}: packet {number} of {copy.packets} differs"
    else:
        tolerance = max(tolerance, _rounding(copy, output))
        yield from _timestamp_changes(copy, output, tolerance, verdict)
        yield from _duration_changes(copy, output, tolerance)
    if _language(copy) != _language(output):
        yield f"{copy.track}: its language is {_language(output)} instead of {_language(copy)}"
    now = (
        output.disposition if copy.disposition & _DEFAULT else output.disposition & ~_DEFAULT
    )  # MP4 marks one of each kind as default
    yield from _disposition_changes(f"{copy.track}: its", copy.disposition, now, video, verdict)
    yield from compare_tags(copy.metadata, output.metadata, video, verdict, label=f"{copy.track}: its tag", stream=True)


def _rounding(copy: StreamDigest, output: StreamDigest) -> Fraction:
    """How far the input's times may be rounded, in seconds.

    Matroska states times in milliseconds. MP4 and QuickTime count plain samples instead, which is exact.
    """
    counted = copy.track.codec.startswith("pcm_") and output.time_base < copy.time_base
    return HALF_MS if counted and copy.time_base == 2 * HALF_MS else Fraction(0)


def _timestamp_changes(copy: StreamDigest, output: StreamDigest, tolerance: Fraction, verdict: Verdict) -> Iterator[str]:
    """Changed packet timestamps; only the first is compared if the container split the packets differently."""
    if not copy.increasing:
        verdict.remarks.append(f"{copy.track}: its timestamps are not increasing in the input, so they are not compared")
        return
    if not (copy.times and output.times):
        return
    clock = Clock(copy.time_base, output.time_base, tolerance)
    resplit = copy.each != output.each and copy.digest == output.digest
    count = 1 if resplit else min(len(copy.times), len(output.times))
    before, after = clock.ticks(copy.shown[:count], copy.time_base), clock.ticks(output.shown[:count], output.time_base)
    off = np.flatnonzero(np.abs(before - after) > clock.slack)
    if len(off):
        at = int(off[0])
        yield (
            f"{copy.track}: {len(off)} of {count} packets have another timestamp, first packet {at} "
            f"at {clock.seconds(after[at]):.6f} s instead of {clock.seconds(before[at]):.6f} s"
        )


def _duration_changes(copy: StreamDigest, output: StreamDigest, tolerance: Fraction) -> Iterator[str]:
    """Changed packet durations, if both files state them and split the stream into the same packets.

    Matroska does not store them for audio, and demuxers derive them, though not always for the first packet. It always does for
    subtitles.
    """
    if copy.each != output.each or len(copy.durations) != len(output.durations):
        return
    clock = Clock(copy.time_base, output.time_base, tolerance)
    before, after = (clock.ticks(np.array(stream.durations, np.int64), stream.time_base) for stream in (copy, output))
    stated = (before > 0) & ((after > 0) | (copy.track.kind == "subtitle"))
    differ = np.abs(before - after)
    if (
        copy.track.kind == "audio" and copy.packets > 1
    ):  # MP4 stores the time to the next packet, which may begin before its end
        steps = np.diff(clock.ticks(copy.shown, copy.time_base))
        differ[:-1] = np.minimum(differ[:-1], np.abs(steps - after[:-1]))
    off = np.flatnonzero(stated & (differ > 2 * clock.slack))  # start and end are rounded independently
    if len(off):
        at = int(off[0])
        yield (
            f"{copy.track}: {len(off)} of {copy.packets} packets have another duration, first packet {at} "
            f"with {clock.seconds(after[at]):.6f} s instead of {clock.seconds(before[at]):.6f} s"
        )


def _language(copy: StreamDigest) -> str:
    return copy.metadata.get("language") or "und"


def _disposition_changes(owner: str, was: Disposition, now: Disposition, output: VideoFile, verdict: Verdict) -> Iterator[str]:
    """Changed dispositions of a stream; those that the output's container can't hold only give a remark."""
    lost = was & ~now
    unsupported = lost & ~_SUPPORTED.get(_muxer(output), _COMMON)
    if unsupported:
        verdict.remarks.append(
            f"{owner} dispositions {dispositions(unsupported)} are lost: {output.path.suffix} can't hold them"
        )
    if lost & ~unsupported or now & ~was:
        yield f"{owner} dispositions are {dispositions(now)} instead of {dispositions(was)}"


def _muxer(output: VideoFile) -> str:
    """FFmpeg's name of the muxer for the output's format."""
    if "matroska" in output.container:
        return "webm" if output.path.suffix.lower() == ".webm" else "matroska"
    if "mov" in output.container:
        return "mov" if output.brand == "qt" else "mp4"
    return output.container.partition(",")[0]


@cache
def _codecs_in(muxer: str) -> frozenset[str]:
    """FFmpeg's names of all encoders and decoders whose codec a container can hold; empty if there is no such muxer here."""
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as output:
            return frozenset(output.supported_codecs)
    except (av.error.FFmpegError, ValueError):
        return frozenset()
