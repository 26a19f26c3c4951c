"""HDR metadata: mastering display (SMPTE ST 2086) and content light level (CTA-861.3)."""

import struct
from fractions import Fraction
from typing import NamedTuple

from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from bwpipe.video.side_data import side_data_of

_MASTERING = struct.Struct("=20i2i")
"""FFmpeg's AVMasteringDisplayMetadata: ten rational numbers, and whether the first eight and the last two are valid."""
_CONTENT = struct.Struct("=2I")
_CHROMATICITY, _LUMINANCE = 50_000, 10_000
"""Units per 1 in which H.264 and H.265 store them."""
ENCODERS = frozenset({"libx264", "libx265", "libsvtav1"})
"""Encoders that can store HDR metadata."""


class HdrMetadata(NamedTuple):
    """HDR metadata of a whole video.

    Attributes:
        primaries: Chromaticities x and y of the mastering display's red, green, blue and white; empty if unknown.
        luminance: Its minimum and maximum luminance in cd/m2; empty if unknown.
        content: Maximum content light level (MaxCLL) and frame average (MaxFALL) in cd/m2; empty if unknown.
    """

    primaries: tuple[Fraction, ...] = ()
    luminance: tuple[Fraction, ...] = ()
    content: tuple[int, ...] = ()


NO_HDR = HdrMetadata()
"""For a video without HDR metadata, as nearly all are."""


def read_hdr_metadata(frame: VideoFrame) -> HdrMetadata:
    """The HDR metadata in the side data of a video's first decoded frame."""
    side_data = side_data_of(frame)
    mastering, content = side_data.get(Type.MASTERING_DISPLAY_METADATA), side_data.get(Type.CONTENT_LIGHT_LEVEL)
    primaries: tuple[Fraction, ...] = ()
    luminance: tuple[Fraction, ...] = ()
    if mastering is not None:
        *numbers, has_primaries, has_luminance = _MASTERING.unpack_from(mastering)
        ratios = tuple(
            Fraction(top, bottom) if bottom else Fraction(0) for top, bottom in zip(numbers[::2], numbers[1::2], strict=True)
        )
        primaries, luminance = ratios[:8] if has_primaries else (), ratios[8:] if has_luminance else ()
    return HdrMetadata(primaries, luminance, _CONTENT.unpack_from(content) if content is not None else ())


def hdr_options(hdr: HdrMetadata, codec: str) -> dict[str, str]:
    """Options that pass HDR metadata to an encoder: none if unsupported, and no display that is only half known."""
    if codec not in ENCODERS:
        return {}
    options = {}
    if hdr.primaries and hdr.luminance:
        options["master-display" if codec == "libx265" else "mastering-display"] = _mastering_display(
            hdr, integers=codec != "libsvtav1"
        )
    if hdr.content:
        name = {"libx264": "cll", "libx265": "max-cll", "libsvtav1": "content-light"}[codec]
        options[name] = ",".join(map(str, hdr.content))
    return options


def _mastering_display(hdr: HdrMetadata, *, integers: bool) -> str:
    """The mastering display as an encoder option, in H.264's integer units or as decimal numbers."""

    def formatted(numbers: tuple[Fraction, ...], units: int) -> str:
        return ",".join(str(round(number * units)) if integers else f"{float(number):.6f}" for number in numbers)

    red, green, blue, white = (formatted(hdr.primaries[at : at + 2], _CHROMATICITY) for at in range(0, 8, 2))
    return f"G({green})B({blue})R({red})WP({white})L({formatted(hdr.luminance[::-1], _LUMINANCE)})"
