"""Compares the metadata of two videos: size, colour tags, rotation, chapters, titles and other tags."""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from bwpipe.verify.timestamps import HALF_MS
from bwpipe.verify.verdict import Verdict
from bwpipe.video.file import LIMITED, VideoFile
from bwpipe.video.pixel_formats import layout

_UNSPECIFIED = {"range": {0}, "matrix": {0, 2}, "primaries": {0, 2}, "transfer": {0, 2}}
_FILE_SPECIFIC = (
    *("major_brand", "minor_version", "compatible_brands", "encoder", "software", "writing_app", "muxing_app"),
    *("duration", "bps", "number_of_", "_statistics", "vendor_id"),
)
"""Prefixes of tags that describe one file rather than its content. Not shared with the writer: checks stay independent."""
_CONTAINER_SPECIFIC = {"handler_name", "language", "creation_time"}
"""Stream tags that containers fill in, or that are compared separately."""
_MP4_TAGS = frozenset(
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
"""File tags that MP4 can hold."""
_SCAN_TYPES = {"": "progressive", "tff": "interlaced, top field first", "bff": "interlaced, bottom field first"}
_NO_DATE = ("1970-01-01T00:00:00", "1904-01-01T00:00:00")
"""Creation dates that stand for none."""
_IDENTITY = (65536, 0, 0, 0, 65536)
_ANGLE = 66
"""Tolerance for the numbers of a display matrix: Matroska stores the angle instead."""


def compare_form(before: VideoFile, after: VideoFile, verdict: Verdict, *, rounded: bool = False) -> None:
    """Size, depth (`rounded`: a smaller one was requested), colour tags, sample aspect, rotation, field order."""
    properties = {
        "size is {} instead of {}": (f"{video.width}x{video.height}" for video in (after, before)),
        "depth is {} bits instead of {}": (video.depth for video in (after, before)),
        "sample aspect is {} instead of {}": (str(video.sample_aspect or 1) for video in (after, before)),
        "rotation is {} instead of {}": (_rotation(video) for video in (after, before)),
        "scan type is {} instead of {}": (_SCAN_TYPES[video.fields] for video in (after, before)),
    }
    for text, values in properties.items():
        now, was = values
        same = _same_rotation(before, after) if text.startswith("rotation") else now == was
        if text.startswith("depth") and holds_shifted(before, after):
            verdict.remarks.append(f"its {was}-bit samples are stored in {now} bits, with zeros in the low bits")
            continue
        if text.startswith("depth") and rounded:
            verdict.remarks.append(f"its {was}-bit samples are rounded to {now} bits")
            continue
        if not same:
            verdict.differences.append(f"its {text.format(now, was)}")
    for name, expected, stated, now in zip(before.tags._fields, before.tags, before.stated, after.stated, strict=True):
        given = stated not in _UNSPECIFIED[name]
        rgb = layout(before.pix_fmt).kind == "rgb" and name in {"range", "matrix"}  # it is converted to YCbCr
        allowed = {stated} if given and not rgb else _UNSPECIFIED[name] | {expected}
        if now not in allowed:
            verdict.differences.append(f"its colour {name} is {now} instead of {expected} (ITU-T H.273 and FFmpeg numbers)")
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
        "lines": _SCAN_TYPES[after.fields],
    }


def holds_shifted(before: VideoFile, after: VideoFile) -> bool:
    """Whether the output has more bits per sample than the input and both have limited range: codes are then only shifted."""
    return after.depth > before.depth and before.tags.range == after.tags.range == LIMITED


def compare_chapters(before: list[Any], after: list[Any], verdict: Verdict) -> None:
    """Compare chapter titles and times; the tolerance covers the time units of MP4 and Matroska."""
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
                    f"chapter {number} {edge}s at {float(times[1]):.3f} s instead of {float(times[0]):.3f} s"
                )


def compare_tags(
    before: Mapping[str, str],
    after: Mapping[str, str],
    output: VideoFile,
    verdict: Verdict,
    *,
    label: str,
    stream: bool = False,
) -> Iterator[str]:
    """Lost or changed tags such as a title, a sentence each.

    Args:
        before: The input's tags.
        after: The output's tags, without what bwpipe added.
        output: The output; tags that its container can't hold only give a remark.
        verdict: Receives the remarks.
        label: What to call the tags in messages.
        stream: Whether they belong to a stream, not to the file.
    """
    now = _normalised(after)
    for name, value in _normalised(before).items():
        if name.startswith(_FILE_SPECIFIC) or (stream and name in _CONTAINER_SPECIFIC):
            continue
        found = now.get(name)
        if found is None and not _holds(output, name, stream):
            verdict.remarks.append(f"{label} {name} is lost: {output.path.suffix} can't hold it")
        elif found is None:
            yield f"{label} {name} is lost"
        elif found != value:
            yield f"{label} {name} is {found!r} instead of {value!r}"


def _normalised(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags by names common to all containers: Matroska writes them in capitals, MP4 calls a track's title its name."""
    named = {key.lower().replace(" ", "_"): value for key, value in tags.items()}
    if named.get("creation_time", "").startswith(_NO_DATE):
        del named["creation_time"]
    if "name" in named:
        named.setdefault("title", named.pop("name"))
    return named


def _holds(output: VideoFile, name: str, stream: bool) -> bool:
    """Whether the output's container can hold a tag."""
    if "matroska" in output.container:
        return True
    return name == "title" if stream else name in _MP4_TAGS


def _rotation(video: VideoFile) -> str:
    return f"EXIF orientation {video.orientation} {video.display[:5] if video.display else ''}".strip()


def _same_rotation(before: VideoFile, after: VideoFile) -> bool:
    one, other = (video.display[:5] if video.display else _IDENTITY for video in (before, after))
    return all(abs(a - b) <= _ANGLE for a, b in zip(one, other, strict=True))
