"""Reads single frames of a film of numbered files: pictures, DPX and OpenEXR."""

from pathlib import Path, PurePosixPath
from typing import NamedTuple

import av
import av.error
import numpy as np
from av.codec.context import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from bwpipe.core.frame import Chroma, Luma, Matrix, Unit
from bwpipe.errors import MediaError
from bwpipe.image.open import open_image
from bwpipe.image.read import read_image
from bwpipe.pixels.ycbcr import WEIGHTS, Weights, ycbcr_to_rgb
from bwpipe.sequence import dpx, exr
from bwpipe.sequence.file import FrameFormat
from bwpipe.sequence.transfer import FULL_DISPLAY, Transfer, chroma_on_display, curve_of, to_display
from bwpipe.video.pixel_formats import alpha_plane, layout, luma_plane, plane, rgb_chroma

HEAD = 32
"""Bytes that tell the format of a frame."""
MATRIX: dict[FrameFormat, Matrix] = {"image": "bt601", "dpx": "bt709", "exr": "bt709"}
"""The weights by which the luma of a frame is computed."""


class FramePlanes(NamedTuple):
    """The planes of a frame.

    Attributes:
        luma: (H, W) as stored; of OpenEXR 16 bits for a display.
        chroma: (2, H, W) as seen on a display, or None if the frame is grey.
        alpha: (H, W) in full range, or None.
        depth: Bits of the luma.
    """

    luma: Luma
    chroma: Chroma | None
    alpha: Luma | None
    depth: int


def format_of(path: Path) -> FrameFormat:
    """The format of a frame, by content. Raises MediaError, OSError."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    return "dpx" if dpx.is_dpx(head) else "exr" if exr.is_exr(head) else "image"


def is_frame_format(head: bytes) -> bool:
    """Whether a file that begins so is in a format that only frames of films have: DPX or OpenEXR."""
    return dpx.is_dpx(head) or exr.is_exr(head)


def read_planes(path: Path, form: FrameFormat, *, transfer: Transfer = "video", max_pixels: int) -> FramePlanes:
    """Read a frame. Raises MediaError, OSError."""
    if form == "image":
        media = open_image(path, PurePosixPath(path.name), max_pixels=max_pixels)
        frame = read_image(Unit(media))
        chroma = frame.chroma
        if chroma is not None and (curve := curve_of(transfer, media.depth)) is not None:
            chroma = _shown(_rgb(frame.luma, chroma), curve, "bt601")
        return FramePlanes(frame.luma, chroma, frame.alpha, media.depth)
    return decode(read_file(path, form, max_pixels=max_pixels), form, transfer)


def decode(data: bytes, form: FrameFormat, transfer: Transfer) -> FramePlanes:
    """Read a frame from the bytes of a DPX or OpenEXR file. Raises MediaError."""
    return _read_dpx(data, transfer) if form == "dpx" else _read_exr(data)


def read_file(path: Path, form: FrameFormat, *, max_pixels: int) -> bytes:
    """The bytes of a DPX or OpenEXR file whose header is whole and not too large. Raises MediaError, OSError."""
    data = path.read_bytes()
    if form == "dpx":
        head = dpx.read_header(data)
        width, height = head.width, head.height
        needed = width * height * max(head.depth, 8) // 8
    else:
        exr_head = exr.read_header(data)
        width, height, needed = exr_head.width, exr_head.height, 0
    if width * height > max_pixels:
        size = f"{width}x{height} = {width * height} pixels"
        raise MediaError(f"has {size}, more than `max_pixels` allows ({max_pixels}); raise that to read it")
    if len(data) < needed:
        raise MediaError(f"is cut short: it has {len(data)} bytes, and its {width}x{height} samples take more")
    return data


def _decode(data: bytes, codec: str) -> VideoFrame:
    context = CodecContext.create(codec, "r")
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    try:
        frames = [*context.decode(Packet(data)), *context.decode(None)]
    except (av.error.FFmpegError, MemoryError, ValueError) as error:
        raise MediaError(f"can't be decoded ({getattr(error, 'strerror', None) or error})") from error
    if len(frames) != 1 or frames[0].is_corrupt:
        raise MediaError("can't be decoded: it is damaged")
    return frames[0]


def _read_dpx(data: bytes, transfer: Transfer) -> FramePlanes:
    frame = _decode(data, "dpx")
    form = layout(frame.format.name)
    if form.kind == "yuv":
        raise MediaError("has Y'CbCr samples, which are not supported; convert it to RGB first")
    matrix = MATRIX["dpx"]
    luma = luma_plane(frame, matrix)
    alpha = alpha_plane(frame)
    if form.kind == "grey" or _is_grey(frame):
        return FramePlanes(luma, None, alpha, form.depth)
    curve = curve_of(transfer, form.depth)
    chroma = rgb_chroma(frame, matrix) if curve is None else _shown(np.asarray(_channels(frame), np.uint16), curve, matrix)
    return FramePlanes(luma, chroma, alpha, form.depth)


def _channels(frame: VideoFrame) -> list[Luma]:
    """The planes of red, green and blue of a decoded frame."""
    form = layout(frame.format.name)
    if form.plain != frame.format.name:
        frame = frame.reformat(format=form.plain, threads=1)
    return [plane(frame, part.plane, form.depth) for part in frame.format.components[:3]]


def _is_grey(frame: VideoFrame) -> bool:
    red, green, blue = _channels(frame)
    return np.array_equal(red, green) and np.array_equal(red, blue)


def dpx_rgb(data: bytes) -> tuple[NDArray[np.uint16], int]:
    """The samples (H, W, 3) of a DPX file, and their bits. Raises MediaError."""
    frame = _decode(data, "dpx")
    form = layout(frame.format.name)
    planes = [plane(frame, 0, form.depth)] * 3 if form.kind == "grey" else _channels(frame)
    return np.stack(planes, axis=-1).astype(np.uint16), form.depth


def _shown(codes: NDArray[np.uint8] | NDArray[np.uint16], curve: NDArray[np.uint16], matrix: Matrix) -> Chroma:
    """The chroma of red, green and blue (3, H, W) in codes, as seen on a display."""
    return chroma_on_display(curve[codes].astype(np.float32) / np.float32(FULL_DISPLAY), matrix)


def _rgb(luma: Luma, chroma: Chroma) -> Luma:
    """The codes (3, H, W) of a picture."""
    return np.moveaxis(ycbcr_to_rgb(luma, chroma), -1, 0)


def _read_exr(data: bytes) -> FramePlanes:
    light, alpha = exr_light(data)
    weights = WEIGHTS[MATRIX["exr"]]
    luma = luma_of_light(luminance(light, weights))
    luma.flags.writeable = False
    shade = None if alpha is None else np.rint(np.clip(alpha, 0, 1) * 65535).astype(np.uint16)
    if len(light) == 1 or (np.array_equal(light[0], light[1]) and np.array_equal(light[0], light[2])):
        return FramePlanes(luma, None, shade, 16)
    return FramePlanes(luma, chroma_on_display(to_display(light.clip(0, 1)), MATRIX["exr"]), shade, 16)


def exr_light(data: bytes) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Luminance (1, H, W) or red, green and blue (3, H, W) of an OpenEXR file, and its alpha (H, W). Raises MediaError."""
    header = exr.read_header(data)
    names = set(header.channels)
    if not ({"R", "G", "B"} <= names or "Y" in names) or names & {"RY", "BY"}:
        raise MediaError(f"has channels {', '.join(header.channels)}, where R, G and B or Y were expected; write those first")
    frame = _decode(data, "exr")
    kind = np.dtype("<f2" if "f16" in frame.format.name else "<f4")
    planes = {}
    for name, part in zip(_components(frame), frame.format.components, strict=True):
        samples = frame.planes[part.plane]
        rows = np.frombuffer(memoryview(samples).toreadonly(), kind).reshape(samples.height, -1)
        planes[name] = rows[:, : samples.width].astype(np.float32)
    colours = [planes[name] for name in ("R", "G", "B") if name in planes] or [planes["Y"]]
    return np.nan_to_num(np.stack(colours), posinf=65504.0, neginf=0.0), planes.get("A")


def _components(frame: VideoFrame) -> tuple[str, ...]:
    """The names of a decoded frame's components, in FFmpeg's order."""
    grey = frame.format.name.startswith(("gray", "ya"))
    return (("Y",) if grey else ("R", "G", "B")) + ("A",) * (len(frame.format.components) in (2, 4))


def luminance(light: NDArray[np.float32], weights: Weights) -> NDArray[np.float32]:
    """The luminance (H, W) of light (1 or 3, H, W); exactly that of each channel where they are equal."""
    if len(light) == 1:
        single: NDArray[np.float32] = light[0]
        return single
    red, green, blue = light
    mixed: NDArray[np.float32] = green + np.float32(weights.red) * (red - green) + np.float32(weights.blue) * (blue - green)
    return mixed


def luma_of_light(light: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Luma of 16 bits for a display, of luminance; what is above 1 is white."""
    return np.rint(np.clip(to_display(light), 0, 1) * 65535).astype(np.uint16)
