"""Image files: format detection by content, header and metadata."""

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
"""The formats that are read, by Pillow's names; none that runs a program (EPS) or refers to other files."""
Mode: TypeAlias = str
"""Pillow's name for a sample layout ("1", "L", "P", "RGBA", "CMYK", "YCbCr" ...); the suffix ";16" means 16 bits per sample."""

Buffer: TypeAlias = bytes | memoryview
"""A piece of a file to write."""

HEAD = 32
"""How many bytes of a file `sniff` needs."""

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
    """The header of an image file.

    Attributes:
        width, height: As stored, in pixels.
        mode: The sample layout.
        orientation: EXIF tag 274.
        grey_profile: Whether it has an ICC profile of grey samples, in formats whose profiles are kept.
    """

    width: int
    height: int
    mode: Mode
    orientation: int = 1
    grey_profile: bool = False

    @property
    def depth(self) -> int:
        """Bits per luma sample: 8, even if the file has fewer, or 16."""
        return 16 if self.mode.endswith(";16") else 8


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageFile(Media):
    """An image file. Its EXIF, ICC profile and other metadata stay in the file until the output is written.

    Attributes:
        format: The format by content, whatever the name.
        mode: The sample layout.
        grey_profile: Whether it has an ICC profile of grey samples, in formats whose profiles are kept.
    """

    format: ImageFormat
    mode: Mode
    grey_profile: bool = False

    @property
    def header(self) -> Header:
        """The header as it was when the file was opened."""
        return Header(self.width, self.height, self.mode, self.orientation, self.grey_profile)


class Chunk(NamedTuple):
    """A piece of a file that is copied unchanged: a PNG chunk by its name, or a JPEG segment by its marker."""

    name: bytes
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """The metadata of an image file, without grey thumbnails.

    Attributes:
        exif: EXIF bytes, beginning with the TIFF header; for a TIFF file, all tags that don't describe the layout of samples.
        icc: The ICC profile.
        xmp: The XMP packet.
        dpi: Pixels per inch, horizontal and vertical, if stored elsewhere than in EXIF.
        own: Metadata that is specific to the format.
        lost: What can't be copied to the output, one sentence each.
    """

    exif: bytes = b""
    icc: bytes = b""
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None
    own: tuple[Chunk, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def icc_is_rgb(self) -> bool:
        """Whether the profile describes RGB (ICC.1:2022, 7.2.6), as the output is RGB."""
        return self.icc[16:20] == b"RGB "


def is_grey_profile(icc: bytes) -> bool:
    """Whether an ICC profile, of which the first 20 bytes suffice, describes grey samples (ICC.1:2022, 7.2.6)."""
    return icc[16:20] == b"GRAY"


def format_of(head: bytes) -> ImageFormat | None:
    """The format of an image file, given at least its first `HEAD` bytes; None if it is not a supported image."""
    return next((name for name, magic in _MAGIC.items() if magic.match(head)), None)


def sniff(head: bytes) -> bool:
    """Whether a file, given at least its first `HEAD` bytes, is a supported image, whatever its name."""
    return format_of(head) is not None


@contextmanager
def decoding() -> Iterator[None]:
    """Turn any exception that decoders raise on a damaged file into a MediaError."""
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


DAMAGED_PROFILE = "a damaged ICC profile is left out"


def several(count: int | str, what: str) -> MediaError:
    """The error for a file that holds more than one image."""
    return MediaError(f"holds {count} {what}, of which only the first would be kept; split it into single pictures first")
