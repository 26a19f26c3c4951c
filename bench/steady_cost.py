"""Measure the cost of `shots` and `steady` relative to the network, and the savings from skipping frames.

    python -m bench.steady_cost FILM [FILM ...] [--frames 160] [--model unet] [--every 4] [--repeat 5]

Frames are cropped to their central square, so that the network's input is 256 x 256. Figures are CPU time of one thread, not
counting the loading of weights. All are measured in alternation `--repeat` times in one process; a time is the median over the
rounds, a ratio the median of the ratios in each round.

`network` is the prediction alone, in the batches and the precision of `colorize`; `colorize` is the whole stage. With
`every: N`, `fill` is what a stage would do that only filled in frames: bring frames and motion onto the chroma grid, check
forward-backward consistency, and average chroma onto the frames without any. `steady` does that, filters the other frames and
measures flicker as well: its total cost is an upper bound for that of filling in. The last batch of a unit is padded, which
weighs more in such a short film than in a segment of 1000 frames.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from bench.steady import copied
from bwpipe import Frame, RunContext
from bwpipe.core.frame import End
from bwpipe.core.stage import stages
from bwpipe.engine.executors import execute
from bwpipe.engine.timing import Meter
from bwpipe.motion.temporal_filter import MovingAverage, WindowFrame, grid, join, mean, window_frame
from bwpipe.nn.checkpoint import load, locate
from bwpipe.nn.inference import network_input, predict
from bwpipe.testing import run_stage

Frames = list[Frame]
Work = Callable[[Frames], Frames]


def cropped(frame: Frame) -> Frame:
    """The central square of a frame with a guide."""
    assert frame.guide is not None
    return replace(frame, luma=_crop(frame.luma), guide=_crop(frame.guide))


def _crop(plane: NDArray[Any]) -> NDArray[Any]:
    side = min(plane.shape)
    top, left = ((each - side) // 2 for each in plane.shape)
    square = plane[top : top + side, left : left + side].copy()
    square.flags.writeable = False
    return square


def ready(name: str, **options: Any) -> tuple[Any, Work]:
    """A stage, set up, and a function that puts the frames of one film through it; may be called repeatedly."""
    stage, run = stages[name](**options), RunContext()
    stage.setup(run)

    def work(frames: Frames) -> Frames:
        output = [
            item for item in execute(stage, iter([*frames, End(frames[0].unit)]), run, Meter()) if isinstance(item, Frame)
        ]
        for error in run.failures.values():
            raise error
        return output

    return stage, work


def fill(frames: Frames, window: int) -> None:
    """Average chroma onto the frames without any, and do nothing else."""
    row = list[WindowFrame]()
    average = MovingAverage(window, resting=True)
    for frame in frames:
        assert frame.motion is not None
        row.append(window_frame(frame, frame.motion, row[-1].luma.shape if row else grid(frame)))
        if len(row) > 1:
            join(row[-2], row[-1])
        average.add(row, needed=frame.chroma is None)
    for each in row:
        if each.sums is not None:
            mean(each)


def lines(options: argparse.Namespace, film: str) -> Iterator[str]:
    """The report on a film."""
    read = run_stage("read", path=film, frames=options.frames)
    grey = [cropped(copied(frame)) for frame in run_stage("grayscale", read, colour="recolour")]
    network: dict[str, Any] = {"model": options.model, "workers": 1, "device": "cpu"}
    colorize, colour = ready("colorize", **network)
    precision = colorize.provenance()["precision"]
    _, colour_some = ready("colorize", **network, every=options.every, precision=precision)
    (_, find_shots), (steady, steady_frames) = ready("shots"), ready("steady")
    shown = find_shots(grey)
    plain, partial = colour(shown), colour_some(shown)
    net = load(locate(options.model))[0].to(getattr(torch, precision)).to(memory_format=torch.channels_last)
    size = net.input_size(*grey[0].luma.shape)
    views = [network_input(frame, *size) for frame in grey]
    batches = [np.stack(views[i : i + colorize.batch]) for i in range(0, len(views), colorize.batch)]
    works: dict[str, Callable[[], object]] = {
        "network": lambda: [predict(net, batch) for batch in batches],
        "colorize": lambda: colour(shown),
        "shots": lambda: find_shots(grey),
        "steady": lambda: steady_frames(plain),
        "some": lambda: colour_some(shown),
        "some, steady": lambda: steady_frames(partial),
        "some, fill": lambda: fill(partial, steady.window),
    }
    times = measured(works, options.repeat)
    each = {name: 1000 * np.median(seconds) / len(grey) for name, seconds in times.items()}
    cuts = [frame.index for frame in shown if frame.motion and frame.motion.cut]
    yield f"{Path(film).name}, {len(grey)} frames, shots begin at {cuts}; network input {size[0]} x {size[1]} in {precision}"
    share = np.median((times["shots"] + times["steady"]) / times["network"])
    yield (
        f"CPU ms per frame: network {each['network']:.2f}, colorize {each['colorize']:.2f}, shots {each['shots']:.2f}, "
        f"steady {each['steady']:.2f}; (shots + steady) / network {share:.2f}"
    )
    predicted = sum(frame.chroma is not None for frame in partial)
    padded = -(-predicted // colorize.batch) * colorize.batch
    filled, after = times["some"] + times["some, fill"], times["some"] + times["some, steady"]
    whole, part = (times["shots"] + both for both in (times["colorize"] + times["steady"], after))
    yield (
        f"every {options.every}, {predicted} frames, {padded} with the last batch padded: colorize {each['some']:.2f}, "
        f"steady {each['some, steady']:.2f}, fill {each['some, fill']:.2f}"
    )
    yield (
        f"every {options.every}: colorize is {speedup(times['colorize'], times['some'])} times as fast, with filling in "
        f"{speedup(times['colorize'], filled)}, with all of `steady` {speedup(times['colorize'], after)}; "
        f"shots to steady {speedup(whole, part)} times"
    )


def measured(works: dict[str, Callable[[], object]], repeat: int) -> dict[str, NDArray[np.float64]]:
    """CPU seconds of each function in each round, after one warm-up round."""
    times = dict[str, list[float]]((name, []) for name in works)
    for _ in range(repeat + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            times[name].append(time.process_time() - start)
    return {name: np.array(seconds[1:]) for name, seconds in times.items()}


def speedup(before: NDArray[np.float64], after: NDArray[np.float64]) -> str:
    """The speed-up of `after` over `before`: the median over the rounds."""
    return f"{np.median(before / after):.2f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", nargs="+", metavar="FILM")
    parser.add_argument("--frames", type=int, default=160)
    parser.add_argument("--model", default="unet")
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=5)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    options = parser.parse_args()
    for film in options.films:
        for line in lines(options, film):
            print(line, flush=True)


if __name__ == "__main__":
    main()
