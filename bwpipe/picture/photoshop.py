"""Photoshop's image resources, which JPEG and TIFF files hold: IPTC's captions, and much else."""

import struct

PREFIX = b"Photoshop 3.0\0"
"""What they begin with in a JPEG file."""
_START = b"8BIM"
_THUMBNAILS = (1033, 1036)


def without_thumbnails(resources: bytes) -> bytes:
    """The resources without small pictures of the whole (Adobe Photoshop File Formats Specification, image resource blocks)."""
    left, at = b"", 0
    while resources.startswith(_START, at) and at + 12 <= len(resources):
        number, name = struct.unpack_from(">HB", resources, at + 4)
        size_at = at + 6 + name // 2 * 2 + 2
        size = int.from_bytes(resources[size_at : size_at + 4], "big")
        end = size_at + 4 + size + size % 2
        if number not in _THUMBNAILS:
            left += resources[at:end]
        at = end
    return left + resources[at:]
