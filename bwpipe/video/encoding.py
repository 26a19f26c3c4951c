"""How a video is encoded: encoder and pixel format, both known before its frames are read."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from fractions import Fraction
from functools import cache
from operator import itemgetter
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

import av
import av.error
import cv2
from av.codec.codec import Codec, UnknownCodecError, codecs_available

from bwpipe.core.parallel import scheduling_kept
from bwpipe.errors import MediaError, UsageError
from bwpipe.video.file import FULL, LIMITED, VideoFile
from bwpipe.video.hdr_metadata import NO_HDR, HdrMetadata, hdr_options
from bwpipe.video.pixel_formats import layout

_ALIASES = {"h265": "hevc", "av1": "libsvtav1", "prores": "prores_ks", "dnxhr": "dnxhd"}
_DEFAULTS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "17", "preset": "medium"},
    "libx265": {"crf": "20", "preset": "medium"},
    "libsvtav1": {"crf": "23", "preset": "6"},
    "ffv1": {"level": "3", "slicecrc": "1"},
    "prores_ks": {"vendor": "apl0"},  # Apple's software expects its own vendor name; the profile follows the pixel format
    "h264_nvenc": {"preset": "p5", "tune": "hq", "rc": "vbr", "cq": "18"},
    "hevc_nvenc": {"preset": "p5", "tune": "hq", "rc": "vbr", "cq": "20"},
    "av1_nvenc": {"preset": "p5", "rc": "vbr", "cq": "24"},
}
"""Visually lossless for the lossy encoders; the NVENC values are not measured."""
_EVEN = frozenset({"libx264", "libx265"})
"""Encoders that refuse subsampled chroma if the subsampling does not divide the frame size."""
_PREFER_422 = frozenset({"prores_ks"})
"""Encoders without 4:2:0 that are meant for 4:2:2: 4:4:4 is a different profile with far larger files."""
_ALPHA = frozenset({"ffv1", "prores_ks", "prores", "prores_aw", "magicyuv", "libvpx-vp9"})
"""Encoders whose alpha channel is kept. That of x265 is a second layer, which nothing here can join."""
_DNXHR = {"yuv422p": "dnxhr_hq", "yuv422p10le": "dnxhr_hqx", "yuv444p10le": "dnxhr_444", "gbrp10le": "dnxhr_444"}
"""The profiles of DNxHR, which has any size, by pixel format; DNxHD, the encoder's default, has a few sizes only."""
_LEAST = {"dnxhd": (256, 120)}
"""The least width and height of an encoder."""
_LIMITED_ONLY = frozenset({"prores_ks", "prores", "prores_aw"})
"""Encoders whose codec can't say that codes span the full range: players would take them for limited ones."""
_HARDWARE = ("_nvenc", "_qsv", "_amf", "_v4l2m2m", "_vaapi", "_videotoolbox", "_mf", "_vulkan")
"""Name suffixes of hardware encoders."""
_KEEPING = ("h265", "prores", "ffv1")
"""Codecs to name where another can't keep what a video has."""
_AVX512 = 256
"""OpenCV's number for AVX-512 as of Skylake."""
_DEPTHS = (10, 12, 16)
"""Sample depths, in bits, that an encoder may support."""
_GRIDS: dict[tuple[int, int], tuple[str, ...]] = {
    (0, 0): ("yuv444p", "yuv422p", "yuv420p"),
    (0, 1): ("yuv440p", "yuv444p", "yuv422p", "yuv420p"),
    (1, 0): ("yuv422p", "yuv444p", "yuv420p"),
    (1, 1): ("yuv420p", "yuv444p", "yuv422p"),
    (2, 0): ("yuv411p", "yuv422p", "yuv444p", "yuv420p"),
    (2, 2): ("yuv410p", "yuv420p", "yuv444p", "yuv422p"),
}
"""Output pixel formats for each chroma grid of a source (`Layout.chroma`), best first, without the depth."""


ContainerName: TypeAlias = Literal["mkv", "mov", "mp4", "same"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How to encode videos.

    Attributes:
        codec: "h264", "h265", "av1", "prores", "ffv1" (lossless) or any encoder that PyAV has.
        crf: Constant rate factor or the encoder's equivalent; lower is better and larger; None for visually lossless.
        preset: The encoder's speed preset; None for "medium".
        pix_fmt: FFmpeg's pixel format name, possibly with fewer bits than the source; None for the source's chroma grid,
            depth and alpha channel, 4:2:0 if it has no chroma.
        container: "mkv", "mov", "mp4", or "same" for the input's own; None for that if it can hold everything, else Matroska.
        threads: Encoder threads (`threads_of`). They change x264's output, so the number does not depend on the core count;
            with 4, files are 1 % larger than with 1.
        options: Further encoder options, by FFmpeg's names.
    """

    codec: str = "h264"
    crf: float | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    container: ContainerName | None = None
    threads: int = 4
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def threads_of(encoding: Encoding) -> int:
    """The threads that an encoder is given: those asked for, but one for VP8.

    Threads of libvpx's VP8 encoder wait for each other in a loop that yields the core: where other work keeps the cores busy, a
    second of film may take more than half a minute, with 600,000 changes of context a second; where nothing does, it takes
    three times the CPU time.
    """
    return 1 if encoder(encoding.codec).name == "libvpx" else encoding.threads


class ChromaGrid(NamedTuple):
    """Positions of the output's chroma samples.

    Attributes:
        height, width: Size of a chroma plane.
        step: Luma samples per chroma sample, vertically and horizontally.
        offset: Position of the first chroma sample, vertical and horizontal, in luma samples from the first luma sample: MPEG
            siting, co-sited horizontally and midway vertically (ITU-T H.264, figure E-1, type 0).
    """

    height: int
    width: int
    step: tuple[int, int]
    offset: tuple[float, float]


def check_encoding(encoding: Encoding) -> None:
    """Raise UsageError for an encoder that is unknown or can't be opened here, or for options that it does not support."""
    codec = encoder(encoding.codec)
    context = codec.create("video")
    known = context.supported_options
    names = sorted({option.name for option in (*known.generic, *known.private)})
    requested = [name for name in ("crf", "preset") if getattr(encoding, name) is not None]
    for name in (*requested, *encoding.options):
        if (_quality_option(codec.name) if name == "crf" else name) not in names:
            raise UsageError(f"the encoder {codec.name} has no option {name!r}{_suggestion(name, names)}")
    formats = [form.name for form in codec.video_formats or ()]
    if encoding.pix_fmt is not None and formats and encoding.pix_fmt not in formats:
        raise UsageError(
            f"the encoder {codec.name} has no pixel format {encoding.pix_fmt!r}{_suggestion(encoding.pix_fmt, formats)}"
        )
    if requested or encoding.options or codec.name.endswith(_HARDWARE):
        context.width, context.height, context.pix_fmt = 352, 288, encoding.pix_fmt or next(iter(formats), "yuv420p")
        context.time_base, context.framerate = Fraction(1, 25), Fraction(25)  # SVT-AV1 refuses to open without them
        context.options = encoder_options(encoding)
        try:
            with scheduling_kept():
                context.open()
        except av.error.FFmpegError as error:
            reason = "needs hardware that is missing here" if codec.name.endswith(_HARDWARE) else "rejects these options"
            raise UsageError(f"the encoder {codec.name} {reason}; change `codec` or its options") from error


def _quality_option(codec: str) -> str:
    """The encoder's name for its constant rate factor."""
    return "cq" if codec.endswith("_nvenc") else "crf"


@cache
def encoder(name: str) -> Codec:
    """The encoder of this name. Raises UsageError, with the closest known name."""
    with suppress(UnknownCodecError):
        codec = Codec(_ALIASES.get(name, name), "w")
        if codec.type == "video":
            return codec
    raise UsageError(
        f"there is no video encoder {name!r}{_suggestion(name, _encoders()) or '; the usual ones are h264, h265 and ffv1'}"
    )


def _encoders() -> Iterator[str]:
    yield from ("h264", "h265", "ffv1")
    for name in sorted(codecs_available):
        with suppress(UnknownCodecError):
            if Codec(name, "w").type == "video":
                yield name


def _suggestion(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the closest known name, the first in a tie; empty if none is similar."""
    closest, similarity = max(((other, SequenceMatcher(None, name, other).ratio()) for other in known), key=itemgetter(1))
    return f"; did you mean {closest!r}?" if similarity > 0.6 else ""


def encoder_options(encoding: Encoding, hdr: HdrMetadata = NO_HDR, pix_fmt: str = "yuv422p") -> dict[str, str]:
    """The options to open the encoder with, for a video with this HDR metadata and in this pixel format."""
    name = encoder(encoding.codec).name
    options = dict(_DEFAULTS.get(name, {}))
    if encoding.codec == "dnxhr" and pix_fmt in _DNXHR:
        options["profile"] = _DNXHR[pix_fmt]
    if encoding.crf is not None:
        options[_quality_option(name)] = f"{encoding.crf:g}"
    if encoding.preset is not None:
        options["preset"] = encoding.preset
    options.update(encoding.options)
    own = {
        # by default it depends on the core count, which changes the output
        "libx265": f"log-level=none:pools={encoding.threads}:frame-threads={min(encoding.threads, 2)}",
        "libsvtav1": f"lp={encoding.threads}",
        # with AVX-512 its macroblock tree reads uninitialised memory unless a row has a multiple of 8 macroblocks
        "libx264": "asm=avx2" if cv2.checkHardwareSupport(_AVX512) else "",
    }
    key = f"{name.removeprefix('lib')}-params"
    metadata = (f"{option}={value}" for option, value in hdr_options(hdr, name).items())
    if params := [text for text in (own.get(name), *metadata, encoding.options.get(key)) if text]:
        options[key] = ":".join(params)
    return options


def pixel_format(video: VideoFile, encoding: Encoding) -> str:
    """The output pixel format: the source's chroma grid, depth and alpha channel if the encoder supports them.

    If the encoder lacks that depth, a limited-range video may get a greater one: its codes are shifted and nothing is lost. A
    smaller one is chosen on request only. Raises MediaError if no format fits.
    """
    if not _too_small(video, encoding) and (chosen := _fitting_format(video, encoding)):
        return chosen
    codec = encoder(encoding.codec)
    if too_small := _too_small(video, encoding):
        raise MediaError(too_small)
    kind = f"{video.width}x{video.height} with {video.depth} bits{' in full range' * (video.tags.range == FULL)}"
    tried = encoding.pix_fmt or " or ".join(
        _names(video, encoding, (video.depth,))[: len(_GRIDS[layout(video.pix_fmt).chroma])]
    )
    others = [
        f"`{name}`"
        for name in _KEEPING
        if (kept := _fitting_format(video, replace(encoding, codec=name, pix_fmt=None))) and layout(kept).alpha == video.alpha
    ]
    advice = "choose another `codec`" + (f" ({' and '.join(others)} would keep all of it)" if others else "")
    fewer = (replace(encoding, pix_fmt=name) for name in _names(video, encoding, range(video.depth - 1, 7, -1)))
    if smaller := next((name.pix_fmt for name in fewer if _fitting_format(video, name)), None):
        advice += f", or fewer bits with `pix_fmt: {smaller}`"
    raise MediaError(f"{codec.name} can't encode frames of {kind} as {tried}; {advice}")


def _too_small(video: VideoFile, encoding: Encoding) -> str:
    """Why an encoder takes no frames of this size; empty if it does."""
    width, height = _LEAST.get(encoder(encoding.codec).name, (1, 1))
    if video.width >= width and video.height >= height:
        return ""
    least = f"{width}x{height}"
    return (
        f"{encoding.codec} takes frames of {least} pixels at least, not of {video.width}x{video.height}; choose another `codec`"
    )


def _names(video: VideoFile, encoding: Encoding, depths: Iterable[int]) -> list[str]:
    """Pixel formats of some depths for a video, best first; those with an alpha channel before all others, if it has one."""
    grid = layout(video.pix_fmt).chroma
    names = _GRIDS[grid]
    if encoder(encoding.codec).name in _PREFER_422 and grid != (0, 0):
        names = tuple(sorted(names, key=lambda name: name == "yuv444p"))
    deep = [f"{name}{f'{depth}le' * (depth > 8)}" for depth in depths for name in names]
    return [*(name.replace("yuv", "yuva") for name in deep if video.alpha), *deep]


def _fitting_format(video: VideoFile, encoding: Encoding) -> str | None:
    """The output pixel format; None if no format fits."""
    codec = encoder(encoding.codec)
    if video.tags.range == FULL and codec.name in _LIMITED_ONLY:
        return None
    formats = [form.name for form in codec.video_formats or ()]
    deeper = [depth for depth in _DEPTHS if depth > video.depth and video.tags.range == LIMITED]
    possible = _names(video, encoding, (video.depth, *deeper))
    for name in [encoding.pix_fmt] if encoding.pix_fmt else possible:
        if not _exists(name):
            continue
        form = layout(name)
        supported = form.kind == "yuv" and form.plain == name and (not formats or name in formats)
        odd = video.width % (1 << form.chroma[0]) or video.height % (1 << form.chroma[1])
        right = form.depth in (video.depth, *deeper) or (encoding.pix_fmt is not None and form.depth < video.depth)
        if supported and right and not (odd and codec.name in _EVEN) and (not form.alpha or codec.name in _ALPHA):
            return name
    return None


@cache
def _exists(pix_fmt: str) -> bool:
    """Whether there is such a pixel format: not every chroma grid has every depth, with and without alpha."""
    try:
        return bool(av.VideoFormat(pix_fmt).name)
    except ValueError:
        return False


def coded_depth(video: VideoFile, encoding: Encoding) -> int:
    """Bits per sample in the output: the video's depth or more, or fewer on request. Raises MediaError."""
    return layout(pixel_format(video, encoding)).depth


def coded_levels(video: VideoFile, depth: int) -> tuple[int, int]:
    """The luma codes of black and white in the output, which has this depth."""
    return (0, (1 << depth) - 1) if video.tags.range == FULL else (16 << depth - 8, 235 << depth - 8)


def chroma_grid(video: VideoFile, encoding: Encoding) -> ChromaGrid:
    """The chroma grid of the output. Raises MediaError."""
    across, down = layout(pixel_format(video, encoding)).chroma
    step = 1 << down, 1 << across
    return ChromaGrid(-(-video.height >> down), -(-video.width >> across), step, ((step[0] - 1) / 2, 0.0))
