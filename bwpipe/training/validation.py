"""Quick figures of a network, measured on the pictures that it is not trained on."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, mse_loss

from bwpipe.chroma import join, split
from bwpipe.live.sheet import sheet
from bwpipe.losses import Look, Shown
from bwpipe.losses.combined import Combined
from bwpipe.network import Network
from bwpipe.scoring.correlation import Correlation
from bwpipe.training.views import Shower, Views


def look(network: Network, views: Views, autocast: AbstractContextManager[object]) -> Shown:
    """Show views to a network, all looks in one batch; `autocast` is what its `forward` runs in."""
    with autocast:
        output = network(torch.cat(views.seen) if len(views.seen) > 1 else views.seen[0])
    outputs = output.float().chunk(len(views.seen))
    looks = tuple(Look(out, network.decode, shift) for out, shift in zip(outputs, views.shifts, strict=True))
    return Shown(views.luma, views.rgb, looks)


def validate(
    network: Network,
    losses: Combined,
    shower: Shower,
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
        `goals.FIGURES`, each the mean over all pixels, and each loss where there are several.
    """
    network.eval()
    sums: dict[str, float] = {}
    correlation = Correlation()
    for start in range(0, len(places), batch):
        tick()
        with torch.inference_mode():
            shown = look(network, shower.plainly(places[start : start + batch], start), autocast())
            figures = _figures(shown, losses)
            chroma, true = (each.cpu().numpy() for each in (_enlarged(shown), split(shown.rgb)[1]))
        for name, value in figures.items():
            sums[name] = sums.get(name, 0.0) + value.item() * len(chroma)
        for pair in zip(chroma, true, strict=True):
            correlation.add(*pair)
    guessed, wanted = sums.pop("guessed"), sums.pop("true")
    means = {name: value / len(places) for name, value in sums.items()}
    return {**means, "chroma_ratio": guessed / wanted, "chroma_correlation": correlation.value}


def show(network: Network, shower: Shower, places: NDArray[np.intp]) -> NDArray[np.uint8]:
    """A sheet (h, w, 3) of grey, guess and truth of some pairs."""
    network.eval()
    with torch.inference_mode():
        shown = look(network, shower.plainly(places, 0), nullcontext())
        return sheet(shown.luma, join(shown.luma, _enlarged(shown)), shown.rgb)


def _enlarged(shown: Shown) -> Tensor:
    return interpolate(shown.looks[0].guess.chroma, shown.rgb.shape[2:], mode="bilinear")


def _figures(shown: Shown, losses: Combined) -> dict[str, Tensor]:
    total, each = losses(shown)
    guess, luma, chroma, rgb = shown.looks[0].guess, shown.luma, _enlarged(shown), shown.rgb
    figures = {"loss": total, **(each if len(each) > 1 else {})}
    if guess.rgb is not None:
        figures["own_rgb_mse"] = mse_loss(guess.rgb, rgb)
    return figures | {
        "kept_mse": mse_loss(join(luma, chroma), rgb),
        "grey_mse": mse_loss(luma.expand_as(rgb), rgb),
        "guessed": chroma.norm(dim=1).mean(),
        "true": split(rgb)[1].norm(dim=1).mean(),
    }
