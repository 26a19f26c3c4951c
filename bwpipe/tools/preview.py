"""A quick preview: frames of films, and pictures of a folder, in grey and colour; or the most doubtful ones."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.core.console import printable
from bwpipe.core.context import RunContext
from bwpipe.core.first_pass import Hinting, TwoPassMap
from bwpipe.core.frame import Broken, End, Frame, Media, Skipped, Unit
from bwpipe.core.segments import frame_range
from bwpipe.core.stage import Sink, Source
from bwpipe.engine.executors import execute, execute_source
from bwpipe.engine.first_passes import items_of_pass
from bwpipe.engine.ledger import Ledger
from bwpipe.engine.overridden import with_overrides
from bwpipe.engine.planner import remind
from bwpipe.engine.recipes import path_to, recipes
from bwpipe.engine.scan_cache import SqliteScanCache
from bwpipe.engine.shot_finder import ShotFinder
from bwpipe.engine.timing import Meter
from bwpipe.errors import MediaError, UsageError
from bwpipe.graph.graph import Graph
from bwpipe.graph.node import Node
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
_LOOKED_AT = 12
"""How many frames of a film are looked at before, for its memory, besides those that are shown."""
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

    Only these frames are decoded, each from the preceding keyframe, so that a long film takes no longer. Of a film with hints
    or stills for some frames, these are shown, in place of those near by, and colours are held as in a run, but for the memory,
    which is made of fewer key frames.

    Args:
        graph: The graph.
        count: How many are returned; fewer if there are fewer.
        run: For warnings; what can't be read is a failure of it.
        doubtful: Colour up to `CANDIDATES` times as many, and return those of which the network is least sure, worst first.

    Raises:
        UsageError: There is nothing to read, an option is wrong, or the network says of none how sure it is.
        MediaError: None of them can be read.
    """
    nodes = nodes_before_sink(graph)
    source = nodes[0].stage
    assert isinstance(source, Source)
    ledgers = {node.stage.folder: Ledger(node.stage.folder) for node in graph.nodes if isinstance(node.stage, Sink)}
    scans = SqliteScanCache(ledgers.values())
    remind(graph, ledgers, shots := ShotFinder(graph, scans))
    source.remember(scans)
    found = [found for found in source.units() if not isinstance(found, Skipped)]
    broken = [each for each in found if isinstance(each, Broken)]
    readable = [each for each in found if isinstance(each, Unit)]
    if broken and not readable:
        raise MediaError(f"{broken[0].path}: {broken[0].error}")
    if not readable:
        raise UsageError("there are no pictures and films to preview; give another path")
    for each in broken:
        run.fail(each, MediaError(each.error))
    for unit in readable:
        shots.add(unit)
    run.downstream = graph.downstream
    units = _chosen(nodes, readable, count * CANDIDATES if doubtful else count)
    frames = _coloured(graph, nodes, units, run, named=len(readable) > 1)
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
    graph: Graph, nodes: Sequence[Node], units: Mapping[Unit, Unit], run: RunContext, *, named: bool
) -> list[PreviewFrame]:
    """The frames of units, in order, without those that failed; `named` says whether labels name their file.

    Args:
        graph: The graph.
        nodes: Those from the source to the last sink, without it.
        units: The units, and the whole file of each.
        run: For failures.
        named: See above.
    """
    greys: dict[Unit, tuple[str, NDArray[np.uint8]]] = {}
    coloured: dict[Unit, tuple[NDArray[np.uint8], float | None]] = {}

    def recording_grey(items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            if isinstance(item, Frame):
                greys[item.unit] = _label(item, named=named), small(item, coloured=False)
            yield item

    instances = graph.instances
    source, *steps = nodes
    assert isinstance(source.stage, Source)
    with ExitStack() as stack:
        for node in nodes:
            for stage in (node.stage, *instances.needed(node, units, 0)):
                stack.callback(stage.close)
                stage.setup(run)
        for whole in dict.fromkeys(units.values()):
            for node in steps:
                if isinstance(node.stage, TwoPassMap):
                    _look_before(graph, node, whole, [unit.start for unit in units if units[unit] is whole], run)
        stream = recording_grey(execute_source(source.stage, list(units), 0, run, Meter()))
        for node in steps:
            stream = execute(with_overrides(node, instances), stream, run, Meter())
        for item in stream:
            if isinstance(item, Frame):
                sure = None if item.confidence is None else float(item.confidence.mean(dtype=np.float32))
                coloured[item.unit] = small(item), sure
            elif not isinstance(item, End):
                raise UsageError(
                    "this graph produces no frames, so there is nothing to preview; give one that writes films or pictures"
                )
    return [PreviewFrame(*greys[unit], *coloured[unit]) for unit in units if unit in coloured]


def _look_before(graph: Graph, node: Node, whole: Unit, shown: Sequence[int], run: RunContext) -> None:
    """Run the first passes of a stage over a file with corrections, with the frames that are shown and a few others."""
    stage, instances = node.stage, graph.instances
    assert isinstance(stage, TwoPassMap)
    parts = instances.parts(whole.media)
    start, stop = frame_range(whole)
    everywhere = [range(start, start + 1 if stop is None else stop)]
    keys = sorted({instances.at(whole.media, index) for index in shown})
    passes = stage.first_passes(whole, {key: [part.frames for part in parts if part.key == key] or everywhere for key in keys})
    if all(each.name == each.instance and not each.further for each in passes):
        return  # the frames are soon seen without corrections, and decoding more of them may take long
    kept = {}
    for each in passes:
        some = each.indices[:: max(1, len(each.indices) // _LOOKED_AT)]
        wanted = replace(each, indices=sorted({*some, *shown}) if some else ())
        kept[each.name] = stage.collect(
            whole, wanted, items_of_pass(graph, node, whole, wanted, run=run, meters=defaultdict(Meter))
        )
    stage.use(whole, kept, len(shown))


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


def nodes_before_sink(graph: Graph) -> list[Node]:
    """The nodes from the source to the last sink, without the sink. Raises UsageError."""
    last = next((node for node in reversed(graph.nodes) if isinstance(node.stage, Sink)), None)
    if last is None:
        raise UsageError("this graph writes no files, so there is nothing to preview; give one that ends with `write`")
    recipes(graph, last.id)  # reports errors in their options
    return path_to(graph, last.id)[:-1]


def _chosen(nodes: Sequence[Node], wholes: Sequence[Unit], count: int) -> dict[Unit, Unit]:
    """At most `count` of all pictures and of the frames of films, evenly spaced, as units, with the whole file of each."""
    each = max(1, count // len(wholes))
    candidates = [(part, whole) for whole in wholes for part in _frames(whole, each, _corrected(nodes, whole))]
    if len(candidates) > count:
        candidates = [candidates[int((number + 0.5) * len(candidates) / count)] for number in range(count)]
    return dict(candidates)


def _corrected(nodes: Sequence[Node], whole: Unit) -> list[int]:
    """The frames of a film, by index, that have hints or a still."""
    found: set[int] = set()
    for node in nodes if whole.media.kind == "film" else ():
        if isinstance(node.stage, Hinting):
            found.update(node.stage.hinted(whole))
        if isinstance(node.stage, TwoPassMap):
            found.update(node.stage.corrected(whole))
    return sorted(found)


def _frames(whole: Unit, count: int, corrected: Sequence[int]) -> list[Unit]:
    """Evenly spaced frames of a film, or in place of those near by corrected ones, each as its own unit; an image as it is."""
    media = whole.media
    if not isinstance(media, VideoFile):
        return [whole]
    frames = min(whole.stop or len(media.times), len(media.times))
    evenly = {int((number + 0.5) * frames / count) for number in range(count)}
    shown = set(corrected[:: -(-len(corrected) // len(evenly))] if corrected else ())
    for index in sorted(shown):
        evenly.discard(min(evenly, key=lambda each: abs(each - index)))
    return [Unit(media, part=index, start=index, stop=index + 1) for index in sorted(evenly | shown)]


def _label(frame: Frame, *, named: bool) -> str:
    """What stands below a frame: the time of a film's, after the name of its file if there are several."""
    media: Media = frame.unit.media
    name = printable(str(media.name)) if named else ""
    if frame.pts is None or not media.time_base:
        return name
    seconds = float(frame.pts * media.time_base)
    return f"{name}   {int(seconds // 60)}:{seconds % 60:05.2f}   frame {frame.index}".strip()
