"""Compares what two image files hold by the means of Pillow, tifffile and their bytes, not of the reader."""

import re
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from bwpipe.image.file import ImageFile, decoding
from bwpipe.verify.verdict import Verdict

_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
"""A JPEG marker other than those within a scan."""
_SCAN, _END = 0xDA, 0xD9
_LEAST = 16
"""Fewer bytes behind a JPEG's end are padding."""
_ALPHA = {1, 2}
"""TIFF's numbers of extra samples that are alpha."""
_CURVE_TOLERANCE = 0.004
_POINTS = np.linspace(0, 1, 33)


class _Content(NamedTuple):
    """What an image file holds besides its samples.

    Attributes:
        images: Number of images, such as pages or frames.
        alpha: Whether it states alpha or transparency.
        extra: Number of extra samples of unspecified meaning in a TIFF file.
        icc: Its ICC profile.
        behind: What is behind the end of a JPEG image.
    """

    images: int
    alpha: bool
    extra: int
    icc: bytes
    behind: bytes


def compare_image_content(before: ImageFile, after: ImageFile, verdict: Verdict) -> None:
    """Compare images, alpha, extra samples, ICC profiles, and what is appended to a JPEG."""
    was, now = _content(before), _content(after)
    known = " ".join([*verdict.differences, *verdict.remarks])
    if now.images < was.images:
        what = "page|frame|layer|second picture|preview|further|first"
        verdict.lose(f"{was.images - now.images} of its {was.images} images are lost", what)
    elif was.behind and was.behind != now.behind:
        what = "append|behind|motion|film|gain map|second picture|preview"
        verdict.lose(f"the {len(was.behind)} bytes behind the end of its JPEG image are lost", what)
    if was.extra and not now.extra:
        verdict.lose(f"its extra sample{'s are' * (was.extra > 1) or ' is'} lost", "extra|infrared")
    if was.extra and now.alpha and not was.alpha:
        verdict.differences.append("its extra samples became alpha")
    if was.alpha and not now.alpha and "alpha" not in known:
        verdict.lose("its alpha is lost", "alpha|transparen")
    if was.icc and "ICC" not in known:
        _compare_profiles(was.icc, now.icc, verdict)


def _content(media: ImageFile) -> _Content:
    images, alpha, extra, icc = 1, False, 0, b""
    with suppress(Exception), decoding(), Image.open(media.path) as image:  # what Pillow can't open has no say here
        images = int(getattr(image, "n_frames", 1))
        alpha = "A" in image.getbands() or "transparency" in image.info
        icc = image.info.get("icc_profile") or b""
    if media.format == "TIFF":
        with suppress(Exception), decoding(), tifffile.TiffFile(media.path) as file:
            page: Any = file.pages[0]
            kinds = [int(kind) for kind in page.extrasamples]
            alpha, extra = bool(_ALPHA.intersection(kinds)), kinds.count(0)
            icc = bytes(page.tags[34675].value) if 34675 in page.tags else b""
    return _Content(images, alpha, extra, icc, _behind(media.path) if media.format == "JPEG" else b"")


def _behind(path: Path) -> bytes:
    """What is behind the end of a JPEG image, without padding (ITU-T T.81, annex B)."""
    data, at = path.read_bytes(), 2
    while found := _MARKER.search(data, at):
        at, code = found.end(), found[1][0]
        if code == _END:
            rest = data[at:].strip(b"\0\xff\r\n ")
            return rest if len(rest) >= _LEAST else b""
        if code != _SCAN:
            at += int.from_bytes(data[at : at + 2], "big")
    return b""


def _compare_profiles(was: bytes, now: bytes, verdict: Verdict) -> None:
    """Compare ICC profiles; one for grey becomes one for RGB with the same curve."""
    if was[16:20] == b"RGB ":
        if was != now:
            verdict.lose("its ICC profile differs" if now else "its ICC profile is lost", "ICC profile")
    elif was[16:20] == b"GRAY":
        if now[16:20] != b"RGB ":
            verdict.lose("its grey ICC profile is lost", "ICC profile")
            return
        curves = _curve(was, b"kTRC"), *(_curve(now, name) for name in (b"rTRC", b"gTRC", b"bTRC"))
        if was[20:24] == b"XYZ " and curves[0] is not None:
            for curve in curves[1:]:
                if curve is None or np.abs(curve - curves[0]).max() > _CURVE_TOLERANCE:
                    verdict.differences.append("its ICC profile has another curve than the grey one of the input")
                    return


def _curve(profile: bytes, name: bytes) -> NDArray[np.float64] | None:
    """A tone curve of an ICC profile (ICC.1:2022, 10.6 and 10.18) at some points; None if there is none."""
    with suppress(struct.error, ValueError, IndexError):
        (count,) = struct.unpack_from(">I", profile, 128)
        for number in range(min(count, 100)):
            tag, at, size = struct.unpack_from(">4sII", profile, 132 + 12 * number)
            if tag == name:
                return _evaluate(profile[at : at + size])
    return None


def _evaluate(data: bytes) -> NDArray[np.float64] | None:
    x = _POINTS
    if data[:4] == b"curv":
        (count,) = struct.unpack_from(">I", data, 8)
        if count == 0:
            return x
        values = np.frombuffer(data, ">u2", count, 12).astype(np.float64)
        curve: NDArray[np.float64] = np.interp(x, np.linspace(0, 1, count), values / 65535)
        return np.power(x, values[0] / 256) if count == 1 else curve
    if data[:4] != b"para":
        return None
    (kind,) = struct.unpack_from(">H", data, 8)
    numbers = [value / 65536 for value in struct.unpack_from(f">{(1, 3, 4, 5, 7)[kind]}i", data, 12)]
    defaults = [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    g, a, b, c, d, e, f = numbers + defaults[len(numbers) :]
    if kind in (1, 2):  # below zero the curve is constant
        c, d, e, f = 0.0, -b / a, c, c
    result: NDArray[np.float64] = np.where(x >= d, np.maximum(a * x + b, 0) ** g + e, c * x + f)
    return result
