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
"""Short side of the input by quality, in pixels."""
STRIDE = 32
"""Pixels of the input per cell of the coarsest feature map."""
MAX_ASPECT = 4
"""Maximum aspect ratio of the input: longer images are squeezed to it."""
STEP = 1 / 20
"""Distance between neighbouring bins. 1 / 24 and 1 / 32 were tried: slower, and the colours were no better."""
LOWEST_TEMPERATURE = 0.2
"""The temperature of the annealed mean at vividness 1."""
FROZEN_GROUPS = 3
"""How many groups of the encoder's blocks are never trained, in addition to the stem: all that is finer than 1/16. Edge and
texture features learnt on ImageNet serve here as well, and their gradients would take as long as all others together."""
DARK, BRIGHT = 0.1, 0.95
"""The luma below and above which chroma fades out."""


class UnetOptions(NetworkOptions):
    """Options of `unet`."""

    encoder: Literal["lite0", "lite1", "lite2"] = "lite0"
    """Variant of the EfficientNet-Lite encoder: larger ones recognise more and are slower. Pretrained weights to start training
    from exist for `lite0` only."""
    widths: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]] = (192, 128, 64)
    """Channels of the decoder at 1/16, 1/8 and 1/4 of the input's size."""
    vividness: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The default vividness of predictions."""


@network("unet")
class Unet(Network):
    """A U-Net on an encoder pretrained on ImageNet: predicts a distribution over 161 chroma bins, for images of any shape.

    The encoder is an EfficientNet-Lite (Tan and Le 2019) and the decoder lightweight; the distribution over bins follows Zhang,
    Isola and Efros, "Colorful Image Colorization" (ECCV 2016). Luma (B, 1, H, W) in 0..1 becomes logits (B, 161, H / 4, W / 4),
    sides rounded up. Features of the whole image scale and shift the decoder's channels (Perez et al. 2018, "FiLM"). Predicted
    chroma fades out towards black and white.
    """

    produces: ClassVar[Literal["rgb", "chroma", "bins"]] = "bins"
    Options = UnetOptions
    options: UnetOptions

    def __init__(self, options: UnetOptions) -> None:
        """Build it with random weights; `prime` loads pretrained ones for training."""
        import timm  # takes two seconds, which others should not have to wait for

        super().__init__(options)
        self.register_buffer("bins", bin_centres(STEP))
        encoder: Any = timm.create_model(f"tf_efficientnet_{options.encoder}", features_only=True, in_chans=1)
        _, *skips, deepest = encoder.feature_info.channels()
        self.encoder: nn.Module = _freeze_depthwise(encoder)
        widths = (deepest, *options.widths)
        self.ups = nn.ModuleList(_Up(*pair, skip) for pair, skip in zip(pairwise(widths), reversed(skips), strict=True))
        self.scene = _Scene(deepest, options.widths)
        self.head = nn.Conv2d(widths[-1], len(self.bins), 1)
        for part in self._frozen():
            part.requires_grad_(False)

    def forward(self, luma: Tensor) -> Tensor:
        """Turn luma (B, 1, H, W) in 0..1, of at least 32 x 32, into logits (B, Q, H / 4, W / 4), rounded up."""
        _, *skips, x = self.encoder(2 * luma - 1)  # the input range of the ImageNet weights
        scene = self.scene(x)
        for up, skip, (scale, shift) in zip(self.ups, reversed(skips), scene, strict=True):
            x = torch.addcmul(shift, up(x, skip), scale)
        logits: Tensor = self.head(x)
        return logits

    def input_size(self, height: int, width: int, quality: Quality = "normal") -> tuple[int, int]:
        """Keep the aspect ratio, up to 4 : 1, rounded to multiples of 32; the short side is 192, 256 or 384."""
        short = SHORT_SIDES[quality]

        def scaled(side: int) -> int:
            return round(short * min(side / min(height, width), MAX_ASPECT) / STRIDE) * STRIDE

        return scaled(height), scaled(width)

    def takes(self, height: int, width: int) -> bool:
        """Any size of at least 32 x 32."""
        return min(height, width) >= STRIDE

    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        """Compute the annealed mean of the distribution, and its confidence.

        Args:
            output: Logits (B, Q, h, w).
            vividness: From 0, a temperature of 1, which gives the mean of all likely chromas, to 1, a temperature of 0.2, which
                gives the most likely one; in between, the temperature is interpolated geometrically.
        """
        temperature = LOWEST_TEMPERATURE ** (self.options.vividness if vividness is None else vividness)
        return Guess(annealed_mean(output, self.bins, temperature), confidence(output, self.bins))

    def guess(self, luma: Tensor, vividness: float | None = None) -> Guess:
        """Predict as in `Network`, but fade out chroma towards black and white, where it would show as blotches."""
        with torch.no_grad():
            predictions = [
                self.decode(each, vividness) for each in self(luma).split(1)
            ]  # the distributions of a whole batch overflow the caches
            chroma = torch.cat([each.chroma for each in predictions])
            confidences = torch.cat([each.confidence for each in predictions if each.confidence is not None])
            return Guess(chroma * _fade(luma.float(), *chroma.shape[-2:]), confidences)

    def backbone(self) -> nn.Module:
        """The trainable part of the encoder: its coarser blocks, whose features represent objects and scenes."""
        return nn.ModuleList(self.encoder.blocks[FROZEN_GROUPS:])  # type: ignore[index]

    def train(self, mode: bool = True) -> "Unet":
        """Set training mode, except for the frozen part, whose batch norms keep their statistics."""
        super().train(mode)
        for part in self._frozen():
            part.train(False)
        return self

    def _frozen(self) -> Iterator[nn.Module]:
        """The frozen part of the encoder."""
        yield from (self.encoder.conv_stem, self.encoder.bn1, *self.encoder.blocks[:FROZEN_GROUPS])  # type: ignore[index]

    def prime(self) -> None:
        """Load the encoder's ImageNet weights to train from. Raises UsageError if they are missing."""
        if self.options.encoder != "lite0":
            raise UsageError(f"there are no ImageNet weights for the encoder {self.options.encoder}; use `encoder: lite0`")
        weights = imagenet_weights()
        weights["conv_stem.weight"] = weights["conv_stem.weight"].sum(dim=1, keepdim=True)  # grey is three equal channels
        self.encoder.load_state_dict({name: weights[name] for name in self.encoder.state_dict()})


class _Up(nn.Module):
    """Decoder block: upsamples feature maps by two and merges them with the encoder's."""

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
    """A depthwise separable 3 x 3 convolution: over space, then over channels."""
    yield nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    yield nn.BatchNorm2d(channels)
    yield nn.Conv2d(channels, out, 1, bias=False)
    yield nn.BatchNorm2d(out)
    yield nn.ReLU(inplace=True)


class _Scene(nn.Module):
    """Global conditioning: a scale and a shift for every channel of the decoder, initially 1 and 0."""

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, channels)
        self.out = nn.ModuleList(nn.Linear(channels, 2 * width) for width in widths)
        for weights in self.out.parameters():
            nn.init.zeros_(weights)

    def forward(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """From the coarsest maps (B, C, h, w): for each width a scale and a shift (B, width, 1, 1)."""
        hidden = self.hidden(x.mean(dim=(2, 3))).relu()
        pairs = [layer(hidden)[..., None, None].chunk(2, dim=1) for layer in self.out]
        return [(1 + scale, shift) for scale, shift in pairs]


class _Depthwise(nn.Module):
    """A depthwise convolution, padded as in TensorFlow, whose filters are never trained.

    On a CPU their gradient would take as long as all else in the encoder, though they are only a sixteenth of its weights.
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
        if x.requires_grad:  # same result, but on a CPU the gradient is several times faster with a stride of 1
            rows, columns = (1 - end for end in ends)
            return F.conv2d(x, self.weight, padding=self.padding, groups=channels)[..., rows::2, columns::2]
        around = [self.padding - 1 + end for end in reversed(ends) for end in (end, 1)]
        return F.conv2d(F.pad(x, around), self.weight, stride=2, groups=channels)


def _freeze_depthwise(encoder: nn.Module) -> nn.Module:
    """Replace the encoder's depthwise convolutions by frozen ones; the names of the weights stay."""
    for parent in list(encoder.modules()):
        for name, conv in list(parent.named_children()):
            if isinstance(conv, nn.Conv2d) and conv.groups > 1:
                setattr(parent, name, _Depthwise(conv))
    return encoder


def _fade(luma: Tensor, height: int, width: int) -> Tensor:
    """The factor of chroma: 0 at black and white, 1 in between, for luma (B, 1, H, W) averaged to another grid."""
    small = F.adaptive_avg_pool2d(luma, (height, width))
    near = torch.minimum(small / DARK, (1 - small) / (1 - BRIGHT)).clamp(0, 1)
    return near * near * (3 - 2 * near)  # smoothstep, without a kink
