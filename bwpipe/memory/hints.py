"""Hints: what a person says about the colours of a picture or a frame, by strokes on a transparent layer or by points."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bwpipe.core.fingerprint import cached_digest
from bwpipe.core.frame import Media
from bwpipe.core.inputs import expand_user, find_files
from bwpipe.core.registry import closest
from bwpipe.errors import MediaError, UsageError
from bwpipe.memory.hint_spreading import TINT_MASK
from bwpipe.pixels.cropping import shown_size, uncropped
from bwpipe.pixels.resize import squash
from bwpipe.pixels.ycbcr import rgb_to_ycbcr

Array = NDArray[np.float32]

Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]

_PICTURE, _TEXTS = ".png", (".yaml", ".yml", ".json")
_MOST_BYTES = 1_000_000
"""Size of a text beyond which it is refused, since it can't be read to its end."""
_ROUNDING = 1e-4
_DIGITS = 12
"""Number of digits from which a name is no frame's."""
_RADIUS = 0.01
"""Radius of a point, of the short side, unless it says otherwise."""
_FARTHEST = 1e6
"""Limit of coordinates, in pixels, which also refuses what is not a number."""


class Point(BaseModel):
    """A point of a text: `{x: 120, y: 80, colour: "#a03020"}`, in pixels of the upright picture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    x: Annotated[float, Field(ge=-_FARTHEST, le=_FARTHEST)]
    y: Annotated[float, Field(ge=-_FARTHEST, le=_FARTHEST)]
    colour: Colour
    radius: Annotated[float, Field(gt=0, le=_FARTHEST)] | None = None


class Points(BaseModel):
    """The content of a text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    points: Annotated[list[Point], Field(max_length=10_000)] = []
    tint: Colour | None = None
    """The mean colour of the whole photograph."""

    @model_validator(mode="after")
    def _check_not_empty(self) -> "Points":
        if not self.points and self.tint is None:
            raise ValueError("neither points nor a tint")
        return self


class Hints:
    """A folder of hints: for a photograph a file named like it, for a film a folder with a file for each hinted frame."""

    def __init__(self, folder: str) -> None:
        """Find them; nothing is decoded. Raises UsageError if there is no such folder."""
        path = expand_user(folder)
        if not path.is_dir():
            raise UsageError(f"`hints`: there is no folder {path}; create it, or correct the path")
        self._files: dict[PurePosixPath, Path] = {}
        self._inside: defaultdict[PurePosixPath, list[tuple[str, Path]]] = defaultdict(list)
        for file, name in find_files(folder):
            if name.suffix.lower() in {_PICTURE, *_TEXTS}:
                self._files.setdefault(name.with_suffix(""), file)
                self._inside[name.parent].append((name.stem, file))
        self._frames: dict[Media, dict[int, Path]] = {}

    def of(self, media: Media, index: int = 0) -> Path | None:
        """The file for a photograph or a frame of a film. Raises UsageError.

        For a photograph it has its name (`a/b.png` for `a/b.jpg`), or that with an ending more (`a/b.jpg.png`); for a frame its
        number, in a folder named like the film (`reel.mp4/000123.png`).
        """
        return self._named(media) if media.kind == "picture" else self.frames(media).get(index)

    def frames(self, media: Media) -> dict[int, Path]:
        """The files for a film, by their frames, in their order. Raises UsageError for names that are no frames of it."""
        if media not in self._frames:
            found: dict[int, Path] = {}
            for stem, file in self._inside[media.name] if media.kind == "film" else ():
                if not (stem.isascii() and stem.isdigit() and len(stem) < _DIGITS):
                    raise UsageError(f"the hints {file} are for no frame of {media.name}; call them by its number, 000123.png")
                number = int(stem)
                if media.frames is not None and number >= media.frames:
                    last = f"{media.name} ends with frame {media.frames - 1}"
                    raise UsageError(f"the hints {file} are for frame {number}, and {last}; correct the number")
                if number in found:
                    raise UsageError(f"the hints {found[number]} and {file} are for the same frame; remove one")
                found[number] = file
            self._frames[media] = dict(sorted(found.items()))
        return self._frames[media]

    def ignored(self, media: Media) -> Path | None:
        """A file named like a film, which is for none of its frames; None if there is none."""
        return self._named(media) if media.kind == "film" else None

    def unmatched(self, names: Collection[PurePosixPath]) -> Iterator[str]:
        """A sentence on the files that are for none of these inputs."""
        stems = {*names, *(name.with_suffix("") for name in names)}
        found = {stem: file for stem, file in self._files.items() if stem not in stems and stem.parent not in names}
        if not found:
            return
        stem, file = next(iter(found.items()))
        wanted, known = (stem.parent, names) if stem.name.isdigit() and stem.parent.name else (stem, stems)
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        name_them = "name them like the picture, or their folder like the film"
        yield f"the hints {file}{more} are for no input; {closest(str(wanted), sorted(map(str, known))) or name_them}"

    def _named(self, media: Media) -> Path | None:
        return self._files.get(media.name) or self._files.get(media.name.with_suffix(""))

    def digest(self, media: Media, index: int = 0) -> str | None:
        """A hash of that file; None if there is none. Raises UsageError."""
        path = self.of(media, index)
        try:
            return cached_digest(path) if path else None
        except OSError as error:
            raise UsageError(f"the hints {path} can't be read ({error.strerror}); fix that, or remove them") from error

    def read(self, media: Media, size: tuple[int, int], index: int = 0) -> Array | None:
        """The hints for a photograph or a frame, (3, h, w) on a grid: Cb and Cr in -0.5..0.5, and how far they are known, 0..1.

        They are drawn on what is shown of it: turned upright, and cropped.

        Args:
            media: The photograph, or the film.
            size: The grid, of the whole photograph or frame, turned upright.
            index: The frame's index.

        Returns:
            None if there are none for it.

        Raises:
            MediaError: The file can't be read.
        """
        path = self.of(media, index)
        if path is None:
            return None
        tint = None
        if path.suffix.lower() == _PICTURE:
            rgba = _drawn(path)
        else:
            points = _points(path)
            rgba, tint = _dotted(points, shown_size(media), path), points.tint
        rgba = np.moveaxis(uncropped(np.moveaxis(rgba, -1, 0), media, rgba.shape[:2]), 0, -1)
        known = rgba[..., 3].astype(np.float32) / 255
        chroma = rgb_to_ycbcr(np.ascontiguousarray(rgba[..., :3]), "bt601")[1].astype(np.float32)
        weighted = [squash(plane * known, *size) for plane in chroma]
        share = squash(known, *size)
        told = np.stack(weighted) / np.maximum(share, np.float32(1e-6))
        hints = np.concatenate([np.where(share > 0, told, 0), np.minimum(share * 4, 1)[None]]).astype(np.float32)
        return hints if tint is None else _with_tint(hints, tint)


def resized(hints: Array, size: tuple[int, int]) -> Array:
    """Hints (3, h, w) on another grid."""
    share = squash(hints[2], *size)
    told = np.stack([squash(plane * hints[2], *size) for plane in hints[:2]]) / np.maximum(share, np.float32(1e-6))
    known = np.where(share > TINT_MASK + _ROUNDING, np.minimum(share * 4, 1), share)
    return np.concatenate([told, known[None]]).astype(np.float32)


def _drawn(path: Path) -> NDArray[np.uint8]:
    """A transparent picture, (H, W, 4)."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if "A" not in image.getbands() and "transparency" not in image.info:
                raise MediaError(f"the hints {path} have no transparency; draw on a transparent layer, and save that alone")
            return np.asarray(image.convert("RGBA"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise MediaError(f"the hints {path} can't be read as a PNG; save them again") from error


def _points(path: Path) -> Points:
    """The content of a text. Raises MediaError."""
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1).decode("utf-8")
        content: Any = json.loads(text) if path.suffix.lower() == ".json" else _plain_yaml(text)
        return Points.model_validate(content)
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError, ValidationError, RecursionError) as error:
        example = 'write `points: [{x: 120, y: 80, colour: "#a03020"}]`'
        raise MediaError(f"the hints {path} are not a list of points; {example}") from error


def _dotted(points: Points, shape: tuple[int, int], path: Path) -> NDArray[np.uint8]:
    """Points as a transparent picture, (H, W, 4). Raises MediaError for one that is outside of it."""
    canvas = np.zeros((*shape, 4), np.uint8)
    for point in points.points:
        radius = max(1, round(point.radius or _RADIUS * min(shape)))
        if not (-radius <= point.x < shape[1] + radius and -radius <= point.y < shape[0] + radius):
            place, size = f"x: {point.x:g}, y: {point.y:g}", f"{shape[1]} x {shape[0]}"
            raise MediaError(f"the hints {path} have a point at {place}, outside of the picture of {size} pixels; correct it")
        cv2.circle(canvas, (round(point.x), round(point.y)), radius, (*bytes.fromhex(point.colour[1:]), 255), cv2.FILLED)
    return canvas


def _with_tint(hints: Array, tint: str) -> Array:
    """Hints (3, h, w) that say what the mean colour is wherever they say nothing more."""
    rgb = np.frombuffer(bytes.fromhex(tint[1:]), np.uint8)[None, None]
    chroma = rgb_to_ycbcr(np.ascontiguousarray(rgb), "bt601")[1].astype(np.float32)
    less = hints[2] < TINT_MASK
    hints[:2, less] = chroma.reshape(2, 1)
    hints[2, less] = TINT_MASK
    return hints


def _plain_yaml(text: str) -> Any:
    """The content of a YAML text without anchors and aliases, with which a short one may take forever. Raises ValueError."""
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError("it has anchors")
    return yaml.safe_load(text)
