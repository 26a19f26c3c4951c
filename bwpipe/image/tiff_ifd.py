"""Image file directories (IFDs): tags of TIFF, and of EXIF, which is a small TIFF file inside others (TIFF 6.0, EXIF 2.32).

Values stay raw bytes, so that text of unknown encoding and maker notes are preserved.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from io import SEEK_END, BytesIO
from typing import Any, BinaryIO, Literal, NamedTuple, TypeAlias

from bwpipe.errors import MediaError

Order: TypeAlias = Literal["<", ">"]

ORIENTATION = 274
RESOLUTION, _INCHES = (282, 283, 296), 2
_EXIF, _GPS, _INTEROPERABILITY = 34665, 34853, 40965
INNER = (_EXIF, _GPS, _INTEROPERABILITY)
"""The tags that point to directories."""
HISTORY = 37395
"""ImageHistory (ISO 12234-2, TIFF/EP, 5.2.22): the processing history of the image."""
_THUMBNAIL, _THUMBNAIL_SIZE = 513, 514
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes per value, by TIFF's type numbers; 16 to 18 are BigTIFF's."""
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MAX_TAGS, _MAX_PAGES, _MAX_DEPTH = 4096, 65536, 2
_MAX_VALUES = 2**28
LAYERS = 37724
"""ImageSourceData: Photoshop's layers."""


class Tag(NamedTuple):
    """A tag's values: TIFF type, count, bytes in the directory's byte order, and their offset in the file."""

    kind: int
    length: int
    data: bytes
    at: int = 0


@dataclass(frozen=True)
class Directory:
    """A directory: tags by number.

    Attributes:
        order: Byte order: "<" for little endian, ">" for big.
        tags: The values that could be read.
        inner: The directories of EXIF, GPS and interoperability, by the tag that points to each.
        following: Offset of the next directory; 0 for none.
        link: Offset of the field that holds `following`.
        cut: Whether a value lies beyond the end of the file.
    """

    order: Order
    tags: dict[int, Tag] = field(default_factory=dict)
    inner: dict[int, "Directory"] = field(default_factory=dict)
    following: int = 0
    link: int = 0
    cut: bool = False

    def numbers(self, tag: int) -> tuple[int, ...]:
        """A tag's integers; empty if it is missing or of another type."""
        value = self.tags.get(tag)
        if value is None or value.kind not in _INTEGERS:
            return ()
        return struct.unpack(f"{self.order}{value.length}{_INTEGERS[value.kind]}", value.data)

    def number(self, tag: int, default: int = 0) -> int:
        """A tag's first integer."""
        return next(iter(self.numbers(tag)), default)

    def ratio(self, tag: int) -> float:
        """A tag's first rational; 0 if it is missing, of another type, or its denominator is 0."""
        value = self.tags.get(tag)
        if value is None or value.kind != 5 or not value.length:
            return 0.0
        numerator, denominator = struct.unpack_from(f"{self.order}2I", value.data)
        return numerator / denominator if denominator else 0.0

    @property
    def orientation(self) -> int:
        """Tag 274; 1 if it is missing or not from 1 to 8."""
        found = self.number(ORIENTATION, 1)
        return found if 1 <= found <= 8 else 1


def directories(file: BinaryIO) -> Iterator[Directory]:
    """Read the directories of a TIFF file or of EXIF bytes, one per page. Raises MediaError if damaged."""
    file.seek(0)
    order: Order = "<" if file.read(2) == b"II" else ">"
    big = _unpack(file, f"{order}H")[0] == 43
    offset = _unpack(file, f"{order}4xQ" if big else f"{order}I")[0]
    seen = set[int]()
    while offset and offset not in seen and len(seen) < _MAX_PAGES:
        seen.add(offset)
        directory = _directory(file, offset, order, big)
        yield directory
        offset = directory.following
    if offset:
        raise MediaError("can't be read: its list of pages has a cycle or is too long")


def _directory(file: BinaryIO, offset: int, order: Order, big: bool, level: int = 0) -> Directory:
    end = file.seek(0, SEEK_END)
    file.seek(offset)
    count = _unpack(file, order + ("Q" if big else "H"))[0]
    if count > _MAX_TAGS:
        raise MediaError("can't be read: its tags are damaged")
    word, inline = ("Q", 8) if big else ("I", 4)
    first = file.tell()
    fields = [_unpack(file, f"{order}HH{word}{inline}s") for _ in range(count)]
    link = file.tell()
    following = file.read(inline)
    after = struct.unpack(order + word, following)[0] if len(following) == inline else 0
    tags: dict[int, Tag] = {}
    cut = False
    total = 0
    for i, (tag, kind, length, data) in enumerate(fields):
        size = _SIZES.get(kind, 0) * length
        if not size:
            continue
        at = first + (4 + 2 * inline) * i + 4 + inline
        if size > inline:
            at = struct.unpack(order + word, data)[0]
            if at + size > end:
                cut = True
                continue
            if tag == LAYERS:  # those of Photoshop, which can be gigabytes, are not copied
                tags[tag] = Tag(kind, 0, b"", at)
                continue
            if (total := total + size) > _MAX_VALUES:
                raise MediaError(
                    f"has tags of more than {_MAX_VALUES >> 20} MiB, which is not supported; remove the largest first"
                )
            file.seek(at)
            data = file.read(size)  # noqa: PLW2901
        tags[tag] = Tag(kind, length, data[:size], at)
    inner = {}
    for tag in INNER if level < _MAX_DEPTH else ():
        if place := Directory(order, tags).number(tag):
            try:
                inner[tag] = _directory(file, place, order, big, level + 1)
            except MediaError:
                cut = True
    return Directory(order, tags, inner, after, link, cut or any(directory.cut for directory in inner.values()))


def _unpack(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    data = file.read(struct.calcsize(layout))
    if len(data) < struct.calcsize(layout):
        raise MediaError("can't be read: it is cut short")
    return struct.unpack(layout, data)


def pack(directory: Directory, offset: int) -> bytes:
    """Serialise a directory and its values for that offset in a file, as the last directory."""
    tags = {tag: value for tag, value in directory.tags.items() if value.kind <= 13 and tag not in INNER}
    numbers = sorted({*tags, *directory.inner})
    after = offset + 2 + 12 * len(numbers) + 4
    fields, values = b"", b""
    for tag in numbers:
        place = after + len(values)
        if tag in directory.inner:
            kind, length, data = 4, 1, struct.pack(f"{directory.order}I", place)
            values += pack(directory.inner[tag], place)
        else:
            kind, length, data, _ = tags[tag]
            if len(data) > 4:
                values += data + bytes(len(data) % 2)
                data = struct.pack(f"{directory.order}I", place)
        fields += struct.pack(f"{directory.order}HHI4s", tag, kind, length, data)
    return struct.pack(f"{directory.order}H", len(numbers)) + fields + bytes(4) + values


def exif_bytes(directory: Directory) -> bytes:
    """Serialise a directory as EXIF bytes, beginning with the TIFF header."""
    return file_start(directory.order) + pack(directory, 8)


def with_tags(exif: bytes, tags: Mapping[int, Tag]) -> bytes:
    """Add tags to the first directory of EXIF bytes, or replace existing ones.

    The directory is rewritten at the end and nothing else moves, so that offsets, such as those in maker notes, stay valid. The
    tags are in the byte order of the EXIF bytes. Raises MediaError if these are damaged.
    """
    first = next(directories(BytesIO(exif)), None)
    if first is None or exif[2:4] not in {b"*\0", b"\0*"}:
        raise MediaError("has EXIF that is damaged")
    at = struct.unpack_from(f"{first.order}I", exif, 4)[0]
    count = struct.unpack_from(f"{first.order}H", exif, at)[0]
    fields = [exif[place : place + 12] for place in range(at + 2, at + 2 + 12 * count, 12)]
    following = exif[at + 2 + 12 * count : at + 6 + 12 * count].ljust(4, b"\0")
    fields = [field for field in fields if struct.unpack_from(f"{first.order}H", field)[0] not in tags]
    start = len(exif) + len(exif) % 2
    end = start + 2 + 12 * (len(fields) + len(tags)) + 4
    values = b""
    for number, (kind, length, data, _) in tags.items():
        place = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack(f"{first.order}I", end + len(values))
        fields.append(struct.pack(f"{first.order}HHI4s", number, kind, length, place))
        values += b"" if len(data) <= 4 else data + bytes(len(data) % 2)
    fields.sort(key=lambda field: struct.unpack_from(f"{first.order}H", field)[0])
    directory = struct.pack(f"{first.order}H", len(fields)) + b"".join(fields) + following
    return exif[:4] + struct.pack(f"{first.order}I", start) + exif[8:].ljust(start - 8, b"\0") + directory + values


def file_start(order: Order) -> bytes:
    """The first 8 bytes of a TIFF file whose first directory follows immediately."""
    return {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8)


def resolution(order: Order, dpi: tuple[float, float]) -> dict[int, Tag]:
    """The tags for pixels per inch, horizontal and vertical."""
    across, down = (
        Tag(5, 1, struct.pack(f"{order}2I", *Fraction(value).limit_denominator(1000).as_integer_ratio())) for value in dpi
    )
    return dict(zip(RESOLUTION, (across, down, Tag(3, 1, struct.pack(f"{order}H", _INCHES))), strict=True))


def orientation(exif: bytes) -> int:
    """Tag 274 of EXIF bytes; 1 if it is missing or damaged."""
    try:
        return next(directories(BytesIO(exif))).orientation if exif else 1
    except (MediaError, StopIteration):
        return 1


def without_thumbnail(exif: bytes) -> bytes:
    """EXIF bytes without the thumbnail, otherwise unchanged byte for byte."""
    try:
        first, *others = directories(BytesIO(exif))
    except (MediaError, ValueError):
        return exif
    result = bytearray(exif)
    result[first.link : first.link + 4] = bytes(4)
    for other in others:
        start, size = other.number(_THUMBNAIL), other.number(_THUMBNAIL_SIZE)
        result[start : start + size] = bytes(len(result[start : start + size]))
        if size and start + size == len(result):
            del result[start:]
    return bytes(result)


PHOTOSHOP = b"Photoshop 3.0\0"
"""Prefix of Photoshop image resources in a JPEG file."""
_START = b"8BIM"
_THUMBNAILS = (1033, 1036)


def without_thumbnails(resources: bytes) -> bytes:
    """Photoshop image resources without thumbnails (Adobe Photoshop File Formats Specification, image resource blocks)."""
    result, at = b"", 0
    while resources.startswith(_START, at) and at + 12 <= len(resources):
        number, name = struct.unpack_from(">HB", resources, at + 4)
        size_at = at + 6 + name // 2 * 2 + 2
        size = int.from_bytes(resources[size_at : size_at + 4], "big")
        end = size_at + 4 + size + size % 2
        if number not in _THUMBNAILS:
            result += resources[at:end]
        at = end
    return result + resources[at:]
