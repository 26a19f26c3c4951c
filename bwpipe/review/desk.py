"""What the page with corrections can ask for: pictures, the state of a correction, previews, and to write corrections."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field

from bwpipe.core.atomic_file import WORK_FOLDER
from bwpipe.core.folder_lock import FolderLock
from bwpipe.errors import MediaError, UsageError
from bwpipe.pixels.ycbcr import rgb_to_ycbcr
from bwpipe.review.corrections import Corrections, Place
from bwpipe.review.entries import Album, Entry, to_json
from bwpipe.review.live_preview import LivePreview
from bwpipe.review.rerun import Rerun
from bwpipe.review.shots import LOOP, extent, pictures_of_shots
from bwpipe.review.thumbnails import LARGE, Store, encoded, open_file, pair_of, read_picture
from bwpipe.tools.preview import small

REFERENCE_SIDE = 2048
"""Longer side of a reference as it is kept, in pixels; it is looked at with a short side of 512."""
_LARGE_KEPT = 16
_MAX_PIXELS = 100_000_000


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    entry: Annotated[int, Field(ge=0)]


class PointAsked(BaseModel):
    """A point of a hint, in pixels of the upright picture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    x: Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
    y: Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
    colour: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
    radius: Annotated[float, Field(gt=0, le=1e5, allow_inf_nan=False)] | None = None


class OptionsAsked(BaseModel):
    """Options for one picture or shot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vividness: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    saturation: Annotated[float, Field(ge=0, le=4, allow_inf_nan=False)] | None = None


class HintsAsked(_Asked):
    """Hints for a picture, or for a frame of a shot, and options for it."""

    frame: Annotated[int, Field(ge=0)] | None = None
    points: Annotated[list[PointAsked], Field(max_length=5000)] = []
    options: OptionsAsked = OptionsAsked()


class MarkAsked(_Asked):
    """Whether something is good."""

    good: bool


class FrameAsked(_Asked):
    """A picture, or a frame of a shot."""

    frame: Annotated[int, Field(ge=0)] | None = None


class OutOfDateError(UsageError):
    """What is asked for concerns a page that is out of date."""


class BusyError(UsageError):
    """A run holds the folder."""


class Desk:
    """Answers the page. Thread-safe."""

    def __init__(self, read: Callable[[], Album], corrections: Corrections, preview: LivePreview, rerun: Rerun | None) -> None:
        """Read the album; `rerun` runs again, if it is known how."""
        self._read, self._corrections, self._preview, self._rerun = read, corrections, preview, rerun
        self._album = read()
        self._version = 1
        self._store = Store(self._album.folder)
        self._lock = Lock()
        self._making = Lock()
        self._large: OrderedDict[tuple[Path, int, str], bytes] = OrderedDict()

    def page_data(self) -> dict[str, Any]:
        """What the page shows; the folder is read again if a run has finished since."""
        if self._rerun and self._rerun.has_ended():
            with self._lock:
                self._album = self._read()
                self._version += 1
                self._large.clear()
        album, reviewed = self._album, self._corrections.reviewed()
        data = to_json(album)
        for entry, listed in zip(album.entries, data["entries"], strict=True):
            place = f"image/{self._version}/{entry.number}"
            if entry.file.film:
                frames = [f"{place}/{number}" for number in range(3)]
                listed |= {"after": frames[1], "frames": frames}
                if entry.figures.get("length", 0) >= LOOP:
                    listed |= {"loop": f"{place}/loop", "count": LOOP}
            else:
                listed |= {"after": f"{place}/after", "before": f"{place}/before"}
                listed |= {"large": f"{place}/large", "largeBefore": f"{place}/large-before"}
            listed["good"] = (str(entry.file.name), entry.shot) in reviewed
            listed["corrected"] = self._is_corrected(entry)
        folder = str(self._corrections.folder)
        return {**data, "live": True, "version": self._version, "corrections": folder, "run": self.run_state()}

    def image(self, version: int, number: int, what: str) -> bytes:
        """A small or large picture, as WebP. Raises UsageError, MediaError, OSError, LookupError."""
        entry = self._entry(version, number)
        with self._making:  # one after the other: decoding takes all cores anyway, and memory
            if what in ("large", "large-before") and not entry.file.film:
                return self._large_of(entry, what)
            if entry.file.film:
                [(_, found)] = pictures_of_shots([entry], {number} if what == "loop" else set(), self._store)
                if what == "loop":
                    if found.loop is None:
                        raise LookupError(what)
                    return found.loop
                return found.frames[min(int(what), len(found.frames) - 1)]
            pair = pair_of(entry.file, self._store)
        return pair.after if what == "after" else pair.before or _grey(pair.after)

    def state(self, version: int, number: int, frame: int | None) -> dict[str, Any]:
        """The corrections of a picture, or of a frame of a shot. Raises UsageError, MediaError, OSError."""
        entry = self._entry(version, number)
        place, source = self._place(entry, frame), self._source(entry)
        width, height = self._preview.size(source, place.frame)
        drawn = self._corrections.hints(place)
        points = self._corrections.points(place)
        reference = self._corrections.reference(place)
        return {
            "width": width,
            "height": height,
            "frame": place.frame,
            "points": points,
            "drawn": str(drawn) if drawn and not points and drawn.suffix.lower() == ".png" else None,
            "reference": str(reference) if reference else None,
            "options": self._corrections.override(place),
        }

    def preview(self, asked: HintsAsked) -> bytes:
        """The picture as it would become. Raises UsageError, MediaError, OSError."""
        entry = self._entry(asked.version, asked.entry)
        place = self._place(entry, asked.frame)
        options = asked.options.model_dump(exclude_none=True)
        points = [each.model_dump(exclude_none=True) for each in asked.points]
        hints = self._corrections.hints(place)
        rgb = self._preview.colour(
            self._source(entry),
            place.frame,
            points=points,
            tint=self._corrections.tint(place),
            options=options,
            drawn=hints if hints and hints.suffix.lower() == ".png" else None,
            still=self._corrections.reference(place),
            output=entry.file.target if entry.file.film else None,
        )
        return encoded(rgb)

    def save(self, asked: HintsAsked) -> dict[str, Any]:
        """Write hints and options. Raises UsageError, MediaError, OSError."""
        entry = self._entry(asked.version, asked.entry)
        place = self._place(entry, asked.frame)
        options = asked.options.model_dump(exclude_none=True)
        with self._writing():
            path = self._corrections.write_points(place, [each.model_dump(exclude_none=True) for each in asked.points])
            if options != self._corrections.override(place):
                self._corrections.set_override(place, options)
        return {"path": str(path) if path else None, "corrected": self._is_corrected(entry)}

    def mark(self, asked: MarkAsked) -> dict[str, Any]:
        """Mark as good. Raises UsageError, MediaError, OSError."""
        entry = self._entry(asked.version, asked.entry)
        with self._writing():
            self._corrections.mark(Place(entry.file.name, shot=entry.shot), good=asked.good)
        return {"good": asked.good}

    def put_reference(self, asked: FrameAsked, data: bytes) -> dict[str, Any]:
        """Keep a picture as the reference of another. Raises UsageError, MediaError, OSError."""
        entry = self._entry(asked.version, asked.entry)
        png = _as_png(data)
        with self._writing():
            path = self._corrections.write_reference(self._place(entry, asked.frame), png)
        return {"path": str(path), "corrected": True}

    def remove_reference(self, asked: FrameAsked) -> dict[str, Any]:
        """Remove it. Raises UsageError, MediaError, OSError."""
        entry = self._entry(asked.version, asked.entry)
        with self._writing():
            self._corrections.remove_reference(self._place(entry, asked.frame))
        return {"path": None, "corrected": self._is_corrected(entry)}

    def run(self) -> dict[str, Any]:
        """Run again, for what the corrections touch. Raises UsageError."""
        if self._rerun is None:
            raise UsageError("start the run yourself: the page does not know how")
        with self._writing():  # refused while another run writes
            pass
        self._rerun.start()
        return self.run_state()

    def run_state(self) -> dict[str, Any]:
        """Whether a run is going on, and what it says; with the command."""
        return self._rerun.state() if self._rerun else {"state": "unknown", "command": None, "lines": []}

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Writes while no run holds the folder's lock. Raises BusyError, OSError."""
        with self._lock:
            lock = FolderLock(self._album.folder / WORK_FOLDER / "lock")
            if not lock.try_acquire():
                raise BusyError("a run is writing into this folder; wait for its end, and save again")
            try:
                yield
            finally:
                lock.release()

    def _entry(self, version: int, number: int) -> Entry:
        if version != self._version:
            raise OutOfDateError("the files have changed since; load the page again")
        if not 0 <= number < len(self._album.entries):
            raise LookupError(number)
        return self._album.entries[number]

    def _place(self, entry: Entry, frame: int | None) -> Place:
        """What a correction is for. Raises UsageError if the frame is not of the shot."""
        if not entry.file.film:
            return Place(entry.file.name)
        total = open_file(entry.file.target)[1].media.frames
        frames = extent(entry, total or 1)
        index = frames[len(frames) // 2] if frame is None else frame
        if index not in frames:
            raise UsageError(f"frame {index} is not in this shot")
        return Place(entry.file.name, index, entry.shot)

    @staticmethod
    def _source(entry: Entry) -> Path:
        """The input. Raises MediaError if it is gone."""
        if entry.file.reel:
            raise MediaError("numbered frames can't be corrected on this page; write the files of corrections by hand")
        if entry.file.source is None or not entry.file.source.is_file():
            raise MediaError(f"its input {entry.file.source or ''} is not there, so it can't be coloured again")
        return entry.file.source

    def _is_corrected(self, entry: Entry) -> bool:
        """Whether there is a correction for a picture, or for a film at all."""
        folder = self._corrections.folder
        if entry.file.film:
            return any((folder / kind / entry.file.name).is_dir() for kind in ("hints", "references"))
        place = Place(entry.file.name)
        return bool(self._corrections.hints(place) or self._corrections.reference(place))

    def _large_of(self, entry: Entry, what: str) -> bytes:
        key = entry.file.target, entry.number, what
        if key not in self._large:
            path = entry.file.target
            if what == "large-before" and pair_of(entry.file, self._store).before and entry.file.source:
                path = entry.file.source
            rgb = small(read_picture(path), longer=LARGE, coloured=what == "large" or path == entry.file.source)
            self._large[key] = encoded(rgb)
            while len(self._large) > _LARGE_KEPT:
                self._large.popitem(last=False)
        return self._large[key]


def _grey(image: bytes) -> bytes:
    """The luma of a small picture."""
    with Image.open(BytesIO(image)) as opened:
        luma = rgb_to_ycbcr(np.ascontiguousarray(np.asarray(opened.convert("RGB"))), "bt601")[0]
    return encoded(np.repeat(np.asarray(luma, np.uint8)[..., None], 3, axis=2))


def _as_png(data: bytes) -> bytes:
    """An uploaded picture, read and written again, so that only a picture is kept. Raises UsageError."""
    try:
        with Image.open(BytesIO(data), formats=["PNG", "JPEG", "WEBP", "TIFF", "BMP"]) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise UsageError("this picture is too large for a reference; scale it down")
            image.thumbnail((REFERENCE_SIDE, REFERENCE_SIDE))
            plain = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        raise UsageError("this is no picture that can be read; give a PNG, JPEG, WebP or TIFF file") from error
    out = BytesIO()
    plain.save(out, "PNG")
    return out.getvalue()
