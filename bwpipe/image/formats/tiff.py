"""TIFF: header, samples as stored, and an encoder for 8- and 16-bit RGB that keeps all tags."""

import struct
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from itertools import accumulate
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin
from PIL.TiffImagePlugin import TiffImageFile

from bwpipe.core.frame import Luma
from bwpipe.errors import MediaError
from bwpipe.image.file import Buffer, Header, Metadata, several
from bwpipe.image.formats import sixteen_bit
from bwpipe.image.tiff_ifd import (
    LAYERS,
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
from bwpipe.pixels.ycbcr import bands

_LONGS = {16: (4, "I"), 17: (9, "i"), 18: (13, "I")}
"""BigTIFF's types, and those of TIFF for the same numbers."""
_MOST_DIRECTORY = 2**26
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_STRIPS, _SAMPLES, _ROWS, _STRIP_SIZES, _PLANAR, _PREDICTOR, _COLOUR_MAP = 273, 277, 278, 279, 284, 317, 320
_TILES, _TILE_SIZES, _EXTRA, _FORMAT, _DNG = 324, 325, 338, 339, 50706
_WHITE_IS_ZERO, _GREY, _RGB = 0, 1, 2
_RAW = (32803, 34892)  # a colour filter array, and linear data derived from one
_REDUCED, _MASK, _PLANES = 1, 4, 2
_ALPHA_PREMULTIPLIED, _ALPHA, _ALPHA_COREL = 1, 2, 999
_COLOURS = {_WHITE_IS_ZERO: 1, _GREY: 1, _RGB: 3, 3: 1, 5: 4, 6: 3, 8: 3}
"""Samples of a pixel's colour, by photometric interpretation; what goes beyond them is extra."""
_UNSIGNED = (1, 4)
_COMPRESSIONS: Mapping[int, str] = {1: "raw", 5: "tiff_lzw", 8: "tiff_adobe_deflate", 32773: "packbits"}
"""Compressions that are written: TIFF's numbers and Pillow's names."""
DEFLATE = 8
_TIFFFILE_COMPRESSIONS = (1, DEFLATE, 32946)  # those that tifffile reads without further packages
_XMP, _PHOTOSHOP, _ICC, _INNER_PAGES = 700, 34377, 34675, 330
_OTHER_IMAGES = {LAYERS, _INNER_PAGES}
LAYOUT = frozenset(
    {254, 255, *range(256, 260), *range(262, 267), 273, *range(277, 282), 284, *range(288, 294), 301}
    | {*range(317, 329), *range(330, 335), *range(336, 348), *range(512, 533), _XMP, _ICC, LAYERS}
)
"""Tags that describe the layout of samples in the source, refer to another image, or are copied separately."""
_BAND_SIZE = 1 << 23
"""Bytes that are given to Pillow's encoder at a time."""
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
    if bits <= {1, 2, 4, 8} and (mode := _pillow_mode(directory, file)):
        return mode
    colours = {_WHITE_IS_ZERO: 1, _GREY: 1, _RGB: 3}.get(directory.number(_PHOTOMETRIC), 0)
    if bits not in ({8}, {16}) or not colours or count < colours:
        layout = f"{count} samples of {max(bits)} bits"
        raise MediaError(f"has an unsupported layout of {layout}; convert it to 8- or 16-bit grey or RGB first")
    if _for_tifffile(directory) and directory.number(_COMPRESSION, 1) not in _TIFFFILE_COMPRESSIONS:
        raise MediaError(
            f"has {max(bits)}-bit samples in a layout that is read only uncompressed or with Deflate; save it that way first"
        )
    if _ALPHA_PREMULTIPLIED in directory.numbers(_EXTRA):
        raise MediaError(
            f"has {max(bits)}-bit samples with premultiplied alpha, which is not supported; save it with straight alpha first"
        )
    mode = ("L" if colours == 1 else "RGB") + ("A" if _alpha(directory) is not None else "")
    return mode if bits == {8} else {"L": "I"}.get(mode, mode) + ";16"


def _pillow_mode(directory: Directory, file: BinaryIO) -> str:
    """The sample layout of a file that Pillow reads, whose alpha is declared; empty if Pillow does not read it."""
    if _is_big_motorola(file):
        file = BytesIO(file_start(directory.order) + pack(_classic(directory), 8))
    file.seek(0)
    try:
        mode = TiffImageFile(file).mode
    except SyntaxError:
        return ""
    return mode.rstrip("Aa") if mode in ("LA", "La", "PA", "RGBA", "RGBa") and _alpha(directory) is None else mode


def _alpha(directory: Directory) -> int | None:
    """Which sample of a pixel is alpha; None if none is declared as such: scanners put infrared there (TIFF 6.0, 338)."""
    kinds = directory.numbers(_EXTRA)
    found = [i for i, kind in enumerate(kinds) if kind in (_ALPHA_PREMULTIPLIED, _ALPHA, _ALPHA_COREL)]
    return _COLOURS.get(directory.number(_PHOTOMETRIC), 0) + found[0] if found else None


def stored(data: bytes) -> bytes:
    """The file as decoders read it without a change of samples. Raises MediaError if it is cut short.

    Its orientation is set to upright, since decoders would rotate the samples; a colour map of 8-bit numbers, as old programs
    wrote it, is scaled to 16 bits; and a big-endian BigTIFF, which Pillow takes for damaged, gets the directory of a TIFF.
    """
    first = next(directories(BytesIO(data)))
    for places, sizes in ((_STRIPS, _STRIP_SIZES), (_TILES, _TILE_SIZES)):
        if any(at + size > len(data) for at, size in zip(first.numbers(places), first.numbers(sizes), strict=False)):
            raise MediaError("can't be read: it is cut short")
    if _is_big_motorola(BytesIO(data[:8])):
        if len(data) >= 2**32 - _MOST_DIRECTORY:
            raise MediaError(
                "is a big-endian BigTIFF of more than 4 GiB, which is not supported; save it as little-endian first"
            )
        padded = data[8:] + bytes(len(data) % 2)
        at = 8 + len(padded)
        data = b"MM\0*" + struct.pack(">I", at) + padded + pack(_classic(first), at)
        first = next(directories(BytesIO(data)))
    colours = first.numbers(_COLOUR_MAP)
    if colours and max(colours) < 256:
        data = _patched(
            data, first.tags[_COLOUR_MAP], struct.pack(f"{first.order}{len(colours)}H", *(257 * c for c in colours))
        )
    if (orientation := first.tags.get(ORIENTATION)) is not None:
        order: Literal["little", "big"] = "little" if first.order == "<" else "big"
        data = _patched(data, orientation, (1).to_bytes(len(orientation.data), order))
    return data


def _patched(data: bytes, tag: Tag, value: bytes) -> bytes:
    return data[: tag.at] + value + data[tag.at + len(value) :]


def _is_big_motorola(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(4) == b"MM\0+"


def _classic(directory: Directory) -> Directory:
    """The directory of a BigTIFF with 32-bit numbers."""
    tags = {}
    for number, tag in directory.tags.items():
        if tag.kind in _LONGS:
            values = struct.unpack(f"{directory.order}{tag.length}{'q' if tag.kind == 17 else 'Q'}", tag.data)
            kind, letter = _LONGS[tag.kind]
            tags[number] = Tag(kind, tag.length, struct.pack(f"{directory.order}{tag.length}{letter}", *values))
        else:
            tags[number] = tag
    return Directory(directory.order, tags)


def _for_tifffile(directory: Directory) -> bool:
    """Whether samples, beyond what Pillow reads, have a layout that OpenCV can't read: extra samples, or separate planes."""
    count, colours = directory.number(_SAMPLES, 1), _COLOURS.get(directory.number(_PHOTOMETRIC), 0)
    separate = count > 1 and directory.number(_PLANAR) == _PLANES
    return 8 in directory.numbers(_BITS) or separate or (count != colours and (colours, count) != (3, 4))


def samples(data: bytes) -> NDArray[Any] | None:
    """Decode what `stored` returned, unless Pillow can: (H, W), or (H, W, 2, 3 or 4) with alpha last. Raises MediaError."""
    first = next(directories(BytesIO(data)))
    if 16 not in first.numbers(_BITS) and _pillow_mode(first, BytesIO(data)):
        return None
    found: NDArray[Any]
    if _for_tifffile(first):
        import tifffile  # takes longer than the other formats together

        found = tifffile.imread(BytesIO(data), key=0)
        found = np.moveaxis(found, 0, -1) if first.number(_PLANAR) == _PLANES else found
    else:
        found = sixteen_bit.decode(data)
    if first.number(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = found if found.ndim == 2 else found[..., 0]
        np.subtract(np.iinfo(found.dtype).max, grey, out=grey)
    if found.ndim == 2:
        return found
    colours, alpha = _COLOURS[first.number(_PHOTOMETRIC)], _alpha(first)
    if alpha is None:
        return found[..., 0] if colours == 1 else found[..., :3]
    return found[..., [*range(colours), alpha]] if found.shape[2] != colours + 1 else found


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
        "extra samples of a TIFF file that are not alpha, such as a scanner's infrared, are left out": _has_others(first),
    }
    return Metadata(
        exif=exif_bytes(replace(first, tags=tags)) if tags else b"",
        icc=icc,
        xmp=xmp,
        lost=tuple(sentence for sentence, holds in lost.items() if holds),
    )


def _has_others(directory: Directory) -> bool:
    """Whether pixels have samples besides colour and alpha."""
    photometric = directory.number(_PHOTOMETRIC)
    known = _COLOURS.get(photometric, 0) + (_alpha(directory) is not None)
    return photometric in _COLOURS and directory.number(_SAMPLES, 1) > known


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


def encode(samples: Luma, metadata: Metadata, compression: int = DEFLATE) -> list[Buffer]:
    """Encode a TIFF file: its pieces.

    Pillow compresses the bytes of each row as if they were grey, since it can't write 16-bit RGB; the resulting strips are
    placed after a directory that describes them (TIFF 6.0, sections 8, 13 and 14).

    Args:
        samples: (H, W, 3 or 4) RGB and alpha; they are overwritten.
        metadata: Metadata to write.
        compression: By TIFF's numbers.

    Raises:
        MediaError: The result would exceed the size limit of TIFF.
    """
    tags = _tags(metadata)
    height, width, count = samples.shape
    order = tags.order
    differences = compression in _DIFFERENCES
    for band in bands(height, width):
        if differences:
            samples[band, 1:] = np.diff(samples[band], axis=1)
        if np.dtype(samples.dtype).newbyteorder(order) != samples.dtype:
            samples[band] = samples[band].byteswap()
    rows, strips = _strips(samples.view(np.uint8).reshape(height, -1), compression)
    layout = {
        _WIDTH: _longs(order, width),
        _HEIGHT: _longs(order, height),
        _BITS: _shorts(order, *[8 * samples.itemsize] * count),
        _COMPRESSION: _shorts(order, compression),
        _PHOTOMETRIC: _shorts(order, _RGB),
        _STRIPS: _longs(order, *[0] * len(strips)),
        _SAMPLES: _shorts(order, count),
        _ROWS: _longs(order, rows),
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
    return [file_start(order), pack(directory, 8), *strips]


def _strips(samples: NDArray[np.uint8], compression: int) -> tuple[int, list[Buffer]]:
    """Rows in a strip, and the strips, of the bytes of all rows (H, N), as Pillow makes them of a grey image.

    Pillow's encoder keeps all that it has compressed beside what it hands over, so it is given some strips at a time.
    """
    height, stride = samples.shape
    if _COMPRESSIONS[compression] == "raw":
        return height, [samples.reshape(-1).data]
    rows = min(max(TiffImagePlugin.STRIP_SIZE // stride, 1), height)
    step = rows * max(_BAND_SIZE // (rows * stride), 1)
    strips: list[Buffer] = []
    for start in range(0, height, step):
        file = BytesIO()
        image = Image.fromarray(samples[start : start + step])
        image.save(file, "TIFF", compression=_COMPRESSIONS[compression], tiffinfo={_ROWS: rows})
        packed, view = next(directories(file)), file.getbuffer()
        places = zip(packed.numbers(_STRIPS), packed.numbers(_STRIP_SIZES), strict=True)
        strips += [view[at : at + size] for at, size in places]
    return rows, strips


def _shorts(order: Order, *values: int) -> Tag:
    return Tag(3, len(values), struct.pack(f"{order}{len(values)}H", *values))


def _longs(order: Order, *values: int) -> Tag:
    return Tag(4, len(values), struct.pack(f"{order}{len(values)}I", *values))
