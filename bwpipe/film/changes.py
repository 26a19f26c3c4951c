"""What becomes other than it was when a film is written, told from its header, before the work begins."""

from collections.abc import Iterator

from bwpipe.film import Film
from bwpipe.film.codec import Encoding, encoder, pixel_format
from bwpipe.film.containers import container_for, loses_aspect
from bwpipe.film.light import CODERS, Light
from bwpipe.film.pixels import layout

_WITH_FIELDS = frozenset({"libx264", "ffv1", "mpeg2video", "prores_ks", "dnxhd"})
"""Encoders that mark frames as interlaced."""


def changes(film: Film, encoding: Encoding) -> Iterator[str]:
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


def _unsaid(light: Light, codec: str) -> Iterator[str]:
    """What it says of its brightness and the output won't."""
    able = codec in CODERS
    if (light.primaries or light.luminance) and not (able and light.primaries and light.luminance):
        yield "what it says of its mastering display"
    if light.content and not able:
        yield "its content light level"
