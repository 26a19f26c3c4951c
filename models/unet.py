"""The `unet` network."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from bwpipe.errors import UsageError
from bwpipe.nn.chroma_bins import annealed_mean, bin_centres, confidence
from bwpipe.nn.efficientnet import imagenet_weights
from bwpipe.nn.network import Guess, Network, NetworkOptions, Quality, network

SHORT_SIDES: dict[Quality, int] = {"fast": 192, "normal": 256, "best": 384}
"""Of what it sees, in pixels."""
STRIDE = 32
"""Pixels of the input for one of the coarsest map."""
LONGEST = 4
"""Times the short side: a longer picture is squashed."""
STEP = 1 / 20
"""From bin to bin. 1 / 24 and 1 / 32 were tried: they take longer, and the colours were no better."""
LIVELIEST = 0.2
"""The temperature of the annealed mean at vividness 1."""
STILL = 3
"""How many groups of the encoder's blocks are never trained, the stem included: all that is finer than 1/16. What makes edges
and textures known on ImageNet makes them known here, and their gradients would take as long as all others together."""
DARK, BRIGHT = 0.1, 0.95
"""The luma below and above which chroma fades out."""


class UnetOptions(NetworkOptions):
    """What a `unet` can be built with."""

    encoder: Literal["lite0", "lite1", "lite2"] = "lite0"
    """Which EfficientNet-Lite sees the picture: a larger one sees more and takes longer. Only for `lite0` are there weights to
    start a training with."""
    widths: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]] = (192, 128, 64)
    """Channels of the decoder at 1/16, 1/8 and 1/4 of the input's size."""
    vividness: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The vividness of a guess for which none is asked."""


@network("unet")
class Unet(Network):
    """A U-Net on an encoder that learnt from ImageNet: guesses how likely each of 161 chromas is, whatever the picture's shape.

    The encoder is an EfficientNet-Lite (Tan and Le 2019), the decoder light, the distribution over bins that of Zhang, Isola
    and Efros, "Colorful Image Colorization" (ECCV 2016). Luma (B, 1, H, W) in 0..1 becomes logits (B, 161, H / 4, W / 4), sides
    rounded up. What the whole picture shows scales and shifts the channels of the decoder (Perez et al. 2018, "FiLM"). Towards
    black and white the chroma of a guess fades out.
    """

    produces: ClassVar[Literal["rgb", "chroma", "bins"]] = "bins"
    Options = UnetOptions
    options: UnetOptions

    def __init__(self, options: UnetOptions) -> None:
        """Build it with random weights; `prime` loads those that a training starts from."""
        import timm  # takes two seconds, which nobody else should wait for

        super().__init__(options)
        self.register_buffer("bins", bin_centres(STEP))
        encoder: Any = timm.create_model(f"tf_efficientnet_{options.encoder}", features_only=True, in_chans=1)
        _, *skips, deepest = encoder.feature_info.channels()
        self.encoder: nn.Module = _held(encoder)
        widths = (deepest, *options.widths)
        self.ups = nn.ModuleList(_Up(*pair, skip) for pair, skip in zip(pairwise(widths), reversed(skips), strict=True))
        self.scene = _Scene(deepest, options.widths)
        self.head = nn.Conv2d(widths[-1], len(self.bins), 1)
        for part in self._still():
            part.requires_grad_(False)

    def forward(self, luma: Tensor) -> Tensor:
        """Turn luma (B, 1, H, W) in 0..1, of any size from 32 x 32 on, into logits (B, Q, H / 4, W / 4), rounded up."""
        _, *skips, x = self.encoder(2 * luma - 1)  # the range in which the ImageNet weights saw pictures
        scene = self.scene(x)
        for up, skip, (scale, shift) in zip(self.ups, reversed(skips), scene, strict=True):
            x = torch.addcmul(shift, up(x, skip), scale)
        logits: Tensor = self.head(x)
        return logits

    def input_size(self, height: int, width: int, quality: Quality = "normal") -> tuple[int, int]:
        """The aspect is kept, as near as multiples of 32 come, up to 4 : 1; the short side is 192, 256 or 384."""
        short = SHORT_SIDES[quality]

        def seen(side: int) -> int:
            return round(short * min(side / min(height, width), LONGEST) / STRIDE) * STRIDE

        return seen(height), seen(width)

    def takes(self, height: int, width: int) -> bool:
        """Any size from 32 x 32 on."""
        return min(height, width) >= STRIDE

    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        """Take the annealed mean of the distribution, and its confidence.

        Args:
            output: Logits (B, Q, h, w).
            vividness: From 0, a temperature of 1, which gives the mean of all likely chromas, to 1, a temperature of 0.2, which
                gives the likeliest; in between, equal steps divide the temperature by equal factors.
        """
        temperature = LIVELIEST ** (self.options.vividness if vividness is None else vividness)
        return Guess(annealed_mean(output, self.bins, temperature), confidence(output, self.bins))

    def guess(self, luma: Tensor, vividness: float | None = None) -> Guess:
        """As every network's, but the chroma fades out towards black and white, where it would show as blotches."""
        with torch.no_grad():
            guesses = [self.decode(each, vividness) for each in self(luma).split(1)]  # a batch's shares overflow the caches
            chroma = torch.cat([guess.chroma for guess in guesses])
            sure = torch.cat([guess.confidence for guess in guesses if guess.confidence is not None])
            return Guess(chroma * _fade(luma.float(), *chroma.shape[-2:]), sure)

    def backbone(self) -> nn.Module:
        """What of the encoder can be trained: its coarser blocks, whose maps show things and scenes."""
        return nn.ModuleList(self.encoder.blocks[STILL:])  # type: ignore[index]

    def train(self, mode: bool = True) -> "Unet":
        """Put it into training mode, but for what is never trained: there the averages of its norms stay, too."""
        super().train(mode)
        for part in self._still():
            part.train(False)
        return self

    def _still(self) -> Iterator[nn.Module]:
        """What of the encoder is never trained."""
        yield from (self.encoder.conv_stem, self.encoder.bn1, *self.encoder.blocks[:STILL])  # type: ignore[index]

    def prime(self) -> None:
        """Load the encoder's ImageNet weights, from which a training starts. Raises UsageError where they are missing."""
        if self.options.encoder != "lite0":
            raise UsageError(f"there are no ImageNet weights for the encoder {self.options.encoder}; take `encoder: lite0`")
        weights = imagenet_weights()
        weights["conv_stem.weight"] = weights["conv_stem.weight"].sum(dim=1, keepdim=True)  # grey is three equal colours
        self.encoder.load_state_dict({name: weights[name] for name in self.encoder.state_dict()})


class _Up(nn.Module):
    """Brings maps to twice the size, where they meet those of the encoder."""

    def __init__(self, channels: int, out: int, skip: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_layer(channels + skip, out), *_layer(out, out))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """From (B, `channels`, h / 2, w / 2), rounded up, and (B, `skip`, h, w) to (B, `out`, h, w)."""
        height, width = skip.shape[-2:]
        x = F.interpolate(x, scale_factor=2, mode="nearest")[..., :height, :width]
        out: Tensor = self.layers(torch.cat([x, skip], dim=1))
        return out


def _layer(channels: int, out: int) -> Iterator[nn.Module]:
    """A 3 x 3 convolution in two: over space, then over channels."""
    yield nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    yield nn.BatchNorm2d(channels)
    yield nn.Conv2d(channels, out, 1, bias=False)
    yield nn.BatchNorm2d(out)
    yield nn.ReLU(inplace=True)


class _Scene(nn.Module):
    """What the whole picture shows, as a scale and a shift for every channel of the decoder; at first 1 and 0."""

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, channels)
        self.out = nn.ModuleList(nn.Linear(channels, 2 * width) for width in widths)
        for weights in self.out.parameters():
            nn.init.zeros_(weights)

    def forward(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Of the coarsest maps (B, C, h, w): for each width a scale and a shift (B, width, 1, 1)."""
        hidden = self.hidden(x.mean(dim=(2, 3))).relu()
        pairs = [layer(hidden)[..., None, None].chunk(2, dim=1) for layer in self.out]
        return [(1 + scale, shift) for scale, shift in pairs]


class _Depthwise(nn.Module):
    """A depthwise convolution, padded as in TensorFlow, whose filters are never trained.

    On a CPU their gradient would take as long as all else in the encoder together, and they are one in sixteen of its weights.
    """

    weight: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.register_buffer("weight", conv.weight.detach())
        self.stride = conv.stride[0]
        self.padding = conv.kernel_size[0] // 2

    def forward(self, x: Tensor) -> Tensor:
        channels = len(self.weight)
        if self.stride == 1:
            return F.conv2d(x, self.weight, padding=self.padding, groups=channels)
        ends = [side % 2 for side in x.shape[-2:]]
        if x.requires_grad:  # the same numbers, but the gradient of a stride of 1 is several times as fast on a CPU
            rows, columns = (1 - end for end in ends)
            return F.conv2d(x, self.weight, padding=self.padding, groups=channels)[..., rows::2, columns::2]
        around = [self.padding - 1 + end for end in reversed(ends) for end in (end, 1)]
        return F.conv2d(F.pad(x, around), self.weight, stride=2, groups=channels)


def _held(encoder: nn.Module) -> nn.Module:
    """The encoder with its depthwise convolutions replaced; the names of the weights stay."""
    for parent in list(encoder.modules()):
        for name, conv in list(parent.named_children()):
            if isinstance(conv, nn.Conv2d) and conv.groups > 1:
                setattr(parent, name, _Depthwise(conv))
    return encoder


def _fade(luma: Tensor, height: int, width: int) -> Tensor:
    """What chroma is multiplied by: 0 at black and white, 1 in between, for luma (B, 1, H, W) averaged to another grid."""
    small = F.adaptive_avg_pool2d(luma, (height, width))
    near = torch.minimum(small / DARK, (1 - small) / (1 - BRIGHT)).clamp(0, 1)
    return near * near * (3 - 2 * near)  # without a kink
