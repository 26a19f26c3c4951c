"""Pixel formats of videos, and access to their luma."""

from functools import cache
from typing import Literal, NamedTuple

import av
import av.error
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation

from bwpipe.core.frame import Luma, Matrix
from bwpipe.errors import MediaError
from bwpipe.pixels.ycbcr import WEIGHTS

_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


class Layout(NamedTuple):
    """Layout of a pixel format.

    Attributes:
        kind: Luma and two chroma planes, luma alone, or red, green and blue.
        depth: Significant bits per sample, at least 8.
        plain: The equivalent planar format, with one component per plane; the format itself if it is planar.
        chroma: Base-2 logarithms of the luma samples per chroma sample, horizontally and vertically.
    """

    kind: Literal["yuv", "grey", "rgb"]
    depth: int
    plain: str
    chroma: tuple[int, int]


@cache
def layout(pix_fmt: str) -> Layout:
    """The layout of a pixel format, given by FFmpeg's name. Raises MediaError for an unsupported one."""
    form = av.VideoFormat(pix_fmt, 64, 64)
    parts = form.components
    bits = max((part.bits for part in parts), default=0)
    if not 1 <= bits <= 16 or "f16" in pix_fmt:
        raise MediaError(f"its pixel format {pix_fmt} can't be read")
    depth = max(bits, 8)
    suffix = f"{depth}le" if depth > 8 else ""
    own_plane = sum(part.plane == 0 for part in parts) == 1
    shifted = "msb" in pix_fmt or pix_fmt.startswith(("p0", "p2", "p4"))  # such as P010, which uses the high bits
    plain = own_plane and not (shifted or form.has_palette or form.is_bit_stream or (form.is_big_endian and depth > 8))
    if form.is_rgb or form.has_palette or form.is_bayer or pix_fmt.startswith("xyz"):
        return Layout("rgb", depth, pix_fmt if plain and form.is_planar else f"gbrp{suffix}", (0, 0))
    if len(parts) < 3:
        return Layout("grey", depth, pix_fmt if plain else f"gray{suffix}", (1, 1))
    steps = (64 // form.chroma_width(64)).bit_length() - 1, (64 // form.chroma_height(64)).bit_length() - 1
    return Layout("yuv", depth, pix_fmt if plain else f"yuv444p{suffix}", steps)


def luma_plane(frame: VideoFrame, matrix: Matrix) -> Luma:
    """The luma of a decoded frame: (H, W) uint8, or uint16 for more than 8 bits, read-only.

    A view of the decoder's buffer if luma has its own plane there. RGB becomes full-range luma with the weights of `matrix`.
    Raises MediaError.
    """
    form = layout(frame.format.name)
    if form.plain != frame.format.name:
        try:
            # the tags stay the same: samples move, but keep their values
            frame = frame.reformat(format=form.plain, interpolation=_EXACT, threads=1)
        except av.error.FFmpegError as error:
            raise MediaError(f"its pixel format {frame.format.name} can't be read") from error
    if form.kind != "rgb":
        return plane(frame, 0, form.depth)
    red, green, blue = (plane(frame, part.plane, form.depth) for part in frame.format.components[:3])
    weights = WEIGHTS[matrix]
    mixed = np.float32(weights.red) * red + np.float32(weights.green) * green + np.float32(weights.blue) * blue
    luma: Luma = np.rint(mixed).astype(green.dtype)
    luma.flags.writeable = False
    return luma


def plane(frame: VideoFrame, index: int, depth: int, *, writeable: bool = False) -> Luma:
    """One plane of a frame in a planar format: a view (H, W) of its memory, which the view keeps alive.

    Never write to a decoder's plane: other frames are predicted from it.
    """
    samples = frame.planes[index]
    memory = memoryview(samples) if writeable else memoryview(samples).toreadonly()
    rows = np.frombuffer(memory, np.uint8 if depth == 8 else "<u2").reshape(samples.height, -1)
    return rows[:: 1 if samples.line_size > 0 else -1, : samples.width]


def widen(luma: Luma, depth: int, other: int) -> Luma:
    """Luma (H, W) of one depth in another, no smaller one, in limited range: codes are shifted left."""
    return luma if depth == other else np.left_shift(luma, other - depth, dtype=np.uint16)
