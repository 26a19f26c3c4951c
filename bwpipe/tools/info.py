"""What a file is, and what its metadata say about how bwpipe made it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bwpipe.core.frame import Broken, Unit
from bwpipe.core.options import format_value
from bwpipe.core.provenance import NETWORK, Provenance, read_note
from bwpipe.core.stage import Source, stages
from bwpipe.errors import MediaError, UsageError
from bwpipe.image.file import ImageFile, decoding
from bwpipe.image.provenance_tag import history
from bwpipe.image.read import read_metadata
from bwpipe.video.file import VideoFile


def file_info(path: Path) -> dict[str, Any]:
    """What a picture or a film is, as JSON; `bwpipe.tools.json_fields.INFO` says what each field is.

    Raises:
        UsageError: There is no such file.
        MediaError: It can't be read.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give a picture or a film")
    source = stages["read"](path=str(path))  # type: ignore[call-arg]
    assert isinstance(source, Source)
    found = next(iter(source.units()))
    if isinstance(found, Broken):
        raise MediaError(f"{path}: {found.error}")
    assert isinstance(found, Unit), "a file that is given alone is not skipped"
    media = found.media
    facts: dict[str, Any] = {
        "path": str(media.path),
        "kind": media.kind,
        "width": media.width,
        "height": media.height,
        "depth": media.depth,
    }
    if isinstance(media, VideoFile):
        facts |= {"frames": len(media.times), "codec": media.codec}
        provenance = read_note(media.metadata[0])[1]
    else:
        assert isinstance(media, ImageFile)
        facts["format"] = media.format
        with decoding():
            provenance = history(read_metadata(media, media.path.read_bytes()))
    return {**facts, "provenance": provenance and _to_json(provenance)}


def info_lines(info: Mapping[str, Any]) -> Iterator[str]:
    """The result of `file_info` for a reader."""
    form = info.get("format") or f"{info['codec']}, {info['frames']} frames"
    yield f"{info['path']}: a {info['kind']} of {info['width']}x{info['height']} pixels, {info['depth']} bits, {form}"
    made = info["provenance"]
    if not made:
        yield "nothing in it says that bwpipe wrote it"
        return
    networks = [stage[NETWORK] for stage in made["stages"] if NETWORK in stage]
    by = f"bwpipe {made['version']}"
    yield f"colour added by {by}, network {', '.join(networks)}" if networks else f"written by {by}, which added no colour"
    for stage in made["stages"]:
        yield f"{stage['stage']}:"
        yield from (f"  {key}: {format_value(value)}" for key, value in stage.items() if key != "stage")


def _to_json(provenance: Provenance) -> dict[str, Any]:
    return {"version": provenance.version, "stages": [dict(stage) for stage in provenance.stages]}
