"""Read an image: luma, chroma if it is in colour, and alpha."""

from collections.abc import Callable
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from bwpipe.core.frame import Chroma, Frame, Luma, Unit
from bwpipe.errors import MediaError
from bwpipe.image.file import HEAD, ImageFile, ImageFormat, Metadata, decoding, format_of
from bwpipe.image.formats import jpeg, minor, png, pnm, sixteen_bit, tiff, webp
from bwpipe.image.open import read_header
from bwpipe.pixels.ycbcr import from_codes, rgb_to_ycbcr

_ROUNDING = 1.01 / 255
"""Chroma up to this is a JPEG encoder's rounding of grey."""

_METADATA: dict[ImageFormat, Callable[[bytes], Metadata]] = {
    "JPEG": jpeg.metadata,
    "PNG": png.metadata,
    "TIFF": tiff.metadata,
    "WEBP": webp.metadata,
    "BMP": minor.bmp_metadata,
}


class Planes(NamedTuple):
    """Luma (H, W), chroma (2, H, W) or None if the image is grey, alpha (H, W) or None."""

    luma: Luma
    chroma: Chroma | None
    alpha: Luma | None


def read_image(unit: Unit) -> Frame:
    """Read the single frame of an image.

    Returns:
        A frame with luma and alpha as stored, not rotated, at 8 or 16 bits, full range; for images in colour, chroma at the
        luma's size. The luma of a JPEG file is its Y; that of RGB, palettes and CMYK is computed with BT.601 weights.

    Raises:
        MediaError: The file can't be read, is cut short, or has changed since it was opened.
    """
    media = unit.media
    assert isinstance(media, ImageFile)
    with decoding():
        data = media.path.read_bytes()
        if format_of(data[:HEAD]) != media.format or read_header(BytesIO(data), media.format) != media.header:
            raise MediaError("has changed since the run began; start the run again")
        planes = _planes(media, data)
    if planes.luma.shape != (media.height, media.width):
        raise MediaError("can't be read: the size of its samples does not match its header")
    for plane in planes:
        if plane is not None:
            plane.flags.writeable = False
    return Frame(luma=planes.luma, unit=unit, chroma=planes.chroma, alpha=planes.alpha)


def read_metadata(media: ImageFile, data: bytes) -> Metadata:
    """Read the metadata of an image file from its bytes.

    Raises MediaError, and what decoders raise (see `decoding`).
    """
    read = _METADATA.get(media.format)
    return read(data) if read else Metadata()


def _planes(media: ImageFile, data: bytes) -> Planes:
    if media.format == "JPEG":
        return _planes_of_image(jpeg.read(data))
    if media.format == "PPM":
        return _planes_of_samples(pnm.samples(data))
    if media.format == "PNG":
        png.check(data)
        data = png.bare(data)
        if media.depth == 16:
            return _planes_of_samples(png.deep_samples(data))
    if media.format == "TIFF":
        data = tiff.stored(data)
        if (samples := tiff.samples(data)) is not None:
            return _planes_of_samples(samples)
    if media.depth == 16:
        return _planes_of_samples(sixteen_bit.decode(data))
    with Image.open(BytesIO(data), formats=[media.format]) as image:
        image.load()
        undeclared = media.format == "TIFF" and image.mode != media.mode  # samples that Pillow takes for alpha
        return _planes_of_image(image.convert(media.mode) if undeclared else image)


def _planes_of_image(image: Image.Image) -> Planes:
    """The planes of an image that Pillow has decoded."""
    if image.mode == "YCbCr":
        luma, *chroma = (np.asarray(image.getchannel(i)) for i in range(3))
        return Planes(luma.copy(), _chroma_or_none(from_codes(np.stack(chroma), "bt601", 8, (0, 255)), _ROUNDING), None)
    if image.mode == "CMYK":
        return _planes_of_samples(np.asarray(_cmyk_to_rgb(image)))
    transparent = "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    grey = image.mode in ("1", "L", "LA", "La")
    if image.mode in ("La", "RGBa"):
        image = image.convert("LA" if grey else "RGBA")
    mode = ("L" if grey else "RGB") + ("A" if transparent else "")
    return _planes_of_samples(np.asarray(image if image.mode == mode else image.convert(mode)))


def _cmyk_to_rgb(image: Image.Image) -> Image.Image:
    """Convert CMYK to sRGB: by its ICC profile, or Pillow's default if it has none. Raises MediaError."""
    icc = image.info.get("icc_profile")
    if not icc:
        return image.convert("RGB")
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
        converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError) as error:
        raise MediaError(
            "has CMYK colours and an ICC profile that does not describe them; remove or replace the profile"
        ) from error
    assert converted is not None
    return converted


def _planes_of_samples(samples: NDArray[Any]) -> Planes:
    """The planes of samples (H, W), grey, or (H, W, C): grey and alpha, RGB, or RGB and alpha."""
    if samples.ndim == 2:
        return Planes(np.ascontiguousarray(samples), None, None)
    alpha = np.ascontiguousarray(samples[..., -1]) if samples.shape[2] in (2, 4) else None
    if samples.shape[2] == 2:
        return Planes(np.ascontiguousarray(samples[..., 0]), None, alpha)
    luma, chroma = rgb_to_ycbcr(samples[..., :3])
    return Planes(luma, _chroma_or_none(chroma), alpha)


def _chroma_or_none(chroma: Chroma, threshold: float = 0) -> Chroma | None:
    """The chroma, or None if it does not exceed a threshold anywhere."""
    return chroma if max(chroma.max(), -chroma.min()) > threshold else None
