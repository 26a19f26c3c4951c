"""Compares a film with the one that was made of it."""

import sys
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

from av.codec.codec import Codec

from bwpipe.core.frame import Unit
from bwpipe.core.provenance import read_note
from bwpipe.verify.luma_difference import LumaTally
from bwpipe.verify.metadata import compare_chapters, compare_form, compare_tags, holds_shifted
from bwpipe.verify.stream_hashes import read_streams
from bwpipe.verify.streams import compare_streams
from bwpipe.verify.timestamps import Clock, Pairing, tolerance
from bwpipe.verify.verdict import Limits, Verdict
from bwpipe.video.decoder import read_video
from bwpipe.video.file import VideoFile
from bwpipe.video.interlacing import of_one_moment
from bwpipe.video.pixel_formats import widen
from bwpipe.video.probe import open_video


def verify_video(before: VideoFile, after: VideoFile, limits: Limits, *, tick: Callable[[], None] = lambda: None) -> Verdict:
    """Decode both films, frame by frame, and say what is not as it was but for the colour.

    Args:
        before: The input.
        after: The output.
        limits: How far its luma may be moved, if it is coded with losses.
        tick: Called after each frame.

    Raises:
        MediaError: One of them can't be read.
    """
    verdict = Verdict(before.path, after.path, "film")
    told, provenance = read_note(after.metadata[0])
    if provenance and provenance.picture:
        before, after = (_with_picture(film, provenance.picture) for film in (before, after))
    if provenance and provenance.deinterlaced:
        before = of_one_moment(before)
    asked = provenance.frames if provenance else None
    unit = Unit(before, stop=min(asked or len(before.times), len(before.times)))
    trial = unit.stop != len(before.times)
    if trial:
        verdict.remarks.append(f"only the first {asked} frames were asked for, so only these are compared")
    compare_form(before, after, verdict)
    compare_hdr(before, after, verdict)
    _frames(unit, before, after, verdict, limits=limits, on_request=provenance.luma if provenance else [], tick=tick)
    streams = read_streams(before), read_streams(after)
    _duration(unit, before, after, streams[1].end, verdict)
    compare_streams(*streams, after, tolerance(before, after), verdict, trial=trial)
    if not trial:
        compare_chapters(streams[0].chapters, streams[1].chapters, verdict)
    verdict.differences += compare_tags(before.metadata[0], told, after, verdict, of="its tag")
    verdict.differences += compare_tags(
        before.metadata[1], after.metadata[1], after, verdict, of="its picture's tag", stream=True
    )
    languages = [film.metadata[1].get("language") or "und" for film in (before, after)]
    if languages[0] != languages[1]:
        verdict.differences.append(f"its picture's language is {languages[1]} instead of {languages[0]}")
    if provenance:
        verdict.facts["provenance"] = {"version": provenance.version, "stages": list(provenance.stages)}
    return verdict


def _with_picture(film: VideoFile, number: int) -> VideoFile:
    """The film, of which another picture may have been opened, with the one of that number, counted from 1."""
    if film.picture == number:
        return film
    return open_video(film.path, film.name, max_pixels=sys.maxsize, picture=number)


def _frames(
    unit: Unit,
    before: VideoFile,
    after: VideoFile,
    verdict: Verdict,
    *,
    limits: Limits,
    on_request: list[str],
    tick: Callable[[], None],
) -> None:
    """The frames: how many, when each is shown, and its luma."""
    off = tolerance(before, after)
    clock = Clock(before.time_base, after.time_base, off)
    pairing = Pairing(
        clock, clock.ticks(before.times[: unit.stop], before.time_base), clock.ticks(after.times, after.time_base)
    )
    tally = LumaTally(after.depth, limits)
    alike = before.depth == after.depth or holds_shifted(before, after)
    comparable = alike and (before.width, before.height) == (after.width, after.height)
    known, wrong = list(before.faults), list(after.faults)
    pairs = pairing.pairs(read_video(unit, warn=known.append), read_video(Unit(after), warn=wrong.append))
    for one, other in pairs:
        if comparable:
            tally.take(one.index, widen(one.luma, before.depth, after.depth), other.luma)
        tick()
    verdict.facts["frames"] = {
        "input": pairing.before,
        "output": pairing.after,
        "lost": pairing.lost,
        "extra": pairing.extra,
        "compared": tally.frames,
    }
    verdict.facts["times"] = {"exact": pairing.exact, "rounded": pairing.rounded, "moved": pairing.moved}
    if off and pairing.rounded:
        verdict.remarks.append("its times equal the input's after each is rounded to 1 ms, since Matroska counts in these")
    verdict.differences += pairing.complaints()
    verdict.remarks += [f"the input: {text}" for text in dict.fromkeys(known)]
    verdict.differences += [f"the output: {text}" for text in dict.fromkeys(wrong)]
    codec = Codec(after.codec, "r")
    lossless = codec.lossless and not codec.lossy
    verdict.facts["luma"] = {**tally.to_json(), "lossless": lossless}
    found = tally.complaints(lossless=lossless)
    if before.deinterlaced:  # the same is done to the input, so that what is left to be compared still is
        verdict.remarks.append("luma changed on request (deinterlace): compared with the input's after the same")
    if on_request:
        verdict.remarks.append(f"luma changed on request ({', '.join(on_request)})")
    else:
        verdict.differences += found
    if asked := [*on_request, *(["deinterlace"] if before.deinterlaced else [])]:
        verdict.facts["luma"]["on_request"] = asked
    if not comparable:
        verdict.differences.append("its luma can't be compared, since size or depth are others")


def _duration(unit: Unit, before: VideoFile, after: VideoFile, stated: Fraction | None, verdict: Verdict) -> None:
    """How long the film is: until its last frame is over.

    What MP4 has as a frame's duration is the time to the next one that is decoded, so where frames are reordered, that of the
    last one shown says little; then the end that the file states, its edit list's, may be the right one.
    """
    off = tolerance(before, after)
    was, now = _end(before, (unit.stop or 0) - 1), _end(after, len(after.times) - 1)
    if was is not None and stated is not None and abs(was - stated) <= 2 * off:
        now = stated
    first = [int(film.times[0]) * film.time_base for film in (before, after)]
    seconds = [None if end is None else float(end - start) for end, start in zip((was, now), first, strict=True)]
    verdict.facts["duration"] = {"input": seconds[0], "output": seconds[1]}
    if was is None:
        verdict.remarks.append("the input does not say how long its last frame is shown")
    elif now is None:
        verdict.differences.append("it does not say how long its last frame is shown")
    elif abs(was - now) > 2 * off:  # start and duration of the last frame are rounded by themselves
        verdict.differences.append(f"it ends at {float(now):.6f} s instead of {float(was):.6f} s")


def _end(film: VideoFile, last: int) -> Fraction | None:
    """When a frame is over, in seconds; None where the film does not say."""
    shown = film.duration(last)
    return None if shown is None else (int(film.times[last]) + shown) * film.time_base


_HOLD = frozenset({"h264", "hevc", "av1", "libdav1d"})
"""Decoders of codecs whose coded picture has a place for it."""
_PARTS = {
    "the chromaticity of its mastering display": [Fraction(1, 50_000)] * 8,
    "the luminance of its mastering display": [Fraction(1, 10_000), Fraction(1, 256)],
    "its content light level": [Fraction(0)] * 2,
}
"""By how much each number may be off: codecs count in parts, and not all in the same (AV1 specification, 6.7.4)."""


def compare_hdr(before: VideoFile, after: VideoFile, verdict: Verdict) -> None:
    """Say what became of HDR metadata; what the output's codec has no place for is a remark."""
    both = list(zip(_parts(before), _parts(after), strict=True))
    for (name, apart), (was, now) in zip(_PARTS.items(), both, strict=True):
        if was and not now and after.codec not in _HOLD:
            verdict.remarks.append(f"{name} is lost: {after.codec} has no place for it")
        else:
            verdict.differences += _other(name, was, now, apart)
    numbers = ([[float(number) for number in part] for part in parts] for parts in both)
    verdict.facts["light"] = dict(zip(before.light._fields, numbers, strict=True))


def _parts(film: VideoFile) -> list[Sequence[Fraction | int]]:
    return [film.light.primaries, film.light.luminance, film.light.content]


def _other(name: str, was: Sequence[Fraction | int], now: Sequence[Fraction | int], apart: Sequence[Fraction]) -> Iterator[str]:
    if len(was) != len(now):
        yield f"{name} is lost" if was else f"{name} is stated, and not in the input"
    elif any(abs(Fraction(one - other)) > most for one, other, most in zip(was, now, apart, strict=False)):
        said = (", ".join(f"{float(number):g}" for number in numbers) for numbers in (now, was))
        yield f"{name} is {' instead of '.join(said)}"
