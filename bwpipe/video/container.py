"""What a film is written into, told before its frames are read."""

import io
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import NamedTuple

import av
import av.error

from bwpipe.errors import MediaError
from bwpipe.video.encoding import Encoding, encoder, pixel_format
from bwpipe.video.file import VideoFile
from bwpipe.video.hdr_metadata import CODERS, HdrMetadata
from bwpipe.video.pixel_formats import layout

_WITH_ASPECT = frozenset({"libx264", "libx265", "mpeg4", "mpeg2video"})
"""Encoders whose coded picture tells how wide a pixel is."""


class Container(NamedTuple):
    """What a film is written into: FFmpeg's name of the muxer, and the file name's suffix."""

    muxer: str
    suffix: str


def container_for(film: VideoFile, encoding: Encoding) -> Container:
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


def loses_aspect(film: VideoFile, encoding: Encoding, container: Container) -> bool:
    """Whether the shape of a pixel is lost: PyAV can tell MP4 of it, Matroska has it from the coded picture only."""
    wide = film.sample_aspect not in {None, 1} and encoder(encoding.codec).name not in _WITH_ASPECT
    return wide and container.muxer in {"matroska", "webm"}


def _containers(film: VideoFile) -> Iterator[Container]:
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


_WITH_FIELDS = frozenset({"libx264", "ffv1", "mpeg2video", "prores_ks", "dnxhd"})
"""Encoders that mark frames as interlaced."""


def conversion_notes(film: VideoFile, encoding: Encoding) -> Iterator[str]:
    """Sentences, without the film's name, on its container, tracks, times, pixels and shape. Raises MediaError."""
    container, pix_fmt = container_for(film, encoding), pixel_format(film, encoding)
    suffix = container.suffix
    if film.name.suffix.lower() != suffix:
        yield f"it becomes {suffix}, since its own container can't hold {encoding.codec} with all of its streams and tags"
    for track in film.tracks:
        if container.muxer not in track.fits:
            yield f"{track} is left out: {suffix} can't hold it"
    if container.muxer in {"matroska", "webm"} and "matroska" not in film.container:
        sound = any(track.rate for track in film.tracks)
        if sound or (film.times * film.time_base.numerator * 1000 % film.time_base.denominator).any():
            yield "Matroska counts in milliseconds: times that are none are rounded, each by itself"
    finer = layout(pix_fmt).chroma == (0, 0) and layout(film.pix_fmt).chroma != (0, 0)
    if finer and (film.width % 2 or film.height % 2) and not encoding.pix_fmt:
        yield f"it becomes {pix_fmt}, which not every player shows: {encoding.codec} needs that for an odd size"
    if (depth := layout(pix_fmt).depth) > film.depth:
        yield f"its samples of {film.depth} bits are held in {depth}, each with zeros below"
    if film.fields and encoder(encoding.codec).name not in _WITH_FIELDS:
        yield f"its interlaced lines are kept, but {encoding.codec} can't mark frames as such: only the container says so"
    if loses_aspect(film, encoding, container):
        yield f"the shape of its pixels ({film.sample_aspect}) is lost: {suffix} can't hold it with {encoding.codec}"
    for lost in _unsaid(film.light, encoder(encoding.codec).name):
        yield f"{lost} is lost: {encoding.codec} can't be told of it"


def _unsaid(light: HdrMetadata, codec: str) -> Iterator[str]:
    """What it says of its brightness and the output won't."""
    able = codec in CODERS
    if (light.primaries or light.luminance) and not (able and light.primaries and light.luminance):
        yield "what it says of its mastering display"
    if light.content and not able:
        yield "its content light level"
