"""TIFF: header, samples as stored, and an encoder for 8- and 16-bit RGB that keeps all tags."""

import struct
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from itertools import accumulate
from typing import BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from bwpipe.core.frame import Luma
from bwpipe.errors import MediaError
from bwpipe.image.file import Header, Metadata, several
from bwpipe.image.formats import sixteen_bit
from bwpipe.image.tiff_ifd import (
    ORIENTATION,
    RESOLUTION,
    Directory,
    Order,
    Tag,
    directories,
    exif_bytes,
    file_start,
    pack,
    resolution,
    without_thumbnails,
)

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_STRIPS, _SAMPLES, _ROWS, _STRIP_SIZES, _PLANAR, _PREDICTOR = 273, 277, 278, 279, 284, 317
_TILES, _TILE_SIZES, _EXTRA, _FORMAT, _DNG = 324, 325, 338, 339, 50706
_WHITE_IS_ZERO, _GREY, _RGB = 0, 1, 2
_RAW = (32803, 34892)  # a colour filter array, and linear data derived from one
_REDUCED, _MASK, _PLANES = 1, 4, 2
_ALPHA_PREMULTIPLIED, _ALPHA = 1, 2
_UNSIGNED = (1, 4)
_COMPRESSIONS: Mapping[int, str] = {1: "raw", 5: "tiff_lzw", 8: "tiff_adobe_deflate", 32773: "packbits"}
"""Compressions that are written: TIFF's numbers and Pillow's names."""
DEFLATE = 8
_TIFFFILE_COMPRESSIONS = (1, DEFLATE, 32946)  # those that tifffile reads without further packages
_XMP, _PHOTOSHOP, _ICC, _LAYERS, _INNER_PAGES = 700, 34377, 34675, 37724, 330
_OTHER_IMAGES = {_LAYERS, _INNER_PAGES}
LAYOUT = frozenset(
    {254, 255, *range(256, 260), *range(262, 267), 273, *range(277, 282), 284, *range(288, 294), 301}
    | {*range(317, 329), *range(330, 335), *range(336, 348), *range(512, 533), _XMP, _ICC, _LAYERS}
)
"""Tags that describe the layout of samples in the source, refer to another image, or are copied separately."""
_DIFFERENCES = (5, DEFLATE)  # the compressions that use the horizontal predictor


def header(file: BinaryIO) -> Header:
    """Read the header of a TIFF file. Raises MediaError: damaged, several pages, or unsupported samples."""
    pages = list(directories(file))
    if not pages:
        raise MediaError("can't be read: it has no picture")
    first = pages[0]
    if first.cut:
        raise MediaError("can't be read: it is cut short")
    if not {_WIDTH, _HEIGHT} <= first.tags.keys():
        raise MediaError("can't be read: its header is damaged")
    if _DNG in first.tags or first.number(_SUBFILE) & _REDUCED or first.number(_PHOTOMETRIC) in _RAW:
        raise MediaError("is a camera raw file, which is not supported; develop it to a TIFF or JPEG file first")
    if (count := sum(not page.number(_SUBFILE) & (_REDUCED | _MASK) for page in pages)) > 1:
        raise several(count, "pages")
    return Header(first.number(_WIDTH), first.number(_HEIGHT), _mode(first, file), first.orientation)


def _mode(directory: Directory, file: BinaryIO) -> str:
    bits = set(directory.numbers(_BITS) or (1,))
    count = directory.number(_SAMPLES, 1)
    if not set(directory.numbers(_FORMAT)) <= set(_UNSIGNED):
        raise MediaError(
            f"has {max(bits)}-bit samples that are signed or floating-point numbers; convert it to 8 or 16 bits first"
        )
    if bits <= {1, 2, 4, 8}:
        file.seek(0)
        try:
            return TiffImageFile(file).mode
        except SyntaxError as error:
            raise MediaError(f"has an unsupported layout of {count} samples; convert it to grey or RGB first") from error
    colours = {_WHITE_IS_ZERO: 1, _GREY: 1, _RGB: 3}.get(directory.number(_PHOTOMETRIC), 0)
    if bits != {16} or not colours or count - colours not in (0, 1):
        layout = f"{count} samples of {max(bits)} bits"
        raise MediaError(f"has an unsupported layout of {layout}; convert it to 8- or 16-bit grey or RGB first")
    if _for_tifffile(directory) and directory.number(_COMPRESSION, 1) not in _TIFFFILE_COMPRESSIONS:
        raise MediaError(
            "has 16-bit samples in a layout that is supported only uncompressed or with Deflate; save it that way first"
        )
    if _ALPHA_PREMULTIPLIED in directory.numbers(_EXTRA):
        raise MediaError(
            "has 16-bit samples with premultiplied alpha, which is not supported; save it with straight alpha first"
        )
    return {(1, 0): "I;16", (1, 1): "LA;16", (3, 0): "RGB;16", (3, 1): "RGBA;16"}[colours, count - colours]


def stored(data: bytes) -> bytes:
    """The file with its orientation set to upright, since decoders would rotate the samples. Raises MediaError if cut short."""
    first = next(directories(BytesIO(data)))
    for places, sizes in ((_STRIPS, _STRIP_SIZES), (_TILES, _TILE_SIZES)):
        if any(at + size > len(data) for at, size in zip(first.numbers(places), first.numbers(sizes), strict=False)):
            raise MediaError("can't be read: it is cut short")
    if (orientation := first.tags.get(ORIENTATION)) is None:
        return data
    upright = (1).to_bytes(len(orientation.data), "little" if first.order == "<" else "big")
    return data[: orientation.at] + upright + data[orientation.at + len(upright) :]


def _for_tifffile(directory: Directory) -> bool:
    """Whether 16-bit samples have a layout that OpenCV can't read: two samples per pixel, or separate planes."""
    count = directory.number(_SAMPLES, 1)
    return count == 2 or (count > 1 and directory.number(_PLANAR) == _PLANES)


def deep_samples(data: bytes) -> NDArray[np.uint16]:
    """Decode a 16-bit file that `stored` returned: (H, W), or (H, W, 2, 3 or 4) with alpha last. Raises MediaError."""
    first = next(directories(BytesIO(data)))
    count = first.number(_SAMPLES, 1)
    if _for_tifffile(first):
        samples = tifffile.imread(BytesIO(data), key=0)
        samples = np.moveaxis(samples, 0, -1) if first.number(_PLANAR) == _PLANES else samples
    else:
        samples = sixteen_bit.decode(data)
    if first.number(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = samples if samples.ndim == 2 else samples[..., 0]
        np.subtract(65535, grey, out=grey)
    if count == 4 and first.numbers(_EXTRA) not in ((), (_ALPHA,)):
        samples = samples[..., :3]  # the meaning of the fourth is unspecified
    return samples


def metadata(data: bytes) -> Metadata:
    """Read the metadata of a TIFF file. Raises MediaError."""
    first, *others = directories(BytesIO(data))
    tags = {tag: value for tag, value in first.tags.items() if tag not in LAYOUT}
    if _PHOTOSHOP in tags:
        resources = without_thumbnails(tags[_PHOTOSHOP].data)
        tags[_PHOTOSHOP] = Tag(tags[_PHOTOSHOP].kind, len(resources), resources)
    icc, xmp = (first.tags[tag].data if tag in first.tags else b"" for tag in (_ICC, _XMP))
    lost = {
        "layers, masks and previews in a TIFF file are left out": bool(others) or not _OTHER_IMAGES.isdisjoint(first.tags),
        "extra samples of unspecified meaning in a TIFF file are left out": 0 in first.numbers(_EXTRA),
    }
    return Metadata(
        exif=exif_bytes(replace(first, tags=tags)) if tags else b"",
        icc=icc,
        xmp=xmp,
        lost=tuple(sentence for sentence, holds in lost.items() if holds),
    )


def _tags(metadata: Metadata) -> Directory:
    """The metadata as tags, in the byte order of EXIF; damaged EXIF is skipped."""
    try:
        exif = next(directories(BytesIO(metadata.exif))) if metadata.exif else Directory("<")
    except MediaError:
        exif = Directory("<")
    tags = {tag: value for tag, value in exif.tags.items() if tag not in LAYOUT}
    if metadata.dpi and not tags.keys() & set(RESOLUTION):
        tags |= resolution(exif.order, metadata.dpi)
    if metadata.xmp:
        tags[_XMP] = Tag(1, len(metadata.xmp), metadata.xmp)
    if metadata.icc:
        tags[_ICC] = Tag(7, len(metadata.icc), metadata.icc)
    return replace(exif, tags=tags)


def compression(data: bytes) -> int | None:
    """The compression of a file, by TIFF's numbers; None if `encode` can't write it."""
    number = next(directories(BytesIO(data))).number(_COMPRESSION, 1)
    return number if number in _COMPRESSIONS else None


def encode(samples: Luma, metadata: Metadata, compression: int = DEFLATE) -> bytes:
    """Encode a TIFF file.

    Pillow compresses the bytes of each row as if they were grey, since it can't write 16-bit RGB; the resulting strips are
    placed after a directory that describes them (TIFF 6.0, sections 8, 13 and 14).

    Args:
        samples: (H, W, 3 or 4) RGB and alpha.
        metadata: Metadata to write.
        compression: By TIFF's numbers.

    Raises:
        MediaError: The result would exceed the size limit of TIFF.
    """
    tags = _tags(metadata)
    height, width, count = samples.shape
    order = tags.order
    differences = compression in _DIFFERENCES
    values = np.diff(samples, axis=1, prepend=np.zeros_like(samples[:, :1])) if differences else samples
    rows = np.ascontiguousarray(values, values.dtype.newbyteorder(order)).view(np.uint8).reshape(height, -1)
    grey = BytesIO()
    Image.fromarray(rows).save(grey, "TIFF", compression=_COMPRESSIONS[compression])
    packed = next(directories(grey))
    places = zip(packed.numbers(_STRIPS), packed.numbers(_STRIP_SIZES), strict=True)
    strips = [grey.getbuffer()[at : at + size] for at, size in places]
    layout = {
        _WIDTH: _longs(order, width),
        _HEIGHT: _longs(order, height),
        _BITS: _shorts(order, *[8 * samples.itemsize] * count),
        _COMPRESSION: _shorts(order, compression),
        _PHOTOMETRIC: _shorts(order, _RGB),
        _STRIPS: _longs(order, *[0] * len(strips)),
        _SAMPLES: _shorts(order, count),
        _ROWS: _longs(order, packed.number(_ROWS, height)),
        _STRIP_SIZES: _longs(order, *map(len, strips)),
        _PLANAR: _shorts(order, 1),
    }
    if differences:
        layout[_PREDICTOR] = _shorts(order, 2)
    if count == 4:
        layout[_EXTRA] = _shorts(order, _ALPHA)
    directory = Directory(order, {**tags.tags, **layout}, tags.inner)
    *starts, end = accumulate(map(len, strips), initial=8 + len(pack(directory, 8)))
    if end >= 2**32:
        raise MediaError("is too large for a TIFF file, which holds 4 GiB; choose `format: png`")
    directory.tags[_STRIPS] = _longs(order, *starts)
    return b"".join([file_start(order), pack(directory, 8), *strips])


def _shorts(order: Order, *values: int) -> Tag:
    return Tag(3, len(values), struct.pack(f"{order}{len(values)}H", *values))


def _longs(order: Order, *values: int) -> Tag:
    return Tag(4, len(values), struct.pack(f"{order}{len(values)}I", *values))
