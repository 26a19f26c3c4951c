"""What the codes of scans mean: for a display as they are, logarithms of light (Cineon), or proportional to light."""

from functools import cache
from typing import Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import Luma, Matrix
from bwpipe.pixels.ycbcr import BLUE_SCALE, RED_SCALE, WEIGHTS, bands, offsets

Transfer: TypeAlias = Literal["video", "log", "linear"]
"""Codes for a display, logarithmic ones, and those proportional to light."""
F = TypeVar("F", float, NDArray[np.float32], NDArray[np.float64])

_BLACK, _WHITE = 95, 685
"""The codes of 10 bits that stand for black and for a white surface (Kodak, "Conversion of 10-bit Log Film Data")."""
_DENSITY, _GAMMA = 0.002, 0.6
"""Density per code of 10 bits, and gamma of the negative."""
_KNEE = 0.8
"""The part of a display's range from which on highlights beyond a white surface are compressed into the rest."""
FULL_DISPLAY = 65535
"""The value of `Media.curve` for a display's white."""


def to_display(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """The signal for a display, of light in 0..1 (IEC 61966-2-1, sRGB); the power law goes on above 1."""
    light = np.maximum(light, 0)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.power(light, 1 / 2.4) - 0.055).astype(np.float32)


def to_light(signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """The light in 0..1 of a signal for a display: the inverse of `to_display`."""
    signal = np.maximum(signal, 0)
    return np.where(signal <= 0.04045, signal / 12.92, np.power((signal + 0.055) / 1.055, 2.4)).astype(np.float32)


def light_of_log(codes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Light of logarithmic codes of 10 bits, 0 at black and 1 at white (Kodak's Cineon conversion); up to 13.5 above white."""
    black = 10 ** ((_BLACK - _WHITE) * _DENSITY / _GAMMA)
    light: NDArray[np.float64] = (10 ** ((codes - _WHITE) * _DENSITY / _GAMMA) - black) / (1 - black)
    return np.maximum(light, 0)


@cache
def light_of_log_codes(depth: int) -> NDArray[np.float32]:
    """`light_of_log` of each code of `depth` bits."""
    codes = np.arange(1 << depth, dtype=np.float64) * (1023 / ((1 << depth) - 1))
    return light_of_log(codes).astype(np.float32)


@cache
def curve_of(transfer: Transfer, depth: int) -> NDArray[np.uint16] | None:
    """How bright each code of `depth` bits is on a display, 0 to 65535; None for codes that are meant for one.

    Highlights of logarithmic codes beyond a white surface are compressed, so that their detail is still there.
    """
    if transfer == "video":
        return None
    codes = np.arange(1 << depth) / ((1 << depth) - 1)
    light = light_of_log(codes * 1023) if transfer == "log" else codes
    signal = to_display(light.astype(np.float32)).astype(np.float64)
    rest = 1 - _KNEE
    if transfer == "log":
        signal = np.where(signal <= _KNEE, signal, _KNEE + rest * (1 - np.exp(-np.maximum(signal - _KNEE, 0) / rest)))
    curve: NDArray[np.uint16] = np.rint(np.minimum(signal, 1) * FULL_DISPLAY).astype(np.uint16)
    curve.flags.writeable = False
    return curve


def chroma_for_codes(chroma: NDArray[np.float32], luma: Luma, curve: NDArray[np.uint16], matrix: Matrix) -> NDArray[np.float32]:
    """Chroma for codes with a curve: what red, green and blue differ from the luma once each is a code again.

    Args:
        chroma: (2, H, W) as seen on a display, within the gamut of the luma as seen there.
        luma: (H, W) codes.
        curve: `Media.curve`.
        matrix: The one that the luma was computed with.

    Returns:
        Chroma (2, H, W), of signals in 0..1 that span all codes.
    """
    weights = WEIGHTS[matrix]
    codes, shown = np.arange(len(curve), dtype=np.float32) / (len(curve) - 1), curve.astype(np.float32) / FULL_DISPLAY
    output = np.empty_like(chroma)
    for band in bands(*luma.shape):
        seen = shown[luma[band]]
        red, green, blue = (
            np.interp(np.clip(seen + offset, 0, 1), shown, codes).astype(np.float32)
            for offset in offsets(chroma[:, band], weights)
        )
        y = weights.red * red + weights.green * green + weights.blue * blue
        output[0, band], output[1, band] = (blue - y) / BLUE_SCALE, (red - y) / RED_SCALE
    return output


def chroma_on_display(rgb: NDArray[np.float32], matrix: Matrix) -> NDArray[np.float16]:
    """The chroma (2, H, W) of red, green and blue (3, H, W) in 0..1, as signals for a display."""
    weights = WEIGHTS[matrix]
    red, green, blue = rgb
    y = weights.red * red + weights.green * green + weights.blue * blue
    return np.stack([(blue - y) / BLUE_SCALE, (red - y) / RED_SCALE]).astype(np.float16)
