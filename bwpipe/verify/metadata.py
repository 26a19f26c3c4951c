"""Compares what two films say of themselves: colour tags, rotation, chapters, titles and the like."""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from bwpipe.verify.timestamps import HALF_MS
from bwpipe.verify.verdict import Verdict
from bwpipe.video.file import LIMITED, VideoFile
from bwpipe.video.pixel_formats import layout

_UNSPECIFIED = {"range": {0}, "matrix": {0, 2}, "primaries": {0, 2}, "transfer": {0, 2}}
_OF_THE_FILE = (
    *("major_brand", "minor_version", "compatible_brands", "encoder", "software", "writing_app", "muxing_app"),
    *("duration", "bps", "number_of_", "_statistics", "vendor_id"),
)
"""How tags begin that tell of one file and not of its content. The list is not the writer's: a judge has an own mind."""
_OF_THE_CONTAINER = {"handler_name", "language", "creation_time"}
"""Tags of a stream that containers make up, or that are compared by themselves."""
_IN_MP4 = frozenset(
    {
        *(
            "title",
            "artist",
            "album_artist",
            "composer",
            "album",
            "date",
            "comment",
            "genre",
            "copyright",
            "grouping",
            "lyrics",
        ),
        *("description", "synopsis", "show", "episode_id", "network", "keywords", "creation_time", "track", "disc"),
        *("episode_sort", "season_number", "compilation", "language"),
    }
)
"""Tags of a file that MP4 has a place for."""
_LINES = {"": "progressive", "tff": "interlaced, top field first", "bff": "interlaced, bottom field first"}
_NO_DATE = ("1970-01-01T00:00:00", "1904-01-01T00:00:00")
"""How a file's date reads where it has none."""
_IDENTITY = (65536, 0, 0, 0, 65536)
_ANGLE = 66
"""By how much a number of a display matrix may differ: Matroska holds the angle instead."""


def compare_form(before: VideoFile, after: VideoFile, verdict: Verdict) -> None:
    """Size, depth, colour tags, sample aspect, rotation, lines of two moments."""
    said = {
        "picture is {} instead of {}": (f"{film.width}x{film.height}" for film in (after, before)),
        "depth is {} bits instead of {}": (film.depth for film in (after, before)),
        "sample aspect is {} instead of {}": (str(film.sample_aspect or 1) for film in (after, before)),
        "rotation is {} instead of {}": (_turn(film) for film in (after, before)),
        "lines are {} instead of {}": (_LINES[film.fields] for film in (after, before)),
    }
    for text, values in said.items():
        now, was = values
        same = _same_turn(before, after) if text.startswith("rotation") else now == was
        if text.startswith("depth") and holds_shifted(before, after):
            verdict.remarks.append(f"its samples of {was} bits are held in {now}, each with zeros below")
            continue
        if not same:
            verdict.differences.append(f"its {text.format(now, was)}")
    for name, wanted, stated, now in zip(before.tags._fields, before.tags, before.stated, after.stated, strict=True):
        given = stated not in _UNSPECIFIED[name]
        rgb = layout(before.pix_fmt).kind == "rgb" and name in {"range", "matrix"}  # it becomes Y, Cb, Cr
        allowed = {stated} if given and not rgb else _UNSPECIFIED[name] | {wanted}
        if now not in allowed:
            verdict.differences.append(f"its colour {name} is {now} instead of {wanted} (as ITU-T H.273 and FFmpeg count)")
    verdict.facts["picture"] = {
        "size": [after.width, after.height],
        "depth": after.depth,
        "pix_fmt": [before.pix_fmt, after.pix_fmt],
        "codec": [before.codec, after.codec],
        "container": [before.container, after.container],
        "colour": dict(zip(after.stated._fields, after.stated, strict=True)),
        "assumed": [name for name, value in before.stated._asdict().items() if value in _UNSPECIFIED[name]],
        "sample_aspect": str(after.sample_aspect or 1),
        "orientation": after.orientation,
        "lines": _LINES[after.fields],
    }


def holds_shifted(before: VideoFile, after: VideoFile) -> bool:
    """Whether an output has more bits a sample than its input and both limited range: codes are then the same, shifted."""
    return after.depth > before.depth and before.tags.range == after.tags.range == LIMITED


def compare_chapters(before: list[Any], after: list[Any], verdict: Verdict) -> None:
    """Chapters, each with its title and times; MP4 and Matroska hold these in units of their own."""
    verdict.facts["chapters"] = {"input": len(before), "output": len(after)}
    if len(before) != len(after):
        verdict.differences.append(f"it has {len(after)} chapters instead of {len(before)}")
        return
    for number, (was, now) in enumerate(zip(before, after, strict=True), 1):
        titles = [chapter["metadata"].get("title", "") for chapter in (was, now)]
        if titles[0] != titles[1]:
            verdict.differences.append(f"chapter {number} is called {titles[1]!r} instead of {titles[0]!r}")
        for edge in ("start", "end"):
            times = [Fraction(chapter[edge] * chapter["time_base"]) for chapter in (was, now)]
            if abs(times[0] - times[1]) > HALF_MS:
                verdict.differences.append(
                    f"chapter {number} has its {edge} at {float(times[1]):.3f} s instead of {float(times[0]):.3f} s"
                )


def compare_tags(
    before: Mapping[str, str], after: Mapping[str, str], made: VideoFile, verdict: Verdict, *, of: str, stream: bool = False
) -> Iterator[str]:
    """What became of tags such as a title: those that are lost or changed, a sentence each.

    Args:
        before: The input's.
        after: The output's, without what bwpipe added.
        made: The output: what its container has no place for is a remark only.
        verdict: Gets the remarks.
        of: What they are called.
        stream: Whether they are of a stream, not of the file.
    """
    now = _named(after)
    for name, value in _named(before).items():
        if name.startswith(_OF_THE_FILE) or (stream and name in _OF_THE_CONTAINER):
            continue
        found = now.get(name)
        if found is None and not _holds(made, name, stream):
            verdict.remarks.append(f"{of} {name} is lost: {made.path.suffix} has no place for it")
        elif found is None:
            yield f"{of} {name} is lost"
        elif found != value:
            yield f"{of} {name} is {found!r} instead of {value!r}"


def _named(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags by names that are the same in all containers: Matroska writes them in capitals, MP4 calls a title a name."""
    named = {key.lower().replace(" ", "_"): value for key, value in tags.items()}
    if named.get("creation_time", "").startswith(_NO_DATE):
        del named["creation_time"]
    if "name" in named:
        named.setdefault("title", named.pop("name"))
    return named


def _holds(made: VideoFile, name: str, stream: bool) -> bool:
    """Whether the output's container has a place for a tag."""
    if "matroska" in made.container:
        return True
    return name == "title" if stream else name in _IN_MP4


def _turn(film: VideoFile) -> str:
    return f"EXIF's {film.orientation} {film.display[:5] if film.display else ''}".strip()


def _same_turn(before: VideoFile, after: VideoFile) -> bool:
    one, other = (film.display[:5] if film.display else _IDENTITY for film in (before, after))
    return all(abs(a - b) <= _ANGLE for a, b in zip(one, other, strict=True))
