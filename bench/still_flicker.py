"""How much a network's colours of a photograph change when grain, a small shift and another exposure come upon it.

    python -m bench.still_flicker FOLDER CHECKPOINT [CHECKPOINT ...] [--pictures 200] [--denoise]

Each photograph is shown twice: as it is, and with Gaussian grain (sigma 0.05), moved by 4 px right and down, 5 % brighter. The
figure is the mean length of the difference of (Cb, Cr) where both show the same, over the mean length of (Cb, Cr) of both. Both
are seen at the size that the network wants; the shift is in the pixels that it sees. With --denoise the network sees what
`grayscale` makes of grain before, as in a run.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from bwpipe.core import plugins
from bwpipe.core.context import RunContext
from bwpipe.evaluation.references import Files, Photographs, Sizing
from bwpipe.losses.base import View
from bwpipe.losses.consistency import meet
from bwpipe.nn.checkpoint import load, locate
from bwpipe.nn.network import Guess, Network
from bwpipe.pixels.levels import denoise
from bwpipe.pixels.resize import squash

GRAIN, SHIFT, EXPOSURE = 0.05, 4, 1.05


def views(luma: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Luma (1, 1, H, W) without its first rows and columns, and the same moved, brighter and with grain."""
    generator = torch.Generator().manual_seed(seed)
    still, moved = luma[..., SHIFT:, SHIFT:], luma[..., :-SHIFT, :-SHIFT]
    noise = torch.empty_like(moved).normal_(generator=generator)
    return still, (moved * EXPOSURE + GRAIN * noise).clamp(0, 1)


def lessened(luma: torch.Tensor) -> torch.Tensor:
    """Luma (1, 1, H, W) with its grain lessened as in the guide that `grayscale` makes."""
    codes = (luma[0, 0] * 255).round().to(torch.uint8).numpy()
    return torch.from_numpy(denoise(codes, (0, 255)).astype(np.float32) / 255)[None, None]


def compare(net: Network, luma: torch.Tensor, seed: int, vividness: float | None, denoise: bool) -> tuple[float, float]:
    """The mean difference of chroma and the mean chroma of both looks."""
    seen = [lessened(each) if denoise else each for each in views(luma, seed)]
    still, moved = (Guess(net.guess(each, vividness).chroma) for each in seen)
    pair = View(still.chroma, lambda _: still), View(moved.chroma, lambda _: moved, (SHIFT, SHIFT))
    first, second = meet(*pair, luma.shape[2] - SHIFT, luma.shape[3] - SHIFT)
    chroma = (first.norm(dim=1).mean() + second.norm(dim=1).mean()) / 2
    return float((first - second).norm(dim=1).mean()), float(chroma)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--vividness", type=float)
    parser.add_argument("--denoise", action="store_true")
    options = parser.parse_args()
    plugins.load()
    run = RunContext(say=print)
    truths = Photographs(Files(options.folder, run), Sizing(None, False), run)
    step = max(1, len(truths.names) // options.pictures)
    names = truths.names[::step][: options.pictures]
    for checkpoint in options.checkpoints:
        net, _ = load(locate(checkpoint))
        found = []
        for seed, name in enumerate(names):
            photograph = truths.read(name)
            if photograph is None:
                continue
            luma = photograph.luma
            height, width = net.input_size(*luma.shape)
            seen = torch.from_numpy(squash(luma, height + SHIFT, width + SHIFT).astype(np.float32) / 255)
            with torch.inference_mode():
                found.append(compare(net, seen[None, None], seed, options.vividness, options.denoise))
        difference, chroma = np.mean(found, axis=0)
        name = Path(checkpoint).name
        print(f"{name:28} flicker {difference / chroma:6.3f}   mean chroma {chroma:7.4f}   {len(found)} photographs")


if __name__ == "__main__":
    main()
