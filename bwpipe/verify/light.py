"""Compares what two films say of the screen they were mastered on and of how bright they get."""

from collections.abc import Iterator, Sequence
from fractions import Fraction

from bwpipe.film import Film
from bwpipe.verify import Verdict

_HOLD = frozenset({"h264", "hevc", "av1", "libdav1d"})
"""Decoders of codecs whose coded picture has a place for it."""
_PARTS = {
    "the chromaticity of its mastering display": [Fraction(1, 50_000)] * 8,
    "the luminance of its mastering display": [Fraction(1, 10_000), Fraction(1, 256)],
    "its content light level": [Fraction(0)] * 2,
}
"""By how much each number may be off: codecs count in parts, and not all in the same (AV1 specification, 6.7.4)."""


def compare_light(before: Film, after: Film, verdict: Verdict) -> None:
    """Say what became of HDR metadata; what the output's codec has no place for is a remark."""
    both = list(zip(_parts(before), _parts(after), strict=True))
    for (name, apart), (was, now) in zip(_PARTS.items(), both, strict=True):
        if was and not now and after.codec not in _HOLD:
            verdict.remarks.append(f"{name} is lost: {after.codec} has no place for it")
        else:
            verdict.differences += _other(name, was, now, apart)
    numbers = ([[float(number) for number in part] for part in parts] for parts in both)
    verdict.facts["light"] = dict(zip(before.light._fields, numbers, strict=True))


def _parts(film: Film) -> list[Sequence[Fraction | int]]:
    return [film.light.primaries, film.light.luminance, film.light.content]


def _other(name: str, was: Sequence[Fraction | int], now: Sequence[Fraction | int], apart: Sequence[Fraction]) -> Iterator[str]:
    if len(was) != len(now):
        yield f"{name} is lost" if was else f"{name} is stated, and not in the input"
    elif any(abs(Fraction(one - other)) > most for one, other, most in zip(was, now, apart, strict=False)):
        said = (", ".join(f"{float(number):g}" for number in numbers) for numbers in (now, was))
        yield f"{name} is {' instead of '.join(said)}"
