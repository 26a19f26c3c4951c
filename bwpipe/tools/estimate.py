"""Estimate the cost of a run for each film and folder, by a trial of the real graph into a temporary folder."""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from bwpipe.core.frame import Unit
from bwpipe.core.memory import peak
from bwpipe.core.segments import default_size
from bwpipe.core.stage import Sink
from bwpipe.engine.planner import make_plan
from bwpipe.engine.run import run_graph
from bwpipe.engine.share_ledger import open_ledgers
from bwpipe.errors import MediaError, UsageError
from bwpipe.graph.graph import Graph, read_graph
from bwpipe.sequence.file import FrameSequence
from bwpipe.verify.stream_hashes import Streams, read_streams
from bwpipe.verify.streams import compare_streams
from bwpipe.verify.timestamps import delay, tolerance
from bwpipe.verify.verdict import Verdict
from bwpipe.video.excerpt import write_excerpt
from bwpipe.video.file import VideoFile
from bwpipe.video.probe import open_video

FRAMES, IMAGES = 90, 10
"""Number of frames of a film, and of pictures in total, that a trial processes. In runs of 17 frames, not 30, `steady` would
have half as many neighbours to average as in a film."""
_WARM_UP = 2
"""Number of frames of a warm-up, to separate the fixed cost of a run from the cost per frame."""

_SHORTEST = 0.1
"""The shortest estimate in seconds: nothing takes no time."""


@dataclass(slots=True)
class Cost:
    """The cost of a file or a folder.

    Attributes:
        seconds: Processing time.
        size: Bytes of output.
    """

    seconds: float = 0.0
    size: float = 0.0

    def __str__(self) -> str:
        return f"about {duration(max(self.seconds, _SHORTEST))}, {bytes_in_words(self.size)} of output"


@dataclass(slots=True)
class Probe:
    """Estimates the cost of a run.

    Attributes:
        graph: The graph file.
        options: Overrides of its options.
        started: Seconds that a command takes before it looks at the graph; they are added to the first file or folder.
        total: Total cost of all files estimated so far.
    """

    graph: Path
    options: Sequence[str]
    started: float = 0.0
    total: Cost = field(default_factory=Cost)

    def lines(self) -> Iterator[str]:
        """The estimates, as lines of text.

        Raises:
            UsageError: The graph is wrong, or there is nothing to read.
            MediaError: A film can't be read.
        """
        graph = read_graph(self.graph, self.options)
        folders = [node.stage.folder for node in graph.nodes if isinstance(node.stage, Sink)]
        if not folders:
            raise UsageError("this graph writes no files, so there is nothing to estimate; give one that ends with `write`")
        with open_ledgers(folders, lock=False) as ledgers:
            todo = make_plan(graph, ledgers).todo
        films = list({unit.media: unit for unit in todo if isinstance(unit.media, VideoFile)}.values())
        for unit in films:
            assert isinstance(unit.media, VideoFile)
            yield from self._film(graph, unit, unit.media)
        pictures = [unit for unit in todo if unit.media.kind == "picture"]
        if pictures:
            yield from self._pictures(graph, pictures)
        if todo:
            memory = peak()
            yield f"in total: {self.total}" + ("" if memory is None else f"; peak memory {bytes_in_words(memory)}")

    def _film(self, graph: Graph, unit: Unit, film: VideoFile) -> Iterator[str]:
        """Estimate a film: its properties, what happens to its streams, its cost."""
        frames = len(film.times)
        shown = float((int(film.times[-1]) + (film.last or 0) - int(film.times[0])) * film.time_base)
        yield f"{film.path}: {frames} frames of {film.width}x{film.height}, {duration(shown)}, {film.codec}"
        size = default_size(film) if graph.segment == "auto" else graph.segment
        if size and frames > size:
            count = -(-frames // size)
            yield f"  {count} segments of {size} frames; joining them temporarily takes twice the size of the output"
        count = min(FRAMES, frames)
        with TemporaryDirectory(prefix="bwpipe-") as folder:
            source = film.pattern if isinstance(film, FrameSequence) else str(film.path)
            start, outputs = self._run_trial(graph, source, Path(folder, "start"), _WARM_UP)
            others = read_streams(film)
            for path in outputs if len(outputs) == 1 else ():  # several are frames, which have no other streams
                yield from _streams(film, others, path)
            excerpt = Path(folder, "excerpt.mkv")
            spread = frames > count and not isinstance(film, FrameSequence) and write_excerpt(film, excerpt, count)
            with redirect_stderr(StringIO()):  # warnings have been shown by the first trial
                trial_input = str(excerpt) if spread else source
                fixed, _ = self._run_trial(graph, trial_input, Path(folder, "warm"), _WARM_UP, alone=spread)
                seconds, outputs = self._run_trial(graph, trial_input, Path(folder, "trial"), FRAMES, alone=spread)
            size = sum(path.stat().st_size for path in outputs)
        each = max(seconds - fixed, 0) / max(count - _WARM_UP, 1)
        copied = sum(copy.size for copy in others.copies) if spread else 0  # otherwise the trial's output contains them
        cost = Cost(self._once_started() + start + each * max(frames - _WARM_UP, 0), size / count * frames + copied)
        self._add(cost)
        rate = f"{1 / each:.1f} frames/s" if each else "too fast to measure"
        yield f"  {cost}, by a trial of {count} frames {'spread over the film' if spread else 'at its start'}: {rate}"

    def _pictures(self, graph: Graph, units: list[Unit]) -> Iterator[str]:
        """Estimate pictures, folder by folder, by a trial of an evenly spaced sample of all."""
        count = min(IMAGES, len(units))
        chosen = [units[int((number + 0.5) * len(units) / count)] for number in range(count)]
        with TemporaryDirectory(prefix="bwpipe-") as folder:
            first, trial = (_copy_into(Path(folder, name), some) for name, some in (("one", chosen[:1]), ("some", chosen)))
            with redirect_stderr(StringIO()):  # the trial of all shows the warnings
                start, _ = self._run_trial(graph, str(first), Path(folder, "start"), None)
                fixed, _ = self._run_trial(graph, str(first), Path(folder, "warm"), None)
            seconds, outputs = self._run_trial(graph, str(trial), Path(folder, "trial"), None)
            size = sum(path.stat().st_size for path in outputs)
        pixels = _pixels(chosen)
        rest = pixels - _pixels(chosen[:1])
        each = (seconds - fixed) / rest if rest and seconds > fixed else seconds / pixels
        start += self._once_started()
        self.total.seconds += start  # loading the network and the like, once for all folders
        yield f"starting: about {duration(max(start, _SHORTEST))}, by a trial of one picture"
        places = dict.fromkeys(unit.path.parent for unit in units)
        for place in places:
            here = [unit for unit in units if unit.path.parent == place]
            cost = Cost(each * _pixels(here), size / pixels * _pixels(here))
            self._add(cost)
            yield f"{place}: {len(here)} picture{'s' * (len(here) > 1)}, {_pixels(here) / 1e6:.1f} megapixels"
            yield f"  {cost}, by a trial of {count} of all pictures"

    def _run_trial(
        self, graph: Graph, source: str, folder: Path, frames: int | None, *, alone: bool = False
    ) -> tuple[float, list[Path]]:
        """Run the graph on a file or a folder and return its duration in seconds and its output files.

        `alone` says that the file's only video stream is the one to colour. Raises MediaError, UsageError.
        """
        sinks = [node.id for node in graph.nodes if isinstance(node.stage, Sink)]
        changes = [f"{graph.nodes[0].id}.path={json.dumps(source)}"]
        changes += [f"{name}.path={json.dumps(str(folder / name))}" for name in sinks]
        changes += [f"{graph.nodes[0].id}.frames={frames}"] if frames else []
        if alone and "picture" in type(graph.nodes[0].stage).model_fields:
            changes.append(f"{graph.nodes[0].id}.picture=1")
        result = run_graph(read_graph(self.graph, [*self.options, *changes]), quiet=True, trial=True)
        if result.failed:
            raise MediaError("; ".join(f"{path}: {why}" for path, why in result.failed.items()))
        return result.seconds, [path for path in folder.rglob("*") if path.is_file() and ".bwpipe" not in path.parts]

    def _once_started(self) -> float:
        """`started` for the first that asks, else 0."""
        started, self.started = self.started, 0.0
        return started

    def _add(self, cost: Cost) -> None:
        self.total.seconds += cost.seconds
        self.total.size += cost.size


def _streams(film: VideoFile, streams: Streams, path: Path) -> Iterator[str]:
    """What happened to a film's other streams in a trial."""
    if not film.tracks:
        return
    output = open_video(path, PurePosixPath(path.name), max_pixels=sys.maxsize, picture=film.picture)
    verdict = Verdict(film.path, path, "film")
    written = read_streams(output).earlier(delay(film, output, streams.starts))
    compare_streams(streams, written, output, tolerance(film, output), verdict, trial=True)
    each = verdict.facts["streams"]["each"]
    kept, lost = ([stream["stream"] for stream in each if stream["kept"] == status] for status in (True, False))
    yield f"  {len(kept)} other stream{'' if len(kept) == 1 else 's'} kept{': ' if kept else ''}{', '.join(kept)}"
    if lost:
        yield f"  {len(lost)} lost: {', '.join(lost)}"


def _copy_into(folder: Path, units: Sequence[Unit]) -> Path:
    """A folder with these files under unique names."""
    folder.mkdir()
    for number, unit in enumerate(units):
        target = folder / f"{number}{unit.path.suffix}"
        try:
            os.link(unit.path, target, follow_symlinks=True)
        except OSError:  # on another file system
            shutil.copyfile(unit.path, target)
    return folder


def _pixels(units: Sequence[Unit]) -> int:
    return sum(unit.media.width * unit.media.height for unit in units)


def duration(seconds: float) -> str:
    """Format a duration in seconds."""
    seconds = max(seconds, 0.0)  # a clock may have been set back
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min {rest:02} s"


def bytes_in_words(size: float) -> str:
    """Format a number of bytes."""
    size = max(size, 0.0)
    for unit in ("B", "kB", "MB", "GB"):
        if round(size) < 1000:  # 999.6 would be rounded to 1e+03
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB" if round(size) < 1000 else f"{size:.0f} TB"
