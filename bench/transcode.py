"""Compare the default graph with a plain transcode of the same film: same decoder, codec, preset and threads.

    python -m bench.transcode [FILM] [--frames 120] [--start 20] [--presets medium veryfast] [--repeat 5] [--set STAGE.OPTION=X]

Without a FILM, a synthetic 720p film is made. Each figure is the cost of the first `--frames` frames less that of the first
`--start` frames, so that starting does not count; medians of rounds in which all are measured in turn, in one process. Below
them stand the CPU seconds of each stage alone, on the output of the stages before it, and of the graph how much of its CPU time
is the system's, and how many pages it had to be given by the system.
"""

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

import yaml

import bwpipe
from bench.run_graph import make_film
from bwpipe import Frame, RunContext, Unit
from bwpipe.core.first_pass import TwoPassMap
from bwpipe.core.frame import End
from bwpipe.core.parallel import single_threaded_opencv
from bwpipe.core.stage import Source, Stage
from bwpipe.engine.executors import execute, execute_source
from bwpipe.engine.timing import Meter
from bwpipe.graph.graph import read_graph
from bwpipe.testing import run_stage
from bwpipe.video.encoding import Encoding, encoder
from bwpipe.video.file import VideoFile, decoder_of, video_stream
from bwpipe.video.probe import open_video
from bwpipe.video.segment_encoder import configure

STAGES = ("read", "grayscale", "shots", "colorize", "anchor", "steady", "write")
Options = dict[str, dict[str, Any]]
T = TypeVar("T")


class Cost(NamedTuple):
    """What a call took: seconds on the clock, CPU seconds of the program and of the system, and pages given by the system."""

    wall: float
    user: float
    system: float
    faults: float

    @classmethod
    def of(cls, call: Callable[[], T]) -> "tuple[Cost, T]":
        """Measure a call, and return its result too."""
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        result = call()
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
        spent = (getattr(after, name) - getattr(before, name) for name in ("ru_utime", "ru_stime", "ru_minflt"))
        return cls(wall, *spent), result

    @property
    def cpu(self) -> float:
        """All CPU seconds."""
        return self.user + self.system


def transcode(film: VideoFile, preset: str, frames: int) -> int:
    """Decode and encode frames of a film, and return the number of bytes; nothing is joined, and no sound is copied."""
    encoding = Encoding(preset=preset)
    context = encoder(encoding.codec).create("video")
    configure(context, film, encoding)
    size = 0
    with film.open() as container:
        stream = video_stream(container, film.picture)
        assert stream is not None
        decoder = decoder_of(stream)
        decoded = (frame for packet in container.demux(stream) for frame in decoder.decode(packet))
        for frame in islice(decoded, frames):
            frame.time_base = film.time_base
            frame.pict_type = 0  # the encoder chooses, as it does for frames that are new
            size += sum(packet.size for packet in context.encode(frame))
    return size + sum(packet.size for packet in context.encode(None))


def colour(film: Path, preset: str, frames: int, options: Options) -> None:
    """Run the default graph on frames of a film."""
    with tempfile.TemporaryDirectory() as folder:
        own: Options = {"read": {"path": str(film), "frames": frames}, "write": {"path": folder, "preset": preset}}
        stages = [{"use": name, **own.get(name, {}), **options.get(name, {})} for name in STAGES]
        result = bwpipe.run({"stages": stages})
        assert result.done == 1, result


def stages_alone(film: Path, preset: str, frames: int, options: Options) -> dict[str, Cost]:
    """The cost of each stage by itself, on the output of the stages before it.

    The frames at which `anchor` looks first are taken from that output, so that colouring them counts only once.
    """
    costs: dict[str, Cost] = {}
    items: list[Any] = []
    with tempfile.TemporaryDirectory() as folder, single_threaded_opencv():
        own: Options = {"read": {"path": str(film), "frames": frames}, "write": {"path": folder, "preset": preset}}
        described = [{"use": name, **own.get(name, {}), **options.get(name, {})} for name in STAGES]
        graph = read_graph({"stages": described})
        placed = [node.stage for node in graph.nodes]
        run = RunContext(downstream=graph.downstream)
        for name, stage in zip(STAGES[:-1], placed, strict=False):
            stage.setup(run)
            costs[name], output = Cost.of(partial(_alone, stage, items, run))
            stage.close()
            items = [_copied(item) if name == "read" and isinstance(item, Frame) else item for item in output]
        written = [item for item in items if isinstance(item, Frame)]
        costs["write"], _ = Cost.of(partial(run_stage, "write", written, **own["write"], **options.get("write", {})))
    return costs


def _alone(stage: Stage, items: list[Any], run: RunContext) -> list[Any]:
    """The output of a stage, with the `End` of each unit."""
    if isinstance(stage, Source):
        units = [unit for unit in stage.units() if isinstance(unit, Unit)]
        return list(execute_source(stage, units, 0, run, Meter()))
    if isinstance(stage, TwoPassMap):
        whole = next(item.unit for item in items if isinstance(item, End))
        kept = {}
        for wanted in stage.first_passes(whole, {"": [range(whole.start, whole.stop or whole.media.frames or 1)]}):
            seen = [item for item in items if isinstance(item, Frame) and item.index in set(wanted.indices)]
            kept[wanted.name] = stage.collect(whole, wanted, iter(seen))
        stage.use(whole, kept, 1)
    return list(execute(stage, iter(items), run, Meter()))


def _copied(frame: Frame) -> Frame:
    """The frame with a copy of its luma, to release the decoder's buffers."""
    luma = frame.luma.copy()
    luma.flags.writeable = False
    return replace(frame, luma=luma)


def less_start(measure: Callable[[int], Cost], frames: int, start: int) -> Cost:
    """The cost of the frames after the first ones."""
    few = measure(start)
    return difference(measure(frames), few)


def difference(whole: Cost, part: Cost) -> Cost:
    """The cost without that of a part."""
    return Cost(*(more - less for more, less in zip(whole, part, strict=True)))


def median(costs: Sequence[Cost]) -> Cost:
    """The median of each figure."""
    return Cost(*(statistics.median(values) for values in zip(*costs, strict=True)))


def lines(film: Path, preset: str, options: argparse.Namespace) -> Iterator[str]:
    """The report on one preset."""
    video = open_video(film, PurePosixPath(film.name), max_pixels=250_000_000)
    frames, start, given = min(options.frames, len(video.times)), options.start, options.set
    count, cores = frames - start, len(os.sched_getaffinity(0))
    colour(film, preset, start, given)  # loads libraries and weights
    plain, graph = list[Cost](), list[Cost]()
    for _ in range(options.repeat):
        plain.append(less_start(lambda n: Cost.of(partial(transcode, video, preset, n))[0], frames, start))
        graph.append(less_start(lambda n: Cost.of(partial(colour, film, preset, n, given))[0], frames, start))
    rounds = [less_start_of_stages(film, preset, frames, start, given) for _ in range(max(options.repeat // 2, 1))]
    alone = {name: median([each[name] for each in rounds]) for name in STAGES}
    yield (
        f"{film.name}, {video.width}x{video.height}, frames {start} to {frames - 1}, x264 {preset}, {cores} cores, "
        f"medians of {options.repeat}"
    )
    for name, cost in (("plain transcode", median(plain)), ("default graph", median(graph))):
        yield (
            f"{name:18} {1000 * cost.wall / count:7.2f} ms   CPU {1000 * cost.cpu / count:7.2f} ms, "
            f"{cost.system / cost.cpu:4.0%} of it system, {cost.faults / count:7.0f} page faults a frame"
        )
    for name, cost in alone.items():
        yield (
            f"  {name + ' alone':16} {1000 * cost.wall / count:7.2f} ms   CPU {1000 * cost.cpu / count:7.2f} ms, "
            f"{cost.system / cost.cpu:4.0%} of it system, {cost.faults / count:7.0f} page faults a frame"
        )
    walls = [after.wall / before.wall for before, after in zip(plain, graph, strict=True)]
    cpus = [after.cpu / before.cpu for before, after in zip(plain, graph, strict=True)]
    bound = sum(cost.cpu for cost in alone.values()) / cores
    limit = LIMITS.get(preset, "-")
    yield f"graph / transcode, on the clock                  {statistics.median(walls):5.2f}   (at most {limit})"
    yield f"graph / transcode, CPU                           {statistics.median(cpus):5.2f}"
    yield f"graph on the clock / (CPU of all stages / cores) {median(graph).wall / bound:5.2f}   (at most 1.10)"


LIMITS = {"medium": "1.50", "veryfast": "2.00"}
"""The most that the graph may take, as a multiple of the transcode, with each preset."""


def less_start_of_stages(film: Path, preset: str, frames: int, start: int, options: Options) -> dict[str, Cost]:
    """The cost of each stage alone, for the frames after the first ones."""
    few, all_of_them = (stages_alone(film, preset, n, options) for n in (start, frames))
    return {name: difference(all_of_them[name], few[name]) for name in STAGES}


def option(text: str) -> tuple[str, str, Any]:
    """`STAGE.OPTION=VALUE`, as for `bwpipe run --set`."""
    name, _, value = text.partition("=")
    stage, _, key = name.partition(".")
    if stage not in STAGES or not key or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not STAGE.OPTION=VALUE")
    return stage, key, yaml.safe_load(value)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", nargs="?", type=Path)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--start", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--presets", nargs="+", default=["medium", "veryfast"])
    parser.add_argument("--set", type=option, action="append", default=[], metavar="STAGE.OPTION=VALUE")
    options = parser.parse_args()
    changes: Options = {}
    for stage, key, value in options.set:
        changes.setdefault(stage, {})[key] = value
    options.set = changes
    with tempfile.TemporaryDirectory() as folder:
        film = options.film
        if film is None:
            film = Path(folder, "film.mp4")
            make_film(film, options.frames)
        for preset in options.presets:
            for line in lines(film.resolve(), preset, options):
                print(line, flush=True)


if __name__ == "__main__":
    main()
