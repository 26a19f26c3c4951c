"""What `shots` and `steady` do to a film's flicker, and what it looks like. What they cost, `bench.steady_cost` tells.

    python -m bench.steady FILM [--frames 300] [--model NAME] [--every 1] [--film BOTH.mp4] [--sheet SHEET.png --at 70 240]

`--film` writes both results side by side, before | after; `--sheet` the frames around some places, before above after. Places
to look at are printed: where shots begin, and where motion is fastest.

Flicker is judged as `bwpipe score` does: by another flow method (Farnebäck's) than the one used inside. FILM may be in colour:
its luma is coloured anew, and its own colours are the truth.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab

from bwpipe import Frame
from bwpipe.metrics.image_metrics import colourfulness
from bwpipe.metrics.temporal import SHORT, FlowPair, way
from bwpipe.motion.optical_flow import warp
from bwpipe.pixels.chroma_upsampling import upsample_chroma
from bwpipe.pixels.levels import full_range
from bwpipe.pixels.resize import fit_short_side, resize_area
from bwpipe.pixels.ycbcr import ycbcr_to_rgb
from bwpipe.testing import run_stage

SAMPLE = 2
"""One of so many frames is compared as a picture. One of ten is too few: with six pictures the difference to the truth moved by
0.04 with which ones they were, and averaging moves it by less."""
REAL_COLOUR = 5.0
"""Colourfulness above which a film's own colours are taken for the truth."""


@dataclass
class Seen:
    """A film's small luma planes (h, w), uint8, the ways between neighbours, None at cuts, and where shots begin."""

    luma: list[NDArray[np.uint8]]
    ways: list[FlowPair | None]
    cuts: list[int]


def look(frames: Sequence[Frame]) -> Seen:
    """Bring frames to a small size, and find their motion as `bwpipe score` does."""
    planes = [
        full_range(resize_area(frame.luma, fit_short_side(frame.luma.shape, SHORT)), frame.unit.media.levels)
        for frame in frames
    ]
    cuts = [frame.index for frame in frames if frame.motion and frame.motion.cut]
    pairs = enumerate(itertools.pairwise(planes), start=1)
    return Seen(planes, [None if place in cuts else way(*pair) for place, pair in pairs], cuts)


def changes(seen: Seen, planes: Sequence[NDArray[np.float32]]) -> float:
    """The mean change along the motion of planes (C, h, w) in code values, from frame to frame within shots."""
    total = []
    large = [cv2.resize(each.transpose(1, 2, 0), seen.luma[0].shape[::-1]).reshape(*seen.luma[0].shape, -1) for each in planes]
    for i, moves in enumerate(seen.ways, start=1):
        if moves:
            moved = warp(large[i - 1], moves.back).reshape(large[i].shape)
            total.append(float(np.linalg.norm(large[i] - moved, axis=2)[moves.agreed].mean()))
    return float(np.mean(total))


def chroma_of(frame: Frame) -> NDArray[np.float32]:
    assert frame.chroma is not None
    return frame.chroma.astype(np.float32)


def picture(frame: Frame, luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB of a frame in the size of its small luma."""
    rgb: Any = ycbcr_to_rgb(luma, upsample_chroma(chroma_of(frame), luma, (0, 255), "bt601", luma.shape))
    return np.asarray(rgb)


def truths(path: str, size: tuple[int, ...], count: int) -> list[NDArray[np.uint8]]:
    """The film's own colours, of every `SAMPLE`th frame."""
    with av.open(path) as container:
        decoded = (frame for _, frame in zip(range(count), container.decode(video=0), strict=False))
        sample: list[Any] = [frame.to_ndarray(format="rgb24") for i, frame in enumerate(decoded) if i % SAMPLE == 0]
    return [resize_area(rgb, size) for rgb in sample]


def apart(one: Sequence[NDArray[np.uint8]], other: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """CIEDE2000, the mean over pixels, of each pair of pictures."""
    pairs = zip(one, other, strict=True)
    return np.array([deltaE_ciede2000(rgb2lab(a), rgb2lab(b)).mean() for a, b in pairs])  # type: ignore[no-untyped-call]


def owned(frame: Frame) -> Frame:
    """The frame with luma of its own, so that the decoder's buffers are free."""
    luma = frame.luma.copy()
    luma.flags.writeable = False
    return replace(frame, luma=luma)


def lines(options: argparse.Namespace) -> Iterator[str]:
    """The report, line by line as it is found."""
    grey = [owned(frame) for frame in run_stage("grayscale", run_stage("read", path=options.film, frames=options.frames))]
    shown = run_stage("shots", grey)
    seen = look(shown)
    yield f"{Path(options.film).name}, {len(grey)} frames, shots begin at {seen.cuts}, motion is fastest at {fastest(seen)}"
    network: dict[str, Any] = {"model": options.model, "device": "cpu"}
    plain = run_stage("colorize", shown, **network)
    steady = run_stage("steady", plain)
    yield from figures(options, seen, plain, steady, "steady")
    if options.every > 1:
        filled = run_stage("steady", run_stage("colorize", shown, every=options.every, **network))
        yield from figures(options, seen, plain, filled, f"every {options.every}")
        sample = range(0, len(grey), SAMPLE)
        both = ([picture(frames[i], seen.luma[i]) for i in sample] for frames in (steady, filled))
        yield f"every {options.every}: CIEDE2000 to the result of every frame {apart(*both).mean():.2f}"
    if options.sheet:
        draw(options, seen, plain, steady)
    if options.film_out:
        render(options.film_out, seen, plain, steady)


def figures(
    options: argparse.Namespace, seen: Seen, before: Sequence[Frame], after: Sequence[Frame], name: str
) -> Iterator[str]:
    """How chroma with `steady` compares with that without."""
    luma = changes(seen, [plane[None].astype(np.float32) for plane in seen.luma])
    one, other = (changes(seen, [255 * chroma_of(frame) for frame in frames]) for frames in (before, after))
    yield (
        f"{name}: chroma change along the motion {one:.3f} -> {other:.3f}, {other / one:.2f} of it; luma {luma:.3f}, "
        f"flicker {one / luma:.2f} -> {other / luma:.2f}"
    )
    sample = range(0, len(before), SAMPLE)
    old, new = ([picture(frames[i], seen.luma[i]) for i in sample] for frames in (before, after))
    colours = [float(np.mean([colourfulness(rgb) for rgb in some])) for some in (old, new)]
    yield f"{name}: colourfulness {colours[0]:.2f} -> {colours[1]:.2f}, {colours[1] / colours[0] - 1:+.1%}"
    true = truths(options.film, seen.luma[0].shape, len(before))
    if len(true) == len(old) and np.mean([colourfulness(rgb) for rgb in true]) > REAL_COLOUR:
        without, given = apart(old, true), apart(new, true)
        error = (given - without).std() / np.sqrt(len(given))
        yield (
            f"{name}: CIEDE2000 to the truth {without.mean():.3f} -> {given.mean():.3f}, {(given - without).mean():+.3f} of "
            f"{len(given)} pictures, with a standard error of {error:.3f}"
        )


def draw(options: argparse.Namespace, seen: Seen, before: Sequence[Frame], after: Sequence[Frame]) -> None:
    """Write a sheet: four frames around each place, without `steady` above, with it below."""
    rows = []
    for place in options.at:
        indices = range(max(0, place - 2), min(len(before), place + 2))
        rows += [np.hstack([picture(frames[i], seen.luma[i]) for i in indices]) for frames in (before, after)]
    cv2.imwrite(options.sheet, np.vstack(rows)[..., ::-1])


def render(path: str, seen: Seen, before: Sequence[Frame], after: Sequence[Frame]) -> None:
    """Write a film: without `steady` on the left, with it on the right."""
    height, width = (side - side % 2 for side in seen.luma[0].shape)
    with av.open(path, "w") as output:
        stream: Any = output.add_stream("libx264", rate=25, options={"crf": "16"})
        stream.width, stream.height, stream.pix_fmt = 2 * width, height, "yuv420p"
        for luma, *both in zip(seen.luma, before, after, strict=True):
            rgb: Any = np.hstack([picture(frame, luma)[:height, :width] for frame in both])
            output.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        output.mux(stream.encode(None))


def fastest(seen: Seen, count: int = 3, apart: int = 12) -> list[int]:
    """Some places inside shots where what is seen moves most."""
    speeds = {i: float(np.linalg.norm(moves.back, axis=2).mean()) for i, moves in enumerate(seen.ways, start=1) if moves}
    found: list[int] = []
    for place in sorted(speeds, key=lambda place: -speeds[place]):
        if len(found) < count and all(abs(place - other) >= apart for other in found):
            found.append(place)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--model", default="unet")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--film", dest="film_out", metavar="FILE")
    parser.add_argument("--sheet")
    parser.add_argument("--at", type=int, nargs="*", default=[])
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for line in lines(parser.parse_args()):
        print(line, flush=True)


if __name__ == "__main__":
    main()
