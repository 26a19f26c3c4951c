"""Measure how far a film's colours wander, with and without `anchor`, and what it costs.

    python -m bench.drift FILM [FILM ...] [--frames 0 140] [--model unet] [--sheet SHEET.png]
    python -m bench.drift --made panned|again [--sheet SHEET.png]     (photographs of scikit-image, panned, or shown in turns)

Drift: the mean change of chroma 48 frames apart, on a grid of 160 x 120, at cells whose luma, blurred with a sigma of 2, is
within 2 % of its range after 12, 24, 36 and 48 frames; in thousandths of chroma's range. A film in colour is its own reference:
its luma is coloured again. CPU seconds are those of the process, per frame, of everything but decoding and encoding.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time
from typing import Any

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from skimage import data
from skimage.color import deltaE_ciede2000, rgb2lab

from bwpipe import BatchMap, Frame, RunContext, Unit
from bwpipe.core import plugins
from bwpipe.core.first_pass import TwoPassMap
from bwpipe.core.frame import End
from bwpipe.core.stage import Source, stages
from bwpipe.engine.executors import execute, execute_source
from bwpipe.engine.timing import Meter
from bwpipe.pixels.resize import resize_area, squash
from bwpipe.pixels.ycbcr import ycbcr_to_rgb

GRID = (120, 160)
GAP, QUARTERS = 48, (12, 24, 36, 48)
LUMA, SIGMA = 0.02, 2.0
CELL = 1 / 1000


@dataclass
class Film:
    """Frames as `colorize` leaves them, the film's own chroma for each, None if it is grey, and both ways of colouring them."""

    frames: list[Frame]
    truth: list[NDArray[np.float32]] | None
    held: list[NDArray[np.float32]]
    seconds: tuple[float, float, float]

    @property
    def own(self) -> list[NDArray[np.float32]]:
        """The chroma without `anchor`."""
        return [np.asarray(frame.chroma, np.float32) for frame in self.frames]


def coloured(path: Path, start: int, stop: int | None, model: str) -> Film:
    """Colour a film without `anchor`, and hold its colours with it."""
    source = stages["read"].model_validate({"path": str(path)})
    assert isinstance(source, Source)
    (found,) = source.units()
    assert isinstance(found, Unit)
    unit = replace(found, start=start, stop=stop)
    grey, shots, network, anchor = (
        stages["grayscale"].model_validate({"colour": "recolour"}),
        stages["shots"](),
        stages["colorize"].model_validate({"model": model, "workers": 1}),
        stages["anchor"](),
    )
    assert isinstance(anchor, TwoPassMap)
    assert isinstance(network, BatchMap)
    run = RunContext(downstream=lambda stage: (anchor,))
    for stage in (source, grey, shots, network, anchor):
        stage.setup(run)
    truth: list[NDArray[np.float32]] = []

    def with_truth(items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            if isinstance(item, Frame) and item.chroma is not None:
                truth.append(on_grid(item.chroma))
            yield item

    began = process_time()
    stream = with_truth(execute_source(source, [unit], 0, run, Meter()))
    for stage in (grey, shots, network):
        stream = execute(stage, stream, run, Meter())
    frames = [item for item in stream if isinstance(item, Frame)]
    plain = process_time() - began

    began = process_time()
    (wanted,) = anchor.first_passes(unit, {"": [range(unit.start, unit.stop or len(frames))]})
    keys: Iterator[Any] = iter([*source.sample(unit, wanted.indices), End(unit)])
    for stage in (grey, network):
        keys = execute(stage, keys, run, Meter())
    anchor.use(unit, {"": anchor.collect(unit, wanted, (item for item in keys if isinstance(item, Frame)))}, 1)
    before = process_time() - began
    began = process_time()
    held = [np.asarray(frame.chroma, np.float32) for frame in anchor.apply(iter(frames))]
    after = process_time() - began
    for stage in (source, grey, shots, network, anchor):
        stage.close()
    return Film(frames, truth if len(truth) == len(frames) else None, held, (plain, before, after))


def on_grid(chroma: NDArray[Any]) -> NDArray[np.float32]:
    """Chroma (2, h, w) on the grid of the comparison."""
    return np.stack([squash(plane.astype(np.float32), *GRID) for plane in chroma])


def drift(frames: Sequence[Frame], chroma: Sequence[NDArray[np.float32]]) -> float:
    """The drift of a film, in thousandths; not a number if nothing holds still."""
    lumas = []
    for frame in frames:
        assert frame.guide is not None
        unit = squash(frame.guide, *GRID).astype(np.float32) / 255
        lumas.append(cv2.GaussianBlur(unit, (0, 0), SIGMA))
    planes = [on_grid(each) for each in chroma]
    total = cells = 0.0
    for at in range(len(frames) - GAP):
        still = np.all([np.abs(lumas[at + gap] - lumas[at]) < LUMA for gap in QUARTERS], axis=0)
        total += float(np.hypot(*(planes[at + GAP] - planes[at]))[still].sum())
        cells += float(still.sum())
    return total / cells / CELL if cells else float("nan")


def strength(chroma: Sequence[NDArray[np.float32]]) -> float:
    """The mean length of chroma, in thousandths."""
    return float(np.mean([np.hypot(*each).mean() for each in chroma])) / CELL


def correlation(one: Sequence[NDArray[np.float32]], other: Sequence[NDArray[np.float32]]) -> float:
    """Pearson correlation over all cells and frames, Cb and Cr pooled."""
    sides = [np.concatenate([on_grid(each).ravel() for each in side]) for side in (one, other)]
    return float(np.corrcoef(np.stack(sides))[0, 1])


def largest_ratio(own: Sequence[NDArray[np.float32]], held: Sequence[NDArray[np.float32]]) -> float:
    """Share of cells whose mean length of chroma, if above a hundredth, is more than twice that without `anchor`."""
    lengths = [np.mean([np.hypot(*on_grid(each)) for each in side], axis=0) for side in (own, held)]
    return float((lengths[1] > 2 * np.maximum(lengths[0], 0.01)).mean())


def between_appearances(film: Film, chroma: Sequence[NDArray[np.float32]], shot: int) -> float:
    """CIEDE2000 between the appearances of a scene, first frames of its shots, at the luma of the first."""
    found: list[float] = []
    difference: Any = deltaE_ciede2000
    for scene in range(2):
        appearances = range(scene * shot, len(film.frames), 2 * shot)
        luma = np.asarray(film.frames[appearances[0]].guide)
        labs = [rgb2lab(rgb(luma, chroma[at])) for at in appearances]
        found.extend(float(difference(labs[0], lab).mean()) for lab in labs[1:])
    return float(np.mean(found))


def rgb(luma: NDArray[np.uint8], chroma: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Luma and chroma, on any grid, as RGB (h, w, 3)."""
    planes = np.stack([squash(plane, *luma.shape) for plane in chroma])
    return np.asarray(ycbcr_to_rgb(luma, planes, "bt601"), np.uint8)


def report(name: str, film: Film) -> Iterator[str]:
    """The figures of a film."""
    count, (plain, before, after) = len(film.frames), film.seconds
    yield f"{name}: {count} frames"
    for label, chroma in (("without", film.own), ("with", film.held), ("reference", film.truth)):
        if chroma is not None:
            shown = "" if film.truth is None or label == "reference" else f"  correlation {correlation(film.truth, chroma):.3f}"
            yield f"  {label:10} drift {drift(film.frames, chroma):6.1f}  chroma {strength(chroma):5.1f}{shown}"
    yield f"  cells of more than twice the chroma: {largest_ratio(film.own, film.held):.2%}"
    each, held = 1000 * plain / count, 1000 * after / count
    yield f"  CPU: {each:.1f} ms a frame; key frames {before:.2f} s; anchor {held:.1f} ms a frame"


def make(path: Path, kind: str) -> int:
    """Make a film of photographs, panned with one pasted over, or two in turns, with grain; returns the frames of a shot."""
    photographs: Any = data
    pictures = [photographs.astronaut(), photographs.coffee(), photographs.chelsea(), photographs.rocket()]
    rng = np.random.default_rng(0)
    shot = 40
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=10)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv444p"
        for number in range(shot * (6 if kind == "again" else 3)):
            turn = number // shot
            image = pictures[turn % 2 if kind == "again" else turn % 3]
            left = (number % shot) if kind == "panned" else (number % shot) // 4
            part = resize_area(image[20:280, left : left + 346].astype(np.float32), (240, 320))
            if kind == "panned":
                at = 5 * (number % shot)
                part[150:220, at : at + 90] = resize_area(pictures[3][60:200, 200:380].astype(np.float32), (70, 90))
            part = np.clip(part + rng.normal(0, 4, (240, 320, 1)), 0, 255).astype(np.uint8)
            output.mux(stream.encode(VideoFrame.from_ndarray(part, format="rgb24").reformat(format="yuv444p")))
        output.mux(stream.encode(None))
    return shot


def sheet(film: Film, path: Path, columns: int = 6) -> None:
    """Write frames without `anchor` above the same with it."""
    places = np.linspace(0, len(film.frames) - 1, columns).astype(int)
    rows = [
        np.hstack([rgb(np.asarray(film.frames[at].guide), chroma[at]) for at in places]) for chroma in (film.own, film.held)
    ]
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", nargs="*", type=Path)
    parser.add_argument("--frames", nargs=2, type=int, default=(0, None), metavar=("FIRST", "STOP"))
    parser.add_argument("--made", choices=["panned", "again"])
    parser.add_argument("--model", default="unet")
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    plugins.load()
    with tempfile.TemporaryDirectory() as folder:
        shot = 0
        if options.made:
            path = Path(folder, f"{options.made}.mkv")
            shot = make(path, options.made)
            options.films = [path]
        for path in options.films:
            film = coloured(path, options.frames[0], options.frames[1], options.model)
            print(*report(path.name, film), sep="\n", flush=True)
            if options.made == "again":
                for label, chroma in (("without", film.own), ("with", film.held)):
                    print(
                        f"  {label:10} CIEDE2000 between appearances {between_appearances(film, chroma, shot):.2f}", flush=True
                    )
            if options.sheet:
                sheet(film, options.sheet)


if __name__ == "__main__":
    main()
