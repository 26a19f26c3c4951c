"""The perceptual loss: differences in the features of a pretrained classifier."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import interpolate

from bwpipe.data.dataset import Dataset
from bwpipe.losses.base import LossOptions, View, ViewBatch, ViewLoss, loss, shift_target
from bwpipe.nn.efficientnet import STAGES, Encoder, imagenet_weights
from bwpipe.nn.network import Network
from bwpipe.nn.ycbcr import rgb_to_ycbcr, ycbcr_to_rgb

Stage = Annotated[int, Field(ge=0, lt=STAGES)]


class FeatureOptions(LossOptions):
    """Options of `features`."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1)] = (1, 2, 3)
    """Stages of the encoder to compare: stage 0 responds to edges and colours, stage 4 to objects."""
    size: Annotated[int, Field(ge=32)] | None = None
    """Height and width, in pixels, to which images are resized for the encoder; not resized by default. Smaller is faster."""


@loss("features")
class Features(ViewLoss):
    """Distance of the colourised image from the target in the features of a frozen EfficientNet-Lite0 pretrained on ImageNet.

    The image is the target's luma with the predicted chroma, in gamut. For each stage, the mean absolute difference of features
    is divided by the mean magnitude of the target's, so that all stages count equally; the loss is the mean over the stages.
    """

    Options = FeatureOptions

    def __init__(self, options: FeatureOptions, network: Network, data: Dataset) -> None:
        """Load the encoder. Raises UsageError if its weights are missing."""
        super().__init__(options, network, data)
        self.encoder = Encoder()
        self._stages = options.stages
        self._size = options.size

    @classmethod
    def check(cls) -> None:
        """Raise UsageError if the encoder's weights are missing."""
        imagenet_weights()

    def compare(self, batch: ViewBatch, view: View) -> Tensor:
        """Compare the features."""
        rgb = shift_target(batch.rgb, view.shift)
        chroma = interpolate(view.guess.chroma, rgb.shape[2:], mode="bilinear")
        predicted = self._features(ycbcr_to_rgb(rgb_to_ycbcr(rgb)[0], chroma))
        with torch.no_grad():
            target = self._features(rgb)
        pairs = zip(predicted, target, strict=True)
        return torch.stack([((a - b).abs().mean((1, 2, 3)) / b.abs().mean((1, 2, 3))).mean() for a, b in pairs]).mean()

    def _features(self, rgb: Tensor) -> list[Tensor]:
        if self._size:
            rgb = interpolate(rgb, (self._size, self._size), mode="bilinear", antialias=True)
        maps: list[Tensor] = self.encoder.features(rgb, self._stages)
        return maps
