"""The `siggraph17` network."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from bwpipe.nn.lab import ab_to_chroma, chroma_to_ab, luma_to_lightness
from bwpipe.nn.network import Guess, InputSizes, Network, NetworkOptions, Published, network

SIDE = 256
"""Short side of its input, in pixels, as in the paper."""
STRIDE = 8
CLASSES = 529
"""Bins of its head for a distribution, which predictions do not need."""
LIGHTNESS_CENTRE, LIGHTNESS_RANGE, AB_RANGE = 50.0, 100.0, 110.0
"""How L*, a* and b* are normalised."""


@network("siggraph17")
class Siggraph17(Network):
    """The network of "Real-Time User-Guided Image Colorization with Learned Deep Priors": 34,187,027 parameters, takes hints.

    A U-Net of ten blocks of convolutions, with dilated ones at 1/8 of the input's size. Luma (B, 1, H, W) in 0..1 becomes
    chroma (B, 2, H, W); between them it computes in L*a*b*. It was trained with simulated hints, of which there may be none.
    Colours are safe rather than vivid; `vividness` multiplies them. Both sides of the input are multiples of 8.
    """

    produces: ClassVar[Literal["rgb", "chroma", "bins"]] = "chroma"
    sizes: ClassVar[InputSizes] = InputSizes(
        {"fast": 192, "normal": SIDE, "best": SIDE}, STRIDE, max_aspect=2, further={"best": (SIDE,)}
    )
    published: ClassVar[Published | None] = Published(
        project="richzhang/colorization",
        citation=(
            "R. Zhang, J.-Y. Zhu, P. Isola, X. Geng, A. S. Lin, T. Yu, A. A. Efros: Real-Time User-Guided Image Colorization "
            "with Learned Deep Priors, ACM Transactions on Graphics 36 (4), 2017"
        ),
        terms="BSD 2-Clause, the licence of the project, which names no other for its weights; trained on pictures of ImageNet",
        colours="CIE L*a*b*",
    )

    def __init__(self, options: NetworkOptions) -> None:
        """Build it with random weights; it has no options."""
        super().__init__(options)
        self.model1 = _block(4, 64, 2)
        self.model2 = _block(64, 128, 2)
        self.model3 = _block(128, 256, 3)
        self.model4 = _block(256, 512, 3)
        self.model5 = _block(512, 512, 3, dilation=2)
        self.model6 = _block(512, 512, 3, dilation=2)
        self.model7 = _block(512, 512, 3)
        self.model8up = nn.Sequential(_up(512, 256))
        self.model8 = nn.Sequential(nn.ReLU(), *_block(256, 256, 2))
        self.model9up = nn.Sequential(_up(256, 128))
        self.model9 = nn.Sequential(nn.ReLU(), *_block(128, 128, 1))
        self.model10up = nn.Sequential(_up(128, 128))
        self.model10 = nn.Sequential(nn.ReLU(), nn.Conv2d(128, 128, 3, padding=1), nn.LeakyReLU(0.2))
        self.model3short8 = nn.Sequential(nn.Conv2d(256, 256, 3, padding=1))
        self.model2short9 = nn.Sequential(nn.Conv2d(128, 128, 3, padding=1))
        self.model1short10 = nn.Sequential(nn.Conv2d(64, 128, 3, padding=1))
        self.model_class = nn.Sequential(nn.Conv2d(256, CLASSES, 1))
        self.model_out = nn.Sequential(nn.Conv2d(128, 2, 1), nn.Tanh())

    @classmethod
    def recognise(cls, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
        """By its first and last layers, whose names and channels no other network has."""
        first, last = shapes.get("model1.0.weight", ()), shapes.get("model_out.0.weight", ())
        return {} if first[1:2] == (4,) and last[:1] == (2,) else None

    def forward(self, luma: Tensor, hints: Tensor | None = None) -> Tensor:
        """Turn luma (B, 1, H, W) in 0..1, with sides that are multiples of 8, into chroma (B, 2, H, W) in -0.5..0.5.

        Hints (B, 3, H, W) as in `guess`.
        """
        return ab_to_chroma(luma, self.ab(luma, hints))

    def ab(self, luma: Tensor, hints: Tensor | None = None) -> Tensor:
        """The a* and b* (B, 2, H, W) that it predicts for luma, as published."""
        lightness = (luma_to_lightness(luma) - LIGHTNESS_CENTRE) / LIGHTNESS_RANGE
        known = _known(luma, hints)
        full = self.model1(torch.cat([lightness, known], dim=1))
        half = self.model2(full[..., ::2, ::2])
        quarter = self.model3(half[..., ::2, ::2])
        eighth = self.model4(quarter[..., ::2, ::2])
        x = self.model7(self.model6(self.model5(eighth)))
        x = self.model8(self.model8up(x) + self.model3short8(quarter))
        x = self.model9(self.model9up(x) + self.model2short9(half))
        x = self.model10(self.model10up(x) + self.model1short10(full))
        ab: Tensor = AB_RANGE * self.model_out(x)
        return ab

    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        """Its chroma, without a confidence.

        Args:
            output: (B, 2, H, W) in -0.5..0.5.
            vividness: Chroma is multiplied by 1 + vividness: at 0, the default, it is unchanged, at 1 doubled.
        """
        return Guess((output * (1 + (0.0 if vividness is None else vividness))).clamp(-0.5, 0.5))

    @property
    def takes_hints(self) -> bool:
        """It does."""
        return True

    def takes(self, height: int, width: int) -> bool:
        """Any size whose sides are multiples of 8."""
        return height % STRIDE == 0 and width % STRIDE == 0


def _known(luma: Tensor, hints: Tensor | None) -> Tensor:
    """What the network is shown of hints (B, 3, H, W): a* and b*, normalised, and a mask of 0 and 1; zeros for none.

    It was trained with points that are known or not, so what is known by less than half is not shown.
    """
    if hints is None:
        return torch.zeros_like(luma).repeat(1, 3, 1, 1)
    mask = (hints[:, 2:] >= 0.5).to(luma.dtype)
    return torch.cat([chroma_to_ab(luma, hints[:, :2]) / AB_RANGE * mask, mask], dim=1)


def _block(channels: int, out: int, count: int, dilation: int = 1) -> nn.Sequential:
    """3 x 3 convolutions, each with a ReLU, and one norm after the last."""
    layers: list[nn.Module] = []
    for number in range(count):
        layers += [nn.Conv2d(out if number else channels, out, 3, padding=dilation, dilation=dilation), nn.ReLU()]
    return nn.Sequential(*layers, nn.BatchNorm2d(out))


def _up(channels: int, out: int) -> nn.ConvTranspose2d:
    """A transposed convolution that doubles height and width."""
    return nn.ConvTranspose2d(channels, out, 4, stride=2, padding=1)
