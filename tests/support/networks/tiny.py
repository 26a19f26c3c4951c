"""A plug-in folder of networks small enough to train in a test."""

from time import sleep
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from bwpipe.nn.network import Guess, Network, Quality, network


@network("test-rgb")
class Painter(Network):
    """Predicts RGB in 16 x 16 pixels."""

    produces: ClassVar[Literal["rgb", "chroma", "bins"]] = "rgb"

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1), nn.Sigmoid())

    def forward(self, luma: Tensor) -> Tensor:
        rgb: Tensor = self.layers(luma)
        return rgb

    def input_size(self, height: int, width: int, quality: Quality = "normal") -> tuple[int, int]:
        return 16, 16

    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        return Guess(output[:, :2] - 0.5, rgb=output)


@network("test-unbounded")
class Unbounded(Painter):
    """Can predict values brighter than white."""

    def forward(self, luma: Tensor) -> Tensor:
        return super().forward(luma).logit()


@network("test-chroma")
class Tinter(Painter):
    """Predicts chroma, with a backbone that has batch normalisation and dropout."""

    produces: ClassVar[Literal["rgb", "chroma", "bins"]] = "chroma"

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.first = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout2d(0.1))
        self.layers = nn.Sequential(nn.Conv2d(8, 2, 3, padding=1), nn.Tanh())

    def forward(self, luma: Tensor) -> Tensor:
        chroma: Tensor = self.layers(self.first(luma)) / 2
        return chroma

    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        return Guess(output)

    def backbone(self) -> nn.Module | None:
        return self.first

    def prime(self) -> None:
        with torch.no_grad():
            self.get_parameter("first.0.bias").fill_(0.125)


@network("test-emulated")
class Emulated(Painter):
    """Slow in anything but float32, like a CPU without the instructions for other types."""

    trials = 0

    def forward(self, luma: Tensor) -> Tensor:
        if luma.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            Emulated.trials += 1
            sleep(0.1)
        return super().forward(luma)


@network("test-wandering")
class Wandering(Painter):
    """Predicts chroma that wanders with the mean of luma, beside features that do not."""

    produces: ClassVar[Literal["rgb", "chroma", "bins"]] = "chroma"

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.seen = nn.Conv2d(1, 24, 16, stride=16)
        self.layers = nn.Sequential(nn.Conv2d(1, 2, 4, stride=4), nn.Tanh())

    def forward(self, luma: Tensor) -> Tensor:
        chroma: Tensor = self.layers(luma) / 8
        return chroma

    def input_size(self, height: int, width: int, quality: Quality = "normal") -> tuple[int, int]:
        return 96, 128

    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        return Guess(output)

    def guess(self, luma: Tensor, vividness: float | None = None, hints: Tensor | None = None) -> Guess:
        with torch.no_grad():
            turn = 300 * luma.float().mean(dim=(1, 2, 3))
            tint = 0.08 * torch.stack([turn.sin(), turn.cos()], dim=1)
            chroma = self(luma).float() + tint[..., None, None]
            return Guess(chroma, torch.full_like(chroma[:, :1], 0.5), features=self.seen(luma).float())


@network("test-told")
class Told(Wandering):
    """Predicts the mean of the chroma that it is told, everywhere."""

    @property
    def takes_hints(self) -> bool:
        return True

    def guess(self, luma: Tensor, vividness: float | None = None, hints: Tensor | None = None) -> Guess:
        with torch.no_grad():
            chroma = torch.zeros_like(self(luma).float())
            if hints is not None:
                known = hints[:, 2:].float()
                mean = (hints[:, :2].float() * known).sum(dim=(2, 3)) / known.sum(dim=(2, 3)).clamp(min=1e-6)
                chroma = chroma + mean[..., None, None]
            return Guess(chroma)
