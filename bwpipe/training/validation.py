"""Quick figures of a network, measured on the pictures that it is not trained on."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, mse_loss

from bwpipe.losses.base import View, ViewBatch
from bwpipe.losses.combined import Combined
from bwpipe.metrics.correlation import Correlation
from bwpipe.nn.network import Network
from bwpipe.nn.ycbcr import rgb_to_ycbcr, ycbcr_to_rgb
from bwpipe.training.batch_views import BatchAugmenter, Views


def predict_views(network: Network, views: Views, autocast: AbstractContextManager[object]) -> ViewBatch:
    """Show views to a network, all looks in one batch; `autocast` is what its `forward` runs in."""
    with autocast:
        output = network(torch.cat(views.seen) if len(views.seen) > 1 else views.seen[0])
    outputs = output.float().chunk(len(views.seen))
    seen = tuple(View(out, network.decode, shift) for out, shift in zip(outputs, views.shifts, strict=True))
    return ViewBatch(views.luma, views.rgb, seen)


def validate(
    network: Network,
    losses: Combined,
    shower: BatchAugmenter,
    places: NDArray[np.intp],
    *,
    batch: int,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Show a network some pairs of a dataset and compare.

    Args:
        network: On any device; it is put into evaluation mode.
        losses: What it is fitted with.
        shower: Makes the views.
        places: (N,) which pairs.
        batch: How many are shown together.
        autocast: Makes what the network's `forward` runs in.
        tick: Called before each batch; may raise.

    Returns:
        `FIGURES`, each the mean over all pixels, and each loss where there are several.
    """
    network.eval()
    sums: dict[str, float] = {}
    correlation = Correlation()
    for start in range(0, len(places), batch):
        tick()
        with torch.inference_mode():
            shown = predict_views(network, shower.plainly(places[start : start + batch], start), autocast())
            figures = _figures(shown, losses)
            chroma, true = (each.cpu().numpy() for each in (_enlarged(shown), rgb_to_ycbcr(shown.rgb)[1]))
        for name, value in figures.items():
            sums[name] = sums.get(name, 0.0) + value.item() * len(chroma)
        for pair in zip(chroma, true, strict=True):
            correlation.add(*pair)
    guessed, wanted = sums.pop("guessed"), sums.pop("true")
    means = {name: value / len(places) for name, value in sums.items()}
    return {**means, "chroma_ratio": guessed / wanted, "chroma_correlation": correlation.value}


def render_sheet(network: Network, shower: BatchAugmenter, places: NDArray[np.intp]) -> NDArray[np.uint8]:
    """A sheet (h, w, 3) of grey, guess and truth of some pairs."""
    network.eval()
    with torch.inference_mode():
        shown = predict_views(network, shower.plainly(places, 0), nullcontext())
        return sheet(shown.luma, ycbcr_to_rgb(shown.luma, _enlarged(shown)), shown.rgb)


def _enlarged(shown: ViewBatch) -> Tensor:
    return interpolate(shown.views[0].guess.chroma, shown.rgb.shape[2:], mode="bilinear")


def _figures(shown: ViewBatch, losses: Combined) -> dict[str, Tensor]:
    total, each = losses(shown)
    guess, luma, chroma, rgb = shown.views[0].guess, shown.luma, _enlarged(shown), shown.rgb
    figures = {"loss": total, **(each if len(each) > 1 else {})}
    if guess.rgb is not None:
        figures["own_rgb_mse"] = mse_loss(guess.rgb, rgb)
    return figures | {
        "kept_mse": mse_loss(ycbcr_to_rgb(luma, chroma), rgb),
        "grey_mse": mse_loss(luma.expand_as(rgb), rgb),
        "guessed": chroma.norm(dim=1).mean(),
        "true": rgb_to_ycbcr(rgb)[1].norm(dim=1).mean(),
    }


FIGURES = {
    "training_loss": "mean loss of the steps since the last validation",
    "loss": "the sum of the losses by their weights",
    "own_rgb_mse": "mean squared error in RGB, 0..1, of the network's own picture",
    "kept_mse": "the same with the source's luma kept, as `bwpipe run` keeps it",
    "grey_mse": "the same of the picture in grey, for comparison",
    "chroma_ratio": "mean chroma, the length of (Cb, Cr), as a share of the truth's",
    "chroma_correlation": "Pearson's, of Cb and Cr with the truth's, over all pixels",
}
"""What the figures of a validation are; each loss has its own, too, where there are several."""

GOALS: dict[str, Callable[[float], float]] = {
    "loss": lambda value: value,
    "own_rgb_mse": lambda value: value,
    "kept_mse": lambda value: value,
    "chroma_ratio": lambda value: abs(1 - value),
    "chroma_correlation": lambda value: -value,
    "epoch": lambda value: -value,
}
"""The figures that can choose the best weights; what a figure is turned into is lowest in the best. By `epoch` the last
ones are: where the rate falls to 0 at the end, no one figure knows better."""


def ranks(history: list[dict[str, float]], goal: str) -> Iterator[float]:
    """What each validation is worth by a goal of `GOALS`: the lower, the better."""
    return (GOALS[goal](figures[goal]) for figures in history)


def best(history: list[dict[str, float]], goal: str) -> int:
    """Which validation was best by a goal, counted from 1; the first of equals."""
    worth = list(ranks(history, goal))
    return 1 + worth.index(min(worth))


GAP = 8
"""Pixels between two rows or columns of a sheet."""


def sheet(luma: Tensor, guess: Tensor, truth: Tensor, *, columns: int = 2) -> NDArray[np.uint8]:
    """Show pictures as they are given to a network, as it paints them, and as they are.

    Args:
        luma: (B, 1, H, W) in 0..1.
        guess: (B, 3, H, W), RGB; what lies outside 0..1 is cut off.
        truth: (B, 3, H, W), RGB in 0..1.
        columns: How many pictures stand side by side, each as grey | guess | truth.

    Returns:
        (h, w, 3) RGB.
    """
    from torchvision.utils import make_grid  # slow to import, and only training needs it

    triples = torch.cat([each.detach().float().cpu() for each in (luma.expand_as(truth), guess, truth)], dim=3)
    grid = make_grid(triples.nan_to_num().clamp(0, 1), nrow=columns, padding=GAP, pad_value=0.5)
    pixels: NDArray[np.uint8] = grid.mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()
    return pixels
