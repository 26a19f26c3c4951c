"""CIE L*a*b* for networks that were trained in it: their input from luma, their output as chroma, and hints the other way.

L*a*b* here is that of sRGB (IEC 61966-2-1) with its white point D65 (CIE 15:2004), as OpenCV and scikit-image compute it. A
grey has its luma as its red, green and blue, so lightness follows from luma alone. Colours outside of sRGB's gamut are not
clipped: its curve is continued to below 0 and above 1, and what writes the picture limits them at constant luma and hue.
All is computed in float32, also for networks in 16 bits.
"""

import torch
from torch import Tensor

from bwpipe.nn.ycbcr import offsets, rgb_to_ycbcr

_TO_XYZ = (
    (0.4123908, 0.3575843, 0.1804808),
    (0.2126390, 0.7151687, 0.0721923),
    (0.0193308, 0.1191948, 0.9505322),
)
_FROM_XYZ = (
    (3.2409699, -1.5373832, -0.4986108),
    (-0.9692436, 1.8759675, 0.0415551),
    (0.0556301, -0.2039770, 1.0569715),
)
_WHITE = (0.9504559, 1.0, 1.0890578)
_TINY = 1e-9
"""Keeps powers, whose gradients are infinite at 0, away from it."""
_DELTA = 6 / 29
_STEPS = 8
"""Steps of the iteration in `chroma_to_ab`, whose error falls by half or more in each."""


def luma_to_lightness(luma: Tensor) -> Tensor:
    """Lightness L* in 0..100 of a grey, for luma in 0..1, of any shape."""
    return (116 * _compress(_linear(luma.float())) - 16).to(luma.dtype)


def ab_to_chroma(luma: Tensor, ab: Tensor) -> Tensor:
    """The chroma of the colour that has a grey's lightness, and a* and b*.

    It is what a picture in L*a*b* with these planes has as its chroma, unless it is outside of -0.5..0.5: then it is scaled
    down to it, at the same hue.

    Args:
        luma: (B, 1, h, w) in 0..1.
        ab: (B, 2, h, w), a* and b*.

    Returns:
        (B, 2, h, w) Cb and Cr in -0.5..0.5, in float32.
    """
    luma, ab = luma.float(), ab.float()
    green_red, blue_yellow = ab.chunk(2, dim=1)
    middle = _compress(_linear(luma))
    white_x, white_y, white_z = _WHITE
    x = white_x * _expand(middle + green_red / 500)
    y = white_y * _expand(middle)
    z = white_z * _expand(middle - blue_yellow / 200)
    rgb = _encoded(_product(_FROM_XYZ, torch.cat([x, y, z], dim=1)))
    _, chroma = rgb_to_ycbcr(rgb)
    most = chroma.abs().amax(dim=1, keepdim=True)
    return chroma * (0.5 / most.clamp(min=0.5))


def chroma_to_ab(luma: Tensor, chroma: Tensor) -> Tensor:
    """The a* and b* from which `ab_to_chroma` makes this chroma, where the gamut has such a colour.

    Args:
        luma: (B, 1, h, w) in 0..1.
        chroma: (B, 2, h, w) Cb and Cr in -0.5..0.5.

    Returns:
        (B, 2, h, w), a* and b*, in the luma's precision.
    """
    kind = luma.dtype
    luma, chroma = luma.float(), chroma.float()
    target = _linear(luma)
    offset = offsets(chroma)
    grey = luma
    for _ in range(_STEPS):  # the grey to which the offsets are to be added, so that the colour has the lightness of `luma`
        y = _product(_TO_XYZ[1:2], _linear(grey + offset))
        grey = grey + luma - _encoded(y)
    xyz = _product(_TO_XYZ, _linear(grey + offset))
    x, _, z = (_compress(plane / white) for plane, white in zip(xyz.chunk(3, dim=1), _WHITE, strict=True))
    middle = _compress(target)
    return torch.cat([500 * (x - middle), 200 * (middle - z)], dim=1).to(kind)


def _linear(values: Tensor) -> Tensor:
    """The curve of sRGB, from encoded to linear light."""
    size = values.abs()
    curved = ((size.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return values.sign() * torch.where(size <= 0.04045, size / 12.92, curved)


def _encoded(light: Tensor) -> Tensor:
    """The curve of sRGB, from linear light to encoded."""
    size = light.abs()
    curved = 1.055 * size.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return light.sign() * torch.where(size <= 0.0031308, 12.92 * size, curved)


def _compress(ratio: Tensor) -> Tensor:
    """The curve of L*a*b*, from a ratio to white: a cube root with a straight start."""
    return torch.where(ratio > _DELTA**3, ratio.clamp(min=_TINY) ** (1 / 3), ratio / (3 * _DELTA**2) + 4 / 29)


def _expand(value: Tensor) -> Tensor:
    """The inverse of `_compress`."""
    return torch.where(value > _DELTA, value**3, 3 * _DELTA**2 * (value - 4 / 29))


def _product(rows: tuple[tuple[float, ...], ...], planes: Tensor) -> Tensor:
    """A matrix times planes (B, 3, h, w): (B, rows, h, w)."""
    first, second, third = planes.chunk(3, dim=1)
    return torch.cat([a * first + b * second + c * third for a, b, c in rows], dim=1)
