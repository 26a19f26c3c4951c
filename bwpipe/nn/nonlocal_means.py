"""Non-local means: averages a prediction over what looks alike to the network, so that one thing gets one colour."""

import torch
from torch import Tensor
from torch.nn import functional as F

_FEATURES = 0.3
"""Scale of the cosine of features."""
_LUMA, _PLACE = 0.1, 0.25
"""Standard deviations of luma (of its range), and of place (of the root of the area)."""
_LEAST_CONFIDENCE = 0.01
_DOUBTFUL, _SURE = 0.2, 0.5
"""The confidence up to which nothing of the prediction is kept, and that from which on it is kept in proportion. Where several
colours are likely, the annealed mean takes now one and now another: bright clothes had yellow spots, and dark ones red."""
_RATIO = 4
"""Cells of chroma along a side of a cell of features."""


def nonlocal_means(chroma: Tensor, luma: Tensor, features: Tensor, confidence: Tensor) -> Tensor:
    """Average chroma over cells of like features, of like luma and near by, in proportion to their confidence.

    After Buades, Coll and Morel, "A non-local algorithm for image denoising" (CVPR 2005), with the network's features in the
    place of patches. What is averaged is the chroma in the cells of the features; the means are computed on a grid half as fine
    as the prediction, which is kept as far as it is confident. On 275 photographs of `val` it raised the chroma correlation of
    `unet` from 0.542 to 0.563, at equal colourfulness; keeping a fifth of the prediction everywhere gave 0.560, a CIEDE2000 of
    9.57 instead of 9.35, and keeping half left spots. Keeping it in proportion to low confidences, too, lowered CIEDE2000 by
    0.03, and left spots on old photographs. Means at the full size gave the same for four times the time. Adding the change of
    the means to the prediction, instead of replacing it, left bright spots with borders in the opposite colour.

    Args:
        chroma: (B, 2, h, w).
        luma: (B, 1, H, W) in 0..1, on any grid.
        features: (B, C, h / 4, w / 4), sides rounded up.
        confidence: (B, 1, h, w) in 0..1.

    Returns:
        (B, 2, h, w): a linear function of the chroma.
    """
    chroma, features, confidence = chroma.float(), features.float(), confidence.float()
    features = features - features.mean(dim=(2, 3), keepdim=True)
    features = features / features.norm(dim=1, keepdim=True).clamp(min=1e-6)
    half = F.avg_pool2d(chroma, _RATIO // 2, ceil_mode=True)
    alike = F.interpolate(_similarity(features), half.shape[-2:], mode="bilinear").flatten(2) / _FEATURES
    queries, keys = _positions(luma, half), _positions(luma, features)
    sure = F.avg_pool2d(confidence, _RATIO, ceil_mode=True).flatten(2).clamp(min=_LEAST_CONFIDENCE).log()
    near = torch.baddbmm(sure.transpose(1, 2) - keys.square().sum(1)[..., None] / 2, keys.transpose(1, 2), queries)
    weights = torch.softmax(alike + near, dim=1)
    means = (F.avg_pool2d(chroma, _RATIO, ceil_mode=True).flatten(2) @ weights).view_as(half)
    means = F.interpolate(means, chroma.shape[-2:], mode="bilinear")
    kept = confidence * ((confidence - _DOUBTFUL) / (_SURE - _DOUBTFUL)).clamp(0, 1)
    return means + kept * (chroma - means)


def _similarity(features: Tensor) -> Tensor:
    """The cosine of each cell's features (B, C, h, w), of unit length, with each other cell's: (B, h w, h, w)."""
    flat = features.flatten(2)
    return (flat.transpose(1, 2) @ flat).view(len(features), -1, features.shape[2], features.shape[3])


def _positions(luma: Tensor, grid: Tensor) -> Tensor:
    """Luma and place of the cells of a grid (B, C, h, w), in their standard deviations: (B, 3, h w)."""
    height, width = grid.shape[-2:]
    level = (F.adaptive_avg_pool2d(luma.to(grid), (height, width)) - 0.5) / _LUMA
    across, down = _centred(width, grid)[None, :], _centred(height, grid)[:, None]
    places = torch.stack([down.expand(height, width), across.expand(height, width)]) / ((height * width) ** 0.5 * _PLACE)
    return torch.cat([level, places.expand(len(grid), 2, height, width)], dim=1).flatten(2)


def _centred(count: int, like: Tensor) -> Tensor:
    """The places (count,) of cells, from the middle."""
    return torch.arange(count, device=like.device, dtype=like.dtype) - (count - 1) / 2
