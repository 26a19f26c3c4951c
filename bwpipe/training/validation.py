"""Fast figures of a network on the validation images, and the choice of the best weights."""

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
    """Run a network on all views in one batch; `autocast` is the context for its `forward`."""
    with autocast:
        inputs = torch.cat(views.inputs) if len(views.inputs) > 1 else views.inputs[0]
        output = network(inputs, torch.cat(views.hints)) if views.hints else network(inputs)
    outputs = output.float().chunk(len(views.inputs))
    predicted = tuple(View(out, network.decode, shift) for out, shift in zip(outputs, views.shifts, strict=True))
    return ViewBatch(views.luma, views.rgb, predicted)


def validate(
    network: Network,
    losses: Combined,
    augmenter: BatchAugmenter,
    indices: NDArray[np.intp],
    *,
    batch: int,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Validate a network on some pairs of a dataset.

    Args:
        network: On any device; it is put into evaluation mode.
        losses: The losses it is fitted with.
        augmenter: Makes the views.
        indices: (N,) pairs of the dataset.
        batch: Number of pairs per batch.
        autocast: Makes the context for the network's `forward`.
        tick: Called before each batch; may raise.

    Returns:
        `FIGURES`, each the mean over all pixels, and each loss if there are several.
    """
    network.eval()
    sums: dict[str, float] = {}
    correlation = Correlation()
    for start in range(0, len(indices), batch):
        tick()
        with torch.inference_mode():
            view_batch = predict_views(network, augmenter.validation_views(indices[start : start + batch], start), autocast())
            figures = _figures(view_batch, losses)
            chroma, target = (each.cpu().numpy() for each in (_upsampled(view_batch), rgb_to_ycbcr(view_batch.rgb)[1]))
        for name, value in figures.items():
            sums[name] = sums.get(name, 0.0) + value.item() * len(chroma)
        for pair in zip(chroma, target, strict=True):
            correlation.add(*pair)
    predicted, target_length = sums.pop("predicted"), sums.pop("target")
    means = {name: value / len(indices) for name, value in sums.items()}
    return {**means, "chroma_ratio": predicted / target_length, "chroma_correlation": correlation.value}


def render_sheet(network: Network, augmenter: BatchAugmenter, indices: NDArray[np.intp]) -> NDArray[np.uint8]:
    """A sheet (h, w, 3) of input, prediction and ground truth of some pairs."""
    network.eval()
    with torch.inference_mode():
        view_batch = predict_views(network, augmenter.validation_views(indices, 0), nullcontext())
        return sheet(view_batch.luma, ycbcr_to_rgb(view_batch.luma, _upsampled(view_batch)), view_batch.rgb)


def _upsampled(view_batch: ViewBatch) -> Tensor:
    return interpolate(view_batch.views[0].guess.chroma, view_batch.rgb.shape[2:], mode="bilinear")


def _figures(view_batch: ViewBatch, losses: Combined) -> dict[str, Tensor]:
    total, each = losses(view_batch)
    prediction, luma, chroma, rgb = view_batch.views[0].guess, view_batch.luma, _upsampled(view_batch), view_batch.rgb
    figures = {"loss": total, **(each if len(each) > 1 else {})}
    if prediction.rgb is not None:
        figures["own_rgb_mse"] = mse_loss(prediction.rgb, rgb)
    return figures | {
        "kept_mse": mse_loss(ycbcr_to_rgb(luma, chroma), rgb),
        "grey_mse": mse_loss(luma.expand_as(rgb), rgb),
        "predicted": chroma.norm(dim=1).mean(),
        "target": rgb_to_ycbcr(rgb)[1].norm(dim=1).mean(),
    }


FIGURES = {
    "training_loss": "mean loss of the steps since the last validation",
    "loss": "the sum of the losses by their weights",
    "own_rgb_mse": "mean squared error in RGB, 0..1, of the network's own image",
    "kept_mse": "the same with the source's luma kept, as `bwpipe run` keeps it",
    "grey_mse": "the same of the image in grey, for comparison",
    "chroma_ratio": "mean chroma, the length of (Cb, Cr), as a share of the target's",
    "chroma_correlation": "Pearson's, of Cb and Cr with the target's, over all pixels",
}
"""The meanings of a validation's figures; with several losses, each of them is a figure too."""

GOALS: dict[str, Callable[[float], float]] = {
    "loss": lambda value: value,
    "own_rgb_mse": lambda value: value,
    "kept_mse": lambda value: value,
    "chroma_ratio": lambda value: abs(1 - value),
    "chroma_correlation": lambda value: -value,
    "epoch": lambda value: -value,
}
"""The figures that can select the best weights, each mapped to a value that is lowest for the best. `epoch` selects the
last ones: if the learning rate decays to 0, no single figure is a better guide."""


def ranks(history: list[dict[str, float]], goal: str) -> Iterator[float]:
    """The value of each validation by a goal of `GOALS`: lower is better."""
    return (GOALS[goal](figures[goal]) for figures in history)


def best(history: list[dict[str, float]], goal: str) -> int:
    """The number of the best validation by a goal, counted from 1; the first of equals."""
    values = list(ranks(history, goal))
    return 1 + values.index(min(values))


GAP = 8
"""Pixels between two rows or columns of a sheet."""


def sheet(luma: Tensor, prediction: Tensor, target: Tensor, *, columns: int = 2) -> NDArray[np.uint8]:
    """Lay out a network's inputs, its predictions and the ground truth side by side.

    Args:
        luma: (B, 1, H, W) in 0..1.
        prediction: (B, 3, H, W), RGB; clipped to 0..1.
        target: (B, 3, H, W), RGB in 0..1.
        columns: Number of images per row, each as grey | prediction | ground truth.

    Returns:
        (h, w, 3) RGB.
    """
    from torchvision.utils import make_grid  # slow to import; only needed for training

    triples = torch.cat([each.detach().float().cpu() for each in (luma.expand_as(target), prediction, target)], dim=3)
    grid = make_grid(triples.nan_to_num().clamp(0, 1), nrow=columns, padding=GAP, pad_value=0.5)
    pixels: NDArray[np.uint8] = grid.mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()
    return pixels
