"""JPEG: reads luma as stored, and writes it so that it decodes to the same values (ITU-T T.81, JFIF 1.02)."""

import re
import struct
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from bwpipe.errors import MediaError
from bwpipe.image import tiff_ifd
from bwpipe.image.file import DAMAGED_PROFILE, Chunk, Header, Metadata, is_grey_profile, several
from bwpipe.image.formats import jpeg_scans, jpeg_trailer
from bwpipe.image.tiff_ifd import directories, orientation, without_thumbnail
from bwpipe.pixels.ycbcr import AnyChroma, ChromaBands, bands, to_codes

MOST_PIXELS_A_SIDE = 65500
_MAX_PART = 65533 - 29  # the XMP prefix is longer than EXIF's
EXIF_PREFIX = b"Exif\0\0"
MEAN_DIFFERENCE, LARGEST_DIFFERENCE = 0.1, 2
"""Allowed difference of a written file's luma from the given one where it can't be exact, in code values."""
Fidelity: TypeAlias = Literal["exact", "close", "off"]
"""Whether a written file's luma equals the given one, is within the limits, or is not."""
_STEPS = (12, 8, 6, 5, 4, 3, 2, 1)
"""The largest quantisation steps of successively finer tables."""
_END = b"\xff\xd9"
_ARITHMETIC = re.compile(rb"\xff[\xc9\xca\xcd\xce]\x00[\x0b-\xff][\x08\x0c]", re.DOTALL)
"""The header of a frame that is coded arithmetically. A false alarm, as in a thumbnail, only costs time."""
_XMP_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_FILLER = (bytes(37 * i % 251 for i in range(251)) * 262)[:65536]
_MULTI_PICTURE_ENTRIES = 0xB002
_MULTI_PICTURE_TYPES = {0x20001: "panorama", 0x20002: "stereo", 0x20003: "multi-angle"}


def header(file: BinaryIO) -> Header:
    """Read the header of a JPEG file. Raises MediaError: damaged, or several images of equal rank (a stereo pair)."""
    jpeg_trailer.check_start(file)
    image = _open(file)
    for kind in _further_images(image):
        if kind in _MULTI_PICTURE_TYPES:
            raise several("several", f"pictures ({_MULTI_PICTURE_TYPES[kind]})")
    mode = "YCbCr" if image.mode == "RGB" and not _is_rgb(image) else image.mode
    grey = is_grey_profile(image.info.get("icc_profile") or b"")  # None if parts of it are missing
    return Header(*image.size, mode, orientation(_exif(image)), grey)


def _open(file: BinaryIO) -> JpegImageFile:
    file.seek(0)
    return JpegImageFile(file)


def _further_images(image: JpegImageFile) -> list[int]:
    """The types of the images after the first, by CIPA DC-007 (Multi-Picture Format), 5.2.3."""
    try:
        index = next(directories(BytesIO(image.info.get("mp", b""))))
        entries = index.tags[_MULTI_PICTURE_ENTRIES].data
        return [word & 0xFFFFFF for (word,) in struct.iter_unpack(f"{index.order}I12x", entries)][1:]
    except (MediaError, StopIteration, KeyError, struct.error):
        return []


def _exif(image: JpegImageFile) -> bytes:
    """The EXIF bytes; empty if there are none."""
    found: bytes = image.info.get("exif", b"")
    return found.removeprefix(EXIF_PREFIX)


def _is_rgb(image: JpegImageFile) -> bool:
    """Whether the file holds R, G, B instead of Y, Cb, Cr, by libjpeg's rules."""
    if "jfif" in image.info:
        return False
    if "adobe" in image.info:
        return image.info.get("adobe_transform") == 0
    return bytes(component[0] for component in image.layer) == b"RGB"


def read(data: bytes) -> Image.Image:
    """Decode an image in mode "L", "YCbCr", "RGB" or "CMYK". Raises MediaError: cut short, or several pictures."""
    file = BytesIO(data)
    image = _open(file)
    jpeg_trailer.trailing(data, indexed=len(_further_images(image)))
    end = data.find(_END, file.tell())
    _load(image)
    if end < 0:
        raise MediaError("can't be read: it is cut short")
    # libjpeg silently fills missing data with mid-grey; if data are missing, appending other bits changes the decoded image.
    last = image.getpixel((image.width - 1, image.height - 1))
    grey = (last[0] if isinstance(last, tuple) else last) in (127, 128)
    if grey or image.info.get("progressive") or _ARITHMETIC.search(data):  # those two are filled with something else
        other = _open(BytesIO(data[:end] + _FILLER + _END))
        _load(other)
        if not all(image.crop(box).tobytes() == other.crop(box).tobytes() for box in _boxes(image)):
            raise MediaError("can't be read: it is cut short")
    return image


def _boxes(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Bands of rows that together cover an image, so that comparing them takes little memory."""
    return ((0, band.start, image.width, min(band.stop, image.height)) for band in bands(image.height, image.width))


def _load(image: JpegImageFile) -> None:
    if image.mode == "RGB" and not _is_rgb(image):
        image.draft("YCbCr", None)
    image.load()


def encode(luma: NDArray[np.uint8], chroma: AnyChroma | ChromaBands, metadata: Metadata, *, quality: int) -> bytes:
    """Encode a JPEG file without chroma subsampling.

    Args:
        luma: (H, W), written as Y.
        chroma: (2, H, W).
        metadata: Metadata to write.
        quality: libjpeg quality, 1 to 100.
    """
    return _encoded(_image(luma, _codes(chroma, luma.shape)), quality=quality, **_options(metadata))


def encode_again(
    luma: NDArray[np.uint8], chroma: AnyChroma | ChromaBands, metadata: Metadata, *, quality: int, source: bytes
) -> tuple[bytes, Fidelity]:
    """Encode a JPEG file with the Y coefficients of another one, or else with a luma as close as JPEG allows.

    The coefficients and the quantisation table of Y are those of the source, bit for bit, if they decode to the given luma.
    That is not so where a stage has changed it, or the source has no Y or is coded arithmetically. Then the file is encoded
    such that its luma is within `MEAN_DIFFERENCE` and `LARGEST_DIFFERENCE` of the given one: with the source's table if that
    suffices, else a finer one. Its steps divide the source's, so that coefficients already on the source's grid are unchanged;
    others come from samples that were clipped to 0..255.

    Args:
        luma: (H, W), written as Y.
        chroma: (2, H, W), written without subsampling.
        metadata: Metadata to write.
        quality: libjpeg quality of the chroma; if the source's samples are not Y, Cb, Cr, also of the first table for luma.
        source: The file that the luma was read from.
    """
    image = _open(BytesIO(source))
    has_luma = image.mode == "L" or (image.mode == "RGB" and not _is_rgb(image))
    luma_table, chroma_table = _tables(quality)
    progressive = bool(image.info.get("progressive"))
    codes = _codes(chroma, luma.shape)
    if has_luma and image.quantization:  # lossless JPEG has none
        luma_table = [max(step, 1) for step in image.quantization[image.layer[0][3]]]  # a damaged table may contain 0
        data = _with_luma_of(source, codes, metadata, chroma_table, progressive=progressive)
        if data and np.array_equal(luma_of(data), luma):
            return data, "exact"
    preserved = False
    for table in _finer_tables(luma_table):
        if preserved := _preserves_luma(luma, table):
            break
    data = _encoded(_image(luma, codes), qtables=[table, chroma_table], progressive=progressive, **_options(metadata))
    return data, "close" if preserved else "off"


def _with_luma_of(
    source: bytes, codes: NDArray[np.uint8], metadata: Metadata, table: list[int], *, progressive: bool
) -> bytes | None:
    """A file with the Y of another, coefficient by coefficient, and new chroma; None if the source can't be taken apart."""
    try:
        parts = jpeg_scans.take_apart(source)
        own = jpeg_scans.only(parts, 0)
    except jpeg_scans.UnsupportedJpegError:
        return None
    options = _options(metadata)
    planes = [own]
    for samples in codes:
        # Pillow's buffer is too small for optimised tables if there is hardly anything to compress
        optimise = {"progressive": True} if progressive else {"optimize": True}
        try:
            plane = _encoded(Image.fromarray(samples), qtables=[table], **optimise, **options)
        except OSError:
            plane = _encoded(Image.fromarray(samples), qtables=[table], **options)
        planes.append(jpeg_scans.take_apart(plane))
    luma = own.components[0]
    full = jpeg_scans.sampling(parts)
    whole = (luma.across, luma.down) == full
    factors = [(1, 1)] * 3 if whole else [(luma.across, luma.down), full, full]
    return jpeg_scans.together(planes[1].head, planes, factors)


def luma_of(data: bytes) -> NDArray[np.uint8]:
    """The decoded Y (H, W) of a grey or YCbCr file."""
    image = _open(BytesIO(data))
    image.draft("L", None)
    return np.asarray(image)


def holds_exact_luma(data: bytes) -> bool:
    """Whether the coefficients of a file's Y can be kept: it is grey or YCbCr, and coded with Huffman codes."""
    image = _open(BytesIO(data))
    try:
        return (image.mode == "L" or (image.mode == "RGB" and not _is_rgb(image))) and bool(jpeg_scans.take_apart(data))
    except jpeg_scans.UnsupportedJpegError:
        return False


def _image(luma: NDArray[np.uint8], codes: NDArray[np.uint8]) -> Image.Image:
    return Image.merge("YCbCr", [Image.fromarray(plane) for plane in (luma, *codes)])


def _codes(chroma: AnyChroma | ChromaBands, size: tuple[int, ...]) -> NDArray[np.uint8]:
    """Cb and Cr (2, H, W) as JPEG stores them."""
    codes = np.empty((2, *size), np.uint8)
    for band in bands(*size):
        codes[:, band] = to_codes(chroma[:, band], "bt601", 8, (0, 255))
    return codes


def _options(metadata: Metadata) -> dict[str, Any]:
    """The metadata as options of Pillow's encoder."""
    segments = (name + struct.pack(">H", len(data) + 2) + data for name, data in metadata.own)
    options = {
        "exif": metadata.exif and EXIF_PREFIX + metadata.exif,
        "icc_profile": metadata.icc,
        "xmp": metadata.xmp,
        "dpi": metadata.dpi,
        "extra": b"".join(segments),
    }
    return {name: value for name, value in options.items() if value}


def _encoded(image: Image.Image, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", subsampling="4:4:4", **options)
    return file.getvalue()


def _finer_tables(table: list[int]) -> Iterator[list[int]]:
    """The table, then successively finer ones whose steps divide its own."""
    yield table
    for largest in _STEPS:
        yield [next(step for step in range(min(value, largest), 0, -1) if value % step == 0) for value in table]


def _preserves_luma(luma: NDArray[np.uint8], table: list[int]) -> bool:
    """Whether luma quantised with that table decodes within the limits; in the file, chroma does not affect it."""
    decoded = np.asarray(_open(BytesIO(_encoded(Image.fromarray(luma), qtables=[table]))))
    differences = np.abs(decoded.astype(np.int16) - luma)
    return bool(differences.mean() <= MEAN_DIFFERENCE and differences.max() <= LARGEST_DIFFERENCE)


@lru_cache
def _tables(quality: int) -> tuple[list[int], list[int]]:
    """Libjpeg's quantisation tables for luma and chroma at a quality."""
    tables = _open(BytesIO(_encoded(Image.new("RGB", (8, 8)), quality=quality))).quantization
    return tables[0], tables[1]


def fits(part: bytes) -> bool:
    """Whether the bytes of EXIF or XMP fit into a JPEG file."""
    return len(part) <= _MAX_PART


def metadata(data: bytes) -> Metadata:
    """Read the metadata of a JPEG file. Raises MediaError if it holds several pictures."""
    image = _open(BytesIO(data))
    icc = image.info.get("icc_profile", b"")  # None if parts of it are missing
    lost = jpeg_trailer.trailing(data, indexed=len(_further_images(image)))
    return Metadata(
        exif=without_thumbnail(_exif(image)),
        icc=icc or b"",
        xmp=jpeg_trailer.without_claims(image.info.get("xmp", b"")),
        dpi=image.info["dpi"] if image.info.get("jfif_unit") else None,
        own=tuple(_segments(image)),
        lost=(*lost, DAMAGED_PROFILE) if icc is None else tuple(lost),
    )


def _segments(image: JpegImageFile) -> Iterator[Chunk]:
    """Comments, Photoshop resources (with IPTC captions) and the rest of a long XMP packet."""
    resources = b""  # they may continue in the next segment
    for name, data in image.applist:
        if name == "COM":
            yield Chunk(b"\xff\xfe", data)
        elif name == "APP1" and data.startswith(_XMP_EXTENSION):
            yield Chunk(b"\xff\xe1", data)
        elif name == "APP13" and data.startswith(tiff_ifd.PHOTOSHOP):
            resources += data.removeprefix(tiff_ifd.PHOTOSHOP)
    resources = tiff_ifd.without_thumbnails(resources)
    for start in range(0, len(resources), _MAX_PART):
        yield Chunk(b"\xff\xed", tiff_ifd.PHOTOSHOP + resources[start : start + _MAX_PART])
