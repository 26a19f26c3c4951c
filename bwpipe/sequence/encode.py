"""Encodes single frames of films as files: pictures, DPX of 10 bits, OpenEXR of half precision."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import Frame, Luma, Unit
from bwpipe.core.provenance import KEPT
from bwpipe.errors import MediaError
from bwpipe.image.file import Buffer, Metadata
from bwpipe.image.formats import jpeg, webp
from bwpipe.image.open import open_image
from bwpipe.image.provenance_tag import with_history
from bwpipe.image.write import EIGHT_BITS, NO_ALPHA, TargetFormat, eight_bits, lossless, target_format, write_image
from bwpipe.pixels.chroma_upsampling import upsample_chroma
from bwpipe.pixels.ycbcr import WEIGHTS, Weights, offsets, rgb_to_ycbcr, ycbcr_to_rgb
from bwpipe.sequence import dpx, exr
from bwpipe.sequence.file import FrameSequence
from bwpipe.sequence.frames import decode, exr_light, luma_of_light, luminance, read_file
from bwpipe.sequence.transfer import chroma_for_codes, light_of_log_codes, to_light
from bwpipe.video.cropping import NO_CROPPING
from bwpipe.video.file import FULL, VideoFile
from bwpipe.video.pixel_formats import rescale

FrameTarget: TypeAlias = Literal["jpeg", "png", "tiff", "webp", "ppm", "bmp", "dpx", "exr"]
"""The formats in which frames are written."""
SUFFIXES: dict[FrameTarget, str] = {
    "jpeg": ".jpg",
    "png": ".png",
    "tiff": ".tif",
    "webp": ".webp",
    "ppm": ".ppm",
    "bmp": ".bmp",
    "dpx": ".dpx",
    "exr": ".exr",
}
_NAMES = {"dpx": "DPX", "exr": "OpenEXR"}
_DPX_BITS = 10
_ROUNDS = 3
"""How often the rounding of one channel is made up for by another."""


def frame_target(media: VideoFile, requested: FrameTarget | None) -> FrameTarget:
    """The format of a film's frames: the requested one, else that of the frames that it is read from, else TIFF."""
    if requested or not isinstance(media, FrameSequence):
        return requested or "tiff"
    return target_format(media.first) if media.first else "dpx" if media.form == "dpx" else "exr"


class FrameEncoder:
    """Encodes the frames of one film. Several threads may encode at once."""

    def __init__(
        self,
        film: VideoFile,
        target: FrameTarget,
        *,
        quality: int,
        note: Callable[[Frame], str],
        warn: Callable[[str], None],
    ) -> None:
        """Nothing is written yet.

        Args:
            film: The film, of numbered frames or not.
            target: The format.
            quality: libjpeg quality, 1 to 100.
            note: What a frame's metadata say about how it was made.
            warn: Called for each loss, with a sentence.
        """
        self._film, self._target, self._quality, self._note, self._warn = film, target, quality, note, warn

    def write(self, path: Path, name: str, frame: Frame) -> None:
        """Write a frame to a file, which is to be called `name`. Raises MediaError, OSError."""
        film = self._film
        if isinstance(film, FrameSequence) and film.first and self._target in get_args(TargetFormat):
            self._write_image(path, frame, film)
            return
        pieces = self._pieces(name, frame)
        with path.open("wb") as file:
            file.writelines(pieces)

    def _write_image(self, path: Path, frame: Frame, film: FrameSequence) -> None:
        """Write a frame of a reel of pictures as a picture, with all that its own file holds."""
        own = film.files.path(frame.index)
        image = open_image(own, film.name.with_name(own.name), max_pixels=film.max_pixels)
        chroma = self._chroma(frame)
        unit = Unit(image)
        picture = replace(frame, unit=unit)
        target: Any = self._target
        write_image(path, picture, chroma, target=target, quality=self._quality, line=self._note(frame), warn=self._warn)

    def _pieces(self, name: str, frame: Frame) -> "list[Buffer]":
        """The pieces of the file of a frame that is not a picture of its own, or is to be none."""
        film, target = self._film, self._target
        source = b""
        if isinstance(film, FrameSequence) and film.form == target:
            source = read_file(film.files.path(frame.index), film.form, max_pixels=film.max_pixels)
            if KEPT in frame.notes and np.array_equal(frame.luma, decode(source, film.form, film.transfer).luma):
                return [source]  # also more exact than half-precision chroma can be
        if target == "exr":
            return [self._exr(frame, source)]
        if target == "dpx":
            transfer = film.transfer if isinstance(film, FrameSequence) else "video"
            rgb = self._rgb(frame, _DPX_BITS)
            return [dpx.encode(rgb, source, transfer=transfer, name=name.encode("ascii", "replace"), rate=film.rate)]
        metadata = Metadata()
        if line := self._note(frame):
            metadata = with_history(metadata, line, target=target) or metadata
        if target == "jpeg":
            luma, chroma = rgb_to_ycbcr(self._rgb(frame, 16))
            return [jpeg.encode(eight_bits(luma), chroma, metadata, quality=self._quality)]
        samples = self._rgb(frame, 8 if target in EIGHT_BITS or (target == "png" and film.depth == 8) else 16)
        if frame.alpha is not None and target not in NO_ALPHA:
            alpha = rescale(frame.alpha, film.depth, 8 * samples.itemsize)
            samples = np.dstack([samples, alpha])
        return list(lossless(samples, target, metadata))

    def _rgb(self, frame: Frame, depth: int) -> "NDArray[Any]":
        """RGB (H, W, 3) in full range, whose luma, computed again and rounded, is the frame's in that depth."""
        film = self._film
        luma = full_range_codes(frame.luma, film, depth)
        return ycbcr_to_rgb(luma, self._chroma(frame), film.matrix, white=(1 << depth) - 1)

    def _chroma(self, frame: Frame) -> NDArray[np.float32]:
        """The chroma (2, H, W) to write, for the codes that are written."""
        chroma, film = self._shown_chroma(frame), self._film
        return chroma if film.curve is None else chroma_for_codes(chroma, frame.luma, film.curve, film.matrix)

    def _shown_chroma(self, frame: Frame) -> NDArray[np.float32]:
        """The chroma (2, H, W) as seen on a display, within the gamut; zero if the frame has none."""
        film = self._film
        if frame.chroma is None:
            return np.zeros((2, *frame.luma.shape), np.float32)
        shown, levels = film.on_display(frame.luma)
        return upsample_chroma(frame.chroma, shown, levels, film.matrix, (film.height, film.width))

    def _exr(self, frame: Frame, source: bytes) -> bytes:
        """An OpenEXR file whose luminance is that of the source, or what its codes stand for."""
        film, weights = self._film, WEIGHTS["bt709"]
        shown, (black, white) = film.on_display(frame.luma)
        signal = np.clip((shown.astype(np.float32) - black) / np.float32(white - black), 0, 1)
        light = to_light(signal)
        top = np.float32((1 << film.depth) - 1)
        alpha = None if frame.alpha is None else np.asarray(frame.alpha.astype(np.float32) / top, np.float32)
        if source:
            stored, alpha = exr_light(source)
            exact = luminance(stored, weights)
            light = np.where(luma_of_light(exact) == frame.luma, exact, light)  # where no stage has changed the luma
        elif isinstance(film, FrameSequence) and film.transfer == "log":
            light = light_of_log_codes(film.depth)[frame.luma]
        parts = offsets(self._shown_chroma(frame), WEIGHTS[film.matrix])
        rgb = np.stack([to_light(np.clip(signal + part, 0, 1)) for part in parts])
        seen = luminance(rgb, weights)
        rgb *= np.where(seen > 0, light / np.maximum(seen, np.float32(1e-9)), 0)
        rgb[:, seen <= 0] = light[seen <= 0]
        planes = dict(zip("RGB", half_precision(rgb, light, weights), strict=True))
        if alpha is not None:
            planes["A"] = alpha.astype(np.float16)
        return exr.encode(planes, source, note=self._note(frame))


def half_precision(
    rgb: NDArray[np.float32], light: NDArray[np.float32], weights: Weights
) -> tuple[NDArray[np.float16], NDArray[np.float16], NDArray[np.float16]]:
    """Red, green and blue (3, H, W) in half precision, whose luminance is `light`, as exactly as that allows.

    Green makes up for the rounding of red and blue, then blue, whose weight is the smallest, for that of green.
    """
    limit = np.float32(np.finfo(np.float16).max)
    red, green, blue = (plane.astype(np.float16) for plane in np.minimum(rgb, limit))
    grey = (rgb[0] == rgb[1]) & (rgb[0] == rgb[2])
    for _ in range(_ROUNDS):
        for plane, weight in ((green, weights.green), (red, weights.red), (blue, weights.blue)):
            mixed = luminance(np.stack([red, green, blue]).astype(np.float32), weights)
            off = (mixed.astype(np.float16) != light.astype(np.float16)) & ~grey
            better = np.clip(plane.astype(np.float32) + (light - mixed) / np.float32(weight), 0, limit).astype(np.float16)
            plane[off] = better[off]
    return red, green, blue


def full_range_codes(luma: Luma, film: VideoFile, depth: int) -> Luma:
    """Luma codes of a film in full range and another depth, rounded; beyond black and white they are clipped."""
    if film.tags.range == FULL:
        return rescale(luma, film.depth, depth)
    black, white = film.levels
    top = (1 << depth) - 1
    scaled = np.rint((luma.astype(np.float64) - black) * (top / (white - black))).clip(0, top)
    return scaled.astype(np.uint8) if depth == 8 else scaled.astype(np.uint16)


def frame_notes(film: VideoFile, target: FrameTarget) -> Iterator[str]:
    """Warnings, without the film's name, about what its frames as files of this format can't hold."""
    name = _NAMES.get(target, target.upper())
    if film.tracks:
        yield f"its {len(film.tracks)} other streams, such as {film.tracks[0]}, are left out: numbered frames can't hold them"
    if film.chapters:
        yield "its chapters are left out: numbered frames can't hold them"
    steps = np.unique(np.diff(film.times))
    if not isinstance(film, FrameSequence) and len(steps) > 1 and steps[-1] > 2 * steps[0]:
        yield "its timestamps, which are not evenly spaced, are lost: numbered frames can't hold them"
    if film.fields:
        yield f"it stays interlaced, but {name} can't mark frames as interlaced"
    if film.cropping != NO_CROPPING:
        yield f"its cropping ({film.cropping}) is lost: {name} can't hold it"
    if film.sample_aspect not in {None, 1} and not (isinstance(film, FrameSequence) and film.form == target == "dpx"):
        yield f"its sample aspect ratio ({film.sample_aspect}) is lost: {name} can't hold it"
    if film.orientation != 1 and not (isinstance(film, FrameSequence) and film.first and target not in _NAMES):
        yield f"its rotation is lost: {name} can't hold it"
    if film.carries:
        yield f"side data of its frames ({', '.join(sorted(film.carries))}) are lost: numbered frames can't hold them"
    yield from _changed_samples(film, target, name)


def _changed_samples(film: VideoFile, target: FrameTarget, name: str) -> Iterator[str]:
    """Warnings about headers, bits and an alpha channel that the files won't have."""
    form = film.form if isinstance(film, FrameSequence) else "film"
    if form in _NAMES and form != target:
        what = "time code, film edge code and the like" if form == "dpx" else "attributes"
        yield f"its {_NAMES[form]} headers ({what}) are lost: {name} can't hold them"
    if form == "image" and target in _NAMES:
        yield f"tags and profiles of its pictures are lost: {name} can't hold them"
    if form == "exr" and target != "exr":
        yield f"light above white is lost: {name} has codes for a display"
    bits = 8 if target in EIGHT_BITS else _DPX_BITS if target == "dpx" else 16
    deeper = "; `format: tiff` has 16" if target == "dpx" else ""
    if film.depth > bits and form != "image":
        yield f"its {film.depth}-bit samples are rounded: {name} has {bits} bits{deeper}"
    elif film.depth > bits and target == "dpx":
        yield f"its {film.depth}-bit samples are rounded: {name} has {bits} bits here{deeper}"
    if film.alpha and target in (*NO_ALPHA, "dpx") and (form != "image" or target == "dpx"):
        yield f"its alpha channel is lost: {name} has none here"
    if isinstance(film, FrameSequence) and film.transfer == "log" and target not in _NAMES:
        yield f"its codes stay logarithmic (Cineon), which {name} can't say: tell the program that reads them"


def check_target(film: VideoFile, target: FrameTarget) -> None:
    """Raise MediaError if a format can't hold frames of this size."""
    limits = {"jpeg": jpeg.MOST_PIXELS_A_SIDE, "webp": webp.MOST_PIXELS_A_SIDE}
    if max(film.width, film.height) > (limit := limits.get(target, 2**31)):
        raise MediaError(f"is larger than a {target.upper()} file can be ({limit} pixels a side); choose `format: png`")
