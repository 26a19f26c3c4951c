"""Fits how a distribution over chroma bins becomes colours: the shares of the bins, and how colourful the result is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from bwpipe.data.dataset import Dataset
from bwpipe.metrics.image_metrics import colourfulness
from bwpipe.nn.chroma_bins import SoftEncoding
from bwpipe.nn.network import Network
from bwpipe.nn.ycbcr import rgb_to_ycbcr, ycbcr_to_rgb

_BATCH = 16
_LEAST_SHARE = 1e-5
"""Added to the shares of bins: those of hardly any pixel are not known well enough for larger factors."""
_ROUNDS = 5
"""Measurements of the gain. Colours near the edge of the gamut make colourfulness not quite proportional to it; each round
leaves less than a tenth of the error."""
_MIDDLE = 0.5
"""The vividness whose colourfulness is fitted."""
_GREY = 1e-3
"""Colourfulness below which an image is grey, and no gain can change that."""


@runtime_checkable
class Calibratable(Protocol):
    """A network that produces bins and whose decoding can be fitted."""

    def calibrated(self, shift: Tensor, gain: float) -> Network:
        """A copy with `shift` (Q,) added to its logits, and another factor of chroma at vividness 0.5."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The result of a calibration.

    Attributes:
        network: The calibrated copy.
        gain: Its factor of chroma at vividness 0.5.
        before: Mean colourfulness of the images with a gain of 1.
        after: Mean colourfulness with `gain`.
        target: Mean colourfulness of the targets.
    """

    network: Network
    gain: float
    before: float
    after: float
    target: float


def calibrate(
    network: Network, data: Dataset, *, prior: float, colourful: float, tick: Callable[[], None] = lambda: None
) -> Calibration:
    """Calibrate a network, which is `Calibratable`, on the validation images of a dataset.

    The logarithm of each bin's share in the targets, divided by its mean predicted share, times `prior`, is added to its logit
    (Menon et al. 2021, "Long-tail learning via logit adjustment"): this reverts what weights of the loss and memorised images
    do to rare and to neutral colours. Then the gain is fitted.

    Args:
        network: On any device; in evaluation mode.
        data: With at least one validation image.
        prior: From 0, the shares as predicted, to 1, about the shares of the targets.
        colourful: The colourfulness to reach at vividness 0.5, as a share of the targets'.
        tick: Called before each batch; may raise.
    """
    assert isinstance(network, Calibratable)
    shift = prior * _share_ratio(network, data, tick).log()
    target = float(np.mean([colourfulness(each) for _, rgb in _batches(data, network) for each in _bytes(rgb)]))
    pale = [_predict(network.calibrated(shift, 1.0), luma, tick) for luma, _ in _batches(data, network)]
    gains, reached = [1.0], []
    for _ in range(_ROUNDS):
        figures = [
            colourfulness(each)
            for (luma, _), chroma in zip(_batches(data, network), pale, strict=True)
            for each in _bytes(ycbcr_to_rgb(luma, interpolate(gains[-1] * chroma, luma.shape[2:], mode="bilinear")))
        ]
        reached.append(float(np.mean(figures)))
        gains.append(gains[-1] * colourful * target / max(reached[-1], _GREY))
    return Calibration(network.calibrated(shift, gains[-2]), gains[-2], reached[0], reached[-1], target)


def _batches(data: Dataset, network: Network, size: int = _BATCH) -> Iterator[tuple[Tensor, Tensor]]:
    """Luma (B, 1, S, S) and RGB (B, 3, S, S) in 0..1 of the validation images, on the network's device."""
    device = next(network.parameters()).device
    indices = data.validation
    for start in range(0, len(indices), size):
        yield data.batch(indices[start : start + size], device)


def _share_ratio(network: Network, data: Dataset, tick: Callable[[], None]) -> Tensor:
    """The share (Q,) of each bin in the targets, divided by its mean predicted share."""
    count = len(network.bins)
    encoding = SoftEncoding(network.bins).to(network.bins.device)
    shares = network.bins.new_zeros(2, count)
    for luma, rgb in _batches(data, network):
        tick()
        with torch.inference_mode():
            logits = network(luma).float()
            target = adaptive_avg_pool2d(rgb_to_ycbcr(rgb)[1], logits.shape[2:])
            shares += torch.stack([encoding(target).dense(count).mean((1, 2)).sum(0), logits.softmax(1).mean((2, 3)).sum(0)])
    target_shares, predicted = shares / len(data.validation) + _LEAST_SHARE
    ratio: Tensor = target_shares / predicted
    return ratio


def _predict(network: Network, luma: Tensor, tick: Callable[[], None]) -> Tensor:
    """The chroma (B, 2, h, w) that a network predicts at vividness 0.5."""
    tick()
    return network.guess(luma, _MIDDLE).chroma.float()


def _bytes(rgb: Tensor) -> NDArray[np.uint8]:
    """RGB (B, 3, H, W) in 0..1 as (B, H, W, 3) uint8."""
    return (255 * rgb).round().byte().permute(0, 2, 3, 1).cpu().numpy()
