"""Chooses the output container, and reports what it can't hold, before any frame is read."""

import io
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import NamedTuple

import av
import av.error

from bwpipe.errors import MediaError
from bwpipe.video.cropping import NO_CROPPING, can_write_cropping
from bwpipe.video.encoding import ContainerName, Encoding, encoder, pixel_format
from bwpipe.video.file import VideoFile
from bwpipe.video.hdr_metadata import ENCODERS, HdrMetadata
from bwpipe.video.pixel_formats import layout

_STORE_ASPECT = frozenset({"libx264", "libx265", "mpeg4", "mpeg2video"})
"""Encoders that store the sample aspect ratio in the bitstream."""


_OF_MATROSKA = frozenset({"ffv1"})
"""Codecs that archives keep in Matroska, as RFC 9043 defines it for FFV1."""
_WEIGHTY = frozenset({"audio", "subtitle", "video"})
"""The kinds of streams for whose sake such a codec goes into another container."""


class Container(NamedTuple):
    """An output container: FFmpeg's muxer name and the file suffix."""

    muxer: str
    suffix: str


def container_for(video: VideoFile, encoding: Encoding) -> Container:
    """The output container: the one that is asked for, else one of the input's kind if it can hold everything, else Matroska.

    FFV1 goes into Matroska (RFC 9043) whatever the input's, unless that would lose sound, subtitles or the aspect ratio.
    If none can hold everything, the one that loses least, audio last. Raises MediaError if none can hold the video stream.
    """
    codec = encoder(encoding.codec).name
    archival = encoder(encoding.codec).canonical_name in _OF_MATROSKA
    possible = _requested(video, encoding.container) if encoding.container else list(_containers(video))
    if archival and not encoding.container:
        possible.sort(key=lambda container: container.muxer != "matroska")
    candidates = [container for container in possible if _holds(container.muxer, codec)]
    if not candidates and encoding.container:
        suffix = possible[0].suffix if possible else video.name.suffix
        others = [name for name in _MUXERS if _holds(_MUXERS[name], codec)]
        raise MediaError(f"{suffix} can't hold {codec} here; choose `container: {' or '.join(others)}`, or another `codec`")
    if not candidates:
        raise MediaError(f"no container here can hold {codec}: choose another `codec`")

    def losses(container: Container) -> tuple[int, int]:
        tracks = [track for track in video.tracks if container.muxer not in track.fits]
        tracks = [track for track in tracks if not archival or track.kind in _WEIGHTY]
        return sum(track.kind == "audio" for track in tracks) + loses_aspect(video, encoding, container), len(tracks)

    return min(candidates, key=losses)


def loses_aspect(video: VideoFile, encoding: Encoding, container: Container) -> bool:
    """Whether the sample aspect ratio is lost: PyAV can set it in MP4, while Matroska takes it from the bitstream only."""
    at_risk = video.sample_aspect not in {None, 1} and encoder(encoding.codec).name not in _STORE_ASPECT
    return at_risk and container.muxer in {"matroska", "webm"}


def _containers(video: VideoFile) -> Iterator[Container]:
    """Candidate containers, best first. AVI, MPEG and the like are excluded: they lose timestamps, tags or aspect ratio."""
    suffix = video.name.suffix.lower()
    mp4 = Container("mp4", suffix if suffix in {".mp4", ".m4v"} else ".mp4")
    mov = Container("mov", suffix if suffix in {".mov", ".qt"} else ".mov")
    if "mov" in video.container:
        yield from (mov, mp4) if mov.suffix == suffix or (mp4.suffix != suffix and video.brand == "qt") else (mp4, mov)
    if "matroska" in video.container and suffix == ".webm":
        yield Container("webm", suffix)
    yield Container("matroska", ".mkv")
    if "mov" not in video.container:
        yield from (mp4, mov)


_MUXERS: dict[ContainerName, str] = {"mkv": "matroska", "mov": "mov", "mp4": "mp4"}


def _requested(video: VideoFile, name: ContainerName) -> list[Container]:
    """The container that is asked for; none for "same" where the input's own kind is not written."""
    suffix = video.name.suffix.lower()
    if name == "same":
        own = _own_muxer(video, suffix)
        return [Container(own, suffix)] if own else []
    suffixes = {"mkv": (".mkv",), "mov": (".mov", ".qt"), "mp4": (".mp4", ".m4v")}[name]
    return [Container(_MUXERS[name], suffix if suffix in suffixes else suffixes[0])]


def _own_muxer(video: VideoFile, suffix: str) -> str:
    """The muxer for a container of the input's own kind; empty if there is none."""
    if "matroska" in video.container:
        return "webm" if suffix == ".webm" else "matroska"
    if "mov" in video.container:
        return "mov" if suffix in {".mov", ".qt"} or (suffix not in {".mp4", ".m4v"} and video.brand == "qt") else "mp4"
    return ""


_MP4_ONLY = frozenset({"av1", "vp9"})
"""Codecs that FFmpeg writes into MP4 but not into QuickTime, with the same error as for missing extradata."""


@cache
def _holds(muxer: str, codec: str) -> bool:
    """Whether a muxer can hold an encoder's output: some list codecs that they then refuse."""
    if muxer == "mov" and encoder(codec).canonical_name in _MP4_ONLY:
        return False
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as output:
            output.add_mux_stream(codec, rate=25, width=64, height=64, time_base=Fraction(1, 25))
            output.start_encoding()
    except av.error.FFmpegError as error:
        return not isinstance(error, av.error.PatchWelcomeError)
    except ValueError:
        return False
    return True


_MARK_INTERLACED = frozenset({"libx264", "ffv1", "mpeg2video", "prores_ks", "dnxhd"})
"""Encoders that mark frames as interlaced."""


def conversion_notes(video: VideoFile, encoding: Encoding) -> Iterator[str]:
    """Warnings, without the file name, about container, streams, timestamps, pixel format and aspect. Raises MediaError."""
    container, pix_fmt = container_for(video, encoding), pixel_format(video, encoding)
    suffix = container.suffix
    if video.name.suffix.lower() != suffix and video.stream_index >= 0 and not encoding.container:
        yield f"it is written as {suffix}: {_why_another(video, encoding, container)}"
    for track in video.tracks:
        if container.muxer not in track.fits:
            yield f"{track} is left out: {suffix} can't hold it"
    if container.muxer in {"matroska", "webm"} and "matroska" not in video.container:
        audio = any(track.rate for track in video.tracks)
        if audio or (video.times * video.time_base.numerator * 1000 % video.time_base.denominator).any():
            yield "Matroska stores timestamps in milliseconds: finer ones are rounded independently"
    full_chroma = layout(pix_fmt).chroma == (0, 0) and layout(video.pix_fmt).chroma != (0, 0)
    if full_chroma and (video.width % 2 or video.height % 2) and not encoding.pix_fmt:
        yield f"it is written as {pix_fmt}, which not every player supports: {encoding.codec} needs it for odd dimensions"
    if (depth := layout(pix_fmt).depth) > video.depth:
        yield f"its {video.depth}-bit samples are stored in {depth} bits, with zeros in the low bits"
    if video.fields and encoder(encoding.codec).name not in _MARK_INTERLACED:
        yield f"it stays interlaced, but {encoding.codec} can't mark frames as interlaced: only the container does"
    if loses_aspect(video, encoding, container):
        yield f"its sample aspect ratio ({video.sample_aspect}) is lost: {suffix} can't hold it with {encoding.codec}"
    for item in _lost_hdr(video.hdr, encoder(encoding.codec).name):
        yield f"{item} is lost: {encoding.codec} can't store it"
    yield from _lost_samples(video, encoding, container, pix_fmt)


def _why_another(video: VideoFile, encoding: Encoding, container: Container) -> str:
    """Why it is not written into its own container."""
    own = _own_muxer(video, video.name.suffix.lower())
    if encoder(encoding.codec).canonical_name in _OF_MATROSKA and container.muxer == "matroska" and own:
        return (
            f"archives keep {encoding.codec.upper()} in Matroska (RFC 9043); `container: same` would keep its own, if that can"
        )
    return f"its own container can't hold {encoding.codec} with all of its streams and tags"


def _lost_samples(video: VideoFile, encoding: Encoding, container: Container, pix_fmt: str) -> Iterator[str]:
    """Warnings about bits, an alpha channel and cropping that the output won't have."""
    form = layout(pix_fmt)
    if form.depth < video.depth:
        yield f"its {video.depth}-bit samples are rounded to {form.depth} bits, as `pix_fmt` asks for"
    beside = encoder(encoding.codec).canonical_name == "vp9" and container.muxer not in {"matroska", "webm"}
    if video.alpha and (beside or not form.alpha):
        where = container.suffix if beside else pix_fmt
        yield f"its alpha channel is lost: {encoding.codec} in {where} has none; `codec: ffv1` or `prores` would keep it"
    if video.cropping != NO_CROPPING and not can_write_cropping(encoder(encoding.codec).canonical_name):
        yield f"its cropping ({video.cropping}) is lost: it can't be written with {encoding.codec}"


def _lost_hdr(hdr: HdrMetadata, codec: str) -> Iterator[str]:
    """HDR metadata that the output won't carry."""
    supported = codec in ENCODERS
    if (hdr.primaries or hdr.luminance) and not (supported and hdr.primaries and hdr.luminance):
        yield "its mastering display metadata"
    if hdr.content and not supported:
        yield "its content light level"
