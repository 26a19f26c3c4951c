"""ICC profiles of grey pictures as profiles of RGB ones with the same curve (ICC.1:2022)."""

import struct
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

_HEADER, _ENTRY = 128, 12
_MOST_TAGS = 256
_DISPLAY, _RGB, _GREY, _XYZ, _LAB = b"mntr", b"RGB ", b"GRAY", b"XYZ ", b"Lab "
_CURVE = b"kTRC"
_COPIED = (b"desc", b"cprt", b"wtpt", b"chad")
_WHITE = (63190, 65536, 54061)
"""D50, the white of the connection space, in units of 1/65536."""
_RED, _BLUE = (28574, 14583, 909), (9379, 3970, 46799)
"""sRGB's primaries, adapted to D50; green is what they lack of white, so that equal samples are neutral."""
_POINTS = 4096


def grey_as_rgb(profile: bytes) -> bytes | None:
    """A profile that shows equal red, green and blue as the given grey profile shows grey.

    Its curves are the grey one's, its primaries sRGB's.

    Returns:
        The profile; None if the given one is damaged, or not of a grey picture's curve.
    """
    try:
        if profile[16:20] != _GREY or profile[36:40] != b"acsp":
            return None
        tags = _tags(profile)
        curve = tags[_CURVE]
        if profile[20:24] == _LAB:
            curve = _table(_luminance(_evaluated(curve)))
        elif profile[20:24] != _XYZ or curve[:4] not in (b"curv", b"para"):
            return None
    except (KeyError, ValueError, IndexError, struct.error):
        return None
    green = tuple(white - red - blue for white, red, blue in zip(_WHITE, _RED, _BLUE, strict=True))
    columns = {b"rXYZ": _RED, b"gXYZ": green, b"bXYZ": _BLUE}
    made = {name: tags[name] for name in _COPIED if name in tags}
    made |= {name: _XYZ + bytes(4) + struct.pack(">3i", *values) for name, values in columns.items()}
    made.setdefault(b"wtpt", _XYZ + bytes(4) + struct.pack(">3i", *_WHITE))
    header = profile[4:12] + _DISPLAY + _RGB + _XYZ + profile[24:84] + bytes(16) + profile[100:_HEADER]
    return _packed(header, {**made, b"rTRC": curve, b"gTRC": curve, b"bTRC": curve})


def _tags(profile: bytes) -> dict[bytes, bytes]:
    count = struct.unpack_from(">I", profile, _HEADER)[0]
    if count > _MOST_TAGS:
        raise ValueError("too many tags")
    tags = {}
    for i in range(count):
        name, at, size = struct.unpack_from(">4sII", profile, _HEADER + 4 + _ENTRY * i)
        if at + size > len(profile):
            raise ValueError("a tag is cut short")
        tags[name] = profile[at : at + size]
    return tags


def _packed(header: bytes, tags: Mapping[bytes, bytes]) -> bytes:
    """A profile of a header without its size, and tags; equal ones are stored once."""
    start = _HEADER + 4 + _ENTRY * len(tags)
    body, places = b"", dict[bytes, int]()
    for data in tags.values():
        if data not in places:
            places[data] = start + len(body)
            body += data + bytes(-len(data) % 4)
    table = b"".join(struct.pack(">4sII", name, places[data], len(data)) for name, data in tags.items())
    return struct.pack(">I", start + len(body)) + header + struct.pack(">I", len(tags)) + table + body


def _evaluated(curve: bytes) -> NDArray[np.float64]:
    """A curve (10.6, 10.18) at evenly spaced points of 0..1."""
    x = np.linspace(0, 1, _POINTS)
    if curve[:4] == b"curv":
        count = struct.unpack_from(">I", curve, 8)[0]
        values = np.frombuffer(curve, ">u2", count, 12)
        if count > 1:
            return np.asarray(np.interp(x, np.linspace(0, 1, count), values / 65535))
        return np.asarray(x ** (values[0] / 256)) if count else x
    if curve[:4] != b"para":
        raise ValueError("an unknown kind of curve")
    kind = struct.unpack_from(">H", curve, 8)[0]
    count = (1, 3, 4, 5, 7)[kind]
    g, *rest = (value / 65536 for value in struct.unpack_from(f">{count}i", curve, 12))
    if kind == 0:
        return np.asarray(x**g)
    a, b, *others = rest
    c, d, e, f = {1: (0.0, -b / a, 0.0, 0.0), 2: (0.0, -b / a, *others, *others)}.get(kind, (*others, 0.0, 0.0)[:4])
    return np.asarray(np.where(x >= d, np.maximum(a * x + b, 0) ** g + e, c * x + f))


def _luminance(lightness: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative luminance of CIE L* / 100 (ISO 11664-4)."""
    lifted = (100 * lightness + 16) / 116
    return np.asarray(np.where(lifted > 6 / 29, lifted**3, 3 * (6 / 29) ** 2 * (lifted - 4 / 29)))


def _table(values: NDArray[np.float64]) -> bytes:
    codes = np.rint(np.clip(values, 0, 1) * 65535).astype(">u2")
    return b"curv" + bytes(4) + struct.pack(">I", codes.size) + codes.tobytes()
