"""Where a picture's metadata say what has been done to it."""

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
    """The metadata with a line on what was done; all that was there is kept, earlier lines too.

    PNG has a text for it, the keyword of which is "bwpipe"; JPEG, TIFF and WebP have EXIF's tag 37395, ImageHistory.

    Args:
        metadata: What the file is to hold.
        line: ASCII.
        target: The format that is written, in lower case.

    Returns:
        None where the format has no place for it, EXIF is damaged, or there is no room.
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
    """What bwpipe noted last of how a picture was made; None if it did not."""
    for name, data in reversed(metadata.own):
        if name == _PNG_TEXT and data.startswith(_PNG_KEYWORD):
            return split_note(data.removeprefix(_PNG_KEYWORD).decode("latin-1"))[1]
    return split_note(_text(metadata.exif))[1]


def _text(exif: bytes) -> str:
    """What ImageHistory says; nothing where it is not there or EXIF is damaged."""
    try:
        tags = next(directories(BytesIO(exif))).tags if exif else {}
    except (MediaError, StopIteration):
        return ""
    return tags[HISTORY].data.rstrip(b"\0").decode("latin-1") if HISTORY in tags else ""
