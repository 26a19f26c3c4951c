"""What a run would take: each film and folder, measured by a trial of the real graph into a temporary folder."""

import json
import os
import resource
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from bwpipe.core.frame import Unit
from bwpipe.core.stage import Sink
from bwpipe.engine.ledger import open_ledgers
from bwpipe.engine.planner import make_plan
from bwpipe.engine.run import run_graph
from bwpipe.errors import MediaError, UsageError
from bwpipe.graph.graph import Graph, read_graph
from bwpipe.verify.stream_hashes import Streams, read_streams
from bwpipe.verify.streams import compare_streams
from bwpipe.verify.timestamps import tolerance
from bwpipe.verify.verdict import Verdict
from bwpipe.video.excerpt import write_excerpt
from bwpipe.video.file import VideoFile
from bwpipe.video.probe import open_video

FRAMES, PICTURES = 50, 10
"""How many frames of a film, and how many pictures of all, a trial works on."""
_WARM = 2
"""How many it works on first, to tell what a run takes once from what each frame takes."""


@dataclass(slots=True)
class Cost:
    """What a file or a folder takes.

    Attributes:
        seconds: Of time.
        size: Bytes of output.
    """

    seconds: float = 0.0
    size: float = 0.0

    def __str__(self) -> str:
        return f"about {duration(self.seconds)}, {bytes_in_words(self.size)} of output"


@dataclass(slots=True)
class Probe:
    """Finds out what a run would take.

    Attributes:
        graph: The graph's file.
        options: What is changed in it.
        total: What all that was told so far takes.
    """

    graph: Path
    options: Sequence[str]
    total: Cost = field(default_factory=Cost)

    def lines(self) -> Iterator[str]:
        """What would be done, and what it would take, in lines.

        Raises:
            UsageError: The graph is wrong, or there is nothing to read.
            MediaError: A film can't be read.
        """
        graph = read_graph(self.graph, self.options)
        folders = [node.stage.folder for node in graph.nodes if isinstance(node.stage, Sink)]
        if not folders:
            raise UsageError("this graph writes no files, so there is nothing to probe; give one that ends with `write`")
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
            yield f"in all: {self.total}; {bytes_in_words(peak())} of memory at most"

    def _film(self, graph: Graph, unit: Unit, film: VideoFile) -> Iterator[str]:
        """A film: what it is, what becomes of its streams, what it takes."""
        frames = len(film.times)
        shown = float((int(film.times[-1]) + (film.last or 0) - int(film.times[0])) * film.time_base)
        yield f"{film.path}: {frames} frames of {film.width}x{film.height}, {duration(shown)}, {film.codec}"
        if isinstance(graph.segment, int) and frames > graph.segment:
            count = -(-frames // graph.segment)
            yield f"  {count} segments of {graph.segment} frames; joining them takes twice the output for a while"
        count = min(FRAMES, frames)
        with TemporaryDirectory(prefix="bwpipe-") as folder:
            start, made = self._trial(graph, str(film.path), Path(folder, "start"), _WARM)
            others = read_streams(film)
            for path in made:
                yield from _streams(film, others, path)
            some = Path(folder, "some.mkv")
            spread = frames > count and write_excerpt(film, some, count)
            with redirect_stderr(StringIO()):  # what there is to be said has been
                tried = str(some if spread else film.path)
                fixed, _ = self._trial(graph, tried, Path(folder, "warm"), _WARM, alone=spread)
                seconds, made = self._trial(graph, tried, Path(folder, "trial"), FRAMES, alone=spread)
            size = sum(path.stat().st_size for path in made)
        each = max(seconds - fixed, 0) / max(count - _WARM, 1)
        copied = sum(copy.size for copy in others.copies) if spread else 0  # else they are in what the trial made
        cost = Cost(start + each * max(frames - _WARM, 0), size / count * frames + copied)
        self._add(cost)
        rate = f"{1 / each:.1f} frames/s" if each else "faster than can be told"
        yield f"  {cost}, by a trial of {count} frames {'from all over it' if spread else 'at its start'}: {rate}"

    def _pictures(self, graph: Graph, units: list[Unit]) -> Iterator[str]:
        """Pictures, folder by folder, by a trial of some that are evenly spaced over all."""
        count = min(PICTURES, len(units))
        chosen = [units[int((number + 0.5) * len(units) / count)] for number in range(count)]
        with TemporaryDirectory(prefix="bwpipe-") as folder:
            warm, trial = (_gathered(Path(folder, name), some) for name, some in (("one", chosen[:1]), ("some", chosen)))
            with redirect_stderr(StringIO()):
                fixed, _ = self._trial(graph, str(warm), Path(folder, "warm"), None)
            seconds, made = self._trial(graph, str(trial), Path(folder, "trial"), None)
            size = sum(path.stat().st_size for path in made)
        pixels = _pixels(chosen)
        each = max(seconds - fixed, 0) / (pixels - _pixels(chosen[:1])) if count > 1 else fixed / pixels
        places = dict.fromkeys(unit.path.parent for unit in units)
        for place in places:
            here = [unit for unit in units if unit.path.parent == place]
            cost = Cost(each * _pixels(here), size / pixels * _pixels(here))
            self._add(cost)
            yield f"{place}: {len(here)} picture{'s' * (len(here) > 1)}, {_pixels(here) / 1e6:.1f} megapixels"
            yield f"  {cost}, by a trial of {count} of all pictures"

    def _trial(
        self, graph: Graph, source: str, folder: Path, frames: int | None, *, alone: bool = False
    ) -> tuple[float, list[Path]]:
        """Run the graph on a file or a folder: how many seconds it took, and what came of it.

        `alone` says that the file has the one picture only that is to be coloured. Raises MediaError, UsageError.
        """
        sinks = [node.id for node in graph.nodes if isinstance(node.stage, Sink)]
        changes = [f"{graph.nodes[0].id}.path={json.dumps(source)}"]
        changes += [f"{name}.path={json.dumps(str(folder / name))}" for name in sinks]
        changes += [f"{graph.nodes[0].id}.frames={frames}"] if frames else []
        if alone and "picture" in type(graph.nodes[0].stage).model_fields:
            changes.append(f"{graph.nodes[0].id}.picture=1")
        outcome = run_graph(read_graph(self.graph, [*self.options, *changes]), quiet=True)
        if outcome.failed:
            raise MediaError("; ".join(f"{path}: {why}" for path, why in outcome.failed.items()))
        return outcome.seconds, [path for path in folder.rglob("*") if path.is_file() and ".bwpipe" not in path.parts]

    def _add(self, cost: Cost) -> None:
        self.total.seconds += cost.seconds
        self.total.size += cost.size


def _streams(film: VideoFile, streams: Streams, path: Path) -> Iterator[str]:
    """What became of a film's other streams in a trial."""
    if not film.tracks:
        return
    made = open_video(path, PurePosixPath(path.name), max_pixels=sys.maxsize, picture=film.picture)
    verdict = Verdict(film.path, path, "film")
    compare_streams(streams, read_streams(made), made, tolerance(film, made), verdict, trial=True)
    each = verdict.facts["streams"]["each"]
    kept, lost = ([told["stream"] for told in each if told["kept"] == so] for so in (True, False))
    yield f"  {len(kept)} other stream{'' if len(kept) == 1 else 's'} kept{': ' if kept else ''}{', '.join(kept)}"
    if lost:
        yield f"  {len(lost)} lost: {', '.join(lost)}"


def _gathered(folder: Path, units: Sequence[Unit]) -> Path:
    """A folder with these files, by other names: no two are the same."""
    folder.mkdir()
    for number, unit in enumerate(units):
        target = folder / f"{number}{unit.path.suffix}"
        try:
            os.link(unit.path, target, follow_symlinks=True)
        except OSError:  # it lies on another file system
            shutil.copyfile(unit.path, target)
    return folder


def _pixels(units: Sequence[Unit]) -> int:
    return sum(unit.media.width * unit.media.height for unit in units)


def peak() -> int:
    """The most memory, in bytes, that this process has held at a time, which is what a run like its trials holds."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min {rest:02} s"


def bytes_in_words(size: float) -> str:
    """Bytes in words."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
