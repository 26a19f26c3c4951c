"""What a picture file is, told by its content, and what is known of it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from PIL import UnidentifiedImageError

from bwpipe.core.frame import Media
from bwpipe.errors import BwpipeError, MediaError
from bwpipe.image.host_settings import quiet_decoders

ImageFormat: TypeAlias = Literal["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "PPM", "JPEG2000"]
"""The formats that are read, by Pillow's names; never one that runs a program (EPS) or points to other files."""
Mode: TypeAlias = str
"""Pillow's name for a sample layout ("1", "L", "P", "RGBA", "CMYK", "YCbCr" ...); with ";16" behind it: 16 bits a sample."""

HEAD = 32
"""How many bytes of a file `sniff` wants to see."""

_MAGIC: dict[ImageFormat, re.Pattern[bytes]] = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "TIFF": re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+"),
    "WEBP": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
    "GIF": re.compile(rb"GIF8[79]a"),
    "BMP": re.compile(rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL),
    "PPM": re.compile(rb"P[1-6][\s#]"),
    "JPEG2000": re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
}


@dataclass(frozen=True, slots=True)
class Header:
    """What a picture file says of itself before its samples.

    Attributes:
        width, height: As stored, in pixels.
        mode: The sample layout.
        orientation: EXIF's tag 274.
    """

    width: int
    height: int
    mode: Mode
    orientation: int = 1

    @property
    def depth(self) -> int:
        """Bits of a luma sample: 8, also where the file has fewer, or 16."""
        return 16 if self.mode.endswith(";16") else 8


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageFile(Media):
    """A picture file. Its EXIF, ICC profile and the like stay in the file until they are written.

    Attributes:
        format: What it is by its content, whatever its name.
        mode: The sample layout.
    """

    format: ImageFormat
    mode: Mode

    @property
    def header(self) -> Header:
        """What the file said of itself when it was opened."""
        return Header(self.width, self.height, self.mode, self.orientation)


class Chunk(NamedTuple):
    """A piece of a file that goes over as it is: a PNG's chunk by its name, a JPEG's segment by its marker."""

    name: bytes
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a picture file holds beside its samples, without small grey pictures of itself.

    Attributes:
        exif: EXIF's bytes, which begin with TIFF's header; of a TIFF file, all tags that don't say how its samples lie.
        icc: The ICC profile.
        xmp: The XMP packet.
        dpi: Pixels to an inch, across and down, where the file says it elsewhere than in EXIF.
        own: What only this format has.
        lost: What can't be carried over, a sentence each.
    """

    exif: bytes = b""
    icc: bytes = b""
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None
    own: tuple[Chunk, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def icc_is_rgb(self) -> bool:
        """Whether the profile describes RGB (ICC.1:2022, 7.2.6), and so what is written."""
        return self.icc[16:20] == b"RGB "


def format_of(head: bytes) -> ImageFormat | None:
    """The format of the picture that begins with these bytes, at least `HEAD` of them; None if it is no picture we read."""
    return next((name for name, magic in _MAGIC.items() if magic.match(head)), None)


def sniff(head: bytes) -> bool:
    """Whether a file that begins with these bytes, at least `HEAD` of them, is a picture we read; its name does not count."""
    return format_of(head) is not None


@contextmanager
def decoding() -> Iterator[None]:
    """Turn what decoders raise on a damaged file, which may be anything, into a MediaError."""
    try:
        with quiet_decoders():
            yield
    except (BwpipeError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise MediaError("can't be read: its header is damaged") from error
    except OSError as error:
        raise MediaError(f"can't be read: {error.strerror or error}") from error
    except Exception as error:
        raise MediaError(f"can't be read: {' '.join(str(error).split()) or type(error).__name__}") from error


DAMAGED_PROFILE = "an ICC profile that is damaged is left out"


def several(count: int | str, what: str) -> MediaError:
    """The complaint about a file that holds more than one picture."""
    return MediaError(f"holds {count} {what}, of which only the first would be kept; split it into single pictures first")
