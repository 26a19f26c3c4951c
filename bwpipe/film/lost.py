"""What a film's container could not hold of its tags, told by a look at the finished file."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from av.stream import Discard, Disposition, Stream

from bwpipe.film import Film, open_container
from bwpipe.film.carry import kept
from bwpipe.provenance import read_note

_MOST = 8
"""So many tags are named."""


def lost_tags(film: Film, path: Path, muxer: str, streams: Sequence[int]) -> Iterator[str]:
    """Say which tags and dispositions of a film are not, or not the same, in what was written of it.

    Args:
        film: What it was made of.
        path: The finished file.
        muxer: What it was written with.
        streams: Which of the film's streams were written, covers left out, in the order of the file's.

    Yields:
        A sentence, without the file's name, of tags, and one of dispositions.

    Raises:
        MediaError: It can't be opened.
    """
    tags: list[str] = []
    said: list[str] = []
    with open_container(film.path) as source, open_container(path) as made:
        tags += _missing(kept(source.metadata, muxer), kept(read_note(made.metadata)[0], muxer), "")
        for one, other in zip((source.streams[index] for index in streams), filter(_is_copy, made.streams), strict=False):
            tags += _missing(kept(one.metadata, muxer), kept(other.metadata, muxer), f" of {_name(film, one)}")
            if unheld := one.disposition & ~other.disposition:
                words = " and ".join(flag.name or "" for flag in Disposition if flag & unheld)
                said.append(f"{words} ({_name(film, one)})")
    if tags:
        more = f" and {len(tags) - _MOST} more" if len(tags) > _MOST else ""
        yield f"its container can't hold some tags as they are, which are lost: {', '.join(tags[:_MOST])}{more}"
    if said:
        yield f"its container can't hold what some streams are marked as: {', '.join(said)}"


def _is_copy(stream: Stream) -> bool:
    return not (stream.discard == Discard.all or stream.disposition & Disposition.attached_pic)


def _missing(before: Mapping[str, str], after: Mapping[str, str], where: str) -> list[str]:
    known = {key.lower(): value for key, value in after.items()}
    return [f"{key}{where}" for key, value in before.items() if known.get(key.lower()) != value and value not in {"", "und"}]


def _name(film: Film, stream: Stream) -> str:
    return "the picture" if stream.index == film.place else f"{stream.type} track {stream.index}"
