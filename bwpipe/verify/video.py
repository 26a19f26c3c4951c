"""Compares a video with the one written from it."""

import sys
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

from av.codec.codec import Codec

from bwpipe.core.frame import Unit
from bwpipe.core.provenance import read_note
from bwpipe.verify.alpha import compare_alpha
from bwpipe.verify.cropping import compare_cropping
from bwpipe.verify.late_streams import compare_late_streams
from bwpipe.verify.luma_difference import LumaTally
from bwpipe.verify.metadata import compare_chapters, compare_form, compare_tags, holds_shifted
from bwpipe.verify.plain_reading import Survey, decoded, survey
from bwpipe.verify.side_data import compare_side_data
from bwpipe.verify.stream_hashes import read_streams
from bwpipe.verify.streams import compare_streams
from bwpipe.verify.timestamps import Clock, Pairing, delay, tolerance
from bwpipe.verify.verdict import Limits, Verdict
from bwpipe.video.decoder import read_video
from bwpipe.video.file import FULL, VideoFile
from bwpipe.video.interlacing import of_one_moment
from bwpipe.video.pixel_formats import in_depth
from bwpipe.video.probe import open_video


def verify_video(
    before: VideoFile,
    after: VideoFile,
    limits: Limits,
    *,
    said: Sequence[str] = (),
    tick: Callable[[], None] = lambda: None,
) -> Verdict:
    """Decode both videos, frame by frame, and report every difference other than colour.

    Args:
        before: The input.
        after: The output.
        limits: How far its luma may differ if it is lossy.
        said: The warnings of the run about the input: a loss that one of them announces is a remark.
        tick: Called after each frame.

    Raises:
        MediaError: One of them can't be read.
    """
    verdict = Verdict(before.path, after.path, "film", said=said)
    tags, provenance = read_note(after.metadata[0])
    if provenance and provenance.picture:
        before, after = (_with_stream(video, provenance.picture) for video in (before, after))
    if provenance and provenance.deinterlaced:
        before = of_one_moment(before)
    requested = provenance.frames if provenance else None
    unit = Unit(before, stop=min(requested or len(before.times), len(before.times)))
    trial = unit.stop != len(before.times)
    if trial:
        verdict.remarks.append(f"only the first {requested} frames were requested, so only these are compared")
    compare_form(before, after, verdict, rounded=provenance is not None and _rounded(before, after, provenance.luma))
    compare_hdr(before, after, verdict)
    streams = read_streams(before), read_streams(after)
    if later := delay(before, after, streams[0].starts):
        streams = streams[0], streams[1].earlier(later)
        verdict.remarks.append(f"all of it is {float(later):.3f} s later, since Matroska can't hold times before zero")
    on_request = provenance.luma if provenance else []
    _compare_frames(unit, before, after, verdict, limits=limits, on_request=on_request, later=later, tick=tick)
    _compare_carried(before, after, verdict, limits, count=unit.stop if trial else None)
    _compare_duration(unit, before, after, streams[1].end, verdict, later=later)
    compare_streams(*streams, after, tolerance(before, after), verdict, trial=trial)
    if not trial:
        compare_chapters(streams[0].chapters, streams[1].chapters, verdict)
    verdict.differences += compare_tags(before.metadata[0], tags, after, verdict, label="its tag")
    verdict.differences += compare_tags(
        before.metadata[1], after.metadata[1], after, verdict, label="the video stream's tag", stream=True
    )
    languages = [video.metadata[1].get("language") or "und" for video in (before, after)]
    if languages[0] != languages[1]:
        verdict.differences.append(f"the video stream's language is {languages[1]} instead of {languages[0]}")
    if provenance:
        verdict.facts["provenance"] = {"version": provenance.version, "stages": list(provenance.stages)}
    return verdict


def _compare_carried(before: VideoFile, after: VideoFile, verdict: Verdict, limits: Limits, *, count: int | None) -> None:
    """Compare what the files hold according to a plain demuxer and decoder, of the first `count` frames if that is given."""
    surveys = survey(before), survey(after)
    verdict.facts["coded_frames"] = {"input": surveys[0].packets, "output": surveys[1].packets}
    if count is None:
        _compare_frame_counts(before, after, surveys, verdict)
        compare_late_streams(before, surveys[0], verdict)
    compare_cropping(before, after, verdict)
    compare_side_data(before, after, surveys, verdict, count=count)
    compare_alpha(before, after, surveys, verdict, limits=limits, count=count)


def _compare_frame_counts(before: VideoFile, after: VideoFile, surveys: tuple[Survey, Survey], verdict: Verdict) -> None:
    """Compare the number of frames that a decoder gives with that of those read.

    Usually each coded packet is a frame. If not, since packets hold single fields, several frames or none, they are decoded.
    """
    read = verdict.facts["frames"]["input"], verdict.facts["frames"]["output"]
    for name, video, found, known in zip(("input", "output"), (before, after), surveys, read, strict=True):
        if found.packets == known:
            continue
        unseen = sum(1 for _ in decoded(video)) - known
        if unseen > 0:
            text = f"the {name} holds {known + unseen} frames that decode, of which {unseen} were not read"
            verdict.lose(f"{text}, so that they are lost" if video is before else text, "frame", unseen)


def _with_stream(video: VideoFile, number: int) -> VideoFile:
    """The file opened with video stream `number`, counted from 1."""
    if video.picture == number:
        return video
    return open_video(video.path, video.name, max_pixels=sys.maxsize, picture=number)


def _rounded(before: VideoFile, after: VideoFile, on_request: list[str]) -> bool:
    """Whether samples were rounded to fewer bits on request."""
    return after.depth < before.depth and f"{after.depth} bits" in on_request


def _compare_frames(
    unit: Unit,
    before: VideoFile,
    after: VideoFile,
    verdict: Verdict,
    *,
    limits: Limits,
    on_request: list[str],
    later: Fraction,
    tick: Callable[[], None],
) -> None:
    """Compare the number of frames, their timestamps, but for the `delay` of the output, and their luma."""
    slack = tolerance(before, after)
    clock = Clock(before.time_base, after.time_base, slack)
    shown = clock.ticks(after.times, after.time_base) - clock.whole(later)
    pairing = Pairing(clock, clock.ticks(before.times[: unit.stop], before.time_base), shown)
    tally = LumaTally(after.depth, limits)
    same_codes = before.depth == after.depth or holds_shifted(before, after) or _rounded(before, after, on_request)
    comparable = same_codes and (before.width, before.height) == (after.width, after.height)
    input_faults, output_faults = list(before.faults), list(after.faults)
    pairs = pairing.pairs(read_video(unit, warn=input_faults.append), read_video(Unit(after), warn=output_faults.append))
    for one, other in pairs:
        if comparable:
            expected = in_depth(one.luma, before.depth, after.depth, full=before.tags.range == FULL)
            tally.add(one.index, expected, other.luma)
        tick()
    verdict.facts["frames"] = {
        "input": pairing.before,
        "output": pairing.after,
        "lost": pairing.lost,
        "extra": pairing.extra,
        "compared": tally.frames,
    }
    verdict.facts["times"] = {"exact": pairing.exact, "rounded": pairing.rounded, "moved": pairing.moved}
    if slack and pairing.rounded:
        verdict.remarks.append("its timestamps equal the input's rounded to 1 ms, the resolution of Matroska")
    verdict.differences += pairing.violations()
    verdict.remarks += [f"the input: {text}" for text in dict.fromkeys(input_faults)]
    verdict.differences += [f"the output: {text}" for text in dict.fromkeys(output_faults)]
    codec = Codec(after.codec, "r")
    lossless = codec.lossless and not codec.lossy
    verdict.facts["luma"] = {**tally.to_json(), "lossless": lossless}
    violations = tally.violations(lossless=lossless)
    if before.deinterlaced:  # the input is deinterlaced as well, so that everything else is still compared
        verdict.remarks.append("luma changed on request (deinterlace): compared with that of the deinterlaced input")
    if on_request:
        verdict.remarks.append(f"luma changed on request ({', '.join(on_request)})")
    else:
        verdict.differences += violations
    if changes := [*on_request, *(["deinterlace"] if before.deinterlaced else [])]:
        verdict.facts["luma"]["on_request"] = changes
    if not comparable:
        verdict.differences.append("its luma can't be compared, since size or depth differ")


def _compare_duration(
    unit: Unit, before: VideoFile, after: VideoFile, stated: Fraction | None, verdict: Verdict, *, later: Fraction
) -> None:
    """Compare durations, up to the end of the last frame, but for the `delay` of the output.

    MP4 stores the time to the next frame in decoding order as a frame's duration. If frames are reordered, that of the last
    frame shown says little, and the end stated by the file's edit list may be the right one.
    """
    slack = tolerance(before, after)
    was, now = _end(before, (unit.stop or 0) - 1), _end(after, len(after.times) - 1)
    now = None if now is None else now - later
    if was is not None and stated is not None and abs(was - stated) <= 2 * slack:
        now = stated
    first = [int(video.times[0]) * video.time_base - delayed for video, delayed in ((before, 0), (after, later))]
    seconds = [None if end is None else float(end - start) for end, start in zip((was, now), first, strict=True)]
    verdict.facts["duration"] = {"input": seconds[0], "output": seconds[1]}
    if was is None:
        verdict.remarks.append("the input does not state the duration of its last frame")
    elif now is None:
        verdict.differences.append("it does not state the duration of its last frame")
    elif abs(was - now) > 2 * slack:  # start and duration of the last frame are rounded independently
        verdict.differences.append(f"it ends at {float(now):.6f} s instead of {float(was):.6f} s")


def _end(video: VideoFile, last: int) -> Fraction | None:
    """End of a frame in seconds; None if unspecified."""
    duration = video.duration(last)
    return None if duration is None else (int(video.times[last]) + duration) * video.time_base


_HDR_DECODERS = frozenset({"h264", "hevc", "av1", "libdav1d"})
"""Decoders of codecs that can store HDR metadata in the bitstream."""
_HDR_TOLERANCES = {
    "the chromaticity of its mastering display": [Fraction(1, 50_000)] * 8,
    "the luminance of its mastering display": [Fraction(1, 10_000), Fraction(1, 256)],
    "its content light level": [Fraction(0)] * 2,
}
"""Tolerance for each number: codecs store fixed-point numbers of different resolution (AV1 specification, 6.7.4)."""


def compare_hdr(before: VideoFile, after: VideoFile, verdict: Verdict) -> None:
    """Compare HDR metadata; what the output's codec can't store only gives a remark."""
    both = list(zip(_hdr_fields(before), _hdr_fields(after), strict=True))
    for (name, tolerances), (was, now) in zip(_HDR_TOLERANCES.items(), both, strict=True):
        if was and not now and after.codec not in _HDR_DECODERS:
            verdict.remarks.append(f"{name} is lost: {after.codec} can't store it")
        else:
            verdict.differences += _hdr_differences(name, was, now, tolerances)
    numbers = ([[float(number) for number in values] for values in pair] for pair in both)
    verdict.facts["light"] = dict(zip(before.hdr._fields, numbers, strict=True))


def _hdr_fields(video: VideoFile) -> list[Sequence[Fraction | int]]:
    return [video.hdr.primaries, video.hdr.luminance, video.hdr.content]


def _hdr_differences(
    name: str, was: Sequence[Fraction | int], now: Sequence[Fraction | int], tolerances: Sequence[Fraction]
) -> Iterator[str]:
    if len(was) != len(now):
        yield f"{name} is lost" if was else f"{name} is present, but not in the input"
    elif any(abs(Fraction(one - other)) > limit for one, other, limit in zip(was, now, tolerances, strict=False)):
        values = (", ".join(f"{float(number):g}" for number in numbers) for numbers in (now, was))
        yield f"{name} is {' instead of '.join(values)}"
