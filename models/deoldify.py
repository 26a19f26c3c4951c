"""The `deoldify` network."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bwpipe.nn.network import Guess, InputSizes, Network, NetworkOptions, Published, network
from bwpipe.nn.ycbcr import rgb_to_ycbcr

STRIDE = 32
RANGE = 3.0
"""Its output is between minus and plus this many of ImageNet's deviations from the mean."""
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, of red, green and blue."""
_DEEP_FACTOR = 1.5
_WIDE_CHANNELS = 1024
"""How many channels the decoder blocks of each layout have; see `_Block`."""


class DeoldifyOptions(NetworkOptions):
    """Options of `deoldify`, which `bwpipe import` finds from the weights."""

    layout: Literal["deep", "wide"] = "deep"
    """The U-Net: `deep` on a ResNet-34, as in the weights "artistic", or `wide` on a ResNet-101, as in "stable" and "video"."""


@network("deoldify")
class Deoldify(Network):
    """The network of "DeOldify", a U-Net on a ResNet with self-attention: 64 or 218 million parameters.

    Luma (B, 1, H, W) in 0..1, as red, green and blue, becomes RGB (B, 3, H, W) in 0..1, of which the chroma is taken;
    `vividness` multiplies it. Images keep their aspect ratio, up to 2; both sides of the input are multiples of 32.
    `quality: normal` sees about what the project's scripts do with a `render_factor` of 28, `fast` 21 and `best` 35.
    """

    produces: ClassVar[Literal["rgb", "chroma", "bins"]] = "rgb"
    sizes: ClassVar[InputSizes] = InputSizes({"fast": 336, "normal": 448, "best": 560}, STRIDE, max_aspect=2)
    published: ClassVar[Published | None] = Published(
        project="jantic/DeOldify",
        citation="J. Antic: DeOldify, 2018",
        terms="MIT, which the project states for its weights, too; trained on pictures of ImageNet",
        colours="RGB",
    )
    Options = DeoldifyOptions
    options: DeoldifyOptions

    def __init__(self, options: DeoldifyOptions) -> None:
        """Build it with random weights."""
        from torchvision.models import resnet34, resnet101

        super().__init__(options)
        deep = options.layout == "deep"
        encoder = nn.Sequential(*list((resnet34 if deep else resnet101)().children())[:-2])  # without its classes
        *skips, coarsest = (64, 64, 128, 256, 512) if deep else (64, 256, 512, 1024, 2048)
        middle = nn.Sequential(_convolutions(coarsest, 2 * coarsest), _convolutions(2 * coarsest, coarsest))
        blocks: list[_Block] = []
        for skip in reversed(skips):
            channels = blocks[-1].channels if blocks else coarsest
            blocks.append(_Block(channels, skip, deep=deep, last=len(blocks) == 3, attention=len(blocks) == 1))
        last = blocks[-1].channels
        enlarge = _Shuffle(nn.Sequential(_WeightNormed(last, 4 * last)))
        join = nn.Identity()  # the input is put beside it here
        out = nn.Sequential(_Spectral(last + 3, 3, 1, bias=True))
        head = [encoder, nn.BatchNorm2d(coarsest), nn.ReLU(), middle]
        self.layers = nn.ModuleList([*head, *blocks, enlarge, join, _Residual(last + 3), out])

    @classmethod
    def recognise(cls, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
        """By the first convolution of its middle, whose name and channels no other network has."""
        layouts: dict[tuple[int, ...], str] = {(1024, 512, 3, 3): "deep", (4096, 2048, 3, 3): "wide"}
        layout = layouts.get(shapes.get("layers.3.0.0.weight_orig", ()))
        return {"layout": layout} if layout else None

    def forward(self, luma: Tensor) -> Tensor:
        """Turn luma (B, 1, H, W) in 0..1, with sides that are multiples of 32, into RGB (B, 3, H, W) in 0..1."""
        mean, deviation = (luma.new_tensor(each).view(1, 3, 1, 1) for each in (_MEAN, _DEVIATION))
        seen = (luma - mean) / deviation
        encoder, norm, relu, middle, *blocks, enlarge, _, residual, out = self.layers
        found = [seen]
        for layer in encoder.children():
            found.append(layer(found[-1]))
        x = middle(relu(norm(found[8])))
        for block, skip in zip(blocks, (found[7], found[6], found[5], found[3]), strict=True):  # at 1/16, 1/8, 1/4 and 1/2
            x = block(x, skip)
        x = residual(torch.cat([enlarge(x), seen], dim=1))
        x = RANGE * (2 * out(x).sigmoid() - 1)
        rgb: Tensor = (x * deviation + mean).clamp(0, 1)
        return rgb

    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        """The chroma of its RGB, without a confidence.

        Args:
            output: (B, 3, H, W) in 0..1.
            vividness: Chroma is multiplied by 1 + vividness: at 0, the default, it is unchanged, at 1 doubled.
        """
        _, chroma = rgb_to_ycbcr(output)
        return Guess((chroma * (1 + (0.0 if vividness is None else vividness))).clamp(-0.5, 0.5), rgb=output)

    def takes(self, height: int, width: int) -> bool:
        """Any size whose sides are multiples of 32."""
        return height % STRIDE == 0 and width % STRIDE == 0


class _Spectral(nn.Module):
    """A convolution whose weights are divided by the largest singular value that training found (Miyato et al. 2018).

    The names are those of PyTorch: weights `weight_orig`, singular vectors `weight_u` and `weight_v`.
    """

    weight_u: Tensor
    weight_v: Tensor

    def __init__(self, channels: int, out: int, side: int, *, bias: bool = False, flat: bool = False) -> None:
        super().__init__()
        shape = (out, channels, side) if flat else (out, channels, side, side)
        self.weight_orig = nn.Parameter(nn.init.kaiming_normal_(torch.empty(shape)))
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None
        matrix = self.weight_orig.detach().flatten(1)
        right = F.normalize(matrix.sum(dim=0), dim=0)
        self.register_buffer("weight_u", F.normalize(matrix @ right, dim=0))
        self.register_buffer("weight_v", right)

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.weight_orig.flatten(1).float()
        largest = self.weight_u.float() @ (matrix @ self.weight_v.float())
        weight = (self.weight_orig / largest).to(x.dtype)
        weight = weight[..., None] if weight.ndim == 3 else weight
        return F.conv2d(x, weight, self.bias, padding=weight.shape[-1] // 2)


class _WeightNormed(nn.Module):
    """A convolution of 1 x 1 whose weights have a length of their own for each channel (Salimans and Kingma 2016)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.weight_v = nn.Parameter(nn.init.kaiming_normal_(torch.empty(out, channels, 1, 1)))
        self.weight_g = nn.Parameter(self.weight_v.detach().norm(dim=1, keepdim=True))
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight_g * F.normalize(self.weight_v, dim=1), self.bias)


class _Attention(nn.Module):
    """Self-attention over all places of a map (Zhang et al. 2019)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = _Spectral(channels, channels // 8, 1, flat=True)
        self.key = _Spectral(channels, channels // 8, 1, flat=True)
        self.value = _Spectral(channels, channels, 1, flat=True)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        share = (query.transpose(1, 2) @ key).softmax(dim=1)
        seen: Tensor = (value @ share).view_as(x)
        return x + self.gamma * seen


class _Shuffle(nn.Module):
    """Doubles height and width: a convolution to four times the channels, a pixel shuffle and the mean of 2 x 2 pixels."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        x = F.pixel_shuffle(self.conv(x).relu(), 2)
        return F.avg_pool2d(F.pad(x, (1, 0, 1, 0), mode="replicate"), 2, stride=1)


class _Block(nn.Module):
    """A block of the decoder, which joins what is coarser with the encoder's map (`skip`) of twice its size.

    In the layout `deep` it halves the channels of what is coarser, and has two convolutions with 1.5 times the joined channels,
    half of that in the last block; in `wide` these numbers are 512 and one with 512, 256 and 256 in the last.
    """

    def __init__(self, channels: int, skip: int, *, deep: bool, last: bool, attention: bool) -> None:
        super().__init__()
        half = _WIDE_CHANNELS // (4 if last else 2)
        coarse = channels // 2 if deep else half
        joined = coarse + skip
        self.channels = int((joined // 2 if last else joined) * _DEEP_FACTOR) if deep else half
        self.shuf = _Shuffle(nn.Sequential(_Spectral(channels, 4 * coarse, 1), nn.BatchNorm2d(4 * coarse)))
        self.bn = nn.BatchNorm2d(skip)
        self.deep = deep
        if deep:
            self.conv1 = _convolutions(joined, self.channels)
            self.conv2 = _convolutions(self.channels, self.channels, attention=attention)
        else:
            self.conv = _convolutions(joined, self.channels, attention=attention)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = torch.cat([self.shuf(x), self.bn(skip)], dim=1).relu()
        found: Tensor = self.conv2(self.conv1(x)) if self.deep else self.conv(x)
        return found


class _Residual(nn.Module):
    """Two convolutions, each with a ReLU, whose result is added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(_Spectral(channels, channels, 3, bias=True), nn.ReLU()) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        found = x
        for layer in self.layers:
            found = layer(found)
        return x + found


def _convolutions(channels: int, out: int, *, attention: bool = False) -> nn.Sequential:
    """A convolution of 3 x 3 with a ReLU, a norm and, if asked for, self-attention."""
    layers = [_Spectral(channels, out, 3), nn.ReLU(), nn.BatchNorm2d(out), *([_Attention(out)] if attention else [])]
    return nn.Sequential(*layers)
