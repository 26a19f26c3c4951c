"""The provenance note in an image's metadata."""

from dataclasses import replace
from io import BytesIO

from bwpipe.core.provenance import Provenance, append_line, split_note
from bwpipe.errors import MediaError
from bwpipe.image.file import Chunk, Metadata
from bwpipe.image.formats import jpeg
from bwpipe.image.tiff_ifd import HISTORY, Directory, Tag, directories, exif_bytes, with_tags

_PNG_TEXT = b"tEXt"
_PNG_KEYWORD = b"bwpipe\0"
_TEXT = 2


def with_history(metadata: Metadata, line: str, *, target: str) -> Metadata | None:
    """Add a provenance line to the metadata; everything else is kept, including earlier lines.

    PNG stores it as text with the keyword "bwpipe"; JPEG, TIFF and WebP in EXIF tag 37395, ImageHistory.

    Args:
        metadata: The metadata of the output.
        line: ASCII.
        target: The output format, in lower case.

    Returns:
        The new metadata; None if the format has no field for it, EXIF is damaged, or there is no room.
    """
    if target == "png":
        return replace(metadata, own=(*metadata.own, Chunk(_PNG_TEXT, _PNG_KEYWORD + line.encode("ascii"))))
    if target not in {"jpeg", "tiff", "webp"}:
        return None
    text = append_line(_text(metadata.exif), line).encode("latin-1") + b"\0"
    tag = {HISTORY: Tag(_TEXT, len(text), text)}
    try:
        exif = with_tags(metadata.exif, tag) if metadata.exif else exif_bytes(Directory("<", tag))
    except MediaError:
        return None
    return None if target == "jpeg" and not jpeg.fits(exif) else replace(metadata, exif=exif)


def history(metadata: Metadata) -> Provenance | None:
    """The last provenance that bwpipe recorded in an image; None if there is none."""
    for name, data in reversed(metadata.own):
        if name == _PNG_TEXT and data.startswith(_PNG_KEYWORD):
            return split_note(data.removeprefix(_PNG_KEYWORD).decode("latin-1"))[1]
    return split_note(_text(metadata.exif))[1]


def _text(exif: bytes) -> str:
    """The text of ImageHistory; empty if it is missing or EXIF is damaged."""
    try:
        tags = next(directories(BytesIO(exif))).tags if exif else {}
    except (MediaError, StopIteration):
        return ""
    return tags[HISTORY].data.rstrip(b"\0").decode("latin-1") if HISTORY in tags else ""
