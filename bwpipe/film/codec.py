"""How a film is coded when it is written: encoder, pixel format, container. All known before its frames are read."""

import io
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
from bwpipe.film import Film
from bwpipe.film.pixels import layout

_ALIASES = {"h265": "hevc", "av1": "libsvtav1"}
_DEFAULTS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "17", "preset": "medium"},
    "libx265": {"crf": "20", "preset": "medium"},
    "libsvtav1": {"crf": "23", "preset": "6"},
    "ffv1": {"level": "3", "slicecrc": "1"},
}
"""Visually lossless for those that are not lossless."""
_EVEN = frozenset({"libx264", "libx265"})
"""Encoders that refuse subsampled chroma where it does not divide the size."""
_WITH_ASPECT = frozenset({"libx264", "libx265", "mpeg4", "mpeg2video"})
"""Encoders whose coded picture tells how wide a pixel is."""
_DEVICES = ("_nvenc", "_qsv", "_amf", "_v4l2m2m", "_vaapi", "_videotoolbox", "_mf", "_vulkan")
"""How encoders are called that need a device."""
_AVX512 = 256
"""OpenCV's number for AVX-512 as of Skylake."""
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
        codec: "h264", "h265", "ffv1" (lossless) or any encoder that PyAV has.
        crf: Constant rate factor, lower is better and larger; None for visually lossless.
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


class Container(NamedTuple):
    """What a film is written into: FFmpeg's name of the muxer, and the file name's suffix."""

    muxer: str
    suffix: str


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
        if name not in names:
            raise UsageError(f"the encoder {codec.name} has no option {name!r}{_near(name, names)}")
    formats = [form.name for form in codec.video_formats or ()]
    if encoding.pix_fmt is not None and formats and encoding.pix_fmt not in formats:
        raise UsageError(f"the encoder {codec.name} has no pixel format {encoding.pix_fmt!r}{_near(encoding.pix_fmt, formats)}")
    if asked or encoding.options or codec.name.endswith(_DEVICES):
        context.width, context.height, context.pix_fmt = 352, 288, encoding.pix_fmt or next(iter(formats), "yuv420p")
        context.options = encoder_options(encoding)
        try:
            context.open()
        except av.error.FFmpegError as error:
            reason = "needs a device that is not here" if codec.name.endswith(_DEVICES) else "does not take these options"
            raise UsageError(f"the encoder {codec.name} {reason}; change `codec` or its options") from error


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


def encoder_options(encoding: Encoding) -> dict[str, str]:
    """The options that an encoder is opened with."""
    name = encoder(encoding.codec).name
    options = dict(_DEFAULTS.get(name, {}))
    if encoding.crf is not None:
        options["crf"] = f"{encoding.crf:g}"
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
    if own.get(name):
        key = f"{name.removeprefix('lib')}-params"
        options[key] = ":".join(filter(None, (own[name], encoding.options.get(key))))
    return options


def pixel_format(film: Film, encoding: Encoding) -> str:
    """The pixel format that a film is written in: on its own chroma grid where the encoder can, never of another depth.

    Raises MediaError where there is none.
    """
    codec = encoder(encoding.codec)
    formats = [form.name for form in codec.video_formats or ()]
    suffix = f"{film.depth}le" if film.depth > 8 else ""
    wanted = [encoding.pix_fmt] if encoding.pix_fmt else [f"{name}{suffix}" for name in _GRIDS[layout(film.pix_fmt).chroma]]
    for name in wanted:
        form = layout(name)
        holds = form.kind == "yuv" and form.plain == name and form.depth == film.depth and (not formats or name in formats)
        odd = film.width % (1 << form.chroma[0]) or film.height % (1 << form.chroma[1])
        if holds and not (odd and codec.name in _EVEN):
            return name
    size = f"{film.width}x{film.height} with {film.depth} bits"
    raise MediaError(f"{codec.name} can't hold frames of {size} as {' or '.join(wanted)}: choose another `codec`, such as ffv1")


def chroma_grid(film: Film, encoding: Encoding) -> ChromaGrid:
    """Where the output has its chroma samples. Raises MediaError."""
    across, down = layout(pixel_format(film, encoding)).chroma
    step = 1 << down, 1 << across
    return ChromaGrid(-(-film.height >> down), -(-film.width >> across), step, ((step[0] - 1) / 2, 0.0))


def container_for(film: Film, encoding: Encoding) -> Container:
    """What a film is written into: a container of the kind it came in where that can hold all of it, else Matroska.

    Where none can hold all, it is the one in which least is lost, sound last. Raises MediaError where none holds the picture.
    """
    picture = encoder(encoding.codec).name
    able = [container for container in _containers(film) if _holds(container.muxer, picture)]
    if not able:
        raise MediaError(f"no container here can hold {picture}: choose another `codec`")

    def lost(container: Container) -> tuple[int, int]:
        tracks = [track for track in film.tracks if container.muxer not in track.fits]
        return sum(track.kind == "audio" for track in tracks) + loses_aspect(film, encoding, container), len(tracks)

    return min(able, key=lost)


def loses_aspect(film: Film, encoding: Encoding, container: Container) -> bool:
    """Whether the shape of a pixel is lost: PyAV can tell MP4 of it, Matroska has it from the coded picture only."""
    wide = film.sample_aspect not in {None, 1} and encoder(encoding.codec).name not in _WITH_ASPECT
    return wide and container.muxer in {"matroska", "webm"}


def _containers(film: Film) -> Iterator[Container]:
    """Those that a film may be written into, best first. AVI, MPEG and the like are not: they lose times, tags or aspect."""
    suffix = film.name.suffix.lower()
    mp4 = Container("mp4", suffix if suffix in {".mp4", ".m4v"} else ".mp4")
    mov = Container("mov", suffix if suffix in {".mov", ".qt"} else ".mov")
    if "mov" in film.container:
        yield from (mov, mp4) if mov.suffix == suffix or (mp4.suffix != suffix and film.brand == "qt") else (mp4, mov)
    if "matroska" in film.container and suffix == ".webm":
        yield Container("webm", suffix)
    yield Container("matroska", ".mkv")
    if "mov" not in film.container:
        yield from (mp4, mov)


@cache
def _holds(muxer: str, picture: str) -> bool:
    """Whether a container can hold a picture of that encoder: some name codecs that their muxer refuses then."""
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as output:
            output.add_mux_stream(picture, rate=25, width=64, height=64, time_base=Fraction(1, 25))
            output.start_encoding()
    except av.error.FFmpegError as error:
        return not isinstance(error, av.error.PatchWelcomeError)
    except ValueError:
        return False
    return True
