"""Compares a film of numbered frames with what was written from it, and a film with the frames written from it."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from pathlib import PurePosixPath

import numpy as np
from av.codec.codec import Codec

from bwpipe.core.frame import Frame, Luma, Unit
from bwpipe.core.provenance import Provenance, read_note, split_note
from bwpipe.image.open import open_image
from bwpipe.image.provenance_tag import history
from bwpipe.image.read import read_metadata
from bwpipe.pixels.ycbcr import WEIGHTS, convert_matrix
from bwpipe.sequence import dpx, exr
from bwpipe.sequence.file import FrameSequence
from bwpipe.sequence.frames import exr_light, luma_of_light, luminance, read_file
from bwpipe.sequence.read import SequenceReader
from bwpipe.sequence.transfer import light_of_log_codes, to_light
from bwpipe.verify.image import verify_image
from bwpipe.verify.luma_difference import LumaTally
from bwpipe.verify.stream_hashes import read_streams
from bwpipe.verify.streams import compare_streams
from bwpipe.verify.timestamps import Clock, Pairing, delay, tolerance
from bwpipe.verify.verdict import Limits, Verdict
from bwpipe.video.decoder import read_video
from bwpipe.video.file import FULL, VideoFile
from bwpipe.video.pixel_formats import rescale

_HALF = 2.0**-10
"""By how much light in half precision may be off, relative to it: a step, where channels of different size are rounded."""
_OTHER_WEIGHTS = 2 / 255
"""How far luma that is computed anew with other weights may be off, of white: the rounding of three channels."""
_MOST_NAMES = 8
"""The most frames to name."""


def verify_sequence(
    before: VideoFile,
    after: VideoFile,
    limits: Limits,
    *,
    said: Sequence[str] = (),
    tick: Callable[[], None] = lambda: None,
) -> Verdict:
    """Read both, frame by frame, and report every difference other than colour.

    Args:
        before: The input; it or the output is one of numbered frames, or both are.
        after: The output.
        limits: How far its luma may differ if it is lossy.
        said: The warnings of the run about the input: a loss that one of them announces is a remark.
        tick: Called after each frame.

    Raises:
        MediaError: One of them can't be read.
    """
    verdict = Verdict(before.path, after.path, "film", said=said)
    provenance = _provenance(after)
    requested = provenance.frames if provenance else None
    total = len(before.times)
    stop = min(requested or total, total)
    if stop < total:
        verdict.remarks.append(f"only the first {requested} frames were requested, so only these are compared")
    if (before.width, before.height) != (after.width, after.height):
        verdict.differences.append(f"its size is {after.width}x{after.height} instead of {before.width}x{before.height}")
        return verdict
    on_request = provenance.luma if provenance else []
    streams = None if isinstance(after, FrameSequence) else (read_streams(before), read_streams(after))
    later = delay(before, after, streams[0].starts) if streams else Fraction(0)
    pairs = partial(_by_time, later=later) if streams else _by_number
    comparison = _Comparison(before, after, limits, verdict)
    for one, other in pairs(before, after, stop, verdict):
        comparison.add(one, other)
        tick()
    comparison.finish(on_request)
    if streams:
        written = streams[1].earlier(later)
        compare_streams(streams[0], written, after, tolerance(before, after), verdict, trial=stop < total)
    if provenance:
        verdict.facts["provenance"] = {"version": provenance.version, "stages": list(provenance.stages)}
    return verdict


def _provenance(after: VideoFile) -> Provenance | None:
    """What the output says about how it was made: a film in its tags, frames in those of the first one; DPX can't say it."""
    if not isinstance(after, FrameSequence):
        return read_note(after.metadata[0])[1]
    if after.first:
        return history(read_metadata(after.first, after.first.path.read_bytes()))
    if after.form == "exr":
        return split_note(exr.read_note(read_file(after.files.path(0), "exr", max_pixels=after.max_pixels)))[1]
    return None


def _frames(media: VideoFile, stop: int | None, faults: list[str]) -> Iterator[Frame]:
    unit = Unit(media, stop=stop)
    if isinstance(media, FrameSequence):
        return SequenceReader(media, 2).frames(unit, 0, warn=faults.append)
    return read_video(unit, warn=faults.append, chroma=True)


def _number(media: VideoFile, index: int) -> int:
    return int(media.files.numbers[index]) if isinstance(media, FrameSequence) else index


def _by_number(before: VideoFile, after: VideoFile, stop: int, verdict: Verdict) -> Iterator[tuple[Frame, Frame]]:
    """The frames of equal numbers; others are differences."""
    assert isinstance(after, FrameSequence)
    was = {_number(before, index) for index in range(stop)}
    now = {int(number) for number in after.files.numbers}
    faults: tuple[list[str], list[str]] = ([], [])
    ones, others = _frames(before, stop, faults[0]), _frames(after, None, faults[1])
    compared = 0
    waiting = next(others, None)
    for one in ones:
        number = _number(before, one.index)
        while waiting is not None and _number(after, waiting.index) < number:
            waiting = next(others, None)
        if waiting is not None and _number(after, waiting.index) == number:
            compared += 1
            yield one, waiting
    for what, numbers in (("are missing", was - now), ("are not in the input", now - was)):
        if numbers:
            named = ", ".join(map(str, sorted(numbers)[:_MOST_NAMES]))
            more = f" and {len(numbers) - _MOST_NAMES} more" if len(numbers) > _MOST_NAMES else ""
            verdict.differences.append(f"{len(numbers)} of its numbers {what}: {named}{more}")
    verdict.facts["frames"] = {
        "input": len(was),
        "output": len(now),
        "lost": len(was - now),
        "extra": len(now - was),
        "compared": compared,
    }
    verdict.remarks += [f"the input: {text}" for text in dict.fromkeys([*before.faults, *faults[0]])]
    verdict.differences += [f"the output: {text}" for text in dict.fromkeys(faults[1])]


def _by_time(
    before: VideoFile, after: VideoFile, stop: int, verdict: Verdict, *, later: Fraction
) -> Iterator[tuple[Frame, Frame]]:
    """The frames of equal times, but for the `delay` of the output; others are differences."""
    clock = Clock(before.time_base, after.time_base, tolerance(before, after))
    shown = clock.ticks(after.times, after.time_base) - clock.whole(later)
    pairing = Pairing(clock, clock.ticks(before.times[:stop], before.time_base), shown)
    faults: tuple[list[str], list[str]] = ([*before.faults], [*after.faults])
    compared = 0
    for pair in pairing.pairs(_frames(before, stop, faults[0]), _frames(after, None, faults[1])):
        compared += 1
        yield pair
    verdict.facts["frames"] = {
        "input": pairing.before,
        "output": pairing.after,
        "lost": pairing.lost,
        "extra": pairing.extra,
        "compared": compared,
    }
    verdict.facts["times"] = {"exact": pairing.exact, "rounded": pairing.rounded, "moved": pairing.moved}
    verdict.differences += pairing.violations()
    verdict.remarks += [f"the input: {text}" for text in dict.fromkeys(faults[0])]
    verdict.differences += [f"the output: {text}" for text in dict.fromkeys(faults[1])]


class _Comparison:
    """Compares frames one by one: their luma, and their headers where both have them."""

    def __init__(self, before: VideoFile, after: VideoFile, limits: Limits, verdict: Verdict) -> None:
        self._before, self._after, self._limits, self._verdict = before, after, limits, verdict
        self._tally = LumaTally(after.depth, limits)
        self._found: dict[str, list[str]] = {}

    def add(self, one: Frame, other: Frame) -> None:
        """Compare a frame with the one written from it."""
        before, after = self._before, self._after
        number = _number(before, one.index)
        expected, allowed = self._expected(one), self._allowed()
        found = other.luma
        coloured = other.chroma is not None and other.chroma.shape[1:] == found.shape
        if after.matrix != before.matrix and coloured and not self._is_light:  # of light, the luminance is the luma's
            assert other.chroma is not None
            found = convert_matrix(found, other.chroma, after.levels, after.matrix, WEIGHTS[before.matrix])
        if allowed:
            near = np.abs(found.astype(np.int64) - expected) <= allowed
            found = np.where(near, expected, found)
        self._tally.add(number, expected, found)
        if isinstance(before, FrameSequence) and isinstance(after, FrameSequence):
            for text in self._headers(before, after, one.index, other.index):
                self._found.setdefault(text, []).append(after.files.name(other.index))

    def finish(self, on_request: list[str]) -> None:
        """Add what was found to the verdict."""
        verdict = self._verdict
        lossless = self._lossless()
        verdict.facts["luma"] = {**self._tally.to_json(), "lossless": lossless}
        if on_request:
            verdict.remarks.append(f"luma changed on request ({', '.join(on_request)})")
            verdict.facts["luma"]["on_request"] = on_request
        else:
            verdict.differences += self._tally.violations(lossless=lossless)
        for text, names in self._found.items():
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            verdict.differences.append(f"{names[0]}{more}: {text}")

    def _lossless(self) -> bool:
        after = self._after
        if isinstance(after, FrameSequence):
            return not (after.first and after.first.format == "JPEG")
        codec = Codec(after.codec, "r")
        return codec.lossless and not codec.lossy

    def _expected(self, one: Frame) -> Luma:
        """The luma that the output should have, in its depth."""
        before, after = self._before, self._after
        if self._is_light:
            if isinstance(before, FrameSequence) and before.form == "exr":
                return one.luma
            black, white = before.levels
            if isinstance(before, FrameSequence) and before.transfer == "log":
                return luma_of_light(light_of_log_codes(before.depth)[one.luma])
            signal = np.clip((one.luma.astype(np.float32) - black) / np.float32(white - black), 0, 1)
            return luma_of_light(to_light(signal))
        if before.tags.range == FULL:
            return rescale(one.luma, before.depth, after.depth)
        black, white = before.levels
        top = (1 << after.depth) - 1
        scaled = np.rint((one.luma.astype(np.float64) - black) * (top / (white - black))).clip(0, top)
        return scaled.astype(np.uint8) if after.depth == 8 else scaled.astype(np.uint16)

    @property
    def _is_light(self) -> bool:
        """Whether the output is in OpenEXR."""
        return isinstance(self._after, FrameSequence) and self._after.form == "exr"

    def _allowed(self) -> int:
        """By how many codes the luma may be off, since its samples are coded otherwise."""
        before, after = self._before, self._after
        top = (1 << after.depth) - 1
        if self._is_light:
            return round(_HALF * top)
        return round(_OTHER_WEIGHTS * top) if before.matrix != after.matrix else 0

    def _headers(self, before: FrameSequence, after: FrameSequence, one: int, other: int) -> Iterator[str]:
        """What differs between the headers of two frames."""
        paths = before.files.path(one), after.files.path(other)
        if before.first and after.first:
            was, now = (open_image(path, PurePosixPath(path.name), max_pixels=before.max_pixels) for path in paths)
            verdict = verify_image(was, now, self._limits, said=self._verdict.said)
            yield from (text for text in verdict.differences if "luma" not in text)  # which is compared above
            return
        if before.form != after.form:
            return
        data = [read_file(path, before.form, max_pixels=before.max_pixels) for path in paths]
        if before.form == "dpx":
            fields = [dpx.film_headers(each) for each in data]
            yield from (f"its {topic} differs" for topic in fields[0] if fields[0][topic] != fields[1][topic])
            return
        attributes = exr.kept_attributes(data[0]), exr.read_header(data[1]).attributes
        yield from (f"its attribute {name} differs" for name in attributes[0] if attributes[1].get(name) != attributes[0][name])
        lights = [luminance(exr_light(each)[0], WEIGHTS["bt709"]) for each in data]
        if (np.abs(lights[1] - lights[0]) > _HALF * np.abs(lights[0]) + 2.0**-24).any():
            yield "its light differs"
