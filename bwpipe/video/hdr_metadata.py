"""What a film says of the screen that it was mastered on and of how bright it gets (SMPTE ST 2086, CTA-861.3)."""

import struct
from fractions import Fraction
from typing import Any, NamedTuple

from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

_MASTERING = struct.Struct("=20i2i")
"""FFmpeg's AVMasteringDisplayMetadata: ten rational numbers, and whether the first eight and the last two mean anything."""
_CONTENT = struct.Struct("=2I")
_CHROMATICITY, _LUMINANCE = 50_000, 10_000
"""In which parts H.264 and H.265 count them."""
CODERS = frozenset({"libx264", "libx265", "libsvtav1"})
"""Encoders that can be told of it."""


class HdrMetadata(NamedTuple):
    """HDR metadata that hold of a whole film.

    Attributes:
        primaries: Chromaticities x and y of the screen's red, green and blue, and of its white; none where unknown.
        luminance: Its darkest and its brightest, in cd/m2; none where unknown.
        content: The brightest pixel and the brightest frame on average, in cd/m2; none where unknown.
    """

    primaries: tuple[Fraction, ...] = ()
    luminance: tuple[Fraction, ...] = ()
    content: tuple[int, ...] = ()


UNKNOWN = HdrMetadata()
"""Of a film that says nothing of it, as nearly all do."""


def read_hdr_metadata(picture: VideoFrame) -> HdrMetadata:
    """What a decoded picture, the first of a film, says."""
    side_data: Any = picture.side_data  # PyAV's stub knows motion vectors only
    mastering, content = side_data.get(Type.MASTERING_DISPLAY_METADATA), side_data.get(Type.CONTENT_LIGHT_LEVEL)
    primaries: tuple[Fraction, ...] = ()
    luminance: tuple[Fraction, ...] = ()
    if mastering is not None:
        *numbers, has_primaries, has_luminance = _MASTERING.unpack_from(bytes(mastering))
        ratios = tuple(
            Fraction(part, whole) if whole else Fraction(0) for part, whole in zip(numbers[::2], numbers[1::2], strict=True)
        )
        primaries, luminance = ratios[:8] if has_primaries else (), ratios[8:] if has_luminance else ()
    return HdrMetadata(primaries, luminance, _CONTENT.unpack_from(bytes(content)) if content is not None else ())


def hdr_options(light: HdrMetadata, codec: str) -> dict[str, str]:
    """What an encoder is to be told, by its own words; nothing for one that can't be, or of a screen that is known by half."""
    if codec not in CODERS:
        return {}
    told = {}
    if light.primaries and light.luminance:
        told["master-display" if codec == "libx265" else "mastering-display"] = _screen(light, whole=codec != "libsvtav1")
    if light.content:
        name = {"libx264": "cll", "libx265": "max-cll", "libsvtav1": "content-light"}[codec]
        told[name] = ",".join(map(str, light.content))
    return told


def _screen(light: HdrMetadata, *, whole: bool) -> str:
    """The screen, in whole numbers of the parts that H.264 counts in, or as it is."""

    def said(numbers: tuple[Fraction, ...], parts: int) -> str:
        return ",".join(str(round(number * parts)) if whole else f"{float(number):.6f}" for number in numbers)

    red, green, blue, white = (said(light.primaries[at : at + 2], _CHROMATICITY) for at in range(0, 8, 2))
    return f"G({green})B({blue})R({red})WP({white})L({said(light.luminance[::-1], _LUMINANCE)})"
