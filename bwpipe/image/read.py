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
from bwpipe.pixels.ycbcr import bands, from_codes, rgb_to_ycbcr

_ROUNDING = 1
"""Chroma codes that differ from neutral by up to this are a JPEG encoder's rounding of grey."""

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
        planes = _planes(_decoded(media, _unchanged(media)))
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


def _unchanged(media: ImageFile) -> bytes:
    """The file's bytes. Raises MediaError if it is not the one that was opened."""
    data = media.path.read_bytes()
    if format_of(data[:HEAD]) != media.format or read_header(BytesIO(data), media.format) != media.header:
        raise MediaError("has changed since the run began; start the run again")
    return data


def _decoded(media: ImageFile, data: bytes) -> "NDArray[Any] | Planes":
    """The samples of a file, or for JPEG its planes; neither the file nor a decoder's copy stays in memory."""
    if media.format == "JPEG":
        return _decoded_image(jpeg.read(data))
    if media.format == "PPM":
        return pnm.samples(data)
    if media.format == "PNG":
        png.check(data)
        data = png.bare(data)
        if media.depth == 16:
            return png.deep_samples(data)
    if media.format == "TIFF":
        data = tiff.stored(data)
        if (samples := tiff.samples(data)) is not None:
            return samples
    if media.depth == 16:
        return sixteen_bit.decode(data)
    file = BytesIO(data)
    del data
    with Image.open(file, formats=[media.format]) as image:
        image.load()
        file.close()
        undeclared = media.format == "TIFF" and image.mode != media.mode  # samples that Pillow takes for alpha
        return _decoded_image(image.convert(media.mode) if undeclared else image)


def _decoded_image(image: Image.Image) -> "NDArray[Any] | Planes":
    """The samples of an image that Pillow has decoded, or for Y, Cb and Cr its planes."""
    if image.mode == "YCbCr":
        return _planes_of_ycbcr(image)
    if image.mode == "CMYK":
        return np.asarray(_cmyk_to_rgb(image))
    transparent = "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    grey = image.mode in ("1", "L", "LA", "La")
    if image.mode in ("La", "RGBa"):
        image = image.convert("LA" if grey else "RGBA")
    mode = ("L" if grey else "RGB") + ("A" if transparent else "")
    return np.asarray(image if image.mode == mode else image.convert(mode))


def _planes_of_ycbcr(image: Image.Image) -> Planes:
    """The planes of Y, Cb and Cr; chroma is computed only if there is more than rounding."""
    luma = np.asarray(image.getchannel(0))
    extrema = np.array([image.getchannel(i).getextrema() for i in (1, 2)])
    if np.abs(extrema - 128).max() <= _ROUNDING:
        return Planes(luma, None, None)
    chroma = np.empty((2, *luma.shape), np.float16)
    codes = [np.asarray(image.getchannel(i)) for i in (1, 2)]
    for band in bands(*luma.shape):
        chroma[:, band] = from_codes(np.stack([plane[band] for plane in codes]), "bt601", 8, (0, 255))
    return Planes(luma, chroma, None)


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


def _planes(samples: "NDArray[Any] | Planes") -> Planes:
    """The planes of samples (H, W), grey, or (H, W, C): grey and alpha, RGB, or RGB and alpha."""
    if isinstance(samples, Planes):
        return samples
    if samples.ndim == 2:
        return Planes(np.ascontiguousarray(samples), None, None)
    alpha = np.ascontiguousarray(samples[..., -1]) if samples.shape[2] in (2, 4) else None
    if samples.shape[2] == 2 or _is_grey(samples):
        return Planes(np.ascontiguousarray(samples[..., 0]), None, alpha)
    return Planes(*rgb_to_ycbcr(samples[..., :3]), alpha)


def _is_grey(samples: NDArray[Any]) -> bool:
    """Whether red, green and blue are equal everywhere."""
    return all(
        np.array_equal(samples[band, :, 0], samples[band, :, 1]) and np.array_equal(samples[band, :, 0], samples[band, :, 2])
        for band in bands(*samples.shape[:2])
    )
