"""Synthetic frames and a way to run one stage alone: for bwpipe's tests and for plug-in authors."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from bwpipe.core.atomic_file import AtomicFile
from bwpipe.core.context import RunContext
from bwpipe.core.frame import Broken, End, Frame, Luma, Media, Unit
from bwpipe.core.segments import Assembly, waiting_fragments
from bwpipe.core.stage import Sink, Source, stages
from bwpipe.engine.executors import execute, execute_source
from bwpipe.engine.sink_executor import execute_sink
from bwpipe.engine.timing import Meter


class _SyntheticVideo(Media):
    kind = "film"
    has_segments = True


def make_frames(
    count: int = 1,
    *,
    height: int = 48,
    width: int = 64,
    depth: int = 8,
    levels: tuple[int, int] | None = None,
    film: bool = False,
    name: str = "made.png",
    orientation: int = 1,
    seed: int = 0,
) -> list[Frame]:
    """Make distinct smooth images, or one video with motion.

    Args:
        count: Number of frames.
        height: Height of the luma, in pixels.
        width: Width of the luma, in pixels.
        depth: Bits per sample; above 8 the luma is uint16.
        levels: Code values of black and white; full range by default.
        film: Make one video of `count` frames of 1/25 s each, instead of `count` images.
        name: File name of the media; images after the first get a number.
        orientation: EXIF orientation (tag 274).
        seed: Seed of the random image content.

    Returns:
        Frames whose luma is (height, width), within the levels and read-only; all of one unit if `film`.
    """
    rng = np.random.default_rng(seed)
    black, white = levels or (0, 2**depth - 1)
    shared: dict[str, Any] = {
        "width": width,
        "height": height,
        "depth": depth,
        "levels": (black, white),
        "orientation": orientation,
    }
    base = PurePosixPath(name)

    def media(i: int) -> Media:
        own = base if i == 0 else base.with_name(f"{base.stem}-{i}{base.suffix}")
        path = Path("/nowhere", own)
        if film:
            return _SyntheticVideo(path=path, name=own, frames=count, time_base=Fraction(1, 25), tones=(black, white), **shared)
        return Media(path=path, name=own, **shared)

    coarse = cv2.resize(rng.random((6, 8), dtype=np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    frames: list[Frame] = []
    for i in range(count):
        unit = frames[0].unit if film and frames else Unit(media(i))
        plane = np.clip(np.roll(coarse, 2 * i, axis=1), 0, 1) if film else np.clip(np.roll(coarse, 5 * i, axis=0), 0, 1)
        codes = np.round(black + plane * (white - black))
        luma: Luma = codes.astype(np.uint8) if depth == 8 else codes.astype(np.uint16)
        luma.flags.writeable = False
        frames.append(Frame(luma, unit, index=i, pts=i, duration=1) if film else Frame(luma, unit))
    return frames


def run_stage(name: str, items: Iterable[Any] = (), /, *, run: RunContext | None = None, **options: Any) -> list[Any]:
    """Run one stage alone, as the engine does but in this thread, and return its output.

    Args:
        name: The stage's registered name.
        items: Input items, e.g. frames; none for a source, which reads all of its units.
        run: Collects warnings and failures, if they are of interest.
        options: The stage's options, as in a graph file.

    Returns:
        The output items; for a sink, the media names of the files it finished.

    Raises:
        Exception: The error of the first unit that failed, if any.
    """
    from bwpipe.core import plugins

    plugins.load()
    run = run or RunContext()
    stage = stages[name](**options)
    items = list(items)
    meter = Meter()
    try:
        stage.setup(run)
        match stage:
            case Source():
                found = list(stage.units())
                if broken := [unit for unit in found if isinstance(unit, Broken)]:
                    raise ValueError(f"{broken[0].name}: {broken[0].error}")
                stream = execute_source(stage, [unit for unit in found if isinstance(unit, Unit)], 0, run, meter)
            case Sink():
                published = execute_sink(
                    stage,
                    _with_ends(items),
                    wanted=lambda unit: True,
                    keep=lambda unit, file: _publish(stage, unit, file),
                    run=run,
                    meter=meter,
                    assemblies=_assemblies(stage, items),
                )
                stream = iter(dict.fromkeys(str(unit.media.name) for unit in published))
            case _:
                stream = execute(stage, _with_ends(items), run, meter)
        output = [item for item in stream if not isinstance(item, End)]
        if run.failures:
            raise next(iter(run.failures.values()))
        stage.finish()
    finally:
        stage.close()
    return output


def _assemblies(sink: Sink, items: Iterable[Any]) -> list[Assembly]:
    """The videos among the items that the sink has to join, each of one segment."""
    units = dict.fromkeys(item.unit for item in items)
    return [Assembly(replace(unit), (unit,)) for unit in units if sink.assembles and unit.media.has_segments]


def _publish(sink: Sink, unit: Unit, file: AtomicFile) -> None:
    file.publish()
    if sink.assembles and file.target == sink.target(unit):
        for path in waiting_fragments(sink.folder, [file.target]):
            path.unlink()


def _with_ends(items: Iterable[Any]) -> Iterator[Any]:
    """The items, with an End after those of each unit; items without a unit get none."""
    for unit, group in groupby(items, key=lambda item: getattr(item, "unit", None)):
        yield from group
        if unit:
            yield End(unit)


def coloured(frame: Frame, cb: float = 0.1, cr: float = -0.1) -> Frame:
    """The frame with constant chroma, on a (2, 4, 4) grid."""
    chroma = np.empty((2, 4, 4), np.float16)
    chroma[0], chroma[1] = cb, cr
    return replace(frame, chroma=chroma)
