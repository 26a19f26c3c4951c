"""What a film is written into, told before its frames are read."""

import io
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import NamedTuple

import av
import av.error

from bwpipe.errors import MediaError
from bwpipe.film import Film
from bwpipe.film.codec import Encoding, encoder

_WITH_ASPECT = frozenset({"libx264", "libx265", "mpeg4", "mpeg2video"})
"""Encoders whose coded picture tells how wide a pixel is."""


class Container(NamedTuple):
    """What a film is written into: FFmpeg's name of the muxer, and the file name's suffix."""

    muxer: str
    suffix: str


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
