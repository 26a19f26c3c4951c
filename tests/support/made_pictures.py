"""Writes small test images in every format, depth, size, orientation and kind of metadata that bwpipe reads."""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

DPI = (300, 240)
DESCRIPTION = "Grandmother, 1931"
DATE = "1931:05:17 12:00:00"
COMMENT = "from the blue album"
_DESCRIPTION, _ORIENTATION, _EXIF, _DATE = 270, 274, 34665, 36867
_PIXELS_PER_METRE = struct.pack(">IIB", 11811, 9449, 1)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Requested properties of a test image, as far as its format supports them."""

    height: int
    width: int
    orientation: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Made:
    """A test image file and its known properties.

    Attributes:
        path: The file.
        kind: Name of its kind, one of `KINDS`.
        luma: (H, W) as stored, uint8 or uint16; None if it depends on the decoder (lossy, CMYK).
        alpha: (H, W), or None.
        coloured: Whether it has colour.
        format: Pillow's format name.
        target: File suffix that bwpipe writes it with.
        orientation: EXIF tag 274.
        exif: Whether it has `DESCRIPTION`; files by Pillow, except compressed TIFF, also have `DATE`.
        dpi: Whether it has `DPI`.
        icc: Whether it has `profile()`.
    """

    path: Path
    kind: str
    luma: NDArray[Any] | None
    alpha: NDArray[Any] | None = None
    coloured: bool = False
    format: str
    target: str
    orientation: int = 1
    exif: bool = False
    dpi: bool = False
    icc: bool = False


Maker = Callable[[Wish], tuple[bytes, dict[str, Any]]]
_MAKERS: dict[str, tuple[str, str, str, Maker]] = {}


def make_pictures(folder: Path, count: int = 300) -> list[Made]:
    """Write that many images into a folder and its subfolders, deterministically."""
    rng = np.random.default_rng(7)
    made = []
    for i in range(count):
        kind, (suffix, form, target, maker) = list(_MAKERS.items())[i % len(_MAKERS)]
        height, width = (int(side) for side in rng.integers(9, 70, 2))
        data, known = maker(Wish(height=height, width=width, orientation=1 + (i + i // len(_MAKERS)) % 8, seed=i))
        path = folder / f"album {i % 5}" / f"{i:03}-{kind}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        made.append(Made(path=path, kind=kind, format=form, target=target, **known))
    return made


def make_picture(folder: Path, kind: str, *, orientation: int = 1, height: int = 37, width: int = 53, seed: int = 0) -> Made:
    """Write one image of a kind into a folder."""
    suffix, form, target, maker = _MAKERS[kind]
    data, known = maker(Wish(height=height, width=width, orientation=orientation, seed=seed))
    path = folder / f"{kind}{suffix}"
    path.write_bytes(data)
    return Made(path=path, kind=kind, format=form, target=target, **known)


def _kind(name: str, suffix: str, form: str, target: str | None = None) -> Callable[[Maker], Maker]:
    def add(maker: Maker) -> Maker:
        _MAKERS[name] = (suffix, form, target or suffix, maker)
        return maker

    return add


def luma_of(rgb: NDArray[Any]) -> NDArray[Any]:
    """BT.601 luma (H, W) of RGB (H, W, 3), rounded, in the same codes."""
    luma: NDArray[Any] = np.rint(rgb[..., :3].astype(np.float64) @ [0.299, 0.587, 0.114])
    codes: NDArray[Any] = luma.astype(rgb.dtype)
    return codes


def profile(space: str = "RGB ") -> bytes:
    """The sRGB ICC profile without its creation date, with the colour space field set to `space`."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    data[24:36] = bytes(12)
    data[16:20] = space.encode()
    return bytes(data)


def exif(orientation: int) -> Image.Exif:
    """EXIF with a description, an orientation and a date."""
    tags = Image.Exif()
    tags[_DESCRIPTION] = DESCRIPTION
    tags[_ORIENTATION] = orientation
    tags.get_ifd(_EXIF)[_DATE] = DATE
    return tags


def grey(spec: Wish, depth: int = 8) -> NDArray[Any]:
    """A smooth image (H, W) with grain, from black to white."""
    rng = np.random.default_rng(spec.seed)
    coarse = cv2.resize(rng.random((4, 5)), (spec.width, spec.height), interpolation=cv2.INTER_CUBIC)
    plane = np.clip(coarse + rng.normal(0, 0.02, coarse.shape), 0, 1) * (2**depth - 1)
    codes: NDArray[Any] = np.rint(plane)
    return codes.astype(np.uint8 if depth == 8 else np.uint16)


def rgb(spec: Wish, depth: int = 8) -> NDArray[Any]:
    """A colour image (H, W, 3)."""
    plane = grey(spec, depth)
    return np.dstack([plane, plane // 2 + 2 ** (depth - 2), plane.max() - plane // 3])


def alpha_of(spec: Wish, depth: int = 8) -> NDArray[Any]:
    """A ramp (H, W) from transparent to opaque."""
    ramp = np.linspace(0, 2**depth - 1, spec.width).astype(np.uint8 if depth == 8 else np.uint16)
    return np.tile(ramp, (spec.height, 1))


def _saved(samples: NDArray[Any] | Image.Image, form: str, **options: Any) -> bytes:
    file = BytesIO()
    (samples if isinstance(samples, Image.Image) else Image.fromarray(samples)).save(file, form, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def raw_png(rows: list[bytes], width: int, bits: int, colour: int, *extra: bytes) -> bytes:
    """A PNG file made of packed rows, for sample layouts that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, 0)
    samples = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + b"".join([chunk(b"IHDR", header), *extra, chunk(b"IDAT", samples), chunk(b"IEND", b"")])


def deep_png(samples: NDArray[Any], colour: int, *extra: bytes) -> bytes:
    """A PNG file with 16-bit samples, (H, W) or (H, W, C)."""
    rows = [row.astype(">u2").tobytes() for row in samples]
    return raw_png(rows, samples.shape[1], 16, colour, *extra)


def _png_extras(spec: Wish, space: str) -> tuple[bytes, ...]:
    return (
        chunk(b"eXIf", exif(spec.orientation).tobytes().removeprefix(b"Exif\0\0")),
        chunk(b"iCCP", b"p\0\0" + zlib.compress(profile(space))),
        chunk(b"pHYs", _PIXELS_PER_METRE),
        chunk(b"tEXt", b"Comment\0" + COMMENT.encode()),
    )


@_kind("jpeg-grey", ".jpg", "JPEG")
def _jpeg_grey(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    data = _saved(grey(spec), "JPEG", quality=92, exif=exif(spec.orientation), dpi=DPI, comment=COMMENT)
    return data, {"luma": np.asarray(Image.open(BytesIO(data))), "orientation": spec.orientation, "exif": True, "dpi": True}


@_kind("jpeg-colour", ".JPG", "JPEG")
def _jpeg_colour(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    data = _saved(rgb(spec), "JPEG", quality=75, exif=exif(spec.orientation), icc_profile=profile())
    image = Image.open(BytesIO(data))
    image.draft("YCbCr", None)
    luma = np.asarray(image)[..., 0]
    return data, {"luma": luma, "coloured": True, "orientation": spec.orientation, "exif": True, "icc": True}


@_kind("jpeg-progressive", ".jpeg", "JPEG")
def _jpeg_progressive(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    data = _saved(grey(spec), "JPEG", quality=60, progressive=True, dpi=DPI)
    return data, {"luma": np.asarray(Image.open(BytesIO(data))), "dpi": True}


@_kind("jpeg-cmyk", ".jpg", "JPEG")
def _jpeg_cmyk(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    return _saved(Image.fromarray(rgb(spec)).convert("CMYK"), "JPEG", dpi=DPI), {"luma": None, "coloured": True, "dpi": True}


@_kind("png-grey", ".png", "PNG")
def _png_grey(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    luma = grey(spec)
    rows = [row.tobytes() for row in luma]
    data = raw_png(rows, spec.width, 8, 0, *_png_extras(spec, "GRAY"))
    return data, {"luma": luma, "orientation": spec.orientation, "exif": True, "dpi": True}


@_kind("png-grey-alpha", ".png", "PNG")
def _png_grey_alpha(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    luma, alpha = grey(spec), alpha_of(spec)
    return _saved(np.dstack([luma, alpha]), "PNG"), {"luma": luma, "alpha": alpha}


@_kind("png-colour", ".png", "PNG")
def _png_colour(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    samples = rgb(spec)
    return _saved(samples, "PNG", dpi=DPI, icc_profile=profile()), {
        "luma": luma_of(samples),
        "coloured": True,
        "dpi": True,
        "icc": True,
    }


@_kind("png-colour-alpha", ".png", "PNG")
def _png_colour_alpha(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    samples, alpha = rgb(spec), alpha_of(spec)
    return _saved(np.dstack([samples, alpha]), "PNG", exif=exif(spec.orientation)), {
        "luma": luma_of(samples),
        "alpha": alpha,
        "coloured": True,
        "orientation": spec.orientation,
        "exif": True,
    }


@_kind("png-palette", ".png", "PNG")
def _png_palette(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    image = Image.fromarray(rgb(spec)).quantize(40)
    alpha = np.where(np.asarray(image) == 3, np.uint8(0), np.uint8(255))
    samples = np.asarray(image.convert("RGB"))
    return _saved(image, "PNG", transparency=3), {"luma": luma_of(samples), "alpha": alpha, "coloured": True}


@_kind("png-1-bit", ".png", "PNG")
def _png_bits(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    white = grey(spec) > 127
    return _saved(white, "PNG", dpi=DPI), {"luma": np.where(white, np.uint8(255), np.uint8(0)), "dpi": True}


@_kind("png-4-bit", ".png", "PNG")
def _png_4_bits(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    codes = grey(spec) // 16
    even = np.pad(codes, ((0, 0), (0, spec.width % 2)))
    rows = [(row[::2] * 16 + row[1::2]).tobytes() for row in even]
    return raw_png(rows, spec.width, 4, 0), {"luma": codes * 17}


@_kind("png-16-grey", ".png", "PNG")
def _png_16_grey(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    luma = grey(spec, 16)
    data = deep_png(luma, 0, *_png_extras(spec, "GRAY"))
    return data, {"luma": luma, "orientation": spec.orientation, "exif": True, "dpi": True}


@_kind("png-16-grey-alpha", ".png", "PNG")
def _png_16_grey_alpha(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    luma, alpha = grey(spec, 16), alpha_of(spec, 16)
    return deep_png(np.dstack([luma, alpha]), 4), {"luma": luma, "alpha": alpha}


@_kind("png-16-colour", ".png", "PNG")
def _png_16_colour(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    samples = rgb(spec, 16)
    known = {
        "luma": luma_of(samples),
        "coloured": True,
        "orientation": spec.orientation,
        "exif": True,
        "icc": True,
        "dpi": True,
    }
    return deep_png(samples, 2, *_png_extras(spec, "RGB ")), known


@_kind("png-16-colour-alpha", ".png", "PNG")
def _png_16_colour_alpha(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    samples, alpha = rgb(spec, 16), alpha_of(spec, 16)
    return deep_png(np.dstack([samples, alpha]), 6), {"luma": luma_of(samples), "alpha": alpha, "coloured": True}


def _tiff(spec: Wish, samples: NDArray[Any] | Image.Image, compression: str) -> bytes:
    icc = profile("GRAY" if samples.ndim == 2 else "RGB ") if isinstance(samples, np.ndarray) else None
    tags: Any = exif(spec.orientation)
    if compression == "raw":  # Pillow can't write the EXIF directory into a compressed file
        tags = tags.tobytes()
    return _saved(samples, "TIFF", compression=compression, exif=tags, dpi=DPI, icc_profile=icc)


@_kind("tiff-grey", ".tif", "TIFF")
def _tiff_grey(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    luma = grey(spec)
    known = {"luma": luma, "orientation": spec.orientation, "exif": True, "dpi": True}
    return _tiff(spec, luma, "tiff_lzw"), known


@_kind("tiff-colour", ".tiff", "TIFF")
def _tiff_colour(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    samples = rgb(spec)
    known = {
        "luma": luma_of(samples),
        "coloured": True,
        "orientation": spec.orientation,
        "exif": True,
        "icc": True,
        "dpi": True,
    }
    return _tiff(spec, samples, "raw"), known


@_kind("tiff-colour-alpha", ".tif", "TIFF")
def _tiff_colour_alpha(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    samples, alpha = rgb(spec), alpha_of(spec)
    known = {"luma": luma_of(samples), "alpha": alpha, "coloured": True, "orientation": spec.orientation}
    data = _tiff(spec, np.dstack([samples, alpha]), "packbits")
    return data, {**known, "exif": True, "icc": True, "dpi": True}


@_kind("tiff-1-bit", ".tif", "TIFF")
def _tiff_bits(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    white = grey(spec) > 127
    luma = np.where(white, np.uint8(255), np.uint8(0))
    known = {"luma": luma, "orientation": spec.orientation, "exif": True, "dpi": True}
    return _tiff(spec, Image.fromarray(white), "group4"), known


@_kind("tiff-cmyk", ".tif", "TIFF")
def _tiff_cmyk(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    image = Image.fromarray(rgb(spec)).convert("CMYK")
    return _saved(image, "TIFF", dpi=DPI), {"luma": luma_of(np.asarray(image.convert("RGB"))), "coloured": True, "dpi": True}


@_kind("tiff-16-grey", ".tif", "TIFF")
def _tiff_16_grey(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    luma = grey(spec, 16)
    known = {"luma": luma, "orientation": spec.orientation, "exif": True, "dpi": True}
    return _tiff(spec, luma, "tiff_adobe_deflate"), known


def tifffile_bytes(samples: NDArray[Any], orientation: int = 1, **options: Any) -> bytes:
    """A TIFF file written by tifffile, with an orientation and `DESCRIPTION`."""
    file = BytesIO()
    extras = [(_ORIENTATION, 3, 1, orientation, True)]
    tifffile.imwrite(
        file, samples, extratags=extras, description=DESCRIPTION, metadata=None, resolution=DPI, resolutionunit=2, **options
    )
    return file.getvalue()


@_kind("tiff-16-colour", ".tif", "TIFF")
def _tiff_16_colour(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    samples = rgb(spec, 16)
    data = tifffile_bytes(samples, spec.orientation, photometric="rgb", byteorder=">", compression="zlib", predictor=True)
    return data, {"luma": luma_of(samples), "coloured": True, "orientation": spec.orientation, "exif": True, "dpi": True}


@_kind("tiff-16-colour-alpha", ".tif", "TIFF")
def _tiff_16_colour_alpha(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    samples, alpha = rgb(spec, 16), alpha_of(spec, 16)
    both = np.dstack([samples, alpha])
    data = tifffile_bytes(both, spec.orientation, photometric="rgb", extrasamples=["unassalpha"], tile=(16, 16))
    known = {"luma": luma_of(samples), "alpha": alpha, "coloured": True, "orientation": spec.orientation}
    return data, {**known, "exif": True, "dpi": True}


@_kind("tiff-16-planes", ".tif", "TIFF")
def _tiff_16_planes(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    samples = rgb(spec, 16)
    planes = np.moveaxis(samples, -1, 0)
    data = tifffile_bytes(planes, spec.orientation, photometric="rgb", planarconfig="separate")
    return data, {"luma": luma_of(samples), "coloured": True, "orientation": spec.orientation, "exif": True, "dpi": True}


@_kind("tiff-16-lzw", ".tif", "TIFF")
def _tiff_16_lzw(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    samples = rgb(spec, 16)
    _, data = cv2.imencode(".tif", samples[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    return data.tobytes(), {"luma": luma_of(samples), "coloured": True}


@_kind("webp-colour", ".webp", "WEBP")
def _webp_colour(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    samples = rgb(spec)
    data = _saved(samples, "WEBP", lossless=True, exif=exif(spec.orientation), icc_profile=profile())
    return data, {"luma": luma_of(samples), "coloured": True, "orientation": spec.orientation, "exif": True, "icc": True}


@_kind("webp-alpha", ".webp", "WEBP")
def _webp_alpha(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    samples, alpha = rgb(spec), alpha_of(spec)
    data = _saved(np.dstack([samples, alpha]), "WEBP", lossless=True, exact=True)
    return data, {"luma": luma_of(samples), "alpha": alpha, "coloured": True}


@_kind("webp-lossy", ".webp", "WEBP")
def _webp_lossy(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    data = _saved(rgb(spec), "WEBP", quality=80)
    return data, {"luma": luma_of(np.asarray(Image.open(BytesIO(data)))), "coloured": True}


@_kind("bmp-grey", ".bmp", "BMP")
def _bmp_grey(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    luma = grey(spec)
    return _saved(luma, "BMP", dpi=DPI), {"luma": luma, "dpi": True}


@_kind("bmp-colour-alpha", ".bmp", "BMP")
def _bmp_colour_alpha(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    samples, alpha = rgb(spec), alpha_of(spec)
    _, data = cv2.imencode(".bmp", np.dstack([samples[..., ::-1], alpha]))
    return data.tobytes(), {"luma": luma_of(samples), "alpha": alpha, "coloured": True}


@_kind("pbm", ".pbm", "PPM", ".ppm")
def _pbm(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    white = grey(spec) > 127
    return _saved(white, "PPM"), {"luma": np.where(white, np.uint8(255), np.uint8(0))}


@_kind("pgm", ".pgm", "PPM", ".ppm")
def _pgm(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    luma = grey(spec)
    return _saved(luma, "PPM"), {"luma": luma}


@_kind("pgm-12-bit", ".pgm", "PPM", ".ppm")
def _pgm_12_bits(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    codes = grey(spec, 16) // 16
    data = f"P5\n# {COMMENT}\n{spec.width} {spec.height}\n4095\n".encode() + codes.astype(">u2").tobytes()
    return data, {"luma": np.rint(codes * (65535 / 4095)).astype(np.uint16)}


@_kind("ppm-plain", ".ppm", "PPM")
def _ppm_plain(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    samples = rgb(spec)
    text = "\n".join(" ".join(map(str, row.ravel())) for row in samples)
    return f"P3 {spec.width} {spec.height} 255\n{text}\n".encode(), {"luma": luma_of(samples), "coloured": True}


@_kind("ppm-16", ".ppm", "PPM")
def _ppm_16(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    samples = rgb(spec, 16)
    data = f"P6 {spec.width} {spec.height} 65535\n".encode() + samples.astype(">u2").tobytes()
    return data, {"luma": luma_of(samples), "coloured": True}


@_kind("gif", ".gif", "GIF", ".png")
def _gif(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    image = Image.fromarray(rgb(spec)).quantize(64)
    return _saved(image, "GIF"), {"luma": luma_of(np.asarray(image.convert("RGB"))), "coloured": True}


@_kind("jpeg-2000", ".jp2", "JPEG2000", ".png")
def _jpeg_2000(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    luma = grey(spec)
    return _saved(luma, "JPEG2000", num_resolutions=1), {"luma": luma}


@_kind("jpeg-2000-16", ".jp2", "JPEG2000", ".png")
def _jpeg_2000_16(spec: Wish) -> tuple[bytes, dict[str, Any]]:
    luma = grey(spec, 16)
    return _saved(luma, "JPEG2000", num_resolutions=1), {"luma": luma}


KINDS = tuple(_MAKERS)
"""The kinds of test images."""
