"""What flows through a graph: frames, each of a unit, each of a media."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Luma: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]
Chroma: TypeAlias = NDArray[np.float16]
Matrix: TypeAlias = Literal["bt601", "bt709", "bt2020"]
FlowField: TypeAlias = NDArray[np.float32]
"""(h, w, 2), an x and a y offset in cells for each cell of a grid: where what is seen there lies in another frame."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Media:
    """One file that frames come from, and what is known of it before its frames are read.

    `bwpipe.picture.Picture` and `bwpipe.film.Film` add what their writers need.

    Attributes:
        path: The file, absolute.
        name: Its place below the folder that is read; the output's place mirrors it.
        width, height: Of the luma plane as it is stored, in pixels; 0 for a medium without images.
        depth: Significant bits of a luma sample: 8 in a uint8 array, more in a uint16 one.
        levels: The luma codes of black and white, e.g. (0, 255), (16, 235), (64, 940), (0, 65535).
        matrix: Which weights made the luma, and so how chroma is scaled in the file.
        orientation: How the stored rows and columns are to be shown, as EXIF's tag 274 counts: 1 is upright.
        frames: How many frames the file promises; None where it does not say.
        tones: The luma codes between which nearly all of a film lies (`film.probe`); None where each frame is judged by itself.
    """

    kind: ClassVar[str] = "picture"
    has_segments: ClassVar[bool] = False
    """Whether it may be cut into segments, each of many frames in a row; else it is one unit, and of few frames."""

    path: Path
    name: PurePosixPath
    width: int = 0
    height: int = 0
    depth: int = 8
    levels: tuple[int, int] = (0, 255)
    matrix: Matrix = "bt601"
    orientation: int = 1
    time_base: Fraction | None = None
    frames: int | None = 1
    tones: tuple[int, int] | None = None

    def __str__(self) -> str:
        """What it is, for messages: "a picture of 640x480 pixels"."""
        return f"a {self.kind} of {self.width}x{self.height} pixels" if self.width else f"a {self.kind}"


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """The piece of work that is done, recorded and resumed as one: a picture, or a segment of a film.

    Attributes:
        media: The file.
        part: Which segment of the film it is, from 0.
        start, stop: Its frames, counted from the media's first; stop is None for "to the end".
        since: The first frame of the segments that are decoded in one go, if it is one of these; None where it is by itself.
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
        """The file's place below the folder that is read."""
        return self.media.name


@dataclass(frozen=True, slots=True)
class Broken:
    """A file that was to be read and whose header already says that it can't be.

    Attributes:
        path: The file, absolute.
        name: Its place below the folder that is read.
        error: What is wrong with it, in a sentence without its name.
    """

    path: Path
    name: PurePosixPath
    error: str


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """What the stage `shots` found out of a film's frame.

    Attributes:
        seen: (h, w) uint8, full range, read-only: the guide on a grid whose short side has at most `optical_flow.SHORT` cells.
        cut: Whether a shot begins with this frame: after a cut, amid a dissolve, at the end of a fade, or with the film.
        since: How many frames before this one the later of two frames is: the shot's first, and the unit's first delivered one.
        back: (h, w, 2) float32, read-only, where each cell of this frame lies in the frame before: an x and a y offset, in
            cells. None where the shot begins.
        on: The same for the frame after; None where the shot ends. Both are None where there is no such frame.
    """

    seen: NDArray[np.uint8]
    cut: bool
    since: int
    back: FlowField | None
    on: FlowField | None


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image on its way through a graph. Never changed: use `dataclasses.replace`.

    Attributes:
        luma: (H, W) uint8 or uint16, as the file has it (but see `read.deinterlace`), read-only; its levels and depth are the
            media's.
        unit: The unit it belongs to, which names the media.
        index: Its place in the media, from 0.
        pts: When it is shown, in the media's time base; None for a picture.
        duration: How long, in the same units; None where the file does not say.
        chroma: (2, h, w) float16, Cb and Cr in -0.5..0.5 (full-range BT.601), on any grid up to the luma's; None while
            unknown. `read` gives that of colour pictures, `grayscale` drops it, `colorize` guesses it.
        guide: (h, w) uint8 full range, on a grid up to the luma's: what networks and motion look at; None means the luma.
        confidence: (h, w) float16 in 0..1, how sure the network is of the chroma; None if it does not say.
        motion: What `shots` found: whether a cut comes before this frame, and the small flows from and to its neighbours.
        alpha: (H, W) like luma, or None.
        context: True for a frame that is there only for its neighbours' sake, and is never written.
        notes: What a plug-in stage wants a later one to know, under its own name.
    """

    luma: Luma
    unit: Unit
    index: int = 0
    pts: int | None = None
    duration: int | None = None
    chroma: Chroma | None = None
    guide: NDArray[np.uint8] | None = None
    confidence: NDArray[np.float16] | None = None
    motion: Motion | None = None
    alpha: Luma | None = None
    context: bool = False
    notes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class End:
    """Comes after the last item of a unit; a unit without it is never committed.

    Attributes:
        unit: The unit that is over.
        error: What made it fail; None if all of its items came.
    """

    unit: Unit
    error: Exception | None = None
