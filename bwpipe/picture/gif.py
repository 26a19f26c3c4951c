"""GIF: its header (GIF89a specification)."""

import struct
from typing import BinaryIO

from bwpipe.errors import MediaError
from bwpipe.picture import Header, several

_EXTENSION, _IMAGE, _END = b"!", b",", b";"
_HAS_TABLE = 0x80


def header(file: BinaryIO) -> Header:
    """What a GIF file says of itself. Raises MediaError: damaged, or several frames."""
    file.seek(6)
    width, height, flags = struct.unpack("<HHB2x", file.read(7).ljust(7, b"\0"))
    _skip_table(file, flags)
    frames = 0
    while (block := file.read(1)) != _END:
        if block == _IMAGE:
            frames += 1
            _skip_table(file, file.read(9).ljust(9, b"\0")[8])
            file.read(1)
        elif block == _EXTENSION:
            file.read(1)
        else:
            raise MediaError("can't be read: it is cut short")
        while size := int.from_bytes(file.read(1), "little"):
            file.seek(size, 1)
    if frames > 1:
        raise several(frames, "frames")
    return Header(width, height, "P")


def _skip_table(file: BinaryIO, flags: int) -> None:
    """Go past the colours that follow, if they do."""
    if flags & _HAS_TABLE:
        file.seek(3 * 2 ** ((flags & 7) + 1), 1)
