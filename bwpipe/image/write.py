"""Write an image: luma, new chroma, alpha, and the metadata of the source file."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import Frame, Luma
from bwpipe.errors import MediaError
from bwpipe.image.file import Buffer, ImageFile, Metadata, decoding
from bwpipe.image.formats import jpeg, minor, png, pnm, tiff, webp
from bwpipe.image.host_settings import quiet_decoders
from bwpipe.image.icc import grey_as_rgb
from bwpipe.image.provenance_tag import with_history
from bwpipe.image.read import read_metadata
from bwpipe.pixels.orientation import upright
from bwpipe.pixels.ycbcr import AnyChroma, ChromaBands, ycbcr_to_rgb

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
"""File name suffixes, the default first."""
_MOST_PIXELS_A_SIDE = {"jpeg": jpeg.MOST_PIXELS_A_SIDE, "webp": webp.MOST_PIXELS_A_SIDE}
_MOST_DPI = 2**16
GREY_MODES = ("1", "L", "LA", "La", "I;16", "LA;16")
"""Sample layouts of grey pictures."""
EIGHT_BITS = ("jpeg", "webp", "bmp")
NO_ALPHA = ("jpeg", "ppm")
NO_METADATA = ("ppm", "bmp")
"""Formats limited to 8 bits; without alpha; without EXIF and other metadata."""


def target_format(media: ImageFile, requested: TargetFormat | None = None) -> TargetFormat:
    """The output format: the requested one, else the image's own, else PNG if its own can't be written."""
    own: Any = media.format.lower()
    return requested or (own if own in get_args(TargetFormat) else "png")


def target_suffix(media: ImageFile, target: TargetFormat) -> str:
    """The suffix of the output file: that of the source if it fits the format, else the default."""
    own = media.name.suffix
    return own if own.lower() in _SUFFIXES[target] else _SUFFIXES[target][0]


@quiet_decoders()
def write_image(
    path: Path,
    frame: Frame,
    chroma: AnyChroma | ChromaBands,
    *,
    target: TargetFormat,
    quality: int = 95,
    line: str = "",
    warn: Callable[[str], None],
) -> None:
    """Write a frame in colour, with the EXIF, ICC profile, resolution and text of its source file.

    In RGB formats, the luma computed from RGB and rounded equals the frame's. JPEG files made from JPEG files have the same Y
    coefficients; if a stage has changed the luma, it is within `jpeg.MEAN_DIFFERENCE` and `LARGEST_DIFFERENCE`.
    WebP is always written lossless: at its best quality, lossy WebP changes luma by up to 7 code values (mean 0.6).

    Args:
        path: The file to write to.
        frame: Luma and alpha as stored.
        chroma: (2, H, W), at the luma's size; large images need less memory if it is computed in bands.
        target: The format, from `target_format`.
        quality: libjpeg quality, 1 to 100, of a JPEG's chroma, and of its luma if the source has another format.
        line: Provenance line for the metadata; none if empty.
        warn: Called with general sentences on what the format can't hold and how it is handled.

    Raises:
        MediaError: The format can't hold the image, or the source file can't be read any more.
        OSError: The file can't be written.
    """
    media = frame.unit.media
    assert isinstance(media, ImageFile)
    if max(media.width, media.height) > (limit := _MOST_PIXELS_A_SIDE.get(target, 2**31)):
        raise MediaError(f"is larger than a {target.upper()} file can be ({limit} pixels a side); choose `format: png`")
    with decoding():
        source = media.path.read_bytes()
        metadata = read_metadata(media, source)
    for sentence in (*metadata.lost, *_conversions(frame, media, target, metadata, source)):
        warn(sentence)
    metadata = _writable(metadata, media, target)
    if line:
        noted = with_history(metadata, line, target=target)
        if noted is None:
            warn(f"{target.upper()} has no field, or EXIF no room, for a note that colour was added")
        metadata = noted or metadata
    pieces: Sequence[Buffer]
    if target != "jpeg":
        compression = tiff.compression(source) if target == "tiff" and media.format == "TIFF" else None
        del source  # it can be as large as the samples
        pieces = lossless(_samples(frame, chroma, target), target, metadata, compression)
    elif media.format != "JPEG":
        del source
        pieces = [jpeg.encode(eight_bits(frame.luma), chroma, metadata, quality=quality)]
    else:
        luma = eight_bits(frame.luma)
        data, fidelity = jpeg.encode_again(luma, chroma, metadata, quality=quality, source=source)
        if fidelity != "exact" and media.mode in ("L", "YCbCr") and np.array_equal(luma, jpeg.luma_of(source)):
            warn(
                "JPEG files that are damaged or coded arithmetically are encoded again: their luma can change by 2 code values"
            )
        if fidelity == "off":
            warn(
                "even the finest JPEG changes the luma of some pictures by more than 0.1 code values on average or 2 at a pixel"
            )
        pieces = [data]
    with path.open("wb") as file:
        file.writelines(pieces)


def _conversions(frame: Frame, media: ImageFile, target: TargetFormat, metadata: Metadata, source: bytes) -> list[str]:
    """Sentences on what the format can't hold and how it is handled."""
    name, same_format = target.upper(), target.upper() == media.format
    no_metadata = target in NO_METADATA and bool(metadata.exif or metadata.icc or metadata.xmp)
    profile = b"" if target in NO_METADATA else output_profile(metadata, media)
    conversions = {
        "GIF has 256 colours only: it becomes PNG": media.format == "GIF" and target == "png",
        "JPEG 2000 is read but not written: it becomes another format, without its text metadata": media.format == "JPEG2000",
        "PBM and PGM have no colour: they become PPM": media.format == "PPM"
        and same_format
        and not media.mode.startswith("RGB"),
        "lossy WebP can't preserve luma: it becomes lossless WebP": same_format
        and media.format == "WEBP"
        and webp.lossy(source),
        "TIFF is written uncompressed or with LZW, Deflate or PackBits: other compressions become Deflate": same_format
        and media.format == "TIFF"
        and tiff.compression(source) is None,
        "1-bit and palette pictures become 8-bit RGB": media.mode in ("1", "P", "PA"),
        "CMYK becomes RGB": media.mode == "CMYK",
        f"{name} has 8 bits per sample: 16-bit pictures are rounded": media.depth == 16 and target in EIGHT_BITS,
        f"{name} has no alpha: it is left out": frame.alpha is not None and target in NO_ALPHA,
        f"{name} has no EXIF, ICC profile or XMP: they are left out, and pictures are rotated as EXIF says": no_metadata,
        "a grey ICC profile becomes an RGB profile with the same curve": bool(profile) and not metadata.icc_is_rgb,
        "an ICC profile that describes neither RGB nor grey, or is damaged, is left out": bool(metadata.icc)
        and not (no_metadata or profile),
        "JPEG holds at most 64 kB each of EXIF and XMP: larger ones are left out": target == "jpeg"
        and not (jpeg.fits(metadata.exif) and jpeg.fits(metadata.xmp)),
        f"comments and text that only {media.format} files can hold are left out": bool(metadata.own) and not same_format,
    }
    return [sentence for sentence, holds in conversions.items() if holds]


def _writable(metadata: Metadata, media: ImageFile, target: TargetFormat) -> Metadata:
    """The part of the metadata that can be written."""
    metadata = replace(metadata, icc=output_profile(metadata, media))
    if target.upper() != media.format:
        metadata = replace(metadata, own=())
    if metadata.dpi and not all(1 <= value < _MOST_DPI for value in metadata.dpi):  # a damaged value
        metadata = replace(metadata, dpi=None)
    if target == "jpeg":
        exif, xmp = (part if jpeg.fits(part) else b"" for part in (metadata.exif, metadata.xmp))
        metadata = replace(metadata, exif=exif, xmp=xmp)
    return metadata


def output_profile(metadata: Metadata, media: ImageFile) -> bytes:
    """The ICC profile of the output, which is RGB; empty if the source's can't be one."""
    if metadata.icc_is_rgb:
        return metadata.icc
    return (media.mode in GREY_MODES and grey_as_rgb(metadata.icc)) or b""


def eight_bits(plane: Luma) -> NDArray[np.uint8]:
    """Scale codes 0..65535 to 0..255, rounded; 8-bit planes are unchanged."""
    codes = plane if plane.dtype == np.uint8 else (plane.astype(np.uint32) + 128) // 257
    return codes.astype(np.uint8, copy=False)


def _samples(frame: Frame, chroma: AnyChroma | ChromaBands, target: TargetFormat) -> NDArray[Any]:
    """(H, W, 3 or 4) RGB and alpha at the format's depth, rotated upright if the format can't store an orientation."""
    luma: Luma = eight_bits(frame.luma) if target in EIGHT_BITS else frame.luma
    alpha = None if target in NO_ALPHA else frame.alpha
    samples: NDArray[Any] = np.empty((*luma.shape, 3 if alpha is None else 4), luma.dtype)
    ycbcr_to_rgb(luma, chroma, out=samples[..., :3])
    if alpha is not None:
        samples[..., 3] = eight_bits(alpha) if target in EIGHT_BITS else alpha
    if target not in NO_METADATA:
        return samples
    return np.moveaxis(upright(np.moveaxis(samples, -1, 0), frame.unit.media.orientation), 0, -1)


def lossless(
    samples: NDArray[Any], target: TargetFormat, metadata: Metadata, compression: int | None = None
) -> Sequence[Buffer]:
    """The pieces of a file that holds samples (H, W, 3 or 4) exactly; they are overwritten.

    Args:
        samples: RGB or RGBA, of a type that the format holds.
        target: Any format but JPEG.
        metadata: What goes into it besides.
        compression: By its number in TIFF files; for these only.
    """
    match target:
        case "tiff":
            return tiff.encode(samples, metadata, compression or tiff.DEFLATE)
        case "webp":
            return [webp.encode(samples, metadata)]
        case "bmp":
            return [minor.encode_bmp(samples, metadata)]
        case "ppm":
            return [pnm.encode(samples)]
        case _:
            return png.encode(samples, metadata)
