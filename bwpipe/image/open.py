"""Open an image file: reads its header only."""

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from bwpipe.core.memory import address_space
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


_BYTES_PER_PIXEL = {8: 12, 16: 20}
"""Memory that reading, colourising and writing an image takes at most, by its bits per sample: 9 and 14 bytes were measured."""
_ALWAYS = 25_000_000
"""Images up to this many pixels are never refused for want of memory."""
_SHARE = 0.8
_GROUPS = Path("/sys/fs/cgroup")


def open_image(path: Path, name: PurePosixPath, *, max_pixels: int) -> ImageFile:
    """Read the header of an image file.

    Args:
        path: The file, absolute.
        name: Its path relative to the input folder.
        max_pixels: Refuse larger images before anything is allocated for them. Where memory is short, the limit is lower.

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
    if pixels > _ALWAYS and (needed := pixels * _BYTES_PER_PIXEL[header.depth]) > _SHARE * (there := _memory()):
        size = f"{header.width}x{header.height} = {pixels} pixels, which take about {needed / 1e9:.1f} GB of memory"
        raise MediaError(f"has {size}; bwpipe may use {there / 1e9:.1f} GB here: give it more, or make the picture smaller")
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
        grey_profile=header.grey_profile,
    )


def read_header(file: BinaryIO, kind: ImageFormat) -> Header:
    """Read the header of a file of that format. Raises MediaError, and what decoders raise (see `decoding`)."""
    file.seek(0)
    return _HEADERS[kind](file)


def _memory() -> float:
    """How many bytes of memory this process can have: the machine's, or less by the limits of a container or a shell."""
    return min(_limits())


def _limits() -> Iterator[float]:
    yield address_space()
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemTotal:"):
            yield 1024 * int(line.split()[1])
    for line in _lines(Path("/proc/self/cgroup")):
        number, _, group = line.strip().split(":", 2)
        if number == "0":
            folder = _GROUPS / group.lstrip("/")
            files = [place / "memory.max" for place in (folder, *folder.parents) if place.is_relative_to(_GROUPS)]
        else:
            files = [_GROUPS / "memory" / group.lstrip("/") / "memory.limit_in_bytes", _GROUPS / "memory/memory.limit_in_bytes"]
        yield from (int(text) for file in files for text in _lines(file) if text.strip().isdigit())


def _lines(path: Path) -> list[str]:
    """The lines of a file of the system; none where it does not exist."""
    try:
        return path.read_text("utf-8").splitlines()
    except OSError:
        return []
