"""Opens a film of numbered files: the header of its first frame, its sound, and a sample of its frames."""

import json
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from av.stream import Disposition

from bwpipe.core.inputs import expand_user
from bwpipe.core.ports import ScanCache
from bwpipe.errors import MediaError
from bwpipe.image.file import ImageFile
from bwpipe.image.open import open_image
from bwpipe.pixels.levels import range_of_counts
from bwpipe.pixels.tint_detection import ColourKind, colour_kind
from bwpipe.sequence import dpx
from bwpipe.sequence.file import CONTAINER, NO_STREAM, FrameFormat, FrameSequence, naming, open_sound
from bwpipe.sequence.frames import MATRIX, FramePlanes, format_of, read_file, read_planes
from bwpipe.sequence.numbering import FrameFiles
from bwpipe.sequence.transfer import Transfer, curve_of
from bwpipe.video.file import FULL, UNSPECIFIED, ColourTags, Track
from bwpipe.video.hdr_metadata import NO_HDR
from bwpipe.video.probe import describe_track, display_matrix, kind_of_film, sample_numbers

Gaps: TypeAlias = Literal["refuse", "hold"]
_SCAN = "numbered frames 1"
"""Cache key for what was found by looking at frames; raise the number when the result changes."""
_TAGS: dict[FrameFormat, ColourTags] = {
    "image": ColourTags(FULL, 6, 1, 13),
    "dpx": ColourTags(FULL, 1, 1, 1),
    "exr": ColourTags(FULL, 1, 1, 13),
}
"""What the codes of each format mean: BT.601's or BT.709's luma, BT.709's primaries, and sRGB's or BT.709's transfer."""
_HERE = PurePosixPath()
_LINEAR_TAG = 8
_UNTAGGED = ColourTags(0, UNSPECIFIED, UNSPECIFIED, UNSPECIFIED)


class _First(NamedTuple):
    """What the first frame tells of all."""

    form: FrameFormat
    image: ImageFile | None
    planes: FramePlanes
    orientation: int
    aspect: Fraction | None
    tags: dict[str, str]
    stated: Transfer


class _Look(NamedTuple):
    """What a sample of the frames tells."""

    tones: tuple[int, int]
    colour: ColourKind
    coloured: float


def open_sequence(
    files: FrameFiles,
    *,
    rate: Fraction,
    gaps: Gaps = "refuse",
    transfer: Transfer | None = None,
    sound: str | None = None,
    max_pixels: int,
    stop: int | None = None,
    parent: PurePosixPath = _HERE,
    scans: ScanCache | None = None,
) -> FrameSequence:
    """Open numbered files as one film: reads the first header, and decodes about 32 frames.

    Args:
        files: The files.
        rate: Frames per second.
        gaps: Whether missing and doubled numbers are refused, or the frame before a gap is shown until its end.
        transfer: What the codes mean; None for what their format and header say.
        sound: A file whose sound belongs to the film.
        max_pixels: The most pixels of a frame.
        stop: The first frame that is not wanted; None if all are.
        parent: The folder of the files, relative to the one that is read.
        scans: Cache of what earlier runs found by looking at frames.

    Raises:
        MediaError: The numbers have gaps, or a frame or the sound can't be read.
    """
    faults = files.faults()
    if faults and gaps == "refuse":
        raise MediaError(f"{'; '.join(faults)}; renumber the files, or set `gaps: hold` to show the frame before a gap longer")
    first = _open_first(files, transfer, max_pixels)
    chosen = transfer or ("video" if first.stated == "linear" else first.stated)
    if chosen != "video" and first.form == "exr":
        raise MediaError("OpenEXR files hold light itself; leave `transfer` out")
    depth = first.planes.depth
    look = _look_at(files, first, chosen, max_pixels, scans)
    grey = look.colour == "grey"
    tags = _TAGS[first.form]
    if chosen != "video":
        tags = tags._replace(transfer=_LINEAR_TAG if chosen == "linear" else UNSPECIFIED)
    height, width = first.planes.luma.shape
    path = expand_user(sound) if sound else None
    return FrameSequence(
        path=files.path(0),
        name=parent / files.title,
        width=width,
        height=height,
        depth=depth,
        levels=(0, (1 << depth) - 1),
        matrix=MATRIX[first.form],
        orientation=first.orientation,
        time_base=1 / rate,
        frames=len(files),
        tones=look.tones,
        curve=None if first.form == "exr" else curve_of(chosen, depth),
        colour=look.colour,
        coloured=look.coloured,
        container=CONTAINER,
        brand="",
        codec=first.image.format.lower() if first.image else first.form,
        pix_fmt=_pixel_format(depth, grey=grey, alpha=first.planes.alpha is not None),
        stated=_UNTAGGED,
        tags=tags,
        sample_aspect=first.aspect,
        display=display_matrix(first.orientation),
        rate=rate,
        times=files.numbers - files.numbers[0],
        last=1,
        timing="exact",
        keys=np.zeros((0, 3), np.int64),
        fields="",
        stream_index=NO_STREAM,
        places=(),
        clocks={},
        disposition=Disposition.default,
        tracks=_sound_tracks(path),
        chapters=0,
        metadata=({}, first.tags),
        faults=(*_held(faults, files), *_said(first, chosen, transfer)),
        hdr=NO_HDR,
        files=files,
        form=first.form,
        first=first.image,
        transfer=chosen,
        sound=path.absolute() if path else None,
        max_pixels=max_pixels,
        stop=stop,
        hold=gaps == "hold",
    )


def _held(faults: list[str], files: FrameFiles) -> list[str]:
    """What becomes of gaps and doubles."""
    ends = ["the frame before each gap is shown until its end" if files.gaps() else "", "the latter are left out"]
    if not files.gaps():
        ends = ends[1:]
    return [f"{fault}: {end}" for fault, end in zip(faults, ends, strict=False)]


def _said(first: _First, chosen: Transfer, wanted: Transfer | None) -> list[str]:
    """What its codes are taken for, where that is not obvious."""
    if first.form == "exr":
        return ["its samples are light, without a limit: networks see them as on a display; OpenEXR output keeps them"]
    if chosen == "log":
        return ["its codes are logarithmic (Cineon) and are kept so: networks see them as on a display"]
    if chosen == "linear":
        return ["its codes are proportional to light and are kept so: networks see them as on a display"]
    if first.stated == "linear" and wanted is None:
        return [
            "its header says linear, as programs write for any codes: they are read as they are; if not, set `transfer: linear`"
        ]
    return []


def _open_first(files: FrameFiles, transfer: Transfer | None, max_pixels: int) -> _First:
    path = files.path(0)
    with naming(files.name(0)):
        form = format_of(path)
        if form == "image":
            image = open_image(path, PurePosixPath(path.name), max_pixels=max_pixels)
            planes = read_planes(path, form, max_pixels=max_pixels)
            return _First(form, image, planes, image.orientation, None, {}, transfer or "video")
        planes = read_planes(path, form, transfer=transfer or "video", max_pixels=max_pixels)
        if form == "exr":
            return _First(form, None, planes, 1, None, {}, "video")
        head = dpx.read_header(read_file(path, form, max_pixels=max_pixels))
        tags = {"timecode": head.time_code} if head.time_code else {}
        return _First(form, None, planes, head.orientation, head.aspect, tags, head.transfer)


def _pixel_format(depth: int, *, grey: bool, alpha: bool) -> str:
    """The name that FFmpeg has for the samples; what output is chosen by."""
    deep = f"{depth}le" if depth > 8 else ""
    if grey and not alpha:
        return f"gray{deep}"
    if grey and depth in (8, 16):
        return "ya8" if depth == 8 else "ya16le"
    return f"gbr{'a' * alpha}p{deep}"


def _look_at(files: FrameFiles, first: _First, transfer: Transfer, max_pixels: int, scans: ScanCache | None) -> _Look:
    """The tones and the kind of colour of about 32 frames, or what an earlier run found."""

    def look() -> bytes:
        return json.dumps(_sampled(files, first, transfer, max_pixels)).encode()

    def read(found: bytes) -> _Look:
        (black, white), colour, coloured = json.loads(found)
        return _Look((black, white), colour, coloured)

    stamp = files.stamp(0, None, again=False)
    identity = f"{stamp.size:x}-{stamp.mtime_ns:x}" if stamp else ""
    return scans.find(files.path(0), f"{_SCAN}, {transfer}, {identity}", look, read) if scans else read(look())


def _sampled(files: FrameFiles, first: _First, transfer: Transfer, max_pixels: int) -> _Look:
    depth, shape = first.planes.depth, first.planes.luma.shape
    curve = None if first.form == "exr" else curve_of(transfer, depth)
    counts = np.zeros(1 << (depth if curve is None else 16), np.int64)
    kinds: list[ColourKind] = []
    for index in sample_numbers(len(files)):
        try:
            planes = read_planes(files.path(index), first.form, transfer=transfer, max_pixels=max_pixels)
        except (MediaError, OSError):  # reading reports it
            continue
        if planes.depth != depth or planes.luma.shape != shape:
            continue
        luma = planes.luma if curve is None else curve[planes.luma]
        counts += np.bincount(luma[::2, ::2].ravel(), minlength=len(counts))
        kinds.append("grey" if planes.chroma is None else colour_kind(luma, planes.chroma))
    return _Look(range_of_counts(counts), kind_of_film(kinds), kinds.count("colour") / max(len(kinds), 1))


def _sound_tracks(path: Path | None) -> tuple[Track, ...]:
    """The tracks of the sound that belongs to a film. Raises MediaError."""
    if path is None:
        return ()
    with open_sound(path) as container:
        tracks = tuple(describe_track(stream) for stream in container.streams if stream.type == "audio")
    if not tracks:
        raise MediaError(f"its sound {path.name} holds no sound; give `sound` another file")
    return tracks
