"""A picture, or a frame of a film, coloured with other hints and options at once: the network stays loaded."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from shutil import rmtree
from tempfile import TemporaryDirectory
from threading import Lock
from types import TracebackType
from typing import Any

import yaml

from bwpipe.core.context import RunContext
from bwpipe.core.first_pass import TwoPassMap
from bwpipe.core.frame import End, Frame, Unit
from bwpipe.core.segments import first_pass_path
from bwpipe.core.stage import BatchMap, Map, Sink, Source, Stage
from bwpipe.engine.executors import execute, execute_source
from bwpipe.engine.timing import Meter
from bwpipe.errors import MediaError, UsageError
from bwpipe.graph.graph import Graph
from bwpipe.memory.film_memory import FilmMemory
from bwpipe.memory.hints import Hints
from bwpipe.memory.references import Still, still_frame
from bwpipe.motion.optical_flow import SHORT
from bwpipe.pixels.cropping import shown_size
from bwpipe.pixels.resize import fit_short_side
from bwpipe.review.film_preview import in_film, read_memory
from bwpipe.review.thumbnails import Pixels
from bwpipe.tools.preview import nodes_before_sink, small

_PREPARED = 6
"""How many pictures stay decoded."""
LONGER = 1280
"""Longer side of a preview, in pixels."""
COLORIZE = "colorize"


class LivePreview:
    """Colours single pictures with the stages of a graph, and single frames of films as `anchor` leaves them there."""

    def __init__(self, graph: Graph) -> None:
        """Prepare it. Raises UsageError if the graph does not colour by `colorize`."""
        source, *steps = (node.stage for node in nodes_before_sink(graph))
        assert isinstance(source, Source)
        self._source = source
        at = next((number for number, stage in enumerate(steps) if stage.registered == COLORIZE), None)
        if at is None:
            raise UsageError("this graph has no stage `colorize`, so there is nothing to correct")
        plain = steps[at].model_copy(update={"hints": None})
        self._before, self._colorize, self._after = steps[:at], plain, steps[at + 1 :]
        self._out = next(node.stage.folder for node in reversed(graph.nodes) if isinstance(node.stage, Sink))
        self._anchor = next((node.id for node in graph.nodes if isinstance(node.stage, TwoPassMap)), None)
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
            still: The reference for the shot of a film's frame.
            output: The film that a run has made of it: its memory is used.
            longer: Longer side of the result.

        Raises:
            MediaError, OSError: It can't be read.
            UsageError: An option is wrong.
        """
        with self._lock:
            items, _ = self._prepare(path, frame)
            hints = {"points": [dict(each) for each in points], **({"tint": tint} if tint else {})}
            if frame is not None:
                told = hints if points or tint else {}
                memory = None if options else self._memory_of(output)
                return small(self._frame_in_film(items[0], told, options or {}, still, memory), longer=longer)
            stage = self._corrected(items, hints if points or tint else {}, options or {})
            stream: Iterator[Any] = iter(items)
            run = RunContext(facts=self._run.facts)
            for each in (stage, *self._after):
                stream = execute(each, stream, run, Meter())
            made = [item for item in stream if isinstance(item, Frame)]
        if not made:
            raise next(iter(run.failures.values()), MediaError("it could not be coloured"))
        return small(made[0], longer=longer)

    def _corrected(self, items: Sequence[Any], hints: Mapping[str, Any], options: Mapping[str, Any]) -> Stage:
        """`colorize` with hints and options; it shares the network that is loaded."""
        values = {**self._colorize.model_dump(by_alias=True), **options}
        type(self._colorize).model_validate(values)  # raises ValidationError, a ValueError
        update = dict(options)
        if hints:
            unit = next(item.unit for item in items if isinstance(item, Frame))
            folder = Path(self._folder.name, "hints")
            folder.mkdir(exist_ok=True)
            for old in folder.iterdir():
                old.unlink()
            Path(folder, f"{unit.name.name}.yaml").write_text(yaml.safe_dump(dict(hints)))
            update["hints"] = str(folder)
        return self._colorize.model_copy(update=update)

    def _memory_of(self, output: Path | None) -> FilmMemory | None:
        """The memory that a run has kept of a film."""
        if output is None or self._anchor is None or not output.is_relative_to(self._out):
            return None
        return read_memory(first_pass_path(self._out, output, self._anchor))

    def _frame_in_film(
        self, frame: Frame, hints: Mapping[str, Any], options: Mapping[str, Any], still: Path | None, memory: FilmMemory | None
    ) -> Frame:
        """A frame of a film in colour. Raises MediaError, UsageError."""
        media = frame.unit.media
        stage = self._corrected([frame], {}, options)
        assert isinstance(stage, BatchMap)
        known = None
        if hints:
            folder = Path(self._folder.name, "film-hints")
            rmtree(folder, ignore_errors=True)
            (folder / media.name).mkdir(parents=True)
            (folder / media.name / f"{frame.index}.yaml").write_text(yaml.safe_dump(dict(hints)))
            known = Hints(str(folder)).read(media, fit_short_side(media.upright_size, SHORT), frame.index)

        def colour(each: Frame) -> Frame:
            (made,) = stage.apply([each])
            assert isinstance(made, Frame)
            return made

        told = None if still is None else self._ready_frame(still_frame(Still(still, PurePosixPath(still.name)), frame.unit))
        return in_film(frame, colour, memory=memory, hints=known, still=told)

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
