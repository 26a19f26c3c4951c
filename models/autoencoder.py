"""The `autoencoder` network."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from bwpipe.nn.network import Guess, InputSizes, Network, NetworkOptions, network
from bwpipe.nn.ycbcr import rgb_to_ycbcr

SIDE = 150
"""Height and width of its input and output, in pixels."""


@network("autoencoder")
class Autoencoder(Network):
    """A small U-Net that predicts RGB at 150 x 150, whatever the image's shape: 3,470,659 parameters.

    Luma (B, 1, 150, 150) in 0..1 becomes RGB (B, 3, 150, 150) in 0..1. Trained on the mean squared error, it predicts the
    average of all likely colours, so that uncertain areas turn brownish; `vividness` compensates for some of that.
    """

    produces: ClassVar[Literal["rgb", "chroma", "bins"]] = "rgb"
    sizes: ClassVar[InputSizes] = InputSizes.square(SIDE)

    def __init__(self, options: NetworkOptions) -> None:
        """Build it with random weights; it has no options."""
        super().__init__(options)
        self.down1 = nn.Conv2d(1, 64, 3, stride=2)  # 74 x 74
        self.down2 = nn.Conv2d(64, 128, 3, stride=2, padding=1)  # 37 x 37
        self.down3 = nn.Conv2d(128, 256, 3, stride=2, padding=1)  # 19 x 19
        self.down4 = nn.Conv2d(256, 512, 3, stride=2, padding=1)  # 10 x 10
        self.up1 = nn.ConvTranspose2d(512, 256, 3, stride=2, padding=1)
        self.up2 = nn.ConvTranspose2d(512, 128, 3, stride=2, padding=1)
        self.up3 = nn.ConvTranspose2d(256, 64, 3, stride=2, padding=1, output_padding=1)
        self.up4 = nn.ConvTranspose2d(128, 3, 3, stride=2, output_padding=1)

    def forward(self, luma: Tensor) -> Tensor:
        """Turn luma (B, 1, 150, 150) in 0..1 into RGB (B, 3, 150, 150) in 0..1."""
        half = self.down1(luma).relu()
        quarter = self.down2(half).relu()
        eighth = self.down3(quarter).relu()
        x = self.down4(eighth).relu()
        x = self.up1(x).relu()
        x = self.up2(torch.cat([x, eighth], dim=1)).relu()
        x = self.up3(torch.cat([x, quarter], dim=1)).relu()
        rgb: Tensor = self.up4(torch.cat([x, half], dim=1)).sigmoid()
        return rgb

    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        """Convert its RGB to chroma (B, 2, 150, 150), without a confidence.

        Args:
            output: (B, 3, 150, 150) in 0..1.
            vividness: Chroma is multiplied by 1 + vividness at constant hue: at 0, the default, it is unchanged, at 1
                doubled.
        """
        _, chroma = rgb_to_ycbcr(output)
        return Guess((chroma * (1 + (0.0 if vividness is None else vividness))).clamp(-0.5, 0.5), rgb=output)
