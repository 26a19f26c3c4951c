"""What hangs behind the picture in a JPEG file (films of phones, gain maps, previews), and what XMP says of it."""

import re
from dataclasses import dataclass
from io import SEEK_CUR
from typing import BinaryIO

from bwpipe.errors import MediaError
from bwpipe.image.file import several

_START, _END = b"\xff\xd8\xff", b"\xff\xd9"
_SOS = 0xDA
_ALONE = {0x01, *range(0xD0, 0xD9)}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_FILM = re.compile(rb"\0\0\0.ftyp", re.DOTALL)
_GAIN_MAPS = (b"http://ns.adobe.com/hdr-gain-map/", b"urn:iso:std:iso:ts:21496", b"urn:com:apple:photo:2020:aux:hdrgainmap")
_MOST_SEGMENTS, _MOST_JUNK = 10_000, 65536
_CAMERA = rb"http://ns.google.com/photos/1.0/camera/"
_CONTAINER = rb"http://ns.google.com/photos/1.0/container/"
_GAIN = rb"http://ns.adobe.com/hdr-gain-map/1.0/"
_CLAIMS = ((_CAMERA, rb"(?:MotionPhoto|MicroVideo)\w*"), (_CONTAINER, rb"Directory"), (_GAIN, rb"\w+"))
"""Namespaces of XMP, and the properties that speak of what hangs behind the picture."""


@dataclass(frozen=True)
class _Picture:
    """A JPEG picture in a file: where it ends, and its size."""

    end: int
    size: tuple[int, int] | None


def trailing(data: bytes, *, indexed: int) -> list[str]:
    """Sentences on what hangs behind the first picture of a file, and is lost when it is written.

    Args:
        data: The file.
        indexed: How many further pictures its index promises (CIPA DC-007).

    Raises:
        MediaError: Pictures of the same size follow each other, as in a raw Motion JPEG film.
    """
    first = _picture(data, 0)
    rest = data[first.end :] if first else b""
    if not indexed and not rest.strip(b"\0\r\n "):
        return []
    film = _FILM.search(rest)
    gain_map = any(mark in data for mark in _GAIN_MAPS)
    pictures = _pictures(rest[: film.start()] if film else rest)
    if first and not (indexed or gain_map or film) and (same := sum(each.size == first.size for each in pictures)):
        raise several(same + 1, "JPEG pictures of the same size")
    found = {
        "a film, which some phones append to a photograph (motion photo), is left out": bool(film),
        "a gain map, which shows a JPEG brighter on HDR screens, is left out": gain_map and bool(pictures),
        "a second picture or a preview, which some cameras append to a JPEG file, is left out": not gain_map
        and bool(pictures or indexed),
        "data that some cameras append to a JPEG file are left out": not film and not pictures and not indexed,
    }
    return [sentence for sentence, holds in found.items() if holds]


def _pictures(data: bytes) -> list[_Picture]:
    found = []
    at = data.find(_START)
    while at >= 0:
        picture = _picture(data, at)
        found.append(picture or _Picture(at + len(_START), None))
        at = data.find(_START, found[-1].end)
    return found


def _picture(data: bytes, at: int) -> _Picture | None:
    """The picture that begins there, from its markers; None if it has no end."""
    at += 2
    size = None
    while True:
        at = data.find(b"\xff", at)
        while 0 <= at < len(data) and data[at] == 0xFF:
            at += 1
        if not 0 < at < len(data):
            return None
        marker = data[at]
        at += 1
        if marker == _END[1]:
            return _Picture(at, size)
        if marker in _ALONE or not marker:
            continue
        if marker in _FRAMES:
            size = int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 3 : at + 5], "big")
        at += int.from_bytes(data[at : at + 2], "big")
        if marker == _SOS:
            at = found.start() if (found := _MARKER.search(data, at)) else len(data)


def without_claims(xmp: bytes) -> bytes:
    """An XMP packet without the properties that say that a film or a gain map hangs behind the picture; otherwise the same."""
    for namespace, names in _CLAIMS:
        for prefix in set(re.findall(rb"xmlns:([\w.-]+)\s*=\s*[\"']" + re.escape(namespace), xmp)):
            name = re.escape(prefix) + rb":" + names
            xmp = re.sub(rb"<(" + name + rb")\b[^>]*(?:/>|>.*?</\1\s*>)\s*", b"", xmp, flags=re.DOTALL)
            xmp = re.sub(rb"\s" + name + rb"\s*=\s*(?:\"[^\"]*\"|'[^']*')", b"", xmp)
    return xmp


def check_start(file: BinaryIO) -> None:
    """Raise MediaError if the header of a file is not made of segments, so that no decoder searches the whole file for them."""
    file.seek(2)
    junk = 0
    for _ in range(_MOST_SEGMENTS):
        while (byte := file.read(1)) and byte != b"\xff":
            if (junk := junk + 1) > _MOST_JUNK:
                raise MediaError("can't be read: its header is damaged")
        marker = int.from_bytes(file.read(1))
        if not byte or marker == _SOS:
            return
        if marker in (0, 0xFF):
            file.seek(-1 if marker else 0, SEEK_CUR)
            junk += 1
        elif marker not in _ALONE:
            file.seek(max(0, int.from_bytes(file.read(2)) - 2), SEEK_CUR)
    raise MediaError("can't be read: its header is damaged")
