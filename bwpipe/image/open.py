"""Open an image file: reads its header only."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from bwpipe.errors import MediaError
from bwpipe.image.file import HEAD, Header, ImageFile, ImageFormat, decoding, format_of
from bwpipe.image.formats import jpeg, minor, png, pnm, tiff, webp

_READABLE = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "I;16", "LA;16", "RGB;16", "RGBA;16"}
_HEADERS: dict[ImageFormat, Callable[[BinaryIO], Header]] = {
    "JPEG": jpeg.header,
    "PNG": png.header,
    "TIFF": tiff.header,
    "WEBP": webp.header,
    "GIF": minor.gif_header,
    "BMP": minor.bmp_header,
    "PPM": pnm.header,
    "JPEG2000": minor.jp2_header,
}


def open_image(path: Path, name: PurePosixPath, *, max_pixels: int) -> ImageFile:
    """Read the header of an image file.

    Args:
        path: The file, absolute.
        name: Its path relative to the input folder.
        max_pixels: Refuse larger images before anything is allocated for them.

    Raises:
        MediaError: It can't be read, is too large, holds several images, or has samples of an unsupported kind.
    """
    with decoding(), path.open("rb") as file:
        kind = format_of(file.read(HEAD))
        if kind is None:
            raise MediaError("is not a picture in a supported format")
        header = read_header(file, kind)
    if header.width < 1 or header.height < 1:
        raise MediaError("can't be read: its header is damaged")
    if (pixels := header.width * header.height) > max_pixels:
        size = f"{header.width}x{header.height} = {pixels} pixels"
        raise MediaError(f"has {size}, more than `max_pixels` allows ({max_pixels}); raise that to read it")
    if header.mode not in _READABLE:
        raise MediaError(
            f"has samples of kind {header.mode!r}, which is not supported; convert it to 8- or 16-bit grey or RGB first"
        )
    return ImageFile(
        path=path,
        name=name,
        width=header.width,
        height=header.height,
        depth=header.depth,
        levels=(0, 2**header.depth - 1),
        orientation=header.orientation,
        format=kind,
        mode=header.mode,
    )


def read_header(file: BinaryIO, kind: ImageFormat) -> Header:
    """Read the header of a file of that format. Raises MediaError, and what decoders raise (see `decoding`)."""
    file.seek(0)
    return _HEADERS[kind](file)
