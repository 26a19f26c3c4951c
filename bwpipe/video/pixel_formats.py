"""Pixel formats of videos, and access to their luma, chroma and alpha."""

from functools import cache
from typing import Literal, NamedTuple

import av
import av.error
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from bwpipe.core.frame import Chroma, Luma, Matrix
from bwpipe.errors import MediaError
from bwpipe.pixels.ycbcr import BLUE_SCALE, RED_SCALE, WEIGHTS

_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
_PLANAR = {
    (0, 0): "yuv444p",
    (0, 1): "yuv440p",
    (1, 0): "yuv422p",
    (1, 1): "yuv420p",
    (2, 0): "yuv411p",
    (2, 2): "yuv410p",
}
"""The planar 8-bit format of each chroma grid."""
_GREY_ALPHA = {"ya8": "u1", "ya16le": "<u2", "ya16be": ">u2"}
"""Formats whose plane holds luma and alpha in turns, and the type of their samples."""


class Layout(NamedTuple):
    """Layout of a pixel format.

    Attributes:
        kind: Luma and two chroma planes, luma alone, or red, green and blue.
        depth: Significant bits per sample, at least 8.
        plain: The equivalent planar format, with one component per plane; the format itself if it is planar.
        chroma: Base-2 logarithms of the luma samples per chroma sample, horizontally and vertically.
        alpha: Whether it has an alpha channel, which has the luma's resolution and depth, and always full range.
    """

    kind: Literal["yuv", "grey", "rgb"]
    depth: int
    plain: str
    chroma: tuple[int, int]
    alpha: bool = False


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
    alpha = any(part.is_alpha for part in parts)
    if form.is_rgb or form.has_palette or form.is_bayer or pix_fmt.startswith("xyz"):
        return Layout("rgb", depth, pix_fmt if plain and form.is_planar else f"gbr{'a' * alpha}p{suffix}", (0, 0), alpha)
    if len(parts) < 3:
        return Layout("grey", depth, pix_fmt if plain else f"gray{suffix}", (1, 1), alpha)
    steps = (64 // form.chroma_width(64)).bit_length() - 1, (64 // form.chroma_height(64)).bit_length() - 1
    return Layout("yuv", depth, pix_fmt if plain else f"yuv{'a' * alpha}444p{suffix}", steps, alpha)


def luma_plane(frame: VideoFrame, matrix: Matrix) -> Luma:
    """The luma of a decoded frame: (H, W) uint8, or uint16 for more than 8 bits, read-only.

    A view of the decoder's buffer if luma has its own plane there. RGB becomes full-range luma with the weights of `matrix`.
    Raises MediaError.
    """
    form = layout(frame.format.name)
    frame = _reformatted(frame, form.plain)
    if form.kind != "rgb":
        return plane(frame, 0, form.depth)
    mixed, green = _mixed(frame, matrix)[0], plane(frame, 0, form.depth)
    luma: Luma = np.rint(mixed).astype(green.dtype)  # type: ignore[assignment]
    luma.flags.writeable = False
    return luma


def chroma_codes(frame: VideoFrame) -> Luma | None:
    """The chroma of a decoded frame as it is stored: Cb and Cr (2, h, w), uint8, or uint16 for more than 8 bits; a copy.

    None for grey and RGB. Raises MediaError.
    """
    form = layout(frame.format.name)
    if form.kind != "yuv":
        return None
    if len({part.plane for part in frame.format.components[:3]}) < 3 or form.plain != frame.format.name:
        frame = _reformatted(frame, f"{_PLANAR[form.chroma]}{f'{form.depth}le' * (form.depth > 8)}")
    return np.stack([plane(frame, 1, form.depth), plane(frame, 2, form.depth)])  # type: ignore[return-value]


def rgb_chroma(frame: VideoFrame, matrix: Matrix) -> Chroma:
    """The chroma (2, H, W) of a decoded RGB frame, with the weights of `matrix`. Raises MediaError."""
    form = layout(frame.format.name)
    luma, red, blue = _mixed(_reformatted(frame, form.plain), matrix)
    white = np.float32((1 << form.depth) - 1)
    return np.stack([(blue - luma) / (white * BLUE_SCALE), (red - luma) / (white * RED_SCALE)]).astype(np.float16)


def alpha_plane(frame: VideoFrame) -> Luma | None:
    """The alpha of a decoded frame: (H, W) like its luma, in full range, read-only; None if it has none. Raises MediaError."""
    form = layout(frame.format.name)
    if not form.alpha:
        return None
    if samples := _GREY_ALPHA.get(frame.format.name):
        packed = frame.planes[0]
        rows = np.frombuffer(memoryview(packed).toreadonly(), samples).reshape(packed.height, -1)
        alpha: Luma = rows[:, 1 : 2 * packed.width : 2].astype(np.uint8 if form.depth == 8 else np.uint16)  # type: ignore[assignment]
        alpha.flags.writeable = False
        return alpha
    if form.kind == "grey":
        raise MediaError(f"the alpha channel of its pixel format {frame.format.name} can't be read")
    return plane(_reformatted(frame, form.plain), 3, form.depth)


def _reformatted(frame: VideoFrame, name: str) -> VideoFrame:
    """The frame in a format that only orders its samples otherwise. Raises MediaError."""
    if frame.format.name == name:
        return frame
    try:
        # the tags stay the same: samples move, but keep their values
        return frame.reformat(format=name, interpolation=_EXACT, threads=1)
    except av.error.FFmpegError as error:
        raise MediaError(f"its pixel format {frame.format.name} can't be read") from error


def _mixed(frame: VideoFrame, matrix: Matrix) -> tuple[NDArray[np.float32], Luma, Luma]:
    """The luma (H, W) of a frame in planar RGB, not rounded, and its red and blue."""
    depth = layout(frame.format.name).depth
    red, green, blue = (plane(frame, part.plane, depth) for part in frame.format.components[:3])
    weights = WEIGHTS[matrix]
    return np.float32(weights.red) * red + np.float32(weights.green) * green + np.float32(weights.blue) * blue, red, blue


def plane(frame: VideoFrame, index: int, depth: int, *, writeable: bool = False) -> Luma:
    """One plane of a frame in a planar format: a view (H, W) of its memory, which the view keeps alive.

    Never write to a decoder's plane: other frames are predicted from it.
    """
    samples = frame.planes[index]
    memory = memoryview(samples) if writeable else memoryview(samples).toreadonly()
    rows = np.frombuffer(memory, np.uint8 if depth == 8 else "<u2").reshape(samples.height, -1)
    return rows[:: 1 if samples.line_size > 0 else -1, : samples.width]


def in_depth(codes: Luma, depth: int, other: int, *, full: bool) -> Luma:
    """Codes of luma or chroma of one depth in another: scaled in full range, else shifted, and rounded if it is smaller."""
    if full:
        return rescale(codes, depth, other)
    return narrow(codes, depth, other) if other < depth else widen(codes, depth, other)


def widen(luma: Luma, depth: int, other: int) -> Luma:
    """Luma (H, W) of one depth in another, no smaller one, in limited range: codes are shifted left."""
    return luma if depth == other else np.left_shift(luma, other - depth, dtype=np.uint16)


def narrow(codes: Luma, depth: int, other: int) -> Luma:
    """Codes of one depth in a smaller one, in limited range: divided by a power of two, and rounded half up."""
    step = depth - other
    rounded: NDArray[np.uint32] = np.minimum((codes.astype(np.uint32) + (1 << step - 1)) >> step, (1 << other) - 1)
    return rounded.astype(np.uint8) if other == 8 else rounded.astype(np.uint16)


def rescale(codes: Luma, depth: int, other: int) -> Luma:
    """Codes of one depth in another, in full range: white stays white; rounded half up."""
    if depth == other:
        return codes
    old, new = (1 << depth) - 1, (1 << other) - 1
    scaled = (codes.astype(np.uint32) * new + old // 2) // old
    return scaled.astype(np.uint8) if other == 8 else scaled.astype(np.uint16)
