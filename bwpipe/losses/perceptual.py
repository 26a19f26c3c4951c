"""The loss that looks at pictures as a network does that was trained to tell things apart."""

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
    """What the loss can be told."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1)] = (1, 2, 3)
    """Which stages of the encoder are compared: stage 0 sees edges and colours, stage 4 things."""
    size: Annotated[int, Field(ge=32)] | None = None
    """The height and width, in pixels, at which it looks at the pictures; as they are by default. Smaller is faster."""


@loss("features")
class Features(ViewLoss):
    """How far the coloured picture is from the truth in the eyes of EfficientNet-Lite0, trained on ImageNet and held still.

    The picture is the truth's luma with the guessed chroma, in gamut. For each stage it is the mean difference of the features,
    as a share of the mean size of those of the truth, so that all stages count alike; the loss is the mean over the stages.
    """

    Options = FeatureOptions

    def __init__(self, options: FeatureOptions, network: Network, data: Dataset) -> None:
        """Load the encoder. Raises UsageError where its weights are missing."""
        super().__init__(options, network, data)
        self.encoder = Encoder()
        self._stages = options.stages
        self._size = options.size

    @classmethod
    def check(cls) -> None:
        """Raises UsageError where the encoder's weights are missing."""
        imagenet_weights()

    def compare(self, batch: ViewBatch, view: View) -> Tensor:
        """Compare the features."""
        rgb = shift_target(batch.rgb, view.shift)
        chroma = interpolate(view.guess.chroma, rgb.shape[2:], mode="bilinear")
        guessed = self._features(ycbcr_to_rgb(rgb_to_ycbcr(rgb)[0], chroma))
        with torch.no_grad():
            true = self._features(rgb)
        pairs = zip(guessed, true, strict=True)
        return torch.stack([((a - b).abs().mean((1, 2, 3)) / b.abs().mean((1, 2, 3))).mean() for a, b in pairs]).mean()

    def _features(self, rgb: Tensor) -> list[Tensor]:
        if self._size:
            rgb = interpolate(rgb, (self._size, self._size), mode="bilinear", antialias=True)
        maps: list[Tensor] = self.encoder.features(rgb, self._stages)
        return maps
