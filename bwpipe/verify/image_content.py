"""Compares what two image files hold by the means of Pillow, tifffile and their bytes, not of the reader."""

import re
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms

from bwpipe.image.file import ImageFile, decoding
from bwpipe.image.write import GREY_MODES
from bwpipe.verify.verdict import Verdict

_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
"""A JPEG marker other than those within a scan."""
_SCAN, _END = 0xDA, 0xD9
_LEAST = 16
"""Fewer bytes behind a JPEG's end are padding."""
_ALPHA = {1, 2}
"""TIFF's numbers of extra samples that are alpha."""


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
        _compare_profiles(was.icc, now.icc, verdict, grey=before.mode in GREY_MODES)


def _content(media: ImageFile) -> _Content:
    images, alpha, extra, icc = 1, False, 0, b""
    with suppress(Exception), decoding(), Image.open(media.path) as image:  # what Pillow can't open has no say here
        images = int(getattr(image, "n_frames", 1))
        alpha = "A" in image.getbands() or "transparency" in image.info
        icc = image.info.get("icc_profile") or b""
    if media.format == "TIFF":
        import tifffile  # takes longer than all else here

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


def _compare_profiles(was: bytes, now: bytes, verdict: Verdict, *, grey: bool) -> None:
    """Compare ICC profiles: one for RGB stays as it is, one for grey becomes one for RGB with the same curve."""
    space = was[16:20]
    if space == b"GRAY" and grey:
        if not now:
            verdict.lose("its ICC profile is lost", "ICC profile")
        elif not _shows_the_same_grey(was, now):
            verdict.differences.append("its grey ICC profile has become one with another curve")
    elif space != b"RGB ":
        verdict.remarks.append("its ICC profile is lost: it describes neither RGB nor grey")
    elif was != now:
        verdict.lose("its ICC profile differs" if now else "its ICC profile is lost", "ICC profile")


def _shows_the_same_grey(was: bytes, now: bytes) -> bool:
    """Whether a colour management system shows all grey values alike by two profiles, of grey and RGB."""
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    shown = []
    for icc, image in ((was, ramp), (now, ramp.convert("RGB"))):
        try:
            profile, screen = ImageCms.ImageCmsProfile(BytesIO(icc)), ImageCms.createProfile("sRGB")
            exact = ImageCms.Flags.NOOPTIMIZE  # else linear curves are off by up to 10 near black
            converted = ImageCms.profileToProfile(image, profile, screen, outputMode="RGB", flags=exact)
        except (ImageCms.PyCMSError, OSError):
            return False
        shown.append(np.asarray(converted).astype(int))
    return bool(np.abs(shown[0] - shown[1]).max() <= 1)
