"""Measure how much a network's colours for a photograph change under grain, a small shift and a change of exposure.

    python -m bench.still_flicker FOLDER CHECKPOINT [CHECKPOINT ...] [--pictures 200] [--denoise]

The network sees each photograph twice: as it is, and with Gaussian grain (sigma 0.05), shifted by 4 px right and down, 5 %
brighter. The figure is the mean length of the difference of (Cb, Cr) where the two overlap, divided by the mean length of
(Cb, Cr) in both. Both have the network's input size, and the shift is in input pixels. With --denoise the grain is reduced
first as in `grayscale`.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from bwpipe.core import plugins
from bwpipe.core.context import RunContext
from bwpipe.evaluation.references import Files, Photographs, Sizing
from bwpipe.losses.base import View
from bwpipe.losses.consistency import align_views
from bwpipe.nn.checkpoint import load, locate
from bwpipe.nn.network import Guess, Network
from bwpipe.pixels.levels import denoise
from bwpipe.pixels.resize import squash

GRAIN, SHIFT, EXPOSURE = 0.05, 4, 1.05


def views(luma: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Luma (1, 1, H, W) without its first rows and columns, and the same shifted, brighter and with grain."""
    generator = torch.Generator().manual_seed(seed)
    still, shifted = luma[..., SHIFT:, SHIFT:], luma[..., :-SHIFT, :-SHIFT]
    noise = torch.empty_like(shifted).normal_(generator=generator)
    return still, (shifted * EXPOSURE + GRAIN * noise).clamp(0, 1)


def denoised(luma: torch.Tensor) -> torch.Tensor:
    """Luma (1, 1, H, W) with reduced grain, as in the guide of `grayscale`."""
    codes = (luma[0, 0] * 255).round().to(torch.uint8).numpy()
    return torch.from_numpy(denoise(codes, (0, 255)).astype(np.float32) / 255)[None, None]


def compare(net: Network, luma: torch.Tensor, seed: int, vividness: float | None, denoise: bool) -> tuple[float, float]:
    """Mean difference of chroma, and mean chroma, of both views."""
    inputs = [denoised(each) if denoise else each for each in views(luma, seed)]
    still, shifted = (Guess(net.guess(each, vividness).chroma) for each in inputs)
    pair = View(still.chroma, lambda _: still), View(shifted.chroma, lambda _: shifted, (SHIFT, SHIFT))
    first, second = align_views(*pair, luma.shape[2] - SHIFT, luma.shape[3] - SHIFT)
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
    references = Photographs(Files(options.folder, run), Sizing(None, False), run)
    step = max(1, len(references.names) // options.pictures)
    names = references.names[::step][: options.pictures]
    for checkpoint in options.checkpoints:
        net, _ = load(locate(checkpoint))
        results = []
        for seed, name in enumerate(names):
            photograph = references.read(name)
            if photograph is None:
                continue
            luma = photograph.luma
            height, width = net.input_size(*luma.shape)
            seen = torch.from_numpy(squash(luma, height + SHIFT, width + SHIFT).astype(np.float32) / 255)
            with torch.inference_mode():
                results.append(compare(net, seen[None, None], seed, options.vividness, options.denoise))
        difference, chroma = np.mean(results, axis=0)
        name = Path(checkpoint).name
        print(f"{name:28} flicker {difference / chroma:6.3f}   mean chroma {chroma:7.4f}   {len(results)} photographs")


if __name__ == "__main__":
    main()
