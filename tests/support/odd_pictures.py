"""Pictures as other programs write them: layouts, compressions and sizes that `made_pictures` does not have."""

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

Maker = Callable[[], bytes]


def samples(*channels: int, depth: int = 8, size: tuple[int, int] = (37, 53)) -> NDArray[Any]:
    """Samples (H, W, *channels) of a slope with some noise, the same each time."""
    height, width = size
    down, right = np.mgrid[:height, :width]
    slope = (down / max(height - 1, 1) + 2 * right / max(width - 1, 1)) / 3
    planes = [slope * (1 - 0.1 * number) for number in range(*channels or (1,))]
    noisy = np.stack(planes, axis=-1) + np.random.default_rng(1).normal(0, 0.01, (height, width, 1))
    codes = np.rint(np.clip(noisy, 0, 1) * ((1 << depth) - 1)).astype(np.uint8 if depth == 8 else np.uint16)
    return codes if channels else codes[..., 0]


def by_pillow(form: str, image: Image.Image | NDArray[Any], **options: Any) -> Maker:
    """A file that Pillow writes."""

    def make() -> bytes:
        buffer = BytesIO()
        given = image if isinstance(image, Image.Image) else Image.fromarray(image)
        given.save(buffer, form, **options)
        return buffer.getvalue()

    return make


def by_tifffile(image: NDArray[Any], *, byteorder: str = "<", bigtiff: bool = False, **options: Any) -> Maker:
    """A TIFF file that tifffile writes."""

    def make() -> bytes:
        buffer = BytesIO()
        with tifffile.TiffWriter(buffer, byteorder=byteorder, bigtiff=bigtiff) as writer:  # type: ignore[arg-type]
            writer.write(image, metadata=None, **options)
        return buffer.getvalue()

    return make


def _png_info(**chunks: bytes) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for name, data in chunks.items():
        info.add(name.encode(), data)
    return info


def _palette(bits: int) -> Image.Image:
    return Image.fromarray(samples(3)).quantize(1 << bits)


def _plain(header: str, codes: NDArray[Any]) -> Maker:
    rows = "\n".join(" ".join(map(str, row.ravel())) for row in codes)
    return f"{header}\n{rows}\n".encode


ODD_PICTURES: Mapping[str, tuple[str, Maker]] = {
    "JPEG 4:4:4": (".jpg", by_pillow("JPEG", samples(3), subsampling=0)),
    "JPEG 4:2:2": (".jpg", by_pillow("JPEG", samples(3), subsampling=1)),
    "JPEG 4:2:0, quality 10": (".jpg", by_pillow("JPEG", samples(3), subsampling=2, quality=10)),
    "JPEG grey, progressive": (".jpg", by_pillow("JPEG", samples(), progressive=True)),
    "JPEG grey, quality 100": (".jpg", by_pillow("JPEG", samples(), quality=100)),
    "JPEG with restart markers": (".jpg", by_pillow("JPEG", samples(3), restart_marker_blocks=2)),
    "JPEG, optimised": (".jpg", by_pillow("JPEG", samples(), optimize=True)),
    "JPEG of one pixel": (".jpg", by_pillow("JPEG", samples(size=(1, 1)))),
    "JPEG of one row": (".jpg", by_pillow("JPEG", samples(3, size=(1, 131)), subsampling=2)),
    "JPEG of whole blocks": (".jpg", by_pillow("JPEG", samples(3, size=(32, 48)), subsampling=2)),
    "JPEG one pixel beyond whole blocks": (".jpg", by_pillow("JPEG", samples(3, size=(33, 49)), subsampling=2)),
    "PNG of one pixel": (".png", by_pillow("PNG", samples(size=(1, 1)))),
    "PNG of one column": (".png", by_pillow("PNG", samples(3, size=(300, 1)))),
    "PNG, palette of 2 bits": (".png", by_pillow("PNG", _palette(2), bits=2)),
    "PNG, palette of 4 bits": (".png", by_pillow("PNG", _palette(4), bits=4)),
    "PNG, palette with a transparent colour": (".png", by_pillow("PNG", _palette(6), transparency=3)),
    "PNG with gamma": (".png", by_pillow("PNG", samples(), pnginfo=_png_info(gAMA=(45455).to_bytes(4, "big")))),
    "PNG, sRGB": (".png", by_pillow("PNG", samples(3), pnginfo=_png_info(sRGB=b"\0"))),
    "TIFF, tiles": (".tif", by_tifffile(samples(), tile=(16, 16))),
    "TIFF, tiles in colour": (".tif", by_tifffile(samples(3), tile=(32, 16), photometric="rgb")),
    "TIFF, planes in 8 bits": (
        ".tif",
        by_tifffile(np.ascontiguousarray(np.moveaxis(samples(3), -1, 0)), planarconfig="separate", photometric="rgb"),
    ),
    "TIFF, big-endian": (".tif", by_tifffile(samples(3), byteorder=">", photometric="rgb")),
    "TIFF, big-endian in 16 bits": (".tif", by_tifffile(samples(depth=16), byteorder=">")),
    "BigTIFF": (".tif", by_tifffile(samples(), bigtiff=True)),
    "TIFF, a row a strip": (".tif", by_tifffile(samples(3), rowsperstrip=1, photometric="rgb")),
    "TIFF, white is zero": (".tif", by_tifffile(samples(), photometric="miniswhite")),
    "TIFF, LZW with differences": (".tif", by_pillow("TIFF", samples(), compression="tiff_lzw", tiffinfo={317: 2})),
    "TIFF, deflated with differences, 16 bits": (
        ".tif",
        by_pillow("TIFF", samples(depth=16), compression="tiff_adobe_deflate", tiffinfo={317: 2}),
    ),
    "TIFF, PackBits": (".tif", by_pillow("TIFF", samples(), compression="packbits")),
    "TIFF, fax": (".tif", by_pillow("TIFF", Image.fromarray(samples()).convert("1"), compression="group4")),
    "TIFF, palette": (".tif", by_pillow("TIFF", _palette(8))),
    "WebP, grey": (".webp", by_pillow("WEBP", samples(), lossless=True)),
    "WebP, quality 10": (".webp", by_pillow("WEBP", samples(3), quality=10)),
    "BMP, palette": (".bmp", by_pillow("BMP", _palette(8))),
    "BMP, black and white": (".bmp", by_pillow("BMP", Image.fromarray(samples()).convert("1"))),
    "BMP, colour": (".bmp", by_pillow("BMP", samples(3))),
    "PGM in plain text": (".pgm", _plain("P2\n# by hand\n53 37\n255", samples())),
    "PBM in plain text": (".pbm", _plain("P1\n53 37", (samples() > 127).astype(int))),
    "JPEG 2000, colour": (".jp2", by_pillow("JPEG2000", samples(3), irreversible=False)),
}
"""The ending and the maker of each kind, by name."""
