"""Blends: one prediction of those of several networks for the same images."""

from collections.abc import Sequence

import numpy as np

from bwpipe.nn.runtime.base import Planes, Prediction
from bwpipe.pixels.resize import squash


def blended(predictions: Sequence[Prediction], shares: Sequence[float], *, by_confidence: bool) -> Prediction:
    """The weighted mean of predictions, each on its own grid, on the finest of these grids.

    Args:
        predictions: One of each network, for the same batch.
        shares: The weight of each, above 0.
        by_confidence: Multiply the weights at each place with the network's confidence there. A network that reports none
            counts as confident as those that do are on average; without any it is the plain mean.

    Returns:
        Chroma, the weighted mean of the confidences that there are, and the features of the first network that has some.
    """
    if len(predictions) == 1:
        return predictions[0]
    height, width = max((each.chroma.shape[2:] for each in predictions), key=lambda sides: sides[0] * sides[1])
    chromas = [_on_grid(each.chroma, height, width) for each in predictions]
    known = [
        (share, _on_grid(each.confidence, height, width))
        for share, each in zip(shares, predictions, strict=True)
        if each.confidence is not None
    ]
    confidence = _mean(*zip(*known, strict=True)) if known else None
    weights: list[Planes] = [np.full((1, 1, 1, 1), share, np.float32) for share in shares]
    if by_confidence and confidence is not None:
        own = iter(known)
        sure = [confidence if each.confidence is None else next(own)[1] for each in predictions]
        weights = [weight * np.maximum(plane, np.float32(1e-3)) for weight, plane in zip(weights, sure, strict=True)]
    features = next((each.features for each in predictions if each.features is not None), None)
    return Prediction(_mean(weights, chromas), confidence, features)


def _mean(weights: Sequence[Planes | float], planes: Sequence[Planes]) -> Planes:
    """The mean of planes (B, C, h, w) with weights that fit them."""
    total = sum(weight * plane for weight, plane in zip(weights, planes, strict=True))
    return np.asarray(total / sum(weights), np.float32)


def _on_grid(planes: Planes, height: int, width: int) -> Planes:
    """Planes (B, C, h, w) resized to (B, C, height, width)."""
    if planes.shape[2:] == (height, width):
        return planes
    resized = [squash(each.transpose(1, 2, 0), height, width).reshape(height, width, -1) for each in planes]
    return np.stack(resized).transpose(0, 3, 1, 2)
