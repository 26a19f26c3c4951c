"""What flows through a graph: frames, which belong to units, which belong to media."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.fingerprint import FileStamp, digest, file_stamp

Luma: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]
Chroma: TypeAlias = NDArray[np.float16]
Matrix: TypeAlias = Literal["bt601", "bt709", "bt2020"]
FlowField: TypeAlias = NDArray[np.float32]
"""(h, w, 2): for each cell of a grid, the x and y offset, in cells, of the same content in another frame."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Media:
    """One input, and what is known about it before its frames are read: a file, or many that are read as one film.

    `bwpipe.image.file.ImageFile`, `bwpipe.video.file.VideoFile` and `bwpipe.sequence.file.FrameSequence` add what their
    writers need.

    Attributes:
        path: The file, absolute; the first one if there are many.
        name: Its path relative to the folder that is read; the output mirrors it.
        width, height: Size of the luma plane as stored, in pixels; 0 for a medium without images.
        depth: Significant bits per luma sample: 8 in a uint8 array, more in a uint16 array.
        levels: Luma code values of black and white, e.g. (0, 255), (16, 235), (64, 940), (0, 65535).
        matrix: Matrix coefficients: the luma weights, and thus the scale of chroma in the file.
        orientation: EXIF orientation (tag 274) of the stored rows and columns: 1 is upright.
        cropping: How many of the stored rows at the top and the bottom, and columns at the left and the right, are not to be
            shown.
        frames: Number of frames that the file declares; None if it does not.
        tones: Luma code values that span nearly all of a video (`video.probe`); None if each frame is measured on its own.
            Of a medium with a curve they are what the curve gives.
        curve: (codes,) uint16, increasing: how bright each luma code is on a display, 0 to 65535, where codes are logarithmic
            or proportional to light. None if they are meant for a display as they are.
    """

    kind: ClassVar[str] = "picture"
    has_segments: ClassVar[bool] = False
    """Whether it can be split into segments of many consecutive frames; otherwise it is one unit of few frames."""
    has_frame_files: ClassVar[bool] = False
    """Whether each of its frames is a file of its own."""

    path: Path
    name: PurePosixPath
    width: int = 0
    height: int = 0
    depth: int = 8
    levels: tuple[int, int] = (0, 255)
    matrix: Matrix = "bt601"
    orientation: int = 1
    cropping: tuple[int, int, int, int] = (0, 0, 0, 0)
    time_base: Fraction | None = None
    frames: int | None = 1
    tones: tuple[int, int] | None = None
    curve: NDArray[np.uint16] | None = None

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width of the luma plane when it is turned upright."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)

    def on_display(self, luma: Luma) -> tuple[Luma, tuple[int, int]]:
        """Luma codes as a display shows them, and those of black and white there: the same and `levels` without a curve."""
        return (luma, self.levels) if self.curve is None else (self.curve[luma], (0, 65535))

    def index_at(self, seconds: float) -> int:
        """The first frame that is shown at a time from its start, or later; the number of frames if there is none."""
        return 0

    def stamp(self, start: int = 0, stop: int | None = None, *, again: bool = True) -> FileStamp | None:
        """The stamp of what holds the frames from `start` to `stop`, excluded; None if that is gone.

        With `again` false, what was found when the medium was opened may do.
        """
        return file_stamp(self.path)

    def digest(self, stamp: FileStamp, tick: Callable[[], None] = lambda: None) -> str:
        """A hash of what had this stamp; `tick` is called now and then, and its exceptions end the work. Raises OSError."""
        return digest(self.path, tick)

    def __str__(self) -> str:
        """A description for messages: "a picture of 640x480 pixels"."""
        return f"a {self.kind} of {self.width}x{self.height} pixels" if self.width else f"a {self.kind}"


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """The unit of work that is processed, recorded and resumed as a whole: an image, or a segment of a video.

    Attributes:
        media: The file.
        part: Index of the segment in the video, from 0.
        start, stop: Its frame range in the media, stop excluded; stop is None for "to the end".
        since: First frame of the run of segments that share one decoder, if it belongs to one; None if it is decoded alone.
    """

    media: Media
    part: int = 0
    start: int = 0
    stop: int | None = None
    since: int | None = None

    @property
    def path(self) -> Path:
        """The file."""
        return self.media.path

    @property
    def name(self) -> PurePosixPath:
        """The file's path relative to the folder that is read."""
        return self.media.name


@dataclass(frozen=True, slots=True)
class Broken:
    """An input file whose header already shows that it can't be read.

    Attributes:
        path: The file, absolute.
        name: Its path relative to the folder that is read.
        error: What is wrong with it, in a sentence that does not name it.
    """

    path: Path
    name: PurePosixPath
    error: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """An input file of a kind that is not read, such as a text among the pictures.

    Attributes:
        path: The file, absolute.
        name: Its path relative to the folder that is read.
        what: What such files are, in the plural; empty if nothing more is known than that they are neither pictures nor films.
    """

    path: Path
    name: PurePosixPath
    what: str = ""

    @property
    def why(self) -> str:
        """The reason, the same for all files that are `what` it is, or else with its ending."""
        return self.what or f"of another kind ({self.name.suffix.lower() or 'no ending'})"


def skipped_in_words(files: Sequence[Skipped]) -> str:
    """One line that counts skipped files and names the first of each kind; empty if there are none."""
    groups: dict[str, list[Skipped]] = {}
    for file in files:
        groups.setdefault(file.what or "of other kinds than pictures and films", []).append(file)
    return "; ".join(_group_in_words(what, group) for what, group in groups.items())


def _group_in_words(what: str, files: Sequence[Skipped]) -> str:
    first: dict[str, str] = {}
    for file in files:
        first.setdefault(file.why, str(file.name))
    count = "1 file is" if len(files) == 1 else f"{len(files)} files are"
    more = f" and {len(files) - len(first)} more" if len(files) > len(first) else ""
    return f"{count} {what}, and skipped: {', '.join(first.values())}{more}"


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """Motion analysis of a video frame, by the stage `shots`.

    Attributes:
        seen: (h, w) uint8, full range, read-only: the guide on a grid whose short side has at most `optical_flow.SHORT` cells.
        cut: Whether a shot starts at this frame: after a cut, within a dissolve, at the end of a fade, or at the video's start.
        since: Frames since the start of the shot or of this unit's delivered frames, whichever is later.
        back: (h, w, 2) float32, read-only: optical flow to the previous frame, as x and y offsets in cells. None at the start
            of a shot.
        on: The same to the next frame; None at the end of a shot. Both are None if there is no such frame.
        key: Whether too much of it is unlike the last key frame of its shot along the motion (`motion.key_frames`): chroma of
            the other frames can be filled in from the key frames around them.
    """

    seen: NDArray[np.uint8]
    cut: bool
    since: int
    back: FlowField | None
    on: FlowField | None
    key: bool = True


class StoredChroma(NamedTuple):
    """A film's chroma as its file holds it, so that a frame that keeps it is written with the same codes.

    Attributes:
        codes: (2, h, w) uint8 or uint16, in the media's depth and range, on the film's own grid.
        chroma: The same as `Frame.chroma`. Codes stand for a frame's chroma only as long as that is this very array.
    """

    codes: Luma
    chroma: Chroma


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image passing through a graph. Immutable: use `dataclasses.replace`.

    Attributes:
        luma: (H, W) uint8 or uint16, as stored in the file (but see `read.deinterlace`), read-only; its levels and depth are
            the media's.
        unit: The unit it belongs to, which refers to the media.
        index: Its index in the media, from 0.
        pts: Presentation timestamp, in the media's time base; None for an image.
        duration: Duration in the same units; None if the file does not state it.
        chroma: (2, h, w) float16, Cb and Cr in -0.5..0.5 (full-range BT.601), on any grid up to the luma's; None while
            unknown. `read` delivers that of colour images and films, `grayscale` drops it, `colorize` predicts it.
        guide: (h, w) uint8 full range, on a grid up to the luma's: the input of networks and motion analysis; None means the
            luma.
        confidence: (h, w) float16 in 0..1, the network's confidence in the chroma; None if it provides none.
        features: (C, h, w) float16, the network's features on a grid 16 times coarser than its input; None if it has none, or
            if no stage below `colorize` needs them.
        motion: Result of `shots`: whether this frame starts a shot, and the small optical flows to its neighbours.
        alpha: (H, W) like luma, in full range, or None.
        stored: The codes of a film's chroma, from `read`; None for an image and for a grey film.
        side_data: What the coded frame of a film carries besides samples, such as closed captions: pairs of a kind and the
            bytes that FFmpeg gives for it; `bwpipe.video.side_data` knows the kinds.
        context: True for a frame that only provides temporal context for its neighbours, and is never written.
        notes: Data that a plug-in stage passes to a later one, under its own name.
    """

    luma: Luma
    unit: Unit
    index: int = 0
    pts: int | None = None
    duration: int | None = None
    chroma: Chroma | None = None
    guide: NDArray[np.uint8] | None = None
    confidence: NDArray[np.float16] | None = None
    features: NDArray[np.float16] | None = None
    motion: Motion | None = None
    alpha: Luma | None = None
    stored: StoredChroma | None = None
    side_data: tuple[tuple[str, bytes], ...] = ()
    context: bool = False
    notes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class End:
    """Marks the end of a unit's items; a unit without it is never committed.

    Attributes:
        unit: The unit that ends.
        error: Why it failed; None if all of its items were delivered.
    """

    unit: Unit
    error: Exception | None = None
