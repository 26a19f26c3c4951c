"""What `shots` and `steady` cost beside the network, and what it saves to pass frames over.

    python -m bench.steady_cost FILM [FILM ...] [--frames 160] [--model unet] [--every 4] [--repeat 5]

The square in the middle of each frame is cut out, so that the network sees 256 x 256. Figures are CPU time of one thread,
without the loading of weights. All are measured in turn `--repeat` times in one process; a time is the median of the rounds, a
ratio the median of each round's own.

`network` is the guessing alone, in the batches and the precision of `colorize`; `colorize` is that and all else of the stage.
With `every: N`, `fill` is what a stage would do that filled in only: bring frames and motion onto the grid of chroma, compare
the ways there and back, and average chroma onto the frames that came without. `steady` does so, and steadies the other frames
and measures flicker, too: all of it taken for the fill is the most that the fill can be said to cost. The last batch of a unit
is filled up, which weighs more in so short a film than in a segment of 1000 frames.
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

from bench.steady import owned
from bwpipe import Frame, RunContext
from bwpipe.core.frame import End
from bwpipe.core.stage import stages
from bwpipe.engine.executors import execute
from bwpipe.engine.timing import Meter
from bwpipe.motion.temporal_filter import WindowFrame, grid, join, mean, window_frame
from bwpipe.nn.checkpoint import load, locate
from bwpipe.nn.inference import network_input, predict
from bwpipe.testing import run_stage

Frames = list[Frame]
Work = Callable[[Frames], Frames]


def squared(frame: Frame) -> Frame:
    """The square in the middle of a frame that has a guide."""
    assert frame.guide is not None
    return replace(frame, luma=_middle(frame.luma), guide=_middle(frame.guide))


def _middle(plane: NDArray[Any]) -> NDArray[Any]:
    side = min(plane.shape)
    top, left = ((each - side) // 2 for each in plane.shape)
    middle = plane[top : top + side, left : left + side].copy()
    middle.flags.writeable = False
    return middle


def ready(name: str, **options: Any) -> tuple[Any, Work]:
    """A stage, set up, and what puts the frames of one film through it, time after time."""
    stage, run = stages[name](**options), RunContext()
    stage.setup(run)

    def work(frames: Frames) -> Frames:
        made = [item for item in execute(stage, iter([*frames, End(frames[0].unit)]), run, Meter()) if isinstance(item, Frame)]
        for error in run.failures.values():
            raise error
        return made

    return stage, work


def fill(frames: Frames, window: int) -> None:
    """Average chroma onto the frames that came without, and do nothing else."""
    row = list[WindowFrame]()
    for frame in frames:
        assert frame.motion is not None
        row.append(window_frame(frame, frame.motion, row[-1].planes.shape[:2] if row else grid(frame)))
        if len(row) > 1:
            join(row[-2], row[-1])
    for place, here in enumerate(row):
        if here.own is None:
            mean(row, place, window)


def lines(options: argparse.Namespace, film: str) -> Iterator[str]:
    """The report on a film."""
    read = run_stage("read", path=film, frames=options.frames)
    grey = [squared(owned(frame)) for frame in run_stage("grayscale", read)]
    network: dict[str, Any] = {"model": options.model, "workers": 1, "device": "cpu"}
    colorize, colour = ready("colorize", **network)
    precision = colorize.provenance()["precision"]
    _, colour_some = ready("colorize", **network, every=options.every, precision=precision)
    (_, shots), (steady, steadied) = ready("shots"), ready("steady")
    shown = shots(grey)
    plain, given = colour(shown), colour_some(shown)
    net = load(locate(options.model))[0].to(getattr(torch, precision)).to(memory_format=torch.channels_last)
    size = net.input_size(*grey[0].luma.shape)
    views = [network_input(frame, *size) for frame in grey]
    batches = [np.stack(views[i : i + colorize.batch]) for i in range(0, len(views), colorize.batch)]
    works: dict[str, Callable[[], object]] = {
        "network": lambda: [predict(net, batch) for batch in batches],
        "colorize": lambda: colour(shown),
        "shots": lambda: shots(grey),
        "steady": lambda: steadied(plain),
        "some": lambda: colour_some(shown),
        "some, steady": lambda: steadied(given),
        "some, fill": lambda: fill(given, steady.window),
    }
    took = measured(works, options.repeat)
    each = {name: 1000 * np.median(seconds) / len(grey) for name, seconds in took.items()}
    cuts = [frame.index for frame in shown if frame.motion and frame.motion.cut]
    yield f"{Path(film).name}, {len(grey)} frames, shots begin at {cuts}; the network sees {size[0]} x {size[1]} in {precision}"
    share = np.median((took["shots"] + took["steady"]) / took["network"])
    yield (
        f"CPU ms a frame: network {each['network']:.2f}, colorize {each['colorize']:.2f}, shots {each['shots']:.2f}, "
        f"steady {each['steady']:.2f}; the two over the network {share:.2f}"
    )
    asked = sum(frame.chroma is not None for frame in given)
    filled_up = -(-asked // colorize.batch) * colorize.batch
    filled, after = took["some"] + took["some, fill"], took["some"] + took["some, steady"]
    whole, part = (took["shots"] + both for both in (took["colorize"] + took["steady"], after))
    yield (
        f"every {options.every}, {asked} frames, {filled_up} with the last batch filled up: colorize {each['some']:.2f}, "
        f"steady {each['some, steady']:.2f}, fill {each['some, fill']:.2f}"
    )
    yield (
        f"every {options.every}: colorize is {faster(took['colorize'], took['some'])} times as fast, with its fill "
        f"{faster(took['colorize'], filled)}, with all of `steady` {faster(took['colorize'], after)}; "
        f"shots to steady {faster(whole, part)} times"
    )


def measured(works: dict[str, Callable[[], object]], repeat: int) -> dict[str, NDArray[np.float64]]:
    """The CPU seconds of each round of each work; a first round does not count."""
    took = dict[str, list[float]]((name, []) for name in works)
    for _ in range(repeat + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            took[name].append(time.process_time() - start)
    return {name: np.array(seconds[1:]) for name, seconds in took.items()}


def faster(before: NDArray[np.float64], after: NDArray[np.float64]) -> str:
    """How many times as fast the later of two works is: the median of the rounds."""
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
