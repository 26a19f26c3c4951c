"""Writes a picture: its luma, the chroma it was given, its alpha, and all that its file held beside."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import Frame, Luma
from bwpipe.errors import MediaError
from bwpipe.image.file import ImageFile, Metadata, decoding
from bwpipe.image.formats import jpeg, minor, png, pnm, tiff, webp
from bwpipe.image.host_settings import quiet_decoders
from bwpipe.image.provenance_tag import with_history
from bwpipe.image.read import read_metadata
from bwpipe.pixels.orientation import upright
from bwpipe.pixels.ycbcr import AnyChroma, ycbcr_to_rgb

TargetFormat: TypeAlias = Literal["jpeg", "png", "tiff", "webp", "ppm", "bmp"]
"""The formats that are written."""

_SUFFIXES: dict[TargetFormat, tuple[str, ...]] = {
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "png": (".png",),
    "tiff": (".tif", ".tiff"),
    "webp": (".webp",),
    "ppm": (".ppm", ".pnm"),
    "bmp": (".bmp", ".dib"),
}
"""The endings that names have, the usual one first."""
_MOST_PIXELS_A_SIDE = {"jpeg": jpeg.MOST_PIXELS_A_SIDE, "webp": webp.MOST_PIXELS_A_SIDE}
_MOST_DPI = 2**16
EIGHT_BITS = ("jpeg", "webp", "bmp")
NO_ALPHA = ("jpeg", "ppm")
NO_METADATA = ("ppm", "bmp")
"""The formats that have no more than 8 bits, no alpha, no EXIF and the like."""


def target_format(media: ImageFile, wanted: TargetFormat | None = None) -> TargetFormat:
    """The format a picture is written in: the one wanted, or its own, or PNG where its own is not written."""
    own: Any = media.format.lower()
    return wanted or (own if own in get_args(TargetFormat) else "png")


def target_suffix(media: ImageFile, target: TargetFormat) -> str:
    """The ending of the written file's name: the one it had, if that is one of the format's."""
    own = media.name.suffix
    return own if own.lower() in _SUFFIXES[target] else _SUFFIXES[target][0]


@quiet_decoders()
def write_image(
    path: Path,
    frame: Frame,
    chroma: AnyChroma,
    *,
    target: TargetFormat,
    quality: int = 95,
    line: str = "",
    warn: Callable[[str], None],
) -> None:
    """Write a frame of a picture in colour, with the EXIF, ICC profile, resolution and texts of the file it was read from.

    The luma of RGB formats, computed from RGB and rounded, is the frame's. That of JPEG files made from JPEG files is within
    `jpeg.MEAN_DIFFERENCE` and `LARGEST_DIFFERENCE` of it, for which they get the file's own quantisation tables or
    finer ones. WebP is always written lossless: at its best quality, lossy WebP moves luma by up to 7 code values (mean 0.6).

    Args:
        path: The file to write into.
        frame: Luma and alpha, as they are stored.
        chroma: (2, H, W), at the luma's size.
        target: The format, as `target_format` says.
        quality: Of a JPEG's chroma, and of its luma where it comes from another format: libjpeg's, 1 to 100.
        line: What its metadata are to say of how it was made; nothing if empty.
        warn: Is told, in general sentences, what the format can't hold and what becomes of it.

    Raises:
        MediaError: The format can't hold the picture, or the file that it was read from can't be read any more.
        OSError: The file can't be written.
    """
    media = frame.unit.media
    assert isinstance(media, ImageFile)
    if max(media.width, media.height) > (most := _MOST_PIXELS_A_SIDE.get(target, 2**31)):
        raise MediaError(f"is larger than a {target.upper()} file can be ({most} pixels a side); choose `format: png`")
    with decoding():
        source = media.path.read_bytes()
        metadata = read_metadata(media, source)
    for sentence in (*metadata.lost, *_changes(frame, media, target, metadata, source)):
        warn(sentence)
    metadata = _fitting(metadata, media, target)
    if line:
        told = with_history(metadata, line, target=target)
        if told is None:
            warn(f"{target.upper()} has no place, or EXIF no room, for a note that colour was added")
        metadata = told or metadata
    if target != "jpeg":
        data = _lossless(_samples(frame, chroma, target), media, target, metadata, source)
    elif media.format != "JPEG":
        data = jpeg.encode(eight_bits(frame.luma), chroma, metadata, quality=quality)
    else:
        data, kept = jpeg.encode_again(eight_bits(frame.luma), chroma, metadata, quality=quality, source=source)
        if not kept:
            warn("even the finest JPEG moves the luma of some pictures by more than 0.1 code values on average, or 2 somewhere")
    path.write_bytes(data)


def _changes(frame: Frame, media: ImageFile, target: TargetFormat, metadata: Metadata, source: bytes) -> list[str]:
    """What the format can't hold, and what becomes of it."""
    name, same = target.upper(), target.upper() == media.format
    bare = target in NO_METADATA and bool(metadata.exif or metadata.icc or metadata.xmp)
    found = {
        "GIF has 256 colours only: it becomes PNG": media.format == "GIF" and target == "png",
        "JPEG 2000 is read but not written: it becomes another format, without its texts": media.format == "JPEG2000",
        "PBM and PGM have no colour: they become PPM": media.format == "PPM" and same and not media.mode.startswith("RGB"),
        "lossy WebP can't hold the luma as it is: it becomes lossless WebP": same
        and media.format == "WEBP"
        and webp.lossy(source),
        "TIFF is written plain or with LZW, Deflate or PackBits: other compressions become Deflate": same
        and media.format == "TIFF"
        and tiff.compression(source) is None,
        "1-bit and palette pictures become 8-bit RGB": media.mode in ("1", "P", "PA"),
        "CMYK becomes RGB": media.mode == "CMYK",
        f"{name} has 8 bits a sample: pictures of 16 bits are rounded": media.depth == 16 and target in EIGHT_BITS,
        f"{name} has no alpha: it is left out": frame.alpha is not None and target in NO_ALPHA,
        f"{name} has no EXIF, ICC profile and XMP: they are left out, and pictures are turned as EXIF says": bare,
        "an ICC profile of grey or CMYK does not describe RGB: it is left out": bool(metadata.icc)
        and not (bare or metadata.icc_is_rgb),
        "JPEG has 64 kB for EXIF and for XMP: larger ones are left out": target == "jpeg"
        and not (jpeg.fits(metadata.exif) and jpeg.fits(metadata.xmp)),
        f"comments and texts that only {media.format} files have are left out": bool(metadata.own) and not same,
    }
    return [sentence for sentence, holds in found.items() if holds]


def _fitting(metadata: Metadata, media: ImageFile, target: TargetFormat) -> Metadata:
    """What of the metadata can be written."""
    if not metadata.icc_is_rgb:
        metadata = replace(metadata, icc=b"")
    if target.upper() != media.format:
        metadata = replace(metadata, own=())
    if metadata.dpi and not all(1 <= value < _MOST_DPI for value in metadata.dpi):  # a damaged number
        metadata = replace(metadata, dpi=None)
    if target == "jpeg":
        exif, xmp = (part if jpeg.fits(part) else b"" for part in (metadata.exif, metadata.xmp))
        metadata = replace(metadata, exif=exif, xmp=xmp)
    return metadata


def eight_bits(plane: Luma) -> NDArray[np.uint8]:
    """The codes 0..255 for 0..65535, rounded."""
    codes = plane if plane.dtype == np.uint8 else (plane.astype(np.uint32) + 128) // 257
    return codes.astype(np.uint8, copy=False)


def _samples(frame: Frame, chroma: AnyChroma, target: TargetFormat) -> NDArray[Any]:
    """(H, W, 3 or 4) RGB and alpha, at the depth of the format, turned upright if it can't say how it is to be turned."""
    luma: Luma = eight_bits(frame.luma) if target in EIGHT_BITS else frame.luma
    samples: NDArray[Any] = ycbcr_to_rgb(luma, chroma)
    if frame.alpha is not None and target not in NO_ALPHA:
        samples = np.dstack([samples, eight_bits(frame.alpha) if target in EIGHT_BITS else frame.alpha])
    if target not in NO_METADATA:
        return samples
    return np.moveaxis(upright(np.moveaxis(samples, -1, 0), frame.unit.media.orientation), 0, -1)


def _lossless(samples: NDArray[Any], media: ImageFile, target: TargetFormat, metadata: Metadata, source: bytes) -> bytes:
    match target:
        case "tiff":
            own = tiff.compression(source) if media.format == "TIFF" else None
            return tiff.encode(samples, metadata, own or tiff.DEFLATE)
        case "webp":
            return webp.encode(samples, metadata)
        case "bmp":
            return minor.encode_bmp(samples, metadata)
        case "ppm":
            return pnm.encode(samples)
        case _:
            return png.encode(samples, metadata)
