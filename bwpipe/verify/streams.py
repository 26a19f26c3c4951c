"""Compares the streams of two films, their languages, dispositions and times."""

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
from bwpipe.verify.timestamps import Clock
from bwpipe.verify.verdict import Verdict
from bwpipe.video.file import VideoFile

_DEFAULT = Disposition.default
_BOTH = (
    Disposition.default
    | Disposition.dub
    | Disposition.comment
    | Disposition.forced
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
    | Disposition.descriptions
    | Disposition.attached_pic
)
_PLACES = {
    "matroska": _BOTH | Disposition.original,
    "webm": _BOTH | Disposition.original,
    "mp4": _BOTH | Disposition.captions,
    "mov": Disposition.default | Disposition.attached_pic,
}
"""The dispositions that a container has a place for."""


def compare_streams(
    before: Streams, after: Streams, made: VideoFile, tolerance: Fraction, verdict: Verdict, *, trial: bool
) -> None:
    """Say of each stream of the input what became of it.

    Args:
        before: The input's.
        after: The output's.
        made: The output.
        tolerance: How far times may be off.
        verdict: Gets what is found.
        trial: Whether only the first frames were asked for: the other streams then end with them.
    """
    left = list(after.copies)
    told: list[dict[str, Any]] = []
    kept = 0
    for copy in before.copies:
        partner = _partner(copy, left, trial)
        found: list[str] = []
        if partner is None:
            holds = copy.track.kind == "attachment" or copy.track.codec in _codecs_in(_muxer(made))
            if holds:
                found.append(f"{copy.track} is lost")
            else:
                verdict.remarks.append(f"{copy.track} is lost: {made.path.suffix} can't hold it")
        else:
            left.remove(partner)
            found += _changes(copy, partner, made, tolerance, verdict, trial=trial)
            kept += not found
        verdict.differences += found
        told.append(
            {
                "stream": str(copy.track),
                "packets": copy.packets,
                "checksum": copy.digest,
                "kept": partner is not None and not found,
                "language": copy.metadata.get("language", "und"),
                "disposition": dispositions(copy.disposition),
            }
        )
    verdict.differences += [f"{copy.track} is not the input's" for copy in left]
    counts = {"input": len(before.copies), "output": len(after.copies), "kept": kept, "each": told}
    verdict.facts["streams"] = counts
    was, now = (streams.disposition & ~_DEFAULT for streams in (before, after))  # the one picture is the default anyway
    verdict.differences += _of_disposition("its picture's", was, now, made, verdict)


def _partner(copy: StreamDigest, others: list[StreamDigest], trial: bool) -> StreamDigest | None:
    """What became of a stream: the one of its kind with the same packets, else in the same language with about the same."""
    alike = [other for other in others if (other.track.kind, other.track.cover) == (copy.track.kind, copy.track.cover)]
    first = [other for other in alike if _language(other) == _language(copy)]
    same = (other for other in [*first, *alike] if other.digest == copy.digest)
    begun = (other for other in first if trial and copy.each.startswith(other.each))
    about = (other for other in first if other.track.codec == copy.track.codec and _resembles(copy, other))
    return next(chain(same, begun, about), None)


def _resembles(copy: StreamDigest, made: StreamDigest) -> bool:
    """Whether two streams share most packets: one with others is another stream."""
    if not (copy.packets and made.packets):
        return copy.packets == made.packets
    one, other = (np.frombuffer(bytes(stream.each), np.uint64) for stream in (copy, made))
    return 2 * int(np.isin(other, one).sum()) >= min(len(one), len(other))


def _changes(
    copy: StreamDigest, made: StreamDigest, film: VideoFile, tolerance: Fraction, verdict: Verdict, *, trial: bool
) -> Iterator[str]:
    """What is not as it was."""
    same = copy.digest == made.digest
    short = trial and made.packets < copy.packets and copy.each.startswith(made.each)
    if not (same or short):
        count = min(copy.packets, made.packets)
        if copy.packets != made.packets:
            yield f"{copy.track} has {made.packets} packets instead of {copy.packets}"
        number = copy.first_other(made, count)
        if number is not None:
            yield f"{copy.track}: its packet {number} of {copy.packets} is another"
    else:
        yield from _moved(copy, made, tolerance, verdict)
        yield from _lengthened(copy, made, tolerance)
    if _language(copy) != _language(made):
        yield f"{copy.track}: its language is {_language(made)} instead of {_language(copy)}"
    now = made.disposition if copy.disposition & _DEFAULT else made.disposition & ~_DEFAULT  # MP4 makes one of each kind so
    yield from _of_disposition(f"{copy.track}: its", copy.disposition, now, film, verdict)
    yield from compare_tags(copy.metadata, made.metadata, film, verdict, of=f"{copy.track}: its tag", stream=True)


def _moved(copy: StreamDigest, made: StreamDigest, tolerance: Fraction, verdict: Verdict) -> Iterator[str]:
    """Whether the times of the packets are others; where a container cut them anew, that of the first."""
    if not copy.rising:
        verdict.remarks.append(f"{copy.track}: its times do not rise in the input, so they are not compared")
        return
    if not (copy.times and made.times):
        return
    clock = Clock(copy.time_base, made.time_base, tolerance)
    cut_anew = copy.packets != made.packets and copy.digest == made.digest
    count = 1 if cut_anew else min(len(copy.times), len(made.times))
    before, after = clock.ticks(copy.shown[:count], copy.time_base), clock.ticks(made.shown[:count], made.time_base)
    off = np.flatnonzero(np.abs(before - after) > clock.slack)
    if len(off):
        at = int(off[0])
        yield (
            f"{copy.track}: {len(off)} of {count} packets are at another time, first packet {at} "
            f"at {clock.seconds(after[at]):.6f} s instead of {clock.seconds(before[at]):.6f} s"
        )


def _lengthened(copy: StreamDigest, made: StreamDigest, tolerance: Fraction) -> Iterator[str]:
    """Whether packets last longer or shorter, where both files say how long and have cut the stream alike.

    Matroska does not say it of sound, and who reads it reckons: not always for the first packet. Subtitles it always says.
    """
    if copy.packets != made.packets or len(copy.lasting) != len(made.lasting):
        return
    clock = Clock(copy.time_base, made.time_base, tolerance)
    before, after = (clock.ticks(np.array(stream.lasting, np.int64), stream.time_base) for stream in (copy, made))
    said = (before > 0) & ((after > 0) | (copy.track.kind == "subtitle"))
    off = np.flatnonzero(said & (np.abs(before - after) > 2 * clock.slack))  # start and end are rounded by themselves
    if len(off):
        at = int(off[0])
        yield (
            f"{copy.track}: {len(off)} of {copy.packets} packets last longer or shorter, first packet {at} "
            f"{clock.seconds(after[at]):.6f} s instead of {clock.seconds(before[at]):.6f} s"
        )


def _language(copy: StreamDigest) -> str:
    return copy.metadata.get("language") or "und"


def _of_disposition(what: str, was: Disposition, now: Disposition, made: VideoFile, verdict: Verdict) -> Iterator[str]:
    """What became of a stream's dispositions; those that the output's container has no place for are a remark."""
    lost = was & ~now
    no_place = lost & ~_PLACES.get(_muxer(made), _BOTH)
    if no_place:
        verdict.remarks.append(
            f"{what} dispositions {dispositions(no_place)} are lost: {made.path.suffix} has no place for them"
        )
    if lost & ~no_place or now & ~was:
        yield f"{what} dispositions are {dispositions(now)} instead of {dispositions(was)}"


def _muxer(made: VideoFile) -> str:
    """FFmpeg's name of the muxer that writes what the output is."""
    if "matroska" in made.container:
        return "webm" if made.path.suffix.lower() == ".webm" else "matroska"
    if "mov" in made.container:
        return "mov" if made.brand == "qt" else "mp4"
    return made.container.partition(",")[0]


@cache
def _codecs_in(muxer: str) -> frozenset[str]:
    """FFmpeg's names of all encoders and decoders whose codec a container can hold; none where it is not written here."""
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as output:
            return frozenset(output.supported_codecs)
    except (av.error.FFmpegError, ValueError):
        return frozenset()
