"""Compares an image with the one written from it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from io import BytesIO

import numpy as np

from bwpipe.core.frame import Frame, Luma, Unit
from bwpipe.core.provenance import split_note
from bwpipe.errors import MediaError
from bwpipe.image.file import ImageFile, Metadata, decoding
from bwpipe.image.formats import jpeg, tiff
from bwpipe.image.provenance_tag import history
from bwpipe.image.read import read_image, read_metadata
from bwpipe.image.tiff_ifd import HISTORY, INNER, RESOLUTION, Directory, directories
from bwpipe.image.write import EIGHT_BITS, NO_ALPHA, NO_METADATA, eight_bits
from bwpipe.pixels.orientation import upright
from bwpipe.verify.image_content import compare_image_content
from bwpipe.verify.luma_difference import LumaTally
from bwpipe.verify.verdict import Limits, Verdict

_INCH_TO_CM = 2.54
_METRIC_TOLERANCE = 0.02
"""Tolerance in dpi for a resolution stored in pixels per metre: half a pixel per metre, and a margin."""
_INTEGER_TOLERANCE = 0.51
"""The same for JPEG, which stores integers."""


def verify_image(before: ImageFile, after: ImageFile, limits: Limits, *, said: Sequence[str] = ()) -> Verdict:
    """Decode both images and report every difference other than colour.

    Args:
        before: The input.
        after: The output.
        limits: How far its luma may differ if it is lossy.
        said: The warnings of the run about the input: a loss that one of them announces is a remark.

    Raises:
        MediaError: One of them can't be read.
    """
    verdict = Verdict(before.path, after.path, "picture", said=said)
    one, other = (read_image(Unit(media)) for media in (before, after))
    with decoding():
        was, now = (read_metadata(media, media.path.read_bytes()) for media in (before, after))
    provenance = history(now)
    _compare_samples(one, other, limits, verdict, on_request=provenance.luma if provenance else [])
    _compare_metadata(was, now, verdict, before, after)
    compare_image_content(before, after, verdict)
    if provenance:
        verdict.facts["provenance"] = {"version": provenance.version, "stages": list(provenance.stages)}
    return verdict


def _compare_samples(one: Frame, other: Frame, limits: Limits, verdict: Verdict, *, on_request: list[str]) -> None:
    """Size, orientation, depth, luma and alpha."""
    before, after = one.unit.media, other.unit.media
    assert isinstance(before, ImageFile)
    assert isinstance(after, ImageFile)
    target = after.format.lower()
    verdict.facts["picture"] = {
        "size": [after.width, after.height],
        "depth": after.depth,
        "orientation": after.orientation,
        "format": [before.format, after.format],
        "mode": [before.mode, after.mode],
    }
    luma, alpha = one.luma, one.alpha
    if target in NO_METADATA and before.orientation != after.orientation == 1:
        verdict.remarks.append(f"it is rotated upright: {after.format} can't store an orientation")
        luma = _upright(luma, before.orientation)
        alpha = None if alpha is None else _upright(alpha, before.orientation)
    elif before.orientation != after.orientation:
        verdict.differences.append(f"its orientation is {after.orientation} instead of {before.orientation}")
    if before.depth == 16 and after.depth == 8 and target in EIGHT_BITS:
        verdict.remarks.append(f"its 16-bit samples are rounded: {after.format} has 8 bits")
        luma, alpha = eight_bits(luma), None if alpha is None else eight_bits(alpha)
    elif before.depth != after.depth:
        verdict.differences.append(f"its depth is {after.depth} bits instead of {before.depth}")
    if luma.shape != other.luma.shape:
        sizes = [f"{plane.shape[1]}x{plane.shape[0]}" for plane in (other.luma, luma)]
        verdict.differences.append(f"its size is {sizes[0]} instead of {sizes[1]}")
        return
    if luma.dtype != other.luma.dtype:
        return
    _compare_luma(luma, other.luma, (before, after), limits, verdict, on_request=on_request)
    if alpha is not None and other.alpha is None and target in NO_ALPHA:
        verdict.remarks.append(f"its alpha is lost: {after.format} has none")
    elif (alpha is None) != (other.alpha is None):
        verdict.differences.append("its alpha is lost" if other.alpha is None else "it has alpha, but the input has none")
    elif alpha is not None and other.alpha is not None and not np.array_equal(alpha, other.alpha):
        verdict.differences.append("its alpha differs")


def _compare_luma(
    was: Luma,
    now: Luma,
    media: tuple[ImageFile, ImageFile],
    limits: Limits,
    verdict: Verdict,
    *,
    on_request: list[str],
) -> None:
    """Compare luma within the limits of the output's format."""
    before, after = media
    tally = LumaTally(after.depth, limits)
    tally.add(0, was, now)
    both = before.format == after.format == "JPEG"
    lossless = after.format != "JPEG" or (both and jpeg.holds_exact_luma(before.path.read_bytes()))
    figures = tally.to_json()
    verdict.facts["luma"] = {**figures, "lossless": lossless}
    mean, most = jpeg.MEAN_DIFFERENCE, jpeg.LARGEST_DIFFERENCE
    if on_request:
        verdict.remarks.append(f"luma changed on request ({', '.join(on_request)})")
        verdict.facts["luma"]["on_request"] = on_request
    elif both and not lossless and not limits.exact:
        if figures["mean"] > mean or tally.most > most:
            verdict.differences.append(
                f"the luma differs by {figures['mean']:.3g} on average and {tally.most} at most, above {mean} or {most}"
            )
    else:
        verdict.differences += tally.violations(lossless=lossless, still=True)


def _upright(plane: Luma, orientation: int) -> Luma:
    """A plane in its display orientation."""
    rotated: Luma = np.ascontiguousarray(upright(plane, orientation))
    return rotated


def _compare_metadata(was: Metadata, now: Metadata, verdict: Verdict, before: ImageFile, after: ImageFile) -> None:
    """EXIF, ICC profile, XMP, resolution, comments and text."""
    verdict.remarks += was.lost
    same, target = before.format == after.format, after.format.lower()
    if target in NO_METADATA:
        if was.exif or was.icc or was.xmp:
            verdict.remarks.append(f"EXIF, ICC profile and XMP are lost: {after.format} has none")
    else:
        exif = "" if target != "jpeg" or jpeg.fits(was.exif) else f"its EXIF is lost: {after.format} has only 64 kB for it"
        xmp = "" if target != "jpeg" or jpeg.fits(was.xmp) else f"its XMP is lost: {after.format} has only 64 kB for it"
        verdict.remarks += filter(None, (exif, xmp))
        if not exif:
            verdict.differences += _exif_differences(was.exif, now.exif, after)
        if not xmp and was.xmp != now.xmp:
            verdict.differences.append("its XMP is lost" if not now.xmp else "its XMP differs")
    if target != "ppm":
        resolutions = was.dpi if target in NO_METADATA else _dpi(was), _dpi(now)
        if resolutions[0] and not _close(
            *resolutions, _INTEGER_TOLERANCE if target == "jpeg" and not same else _METRIC_TOLERANCE
        ):
            verdict.differences.append(
                f"its resolution is {_format_dpi(resolutions[1])} instead of {_format_dpi(resolutions[0])}"
            )
    elif _dpi(was):
        verdict.remarks.append("its resolution is lost: PPM has none")
    if not same and was.own:
        verdict.remarks.append(f"comments and text that only {before.format} can hold are lost")
    elif same:
        missing = Counter(was.own) - Counter(now.own)
        names = (chunk.name.decode() if chunk.name.isalpha() else f"0x{chunk.name.hex()}" for chunk in missing)
        verdict.differences += [f"its chunk {name} is lost or differs" for name in names if name != "pHYs"]  # the resolution


def _exif_differences(was: bytes, now: bytes, after: ImageFile) -> Iterator[str]:
    """Lost or changed EXIF tags."""
    if not was:
        return
    try:
        before = next(directories(BytesIO(was)))
    except (MediaError, StopIteration):
        if was != now and after.format != "TIFF":  # TIFF can't hold tags that can't be parsed
            yield "its EXIF, which is damaged, differs"
        return
    try:
        written = next(directories(BytesIO(now))) if now else None
    except (MediaError, StopIteration):
        written = None
    if written is None:
        yield "its EXIF is lost"
        return
    yield from _directory_differences(before, written, frozenset(tiff.LAYOUT) if after.format == "TIFF" else frozenset())


def _directory_differences(before: Directory, after: Directory, ignored: frozenset[int], name: str = "EXIF") -> Iterator[str]:
    for number, tag in before.tags.items():
        if number in ignored or number in INNER:
            continue
        found = after.tags.get(number)
        if found is None:
            yield f"its {name} tag {number} is lost"
            continue
        now, was = found.data, tag.data
        if number == HISTORY:
            now, was = (data.rstrip(b"\0") for data in (now, was))
            text, provenance = split_note(now.decode("latin-1"))
            now = text.encode("latin-1") if provenance and now != was else now
        if now != was:
            yield f"its {name} tag {number} differs"
    for number, inner in before.inner.items():
        if number in after.inner:
            yield from _directory_differences(inner, after.inner[number], frozenset(), f"{name}/{number}")
        else:
            yield f"its {name} directory {number} is lost"


def _dpi(metadata: Metadata) -> tuple[float, float] | None:
    """Horizontal and vertical resolution in dpi, wherever the file states it."""
    if metadata.dpi:
        return metadata.dpi
    try:
        tags = next(directories(BytesIO(metadata.exif))) if metadata.exif else None
    except (MediaError, StopIteration):
        return None
    values = [] if tags is None else [tags.ratio(number) for number in RESOLUTION[:2]]
    if tags is None or not all(values):
        return None
    scale = _INCH_TO_CM if tags.number(RESOLUTION[2], 2) == 3 else 1.0
    return values[0] * scale, values[1] * scale


def _close(was: tuple[float, float] | None, now: tuple[float, float] | None, tolerance: float) -> bool:
    return was is not None and now is not None and all(abs(a - b) <= tolerance for a, b in zip(was, now, strict=True))


def _format_dpi(dpi: tuple[float, float] | None) -> str:
    return f"{dpi[0]:g}x{dpi[1]:g} dpi" if dpi else "unknown"
