"""The `eccv16` network."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from bwpipe.nn.lab import ab_to_chroma, luma_to_lightness
from bwpipe.nn.network import Guess, InputSizes, Network, NetworkOptions, Published, network

SIDE = 256
"""Short side of its input, in pixels, as in the paper."""
STRIDE = 8
BINS = 313
"""Bins of its distribution over a* and b*."""
LIGHTNESS_CENTRE, LIGHTNESS_RANGE, AB_RANGE = 50.0, 100.0, 110.0
"""How L*, a* and b* are normalised."""


@network("eccv16")
class Eccv16(Network):
    """The network of "Colorful Image Colorization": a distribution over 313 bins of a* and b*, 32,236,011 parameters.

    Eight blocks of convolutions, with dilated ones at 1/8 of the input's size. Luma (B, 1, H, W) in 0..1 becomes chroma
    (B, 2, H / 4, W / 4), the mean of the distribution as its published weights give it; `vividness` multiplies it. Both sides
    of the input are multiples of 8. Colours are vivid, and can be blotchy.
    """

    produces: ClassVar[Literal["rgb", "chroma", "bins"]] = "chroma"
    sizes: ClassVar[InputSizes] = InputSizes(
        {"fast": 192, "normal": SIDE, "best": SIDE}, STRIDE, max_aspect=2, further={"best": (SIDE,)}
    )
    published: ClassVar[Published | None] = Published(
        project="richzhang/colorization",
        citation="R. Zhang, P. Isola, A. A. Efros: Colorful Image Colorization, European Conference on Computer Vision, 2016",
        terms="BSD 2-Clause, the licence of the project, which names no other for its weights; trained on pictures of ImageNet",
        colours="CIE L*a*b*",
    )

    def __init__(self, options: NetworkOptions) -> None:
        """Build it with random weights; it has no options."""
        super().__init__(options)
        self.model1 = _block(1, 64, 2, stride=2)
        self.model2 = _block(64, 128, 2, stride=2)
        self.model3 = _block(128, 256, 3, stride=2)
        self.model4 = _block(256, 512, 3)
        self.model5 = _block(512, 512, 3, dilation=2)
        self.model6 = _block(512, 512, 3, dilation=2)
        self.model7 = _block(512, 512, 3)
        self.model8 = nn.Sequential(
            nn.ConvTranspose2d(512, 256, 4, stride=2, padding=1),
            nn.ReLU(),
            *_convolutions(256, 256, 2),
            nn.Conv2d(256, BINS, 1),
        )
        self.model_out = nn.Conv2d(BINS, 2, 1, bias=False)

    @classmethod
    def recognise(cls, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
        """By its first and last layers, whose names and channels no other network has."""
        first, last = shapes.get("model1.0.weight", ()), shapes.get("model_out.weight", ())
        return {} if first[1:2] == (1,) and last[:1] == (2,) else None

    def forward(self, luma: Tensor) -> Tensor:
        """Turn luma (B, 1, H, W) in 0..1, with sides that are multiples of 8, into chroma (B, 2, H / 4, W / 4) in -0.5..0.5."""
        return ab_to_chroma(F.avg_pool2d(luma, 4), self.ab(luma))

    def ab(self, luma: Tensor) -> Tensor:
        """The a* and b* (B, 2, H / 4, W / 4) that it predicts for luma, as published."""
        x = (luma_to_lightness(luma) - LIGHTNESS_CENTRE) / LIGHTNESS_RANGE
        for block in (self.model1, self.model2, self.model3, self.model4, self.model5, self.model6, self.model7, self.model8):
            x = block(x)
        ab: Tensor = AB_RANGE * self.model_out(x.softmax(dim=1))
        return ab

    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        """Its chroma, without a confidence.

        Args:
            output: (B, 2, h, w) in -0.5..0.5.
            vividness: Chroma is multiplied by 1 + vividness: at 0, the default, it is unchanged, at 1 doubled.
        """
        return Guess((output * (1 + (0.0 if vividness is None else vividness))).clamp(-0.5, 0.5))

    def takes(self, height: int, width: int) -> bool:
        """Any size whose sides are multiples of 8."""
        return height % STRIDE == 0 and width % STRIDE == 0


def _block(channels: int, out: int, count: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """3 x 3 convolutions, each with a ReLU, the last with a stride, and one norm after it."""
    layers = _convolutions(channels, out, count, stride=stride, dilation=dilation)
    return nn.Sequential(*layers, nn.BatchNorm2d(out))


def _convolutions(channels: int, out: int, count: int, *, stride: int = 1, dilation: int = 1) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for number in range(count):
        step = stride if number == count - 1 else 1
        convolution = nn.Conv2d(out if number else channels, out, 3, stride=step, padding=dilation, dilation=dilation)
        layers += [convolution, nn.ReLU()]
    return layers
