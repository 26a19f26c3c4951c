"""Reads from the bytes of a container what is to be shown of each frame: Matroska's PixelCrop, the clean aperture of MP4."""

import struct
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from bwpipe.verify.verdict import Verdict
from bwpipe.video.file import VideoFile

_SEGMENT, _TRACKS, _ENTRY, _KIND, _VIDEO, _CLUSTER = 0x18538067, 0x1654AE6B, 0xAE, 0x83, 0xE0, 0x1F43B675
_PIXEL_CROPS = {0x54BB: "top", 0x54AA: "bottom", 0x54CC: "left", 0x54DD: "right"}
_IS_VIDEO = 1
_MOST = 1 << 26
"""A longer header element is not read: it is damaged."""
_ENTRY_HEAD = 86
"""Bytes of a video sample entry before the boxes in it (ISO/IEC 14496-12, 12.1.3)."""


class Cropping(NamedTuple):
    """How much of the edges of each stored frame is not to be shown, in pixels."""

    top: Fraction = Fraction(0)
    bottom: Fraction = Fraction(0)
    left: Fraction = Fraction(0)
    right: Fraction = Fraction(0)

    def __str__(self) -> str:
        edges = (f"{float(value):g} at the {edge}" for edge, value in self._asdict().items() if value)
        return ", ".join(edges) or "nothing"


def compare_cropping(before: VideoFile, after: VideoFile, verdict: Verdict) -> None:
    """Compare what two containers say is to be shown of each frame."""
    was, now = map(read_cropping, (before, after))
    if all(abs(one - other) < 1 for one, other in zip(was, now, strict=True)):
        return
    text = f"its cropping is lost: {was}" if was != Cropping() and now == Cropping() else f"it crops {now} instead of {was}"
    verdict.lose(text, "crop")


def read_cropping(video: VideoFile) -> Cropping:
    """The cropping of a video's stream; none if its container can't state any, or is damaged."""
    read = _of_matroska if "matroska" in video.container else _of_mp4 if "mov" in video.container else None
    if read is None:
        return Cropping()
    with suppress(OSError, struct.error, IndexError, ZeroDivisionError):
        found = read(video.path, video)
        return found[min(video.picture, len(found)) - 1] if found else Cropping()
    return Cropping()


def _of_matroska(path: Path, video: VideoFile) -> list[Cropping]:
    """The cropping of each video track of a Matroska file (RFC 9559, 5.1.4.1.28)."""
    with path.open("rb") as file:
        end = path.stat().st_size
        for number, start, stop in _elements(file, 0, end):
            if number == _SEGMENT:
                for inner, first, last in _elements(file, start, min(stop, end)):
                    if inner == _TRACKS:
                        file.seek(first)
                        return list(_crops_of_tracks(file.read(min(last - first, _MOST))))
                    if inner == _CLUSTER:
                        break
    return []


def _elements(file: BinaryIO, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number of each EBML element between two places, and where its content begins and ends."""
    while at < end:
        file.seek(at)
        head = file.read(12)
        if len(head) < 2 or not head[0] or (width := 9 - head[0].bit_length()) > 4 or not head[width]:
            return
        number = int.from_bytes(head[:width], "big")
        length = 9 - head[width].bit_length()
        size = int.from_bytes(head[width : width + length], "big") & ((1 << 7 * length) - 1)
        start = at + width + length
        at = end if size == (1 << 7 * length) - 1 else start + size  # an element of unknown size
        yield number, start, at


def _crops_of_tracks(data: bytes) -> Iterator[Cropping]:
    for number, entry in _children(data):
        if number == _ENTRY:
            parts = dict(_children(entry))
            if int.from_bytes(parts.get(_KIND, b""), "big") == _IS_VIDEO:
                crops = {
                    _PIXEL_CROPS[inner]: value for inner, value in _children(parts.get(_VIDEO, b"")) if inner in _PIXEL_CROPS
                }
                yield Cropping(**{edge: Fraction(int.from_bytes(value, "big")) for edge, value in crops.items()})


def _children(data: bytes) -> Iterator[tuple[int, bytes]]:
    for number, start, stop in _elements(BytesIO(data), 0, len(data)):
        yield number, data[start:stop]


def _of_mp4(path: Path, video: VideoFile) -> list[Cropping]:
    """The cropping of each video track of an MP4 or QuickTime file (ISO/IEC 14496-12, 12.1.4)."""
    found = []
    for track in _boxes(_movie(path), b"trak"):
        for media in _boxes(track, b"mdia"):
            handlers = [handler[8:12] for handler in _boxes(media, b"hdlr")]
            if handlers[:1] == [b"vide"]:
                found.append(_clean_aperture(media, video))
    return found


def _movie(path: Path) -> bytes:
    """The content of the box `moov`."""
    with path.open("rb") as file:
        at = 0
        while len(head := file.read(16)) >= 8:
            size, name = struct.unpack_from(">I4s", head)
            start = 8
            if size == 1:
                size, start = int.from_bytes(head[8:16], "big"), 16
            if name == b"moov":
                file.seek(at + start)
                return file.read(min(size - start if size else _MOST, _MOST))
            if size < 8:
                break
            at += size
            file.seek(at)
    return b""


def _boxes(data: bytes, name: bytes) -> Iterator[bytes]:
    """The contents of the boxes of this name."""
    at = 0
    while at + 8 <= len(data):
        size, found = struct.unpack_from(">I4s", data, at)
        if size < 8:
            return
        if found == name:
            yield data[at + 8 : at + size]
        at += size


def _clean_aperture(media: bytes, video: VideoFile) -> Cropping:
    for information in _boxes(media, b"minf"):
        for table in _boxes(information, b"stbl"):
            for descriptions in _boxes(table, b"stsd"):
                entry = descriptions[8:]
                size = int.from_bytes(entry[:4], "big")
                for box in _boxes(entry[_ENTRY_HEAD:size], b"clap"):
                    numbers = struct.unpack_from(">4IiIiI", box)
                    width, height, right, down = (Fraction(*numbers[at : at + 2]) for at in range(0, 8, 2))
                    across, vertical = (video.width - width) / 2, (video.height - height) / 2
                    return Cropping(vertical + down, vertical - down, across + right, across - right)
    return Cropping()
