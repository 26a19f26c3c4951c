"""Hints: what a person says about the colours of a photograph, by strokes on a transparent picture or by points in a text."""

import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bwpipe.core.fingerprint import cached_digest
from bwpipe.core.frame import Media
from bwpipe.core.inputs import expand_user, find_files
from bwpipe.errors import MediaError, UsageError
from bwpipe.memory.matching import one_thread, product
from bwpipe.pixels.resize import squash
from bwpipe.pixels.ycbcr import rgb_to_ycbcr

Array = NDArray[np.float32]

_PICTURE, _TEXTS = ".png", (".yaml", ".yml", ".json")
_MOST_BYTES = 1_000_000
"""Size of a text beyond which it is refused, since it can't be read to its end."""
_RADIUS = 0.01
"""Radius of a point, of the short side, unless it says otherwise."""
_LUMA, _PLACE, _FEATURES = 0.06, 0.25, 0.25
"""Standard deviations over which a hint spreads: difference of luma (of its range), distance (of the short side), and one less
the cosine of features."""
_FARTHER = 4.0
"""How many times as far a hint reaches where no other one is nearer."""
_MOST = 512
"""Most cells from which hints are spread; of more, as many are taken evenly."""
_LEAST = np.float32(0.02)
"""Alpha from which a cell is hinted."""


class Point(BaseModel):
    """A point of a text: `{x: 120, y: 80, colour: "#a03020"}`, in pixels of the upright picture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    x: float
    y: float
    colour: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
    radius: Annotated[float, Field(gt=0)] | None = None


class Points(BaseModel):
    """The content of a text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    points: Annotated[list[Point], Field(max_length=10_000)]


class Hints:
    """A folder of hints for photographs, each named like its photograph."""

    def __init__(self, folder: str) -> None:
        """Find them; nothing is decoded. Raises UsageError if there is no such folder."""
        path = expand_user(folder)
        if not path.is_dir():
            raise UsageError(f"`hints`: there is no folder {path}; create it, or correct the path")
        self._files: dict[PurePosixPath, Path] = {}
        for file, name in find_files(folder):
            if name.suffix.lower() in {_PICTURE, *_TEXTS}:
                self._files.setdefault(name.with_suffix(""), file)

    def of(self, media: Media) -> Path | None:
        """The file for a photograph: of its name (`a/b.png` for `a/b.jpg`), or of that with an ending more (`a/b.jpg.png`)."""
        return self._named(media) if media.kind == "picture" else None

    def ignored(self, media: Media) -> Path | None:
        """The file, or the folder of files, named like a film, whose hints are not used; None if there is none."""
        if media.kind == "picture":
            return None
        inside = (file for name, file in self._files.items() if media.name in name.parents)
        return self._named(media) or next((file.parent for file in inside), None)

    def _named(self, media: Media) -> Path | None:
        return self._files.get(media.name) or self._files.get(media.name.with_suffix(""))

    def digest(self, media: Media) -> str | None:
        """A hash of that file; None if there is none. Raises UsageError."""
        path = self.of(media)
        try:
            return cached_digest(path) if path else None
        except OSError as error:
            raise UsageError(f"the hints {path} can't be read ({error.strerror}); fix that, or remove them") from error

    def read(self, media: Media, size: tuple[int, int], shape: tuple[int, int]) -> Array | None:
        """The hints for a photograph, (3, h, w) on a grid: Cb and Cr in -0.5..0.5, and how far they are known, 0..1.

        Args:
            media: The photograph.
            size: The grid.
            shape: Height and width of the upright photograph, in pixels.

        Returns:
            None if there are none for it.

        Raises:
            MediaError: The file can't be read.
        """
        path = self.of(media)
        if path is None:
            return None
        rgba = _drawn(path) if path.suffix.lower() == _PICTURE else _dotted(path, shape)
        known = rgba[..., 3].astype(np.float32) / 255
        chroma = rgb_to_ycbcr(np.ascontiguousarray(rgba[..., :3]), "bt601")[1].astype(np.float32)
        weighted = [squash(plane * known, *size) for plane in chroma]
        share = squash(known, *size)
        told = np.stack(weighted) / np.maximum(share, np.float32(1e-6))
        return np.concatenate([np.where(share > 0, told, 0), np.minimum(share * 4, 1)[None]]).astype(np.float32)


def _drawn(path: Path) -> NDArray[np.uint8]:
    """A transparent picture, (H, W, 4)."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if "A" not in image.getbands() and "transparency" not in image.info:
                raise MediaError(f"the hints {path} have no transparency; draw on a transparent layer, and save that alone")
            return np.asarray(image.convert("RGBA"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise MediaError(f"the hints {path} can't be read as a PNG; save them again") from error


def _dotted(path: Path, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The points of a text as a transparent picture, (H, W, 4)."""
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1).decode("utf-8")
        content: Any = json.loads(text) if path.suffix.lower() == ".json" else _plain_yaml(text)
        points = Points.model_validate(content).points
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError, ValidationError, RecursionError) as error:
        example = 'write `points: [{x: 120, y: 80, colour: "#a03020"}]`'
        raise MediaError(f"the hints {path} are not a list of points; {example}") from error
    canvas = np.zeros((*shape, 4), np.uint8)
    for point in points:
        red, green, blue = bytes.fromhex(point.colour[1:])
        radius = max(1, round(point.radius or _RADIUS * min(shape)))
        cv2.circle(canvas, (round(point.x), round(point.y)), radius, (red, green, blue, 255), cv2.FILLED)
    return canvas


def _plain_yaml(text: str) -> Any:
    """The content of a YAML text without anchors and aliases, with which a short one may take forever. Raises ValueError."""
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError("it has anchors")
    return yaml.safe_load(text)


def spread(chroma: Array, luma: Array, features: Array | None, hints: Array) -> Array:
    """Spread hints over a prediction: each shifts the chroma of what is of its luma, near to it, and has like features.

    Args:
        chroma: (2, h, w) the prediction.
        luma: (H, W) 0..1, on any grid.
        features: (C, h', w') on any grid; None if there are none.
        hints: (3, H', W') as in `Hints.read`, on any grid.
    """
    height, width = chroma.shape[1:]
    known = squash(hints[2], height, width)
    told = np.stack([squash(hints[axis] * hints[2], height, width) for axis in range(2)]) / np.maximum(known, 1e-6)
    flat = known.ravel()
    sure = np.minimum(flat * 4, 1)  # a dot that covers a quarter of a cell holds for it
    cells = np.flatnonzero(flat > _LEAST)
    if not len(cells):
        return chroma
    cells = cells[np.linspace(0, len(cells) - 1, min(_MOST, len(cells))).astype(int)]
    level = squash(luma, height, width).ravel()
    down, across = np.mgrid[:height, :width].reshape(2, -1).astype(np.float32) / np.float32(min(height, width))
    apart = ((level[:, None] - level[cells]) / np.float32(_LUMA)) ** 2
    away = ((down[:, None] - down[cells]) ** 2 + (across[:, None] - across[cells]) ** 2) / np.float32(_PLACE**2)
    if features is not None:
        unit = np.stack([squash(plane, height, width).ravel() for plane in features], axis=1)
        unit = unit - unit.mean(axis=0)
        unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), np.float32(1e-6))
        with one_thread():
            alike = product(np.ascontiguousarray(unit), np.ascontiguousarray(unit[cells].T))
        apart += ((1 - alike) / np.float32(_FEATURES)) ** 2
    weight = np.exp(-(apart + away) / 2) * sure[cells]
    shift = told.reshape(2, -1)[:, cells] - chroma.reshape(2, -1)[:, cells]
    total = weight.sum(axis=1)
    moved = np.stack([(weight * each).sum(axis=1) / np.maximum(total, 1e-6) for each in shift])
    reach = (np.exp(-(apart + away / np.float32(_FARTHER**2)) / 2) * sure[cells]).max(axis=1)
    spread_out = chroma.reshape(2, -1) + reach * moved
    result = spread_out + sure * (told.reshape(2, -1) - spread_out)
    return np.asarray(result.reshape(chroma.shape), np.float32)
