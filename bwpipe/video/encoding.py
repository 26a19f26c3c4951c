"""How a film is coded when it is written: encoder and pixel format. Both are known before its frames are read."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from fractions import Fraction
from functools import cache
from operator import itemgetter
from types import MappingProxyType
from typing import NamedTuple

import av
import av.error
import cv2
from av.codec.codec import Codec, UnknownCodecError, codecs_available

from bwpipe.errors import MediaError, UsageError
from bwpipe.video.file import FULL, LIMITED, VideoFile
from bwpipe.video.hdr_metadata import UNKNOWN, HdrMetadata, hdr_options
from bwpipe.video.pixel_formats import layout

_ALIASES = {"h265": "hevc", "av1": "libsvtav1", "prores": "prores_ks"}
_DEFAULTS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "17", "preset": "medium"},
    "libx265": {"crf": "20", "preset": "medium"},
    "libsvtav1": {"crf": "23", "preset": "6"},
    "ffv1": {"level": "3", "slicecrc": "1"},
    "prores_ks": {"vendor": "apl0"},  # Apple's programs want to read their own name; the profile follows the pixel format
    "h264_nvenc": {"preset": "p5", "tune": "hq", "rc": "vbr", "cq": "18"},
    "hevc_nvenc": {"preset": "p5", "tune": "hq", "rc": "vbr", "cq": "20"},
    "av1_nvenc": {"preset": "p5", "rc": "vbr", "cq": "24"},
}
"""Visually lossless for those that are not lossless; of NVIDIA's chips nothing was measured."""
_EVEN = frozenset({"libx264", "libx265"})
"""Encoders that refuse subsampled chroma where it does not divide the size."""
_OF_422 = frozenset({"prores_ks"})
"""Encoders without 4:2:0 that are for 4:2:2: 4:4:4 makes another, far larger kind of file."""
_DEVICES = ("_nvenc", "_qsv", "_amf", "_v4l2m2m", "_vaapi", "_videotoolbox", "_mf", "_vulkan")
"""How encoders are called that need a device."""
_AVX512 = 256
"""OpenCV's number for AVX-512 as of Skylake."""
_DEPTHS = (10, 12, 16)
"""Bits of a sample that an encoder may have."""
_GRIDS: dict[tuple[int, int], tuple[str, ...]] = {
    (0, 0): ("yuv444p", "yuv422p", "yuv420p"),
    (0, 1): ("yuv440p", "yuv444p", "yuv422p", "yuv420p"),
    (1, 0): ("yuv422p", "yuv444p", "yuv420p"),
    (1, 1): ("yuv420p", "yuv444p", "yuv422p"),
    (2, 0): ("yuv411p", "yuv422p", "yuv444p", "yuv420p"),
    (2, 2): ("yuv410p", "yuv420p", "yuv444p", "yuv422p"),
}
"""For each chroma grid of a source (`Layout.chroma`) the formats to write it in, best first, without their depth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How films are to be coded.

    Attributes:
        codec: "h264", "h265", "av1", "prores", "ffv1" (lossless) or any encoder that PyAV has.
        crf: Constant rate factor, or what the encoder has for it; lower is better and larger; None for visually lossless.
        preset: The encoder's own word for its pace; None for "medium".
        pix_fmt: FFmpeg's name of the pixel format; None for the source's chroma grid and depth, 4:2:0 where it has no chroma.
        threads: Of the encoder. They change what x264 writes, so the number does not follow that of the cores; with 4, files
            are 1 % larger than with 1.
        options: Further options of the encoder, by FFmpeg's names.
    """

    codec: str = "h264"
    crf: float | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    threads: int = 4
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


class ChromaGrid(NamedTuple):
    """Where an output has its chroma samples.

    Attributes:
        height, width: Of a chroma plane.
        step: How many luma samples a chroma sample stands for, down and across.
        offset: Where the first chroma sample lies, down and across, in luma samples from the first of these: MPEG's siting, on
            a luma sample across and half way between two down (ITU-T H.264, figure E-1, type 0).
    """

    height: int
    width: int
    step: tuple[int, int]
    offset: tuple[float, float]


def check_encoding(encoding: Encoding) -> None:
    """Raise UsageError for an encoder that does not exist or can't be opened here, and for options that it does not have."""
    codec = encoder(encoding.codec)
    context = codec.create("video")
    known = context.supported_options
    names = sorted({option.name for option in (*known.generic, *known.private)})
    asked = [name for name in ("crf", "preset") if getattr(encoding, name) is not None]
    for name in (*asked, *encoding.options):
        if (_quality(codec.name) if name == "crf" else name) not in names:
            raise UsageError(f"the encoder {codec.name} has no option {name!r}{_near(name, names)}")
    formats = [form.name for form in codec.video_formats or ()]
    if encoding.pix_fmt is not None and formats and encoding.pix_fmt not in formats:
        raise UsageError(f"the encoder {codec.name} has no pixel format {encoding.pix_fmt!r}{_near(encoding.pix_fmt, formats)}")
    if asked or encoding.options or codec.name.endswith(_DEVICES):
        context.width, context.height, context.pix_fmt = 352, 288, encoding.pix_fmt or next(iter(formats), "yuv420p")
        context.time_base, context.framerate = Fraction(1, 25), Fraction(25)  # SVT-AV1 refuses anything without
        context.options = encoder_options(encoding)
        try:
            context.open()
        except av.error.FFmpegError as error:
            reason = "needs a device that is not here" if codec.name.endswith(_DEVICES) else "does not take these options"
            raise UsageError(f"the encoder {codec.name} {reason}; change `codec` or its options") from error


def _quality(codec: str) -> str:
    """What an encoder calls its constant rate factor."""
    return "cq" if codec.endswith("_nvenc") else "crf"


@cache
def encoder(name: str) -> Codec:
    """The encoder of that name. Raises UsageError, with the nearest name."""
    with suppress(UnknownCodecError):
        codec = Codec(_ALIASES.get(name, name), "w")
        if codec.type == "video":
            return codec
    raise UsageError(
        f"there is no video encoder {name!r}{_near(name, _encoders()) or '; the usual ones are h264, h265 and ffv1'}"
    )


def _encoders() -> Iterator[str]:
    yield from ("h264", "h265", "ffv1")
    for name in sorted(codecs_available):
        with suppress(UnknownCodecError):
            if Codec(name, "w").type == "video":
                yield name


def _near(name: str, known: Iterable[str]) -> str:
    """The end of a complaint: the nearest known name, the first of equally near ones; nothing if none is near."""
    close, nearness = max(((other, SequenceMatcher(None, name, other).ratio()) for other in known), key=itemgetter(1))
    return f"; did you mean {close!r}?" if nearness > 0.6 else ""


def encoder_options(encoding: Encoding, light: HdrMetadata = UNKNOWN) -> dict[str, str]:
    """The options that an encoder is opened with, for a film of which so much is known."""
    name = encoder(encoding.codec).name
    options = dict(_DEFAULTS.get(name, {}))
    if encoding.crf is not None:
        options[_quality(name)] = f"{encoding.crf:g}"
    if encoding.preset is not None:
        options["preset"] = encoding.preset
    options.update(encoding.options)
    own = {
        # not told, it follows the number of cores, which changes what it writes
        "libx265": f"log-level=none:pools={encoding.threads}:frame-threads={min(encoding.threads, 2)}",
        "libsvtav1": f"lp={encoding.threads}",
        # with AVX-512 its macroblock tree reads memory that was never written, unless a row has a multiple of 8 macroblocks
        "libx264": "asm=avx2" if cv2.checkHardwareSupport(_AVX512) else "",
    }
    key = f"{name.removeprefix('lib')}-params"
    told = (f"{option}={value}" for option, value in hdr_options(light, name).items())
    if words := [word for word in (own.get(name), *told, encoding.options.get(key)) if word]:
        options[key] = ":".join(words)
    return options


def pixel_format(film: VideoFile, encoding: Encoding) -> str:
    """The pixel format that a film is written in: on its own chroma grid and of its own depth where the encoder can.

    Where the encoder has no such depth it may be a greater one, of a film in limited range: its codes are the film's, shifted,
    and nothing is lost. Raises MediaError where there is none.
    """
    codec = encoder(encoding.codec)
    formats = [form.name for form in codec.video_formats or ()]
    grid = layout(film.pix_fmt).chroma
    names = _GRIDS[grid]
    if codec.name in _OF_422 and grid != (0, 0):
        names = tuple(sorted(names, key=lambda name: name == "yuv444p"))
    deeper = [depth for depth in _DEPTHS if depth > film.depth and film.tags.range == LIMITED]
    wanted = [f"{name}{f'{depth}le' * (depth > 8)}" for depth in (film.depth, *deeper) for name in names]
    for name in [encoding.pix_fmt] if encoding.pix_fmt else wanted:
        form = layout(name)
        holds = form.kind == "yuv" and form.plain == name and (not formats or name in formats)
        odd = film.width % (1 << form.chroma[0]) or film.height % (1 << form.chroma[1])
        if holds and form.depth in (film.depth, *deeper) and not (odd and codec.name in _EVEN):
            return name
    size = f"{film.width}x{film.height} with {film.depth} bits{' in full range' * (film.tags.range == FULL)}"
    tried = " or ".join([encoding.pix_fmt] if encoding.pix_fmt else wanted[: len(names)])
    raise MediaError(f"{codec.name} can't hold frames of {size} as {tried}: choose another `codec`, such as ffv1")


def coded_depth(film: VideoFile, encoding: Encoding) -> int:
    """Bits of a sample in the output: as many as the film has, or more. Raises MediaError."""
    return layout(pixel_format(film, encoding)).depth


def chroma_grid(film: VideoFile, encoding: Encoding) -> ChromaGrid:
    """Where the output has its chroma samples. Raises MediaError."""
    across, down = layout(pixel_format(film, encoding)).chroma
    step = 1 << down, 1 << across
    return ChromaGrid(-(-film.height >> down), -(-film.width >> across), step, ((step[0] - 1) / 2, 0.0))
