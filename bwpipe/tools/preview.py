"""A quick preview: evenly spaced frames of films, and pictures of a folder, in grey and colour; or the most doubtful ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.core.console import printable
from bwpipe.core.context import RunContext
from bwpipe.core.frame import Broken, End, Frame, Media, Skipped, Unit
from bwpipe.core.stage import BatchMap, Sink, Source, Stage
from bwpipe.engine.executors import execute, execute_source
from bwpipe.engine.recipes import recipes
from bwpipe.engine.timing import Meter
from bwpipe.errors import MediaError, UsageError
from bwpipe.graph.graph import Graph
from bwpipe.pixels.cropping import cropped
from bwpipe.pixels.levels import full_range
from bwpipe.pixels.orientation import upright
from bwpipe.pixels.resize import resize_area, squash
from bwpipe.pixels.ycbcr import ycbcr_to_rgb
from bwpipe.video.file import VideoFile

CELL = 480
"""Longer side of a frame on the contact sheet, in pixels; smaller frames are not enlarged."""
_GAP, _LABEL = 8, 20
_COLUMNS = 2
CANDIDATES = 8
"""How many times as many frames are coloured as are shown, if the most doubtful ones are asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class PreviewFrame:
    """A frame before and after colouring.

    Attributes:
        label: Its time and index, its file if there are several, and its confidence if that is why it is shown.
        grey, coloured: (h, w, 3) uint8 RGB, upright, same size.
        confidence: Mean confidence of the network, 0..1; None if it does not report it.
    """

    label: str
    grey: NDArray[np.uint8]
    coloured: NDArray[np.uint8]
    confidence: float | None = None


def preview(graph: Graph, count: int, run: RunContext, *, doubtful: bool = False) -> list[PreviewFrame]:
    """Colour `count` evenly spaced frames and pictures of those that a graph reads; nothing is written.

    Only these frames are decoded, each from the preceding keyframe, so that a long film takes no longer.

    Args:
        graph: The graph.
        count: How many are returned; fewer if there are fewer.
        run: For warnings; what can't be read is a failure of it.
        doubtful: Colour up to `CANDIDATES` times as many, and return those of which the network is least sure, worst first.

    Raises:
        UsageError: There is nothing to read, an option is wrong, or the network says of none how sure it is.
        MediaError: None of them can be read.
    """
    source, *steps = stages_before_sink(graph)
    assert isinstance(source, Source)
    found = [found for found in source.units() if not isinstance(found, Skipped)]
    broken = [each for each in found if isinstance(each, Broken)]
    readable = [each for each in found if isinstance(each, Unit)]
    if broken and not readable:
        raise MediaError(f"{broken[0].path}: {broken[0].error}")
    if not readable:
        raise UsageError("there are no pictures and films to preview; give another path")
    for each in broken:
        run.fail(each, MediaError(each.error))
    units = _chosen(readable, count * CANDIDATES if doubtful else count)
    frames = _coloured(source, steps, units, run, named=len(readable) > 1)
    if not frames:
        raise next(iter(run.failures.values()), MediaError("none of its frames could be decoded"))
    if not doubtful:
        return frames
    judged = [frame for frame in frames if frame.confidence is not None]  # not those that keep their own colours
    if not judged:
        why = "the network does not say how sure it is, or all are in colour already"
        raise UsageError(f"{why}; omit --doubtful")
    worst = sorted(judged, key=lambda frame: frame.confidence or 0.0)[:count]
    return [replace(frame, label=f"{frame.label}   confidence {frame.confidence:.2f}".strip()) for frame in worst]


def _coloured(
    source: Source, steps: Sequence[Stage], units: Sequence[Unit], run: RunContext, *, named: bool
) -> list[PreviewFrame]:
    """The frames of units, in order, without those that failed; `named` says whether labels name their file."""
    greys: dict[Unit, tuple[str, NDArray[np.uint8]]] = {}
    coloured: dict[Unit, tuple[NDArray[np.uint8], float | None]] = {}

    def recording_grey(items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            if isinstance(item, Frame):
                greys[item.unit] = _label(item, named=named), small(item, coloured=False)
            yield item

    try:
        for stage in (source, *steps):
            stage.setup(run)
        stream = recording_grey(execute_source(source, units, 0, run, Meter()))
        for stage in steps:
            stream = execute(stage, stream, run, Meter())
        for item in stream:
            if isinstance(item, Frame):
                sure = None if item.confidence is None else float(item.confidence.mean(dtype=np.float32))
                coloured[item.unit] = small(item), sure
            elif not isinstance(item, End):
                raise UsageError(
                    "this graph produces no frames, so there is nothing to preview; give one that writes films or pictures"
                )
    finally:
        for stage in (source, *steps):
            stage.close()
    return [PreviewFrame(*greys[unit], *coloured[unit]) for unit in units if unit in coloured]


def small(frame: Frame, *, coloured: bool = True, longer: int = CELL) -> NDArray[np.uint8]:
    """A frame for display, (h, w, 3) RGB: upright, cropped, with a longer side of at most `longer` and square pixels."""
    media = frame.unit.media
    height, width = frame.luma.shape
    aspect = float(media.sample_aspect or 1) if isinstance(media, VideoFile) else 1.0
    scale = min(1.0, longer / max(height, width * aspect))
    size = max(1, round(height * scale)), max(1, round(width * aspect * scale))
    shown, levels = media.on_display(resize_area(frame.luma, (min(size[0], height), min(size[1], width))))
    luma = squash(full_range(shown, levels), *size)
    if frame.chroma is None or not coloured:
        chroma = np.zeros((2, *size), np.float32)
    else:
        planes = frame.chroma.astype(np.float32).transpose(1, 2, 0)
        chroma = np.ascontiguousarray(squash(planes, *size).transpose(2, 0, 1))
    rgb = np.asarray(ycbcr_to_rgb(luma, chroma, media.matrix), np.uint8)
    shown = cropped(np.moveaxis(rgb, -1, 0), media)
    return np.ascontiguousarray(np.moveaxis(upright(shown, media.orientation), 0, -1))


def sheet(frames: list[PreviewFrame]) -> NDArray[np.uint8]:
    """A contact sheet, (H, W, 3) RGB: two frames per row, each as grey | coloured, with its label below."""
    height = max(frame.grey.shape[0] for frame in frames) + _LABEL
    width = 2 * max(frame.grey.shape[1] for frame in frames)
    columns = min(_COLUMNS, len(frames))
    rows = -(-len(frames) // columns)
    canvas = np.full((rows * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP, 3), 24, np.uint8)
    for number, frame in enumerate(frames):
        top = _GAP + number // columns * (height + _GAP)
        left = _GAP + number % columns * (width + _GAP)
        pair = np.hstack([frame.grey, frame.coloured])
        canvas[top : top + pair.shape[0], left : left + pair.shape[1]] = pair
        at = left + 4, top + height - 6
        cv2.putText(canvas, frame.label, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (200, 200, 200), 1, cv2.LINE_AA)
    return canvas


def stages_before_sink(graph: Graph) -> list[Stage]:
    """Copies of the stages from the source to the last sink, without the sink, with a batch of 1."""
    nodes = {node.id: node for node in graph.nodes}
    last = next((node for node in reversed(graph.nodes) if isinstance(node.stage, Sink)), None)
    if last is None:
        raise UsageError("this graph writes no files, so there is nothing to preview; give one that ends with `write`")
    recipes(graph, last.id)  # reports errors in their options
    path: list[Stage] = []
    while upstream := last.upstream:
        last = nodes[upstream]
        update = {"batch": 1} if isinstance(last.stage, BatchMap) else {}
        path.insert(0, last.stage.model_copy(update=update))
    return path


def _chosen(units: Sequence[Unit], count: int) -> list[Unit]:
    """At most `count` of all pictures and of evenly spaced frames of films, evenly spaced."""
    each = max(1, count // len(units))
    candidates = [part for unit in units for part in _frames(unit, each)]
    if len(candidates) <= count:
        return candidates
    return [candidates[int((number + 0.5) * len(candidates) / count)] for number in range(count)]


def _frames(unit: Unit, count: int) -> list[Unit]:
    """Evenly spaced frames of a film, each as its own unit; an image as it is."""
    media = unit.media
    if not isinstance(media, VideoFile):
        return [unit]
    frames = min(unit.stop or len(media.times), len(media.times))
    indices = dict.fromkeys(int((number + 0.5) * frames / count) for number in range(count))
    return [Unit(media, part=index, start=index, stop=index + 1) for index in indices]


def _label(frame: Frame, *, named: bool) -> str:
    """What stands below a frame: the time of a film's, after the name of its file if there are several."""
    media: Media = frame.unit.media
    name = printable(str(media.name)) if named else ""
    if frame.pts is None or not media.time_base:
        return name
    seconds = float(frame.pts * media.time_base)
    return f"{name}   {int(seconds // 60)}:{seconds % 60:05.2f}   frame {frame.index}".strip()
