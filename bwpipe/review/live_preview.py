"""A picture, or a frame of a film, coloured with other hints and options at once: the network stays loaded."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shutil import copyfile, rmtree
from tempfile import TemporaryDirectory
from threading import Lock
from types import TracebackType
from typing import Any

import yaml

from bwpipe.core.context import RunContext
from bwpipe.core.first_pass import HOLDS_HINTS, FirstPass, TwoPassMap
from bwpipe.core.frame import End, Frame, Media, Motion, Unit
from bwpipe.core.segments import first_pass_path, frame_range
from bwpipe.core.stage import BatchMap, Map, Sink, Source, Stage
from bwpipe.engine.executors import execute, execute_source
from bwpipe.engine.timing import Meter
from bwpipe.errors import MediaError, UsageError
from bwpipe.graph.graph import Graph
from bwpipe.memory.film_memory import FilmMemory
from bwpipe.pixels.cropping import shown_size
from bwpipe.review.thumbnails import Pixels
from bwpipe.tools.preview import nodes_before_sink, small

_PREPARED = 6
"""How many pictures stay decoded."""
LONGER = 1280
"""Longer side of a preview, in pixels."""
COLORIZE = "colorize"


class _Alone:
    """Shots of one frame each: hints for others are not followed to it."""

    def all(self, media: Media) -> Sequence[range]:
        return [range(index, index + 1) for index in range(media.frames or 0)]

    def around(self, media: Media, index: int) -> range:
        return range(index, index + 1)

    def motion(self, media: Media, frames: range) -> Iterator[tuple[int, Motion]]:
        return iter(())


class LivePreview:
    """Colours single pictures with the stages of a graph, and single frames of films as `anchor` leaves them there."""

    def __init__(self, graph: Graph) -> None:
        """Prepare it. Raises UsageError if the graph does not colour by `colorize`."""
        nodes = nodes_before_sink(graph)
        source, *steps = (node.stage for node in nodes)
        assert isinstance(source, Source)
        self._source = source
        at = next((number for number, stage in enumerate(steps) if stage.registered == COLORIZE), None)
        if at is None:
            raise UsageError("this graph has no stage `colorize`, so there is nothing to correct")
        plain = steps[at].model_copy(update={"hints": None})
        self._before, self._colorize, self._after = steps[:at], plain, steps[at + 1 :]
        self._out = next(node.stage.folder for node in reversed(graph.nodes) if isinstance(node.stage, Sink))
        self._anchor = next((node for node in nodes if HOLDS_HINTS in node.stage.provides), None)
        self._run = RunContext(downstream=lambda stage: self._after if stage is plain else ())
        self._lock = Lock()
        self._prepared: OrderedDict[tuple[Path, int | None], tuple[list[Any], tuple[int, int]]] = OrderedDict()
        self._folder = TemporaryDirectory(prefix="bwpipe-review-")
        self._films: dict[Path, tuple[Source, Unit]] = {}
        self._ready = False

    def __enter__(self) -> "LivePreview":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Release the network."""
        with self._lock:
            for stage in self._stages if self._ready else ():
                stage.close()
            self._folder.cleanup()

    def size(self, path: Path, frame: int | None = None) -> tuple[int, int]:
        """Width and height of what is shown, turned upright, in which points are given. Raises MediaError, OSError."""
        with self._lock:
            return self._prepare(path, frame)[1]

    def colour(
        self,
        path: Path,
        frame: int | None = None,
        *,
        points: Sequence[Mapping[str, Any]] = (),
        tint: str | None = None,
        options: Mapping[str, Any] | None = None,
        drawn: Path | None = None,
        still: Path | None = None,
        output: Path | None = None,
        longer: int = LONGER,
    ) -> Pixels:
        """An input in colour, (h, w, 3) RGB.

        Args:
            path: The picture or film.
            frame: The frame of a film.
            points: Hints, as in a text of points.
            tint: The mean colour of the picture, as there.
            options: Options of `colorize` for this picture: `vividness`, `saturation`, `quality`. A film's frame is then drawn
                towards no memory: with options of its own, a shot gets a memory of its own when it is run.
            drawn: Hints as a transparent PNG, in place of points and tint.
            still: The reference for the picture, or for the shot of a film's frame.
            output: The film that a run has made of it: its memory is used.
            longer: Longer side of the result.

        Raises:
            MediaError, OSError: It can't be read.
            UsageError: An option is wrong.
        """
        with self._lock:
            items, _ = self._prepare(path, frame)
            hints = {"points": [dict(each) for each in points], **({"tint": tint} if tint else {})}
            stage = self._corrected(items[0], hints if points or tint else {}, options or {}, drawn)
            if frame is not None:
                memory = None if options else self._memory_of(output)
                return small(self._anchored(items[0], stage, still, memory), longer=longer)
            stages, stream = [stage, *self._after], iter(items)
            if self._anchor is not None and still is not None:
                stages = self._after[self._after.index(self._anchor.stage) + 1 :]
                stream = iter([self._anchored(items[0], stage, still, None), *items[1:]])
            run = RunContext(facts=self._run.facts)
            for each in stages:
                stream = execute(each, stream, run, Meter())
            made = [item for item in stream if isinstance(item, Frame)]
        if not made:
            raise next(iter(run.failures.values()), MediaError("it could not be coloured"))
        return small(made[0], longer=longer)

    def _corrected(self, frame: Frame, hints: Mapping[str, Any], options: Mapping[str, Any], drawn: Path | None) -> BatchMap:
        """`colorize` with hints for a frame, and options; it shares the network that is loaded."""
        values = {**self._colorize.model_dump(by_alias=True), **options}
        type(self._colorize).model_validate(values)  # raises ValidationError, a ValueError
        update = dict(options)
        if hints or drawn:
            folder = self._emptied("hints")
            name = frame.unit.name
            file = folder / (f"{name}/{frame.index}" if frame.unit.media.kind == "film" else f"{name}")
            file.parent.mkdir(parents=True, exist_ok=True)
            if drawn:
                copyfile(drawn, file.with_name(f"{file.name}.png"))
            else:
                file.with_name(f"{file.name}.yaml").write_text(yaml.safe_dump(dict(hints)))
            update["hints"] = str(folder)
        corrected = self._colorize.model_copy(update=update)
        assert isinstance(corrected, BatchMap)
        return corrected

    def _emptied(self, name: str) -> Path:
        """A folder for corrections of what is shown, without those of before."""
        folder = Path(self._folder.name, name)
        rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def _memory_of(self, output: Path | None) -> bytes | None:
        """The memory that a run has kept of a film; None if there is none, such as of a film in one segment."""
        if output is None or self._anchor is None or not output.is_relative_to(self._out):
            return None
        path = first_pass_path(self._out, output, self._anchor.id)
        try:
            return path.read_bytes() if path else None
        except OSError:
            return None

    def _anchored(self, frame: Frame, colorize: BatchMap, still: Path | None, memory: bytes | None) -> Frame:
        """A picture, or a frame of a film, in colour, as a run leaves it but for what corrections of other frames change.

        Args:
            frame: The frame, ready for the network.
            colorize: The stage with the hints for it.
            still: The reference for it or its shot.
            memory: What a run has kept of the film; without it, or if it is of another network, the frame is all that is known.

        Raises:
            MediaError, UsageError: Hints or the still can't be used.
        """

        def colour(each: Frame) -> Frame:
            (made,) = colorize.apply([each])
            assert isinstance(made, Frame)
            return made

        plain = colour(frame)
        if self._anchor is None:
            return plain
        anchor = self._anchor_for(frame, colorize, still)

        def items(wanted: FirstPass) -> Iterator[Frame]:
            if wanted.indices:
                yield plain
            for notes in wanted.again().values():
                yield colour(replace(frame, notes={**frame.notes, **notes}))
            for each in wanted.further:
                yield colour(self._ready_frame(each))

        kept = {}
        start, stop = frame_range(frame.unit)
        for each in anchor.first_passes(frame.unit, {"": [range(start, stop or start + 1)]}):
            usable = memory is not None and not each.name and _knows(anchor, memory, plain)
            kept[each.name] = memory if memory is not None and usable else anchor.collect(frame.unit, each, items(each))
        anchor.use(frame.unit, kept, 1)
        (made,) = anchor.apply(iter([plain]))
        assert isinstance(made, Frame)
        return made

    def _anchor_for(self, frame: Frame, colorize: Stage, still: Path | None) -> TwoPassMap:
        """The stage that holds colours, with no still but that for a picture or a frame's shot, which is the frame alone."""
        assert self._anchor is not None
        folder = None
        if still is not None:
            folder = self._emptied("references")
            file = folder / frame.unit.name / f"{frame.index}{still.suffix}"
            file.parent.mkdir(parents=True)
            copyfile(still, file)
        values = {**self._anchor.stage.model_dump(by_alias=True), "reference": folder and str(folder)}
        anchor = type(self._anchor.stage).model_validate(values)
        assert isinstance(anchor, TwoPassMap)
        anchor.setup(self._run)
        anchor.placed([colorize], [])
        anchor.shots_by(_Alone())
        return anchor

    def _ready_frame(self, frame: Frame) -> Frame:
        """A frame as it goes into `colorize`, but for what stages know that look at its neighbours. Raises MediaError."""
        run = RunContext(facts=self._run.facts)
        stream: Iterator[Any] = iter([frame, End(frame.unit)])
        for stage in self._before:
            if isinstance(stage, Map | BatchMap):
                stream = execute(stage, stream, run, Meter())
        found = [item for item in stream if isinstance(item, Frame)]
        if not found:
            raise next(iter(run.failures.values()), MediaError("it can't be read"))
        return found[0]

    @property
    def _stages(self) -> list[Stage]:
        return [*self._before, self._colorize, *self._after]

    def _prepare(self, path: Path, frame: int | None) -> tuple[list[Any], tuple[int, int]]:
        """What goes into `colorize`, and width and height of what is shown, turned upright."""
        key = path, frame
        if key in self._prepared:
            self._prepared.move_to_end(key)
            return self._prepared[key]
        if not self._ready:
            for stage in self._stages:
                stage.setup(self._run)
            self._ready = True
        found = self._frame(path, frame) if frame is not None else self._picture(path)
        height, width = shown_size(found.unit.media)
        self._prepared[key] = [found, End(found.unit)], (width, height)
        while len(self._prepared) > _PREPARED:
            self._prepared.popitem(last=False)
        return self._prepared[key]

    def _opened(self, path: Path) -> tuple[Source, Unit]:
        """The graph's source for one file. Raises MediaError."""
        source = self._source.model_copy(update={"path": str(path), "sequence": False, "rate": None})
        source.setup(self._run)
        found = next(iter(source.units()), None)
        if not isinstance(found, Unit):
            raise MediaError(getattr(found, "error", "it is neither a picture nor a film"))
        return source, found

    def _picture(self, path: Path) -> Frame:
        """A picture, as it goes into `colorize`. Raises MediaError."""
        source, unit = self._opened(path)
        run = RunContext(facts=self._run.facts)
        try:
            stream: Iterator[Any] = execute_source(source, [unit], 0, run, Meter())
            for stage in self._before:
                stream = execute(stage, stream, run, Meter())
            frames = [item for item in stream if isinstance(item, Frame)]
        finally:
            source.close()
        if not frames:
            raise next(iter(run.failures.values()), MediaError("it can't be read"))
        return frames[0]

    def _frame(self, path: Path, frame: int) -> Frame:
        """A film's frame, as it goes into `colorize`. Raises MediaError."""
        if path not in self._films:
            self._films[path] = self._opened(path)
        source, unit = self._films[path]
        try:
            for item in source.sample(unit, [frame]):
                return self._ready_frame(item)
        finally:
            source.close()
        raise MediaError(f"frame {frame} can't be decoded")


def _knows(anchor: TwoPassMap, memory: bytes, frame: Frame) -> bool:
    """Whether a memory is undamaged, and of the network that gave a frame its features."""
    return anchor.is_whole("", memory) and FilmMemory.from_bytes(memory).knows(frame)
