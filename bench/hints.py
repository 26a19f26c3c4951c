"""Measure how much a network's colours improve with hints: random points in the true colour, and the true mean chroma.

    python -m bench.hints FOLDER CHECKPOINT [CHECKPOINT ...] [--pictures 200]

The figure is the Pearson correlation of chroma with the truth over all pixels of all pictures, as in `score`, on the network's
own grid. A point is a square of 5 x 5 pixels of the network's input with the chroma at its centre; points and pictures are the
same for all checkpoints. Hints of a network that takes none are spread, as `colorize` does.
"""

import argparse

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from bwpipe.core import plugins
from bwpipe.core.context import RunContext
from bwpipe.evaluation.references import Files, Photographs, Sizing
from bwpipe.memory.hint_spreading import TINT_MASK, spread
from bwpipe.metrics.correlation import Correlation
from bwpipe.nn.checkpoint import load, locate
from bwpipe.nn.network import Network
from bwpipe.nn.ycbcr import rgb_to_ycbcr
from bwpipe.pixels.resize import squash

COUNTS = (0, 1, 5, 10, 30)
RADIUS = 2


def with_points(chroma: Tensor, count: int, seed: int) -> Tensor:
    """Hints (1, 3, H, W) with `count` points of chroma (1, 2, H, W)."""
    height, width = chroma.shape[2:]
    hints = torch.zeros(1, 3, height, width)
    for down, right in torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)).tolist():
        row, column = int(down * height), int(right * width)
        rows, columns = (slice(max(place - RADIUS, 0), place + RADIUS + 1) for place in (row, column))
        hints[0, :, rows, columns] = torch.cat([chroma[0, :, row, column], torch.ones(1)])[:, None, None]
    return hints


def with_mean(chroma: Tensor) -> Tensor:
    """Hints (1, 3, H, W) with the mean of chroma (1, 2, H, W)."""
    mean = chroma.mean(dim=(2, 3), keepdim=True).expand_as(chroma)
    return torch.cat([mean, torch.full_like(chroma[:, :1], TINT_MASK)], dim=1)


def with_hints(net: Network, luma: Tensor, hints: Tensor) -> NDArray[np.float32]:
    """The chroma (2, h, w) predicted for luma (1, 1, H, W) and hints (1, 3, H, W)."""
    if net.takes_hints:
        return np.asarray(net.guess(luma, None, hints).chroma[0].numpy(), np.float32)
    plain = net.guess(luma)
    features = None if plain.features is None else plain.features[0].numpy()
    return spread(plain.chroma[0].numpy(), luma[0, 0].numpy(), features, hints[0].numpy())


def measure(net: Network, photographs: Photographs, names: list[str]) -> list[float]:
    """The correlation for each of `COUNTS` points, and for the mean chroma."""
    figures = [Correlation() for _ in (*COUNTS, "mean")]
    for seed, name in enumerate(names):
        photograph = photographs.read(name)
        if photograph is None:  # in black and white
            continue
        image = photograph.rgb
        rgb = torch.from_numpy(squash(image, *net.input_size(*image.shape[:2]))).permute(2, 0, 1)[None] / 255
        luma, chroma = rgb_to_ycbcr(rgb)
        hints = [*(with_points(chroma, count, seed) for count in COUNTS), with_mean(chroma)]
        for figure, hint in zip(figures, hints, strict=True):
            predicted = with_hints(net, luma, hint)
            figure.add(predicted, adaptive_avg_pool2d(chroma, (predicted.shape[1], predicted.shape[2]))[0].numpy())
    return [figure.value for figure in figures]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--pictures", type=int, default=200)
    given = parser.parse_args()
    plugins.load()
    run = RunContext(say=print)
    photographs = Photographs(Files(given.folder, run), Sizing(None, False), run)
    names = photographs.names[:: max(1, len(photographs.names) // given.pictures)]
    print(f"{len(names)} pictures; correlation with {', '.join(map(str, COUNTS))} points, and with the mean chroma")
    for checkpoint in given.checkpoints:
        net, _ = load(locate(checkpoint))
        print(checkpoint, *(f"{value:.3f}" for value in measure(net, photographs, names)))


if __name__ == "__main__":
    main()
