"""Measure and show how `shots` and `steady` reduce a film's flicker. `bench.steady_cost` measures their cost.

    python -m bench.steady FILM [--frames 300] [--model NAME] [--every N|auto] [--film BOTH.mp4] [--sheet SHEET.png --at 70 240]

`--film` writes both results side by side, before | after; `--sheet` writes the frames around the given indices, before above
after. Indices of interest are printed: where shots begin, and where motion is fastest.

Flicker is measured as in `bwpipe score`: with another optical flow method (Farnebäck's) than that of the stages. FILM may be in
colour: its luma is coloured again, and its own colours are the reference.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab

from bwpipe import Frame, RunContext
from bwpipe.core.frame import End
from bwpipe.core.stage import stages
from bwpipe.engine.executors import execute
from bwpipe.engine.timing import Meter
from bwpipe.metrics.image_metrics import colourfulness
from bwpipe.metrics.temporal import SHORT, FlowPair, flow_pair
from bwpipe.motion.optical_flow import warp
from bwpipe.pixels.chroma_upsampling import upsample_chroma
from bwpipe.pixels.levels import full_range
from bwpipe.pixels.resize import fit_short_side, resize_area
from bwpipe.pixels.ycbcr import ycbcr_to_rgb
from bwpipe.testing import run_stage

SAMPLE = 2
"""Every nth frame is compared as an image. Every tenth is too few: with six images, the difference to the reference varied by
0.04 with the choice of images, and the effect of averaging is smaller."""
REAL_COLOUR = 5.0
"""Colourfulness above which a film's own colours count as the reference."""


@dataclass
class Analysis:
    """A film's downscaled luma planes (h, w), uint8, the flows between neighbours, None at cuts, and where shots begin."""

    luma: list[NDArray[np.uint8]]
    flows: list[FlowPair | None]
    cuts: list[int]


def analyse(frames: Sequence[Frame]) -> Analysis:
    """Downscale frames, and estimate their motion as `bwpipe score` does."""
    planes = [
        full_range(resize_area(frame.luma, fit_short_side(frame.luma.shape, SHORT)), frame.unit.media.levels)
        for frame in frames
    ]
    cuts = [frame.index for frame in frames if frame.motion and frame.motion.cut]
    pairs = enumerate(itertools.pairwise(planes), start=1)
    return Analysis(planes, [None if index in cuts else flow_pair(*pair) for index, pair in pairs], cuts)


def changes(analysis: Analysis, planes: Sequence[NDArray[np.float32]]) -> float:
    """Mean change of planes (C, h, w) along the flow, in code values, from frame to frame within shots."""
    means = []
    large = [
        cv2.resize(each.transpose(1, 2, 0), analysis.luma[0].shape[::-1]).reshape(*analysis.luma[0].shape, -1)
        for each in planes
    ]
    for i, flow in enumerate(analysis.flows, start=1):
        if flow:
            warped = warp(large[i - 1], flow.back).reshape(large[i].shape)
            means.append(float(np.linalg.norm(large[i] - warped, axis=2)[flow.consistent].mean()))
    return float(np.mean(means))


def chroma_of(frame: Frame) -> NDArray[np.float32]:
    assert frame.chroma is not None
    return frame.chroma.astype(np.float32)


def rgb_image(frame: Frame, luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB of a frame at the size of its downscaled luma."""
    rgb: Any = ycbcr_to_rgb(luma, upsample_chroma(chroma_of(frame), luma, (0, 255), "bt601", luma.shape))
    return np.asarray(rgb)


def references(path: str, size: tuple[int, ...], count: int) -> list[NDArray[np.uint8]]:
    """Every `SAMPLE`th frame of the film in its own colours."""
    with av.open(path) as container:
        decoded = (frame for _, frame in zip(range(count), container.decode(video=0), strict=False))
        sample: list[Any] = [frame.to_ndarray(format="rgb24") for i, frame in enumerate(decoded) if i % SAMPLE == 0]
    return [resize_area(rgb, size) for rgb in sample]


def colour_difference(one: Sequence[NDArray[np.uint8]], other: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Mean CIEDE2000 over the pixels of each pair of images."""
    pairs = zip(one, other, strict=True)
    return np.array([deltaE_ciede2000(rgb2lab(a), rgb2lab(b)).mean() for a, b in pairs])  # type: ignore[no-untyped-call]


def copied(frame: Frame) -> Frame:
    """The frame with a copy of its luma, to release the decoder's buffers."""
    luma = frame.luma.copy()
    luma.flags.writeable = False
    return replace(frame, luma=luma)


def seen_in_part(shown: Sequence[Frame], every: int | str, **network: Any) -> list[Frame]:
    """The frames of one film after `colorize` in a graph in which `steady` fills in those that it skips."""
    stage, run = cast(Any, stages["colorize"])(every=every, **network), RunContext()
    stage.placed([stages["shots"]()], [[stages["steady"]()]])
    stage.setup(run)
    made = list(execute(stage, iter([*shown, End(shown[0].unit)]), run, Meter()))
    stage.close()
    for error in run.failures.values():
        raise error
    return [item for item in made if isinstance(item, Frame)]


def lines(options: argparse.Namespace) -> Iterator[str]:
    """The report, line by line."""
    read = run_stage("read", path=options.film, frames=options.frames)
    grey = [copied(frame) for frame in run_stage("grayscale", read, colour="recolour")]
    shown = run_stage("shots", grey)
    analysis = analyse(shown)
    film = f"{Path(options.film).name}, {len(grey)} frames"
    yield f"{film}, shots begin at {analysis.cuts}, motion is fastest at {fastest(analysis)}"
    network: dict[str, Any] = {"model": options.model, "device": "cpu"}
    plain = run_stage("colorize", shown, **network)
    steady = run_stage("steady", plain)
    yield from figures(options, analysis, plain, steady, "steady")
    if options.every != 1:
        some = seen_in_part(shown, options.every, **network)
        filled = run_stage("steady", some)
        count = sum(frame.chroma is not None for frame in some)
        yield f"every {options.every}: the network saw {count} of {len(some)} frames, {count / len(some):.3f}"
        yield from figures(options, analysis, plain, filled, f"every {options.every}")
        sample = range(0, len(grey), SAMPLE)
        both = ([rgb_image(frames[i], analysis.luma[i]) for i in sample] for frames in (steady, filled))
        difference = colour_difference(*both).mean()
        yield f"every {options.every}: CIEDE2000 to the result for every frame {difference:.2f}"
    if options.sheet:
        draw(options, analysis, plain, steady)
    if options.film_out:
        render(options.film_out, analysis, plain, steady)


def figures(
    options: argparse.Namespace, analysis: Analysis, before: Sequence[Frame], after: Sequence[Frame], name: str
) -> Iterator[str]:
    """Compare chroma with and without `steady`."""
    luma = changes(analysis, [plane[None].astype(np.float32) for plane in analysis.luma])
    one, other = (changes(analysis, [255 * chroma_of(frame) for frame in frames]) for frames in (before, after))
    yield (
        f"{name}: chroma change along the flow {one:.3f} -> {other:.3f}, ratio {other / one:.2f}; luma {luma:.3f}, "
        f"flicker {one / luma:.2f} -> {other / luma:.2f}"
    )
    sample = range(0, len(before), SAMPLE)
    old, new = ([rgb_image(frames[i], analysis.luma[i]) for i in sample] for frames in (before, after))
    colours = [float(np.mean([colourfulness(rgb) for rgb in images])) for images in (old, new)]
    yield f"{name}: colourfulness {colours[0]:.2f} -> {colours[1]:.2f}, {colours[1] / colours[0] - 1:+.1%}"
    reference = references(options.film, analysis.luma[0].shape, len(before))
    if len(reference) == len(old) and np.mean([colourfulness(rgb) for rgb in reference]) > REAL_COLOUR:
        without, steadied = colour_difference(old, reference), colour_difference(new, reference)
        change = steadied - without
        error = change.std() / np.sqrt(len(change))
        yield (
            f"{name}: CIEDE2000 to the reference {without.mean():.3f} -> {steadied.mean():.3f}, {change.mean():+.3f} over "
            f"{len(change)} images, with a standard error of {error:.3f}"
        )


def draw(options: argparse.Namespace, analysis: Analysis, before: Sequence[Frame], after: Sequence[Frame]) -> None:
    """Write a sheet: four frames around each index, without `steady` above, with it below."""
    rows = []
    for index in options.at:
        indices = range(max(0, index - 2), min(len(before), index + 2))
        rows += [np.hstack([rgb_image(frames[i], analysis.luma[i]) for i in indices]) for frames in (before, after)]
    cv2.imwrite(options.sheet, np.vstack(rows)[..., ::-1])


def render(path: str, analysis: Analysis, before: Sequence[Frame], after: Sequence[Frame]) -> None:
    """Write a film: without `steady` on the left, with it on the right."""
    height, width = (side - side % 2 for side in analysis.luma[0].shape)
    with av.open(path, "w") as output:
        stream: Any = output.add_stream("libx264", rate=25, options={"crf": "16"})
        stream.width, stream.height, stream.pix_fmt = 2 * width, height, "yuv420p"
        for luma, *both in zip(analysis.luma, before, after, strict=True):
            rgb: Any = np.hstack([rgb_image(frame, luma)[:height, :width] for frame in both])
            output.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        output.mux(stream.encode(None))


def fastest(analysis: Analysis, count: int = 3, spacing: int = 12) -> list[int]:
    """Some frames inside shots with the fastest motion."""
    speeds = {i: float(np.linalg.norm(flow.back, axis=2).mean()) for i, flow in enumerate(analysis.flows, start=1) if flow}
    found: list[int] = []
    for index in sorted(speeds, key=lambda index: -speeds[index]):
        if len(found) < count and all(abs(index - other) >= spacing for other in found):
            found.append(index)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--model", default="unet")
    parser.add_argument("--every", type=lambda text: text if text == "auto" else int(text), default=1)
    parser.add_argument("--film", dest="film_out", metavar="FILE")
    parser.add_argument("--sheet")
    parser.add_argument("--at", type=int, nargs="*", default=[])
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for line in lines(parser.parse_args()):
        print(line, flush=True)


if __name__ == "__main__":
    main()
