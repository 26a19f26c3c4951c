"""The `unet` network."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from bwpipe.errors import UsageError
from bwpipe.nn.chroma_bins import annealed_mean, bin_centres, confidence
from bwpipe.nn.efficientnet import imagenet_weights
from bwpipe.nn.encoder_layers import fold_norms, freeze_depthwise
from bwpipe.nn.network import Guess, InputSizes, Network, NetworkOptions, Quality, network
from bwpipe.nn.nonlocal_means import nonlocal_means

SHORT_SIDES: dict[Quality, int] = {"fast": 192, "normal": 256, "best": 256}
"""Short side of the input by quality, in pixels."""
FURTHER_VIEWS: dict[Quality, tuple[int, ...]] = {"best": (192, 320)}
"""Short sides of further views by quality. On 88 photographs of `val` their mean had a chroma correlation of 0.672 instead of
0.666, CIEDE2000 9.7 instead of 9.9, and unevenness 0.034 instead of 0.037; one view of 384 had 0.646, 10.3 and 0.042."""
STRIDE = 32
"""Pixels of the input per cell of the coarsest feature map."""
MAX_ASPECT = 4
"""Maximum aspect ratio of the input: longer images are squeezed to it."""
STEP = 1 / 20
"""Distance between neighbouring bins. 1 / 24 and 1 / 32 were tried: slower, and the colours were no better."""
FAINT, AVERAGE = 0.01, 0.1
"""Lengths of (Cb, Cr) before `gain`: one that is next to nothing, and one that `contrast` leaves as it is."""
FROZEN_GROUPS = 3
"""How many groups of the encoder's blocks are not trained with `trained: coarse`, in addition to the stem: all that is finer
than 1/16. Edge and texture features learnt on ImageNet serve here as well, and their gradients would take as long as all others
together."""
HINT_SCALES = 32.0, 4.0
"""Factors of the chroma of hints and of their mask before they meet weights that start at 0: with a quarter of these, hints had
hardly any effect after 800 steps."""
HEADS = 6
"""Heads of the decoder's attention: 32 channels each at the default width."""
HEAD_CHANNELS = 32
"""Channels of each head of the transformer, which divide the channels of every encoder's coarsest map."""
DARK, BRIGHT = 0.1, 0.95
"""The luma below and above which chroma fades out."""


class UnetOptions(NetworkOptions):
    """Options of `unet`."""

    encoder: Literal["lite0", "lite1", "lite2"] = "lite0"
    """Variant of the EfficientNet-Lite encoder: larger ones recognise more and are slower. Pretrained weights to start training
    from exist for `lite0` only."""
    widths: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]] = (192, 128, 64)
    """Channels of the decoder at 1/16, 1/8 and 1/4 of the input's size."""
    trained: Literal["coarse", "whole"] = "coarse"
    """The part of the encoder that is trained: its coarser blocks except their depthwise filters, which is fast, or all of it
    except the statistics of its norms. It does not affect predictions."""
    hints: bool = False
    """Whether it takes hints: chroma that is known at some points. Without any, its predictions are those without this part."""
    attention: bool = False
    """Whether each cell of the coarsest decoder block sees all others (self-attention), so that alike things get alike
    colours."""
    transformer: Annotated[int, Field(ge=0, le=12)] = 0
    """Number of transformer blocks (Vaswani et al. 2017) over the cells of the encoder's coarsest map."""
    vividness: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The default vividness of predictions."""
    temperature: Annotated[float, Field(gt=0, le=1)] = 0.2
    """The temperature of the annealed mean at vividness 1; that at vividness 0.5 is its square root."""
    contrast: Annotated[float, Field(ge=1, le=2)] = 1
    """The power to which the strength of colours is raised: above 1, faint colours become fainter and strong ones stronger, so
    that neutral things stay neutral."""
    vividness_range: Annotated[float, Field(ge=1, le=4)] = 1
    """The factor of chroma at vividness 1, and its divisor at vividness 0, relative to vividness 0.5."""
    gain: Annotated[float, Field(gt=0, le=10)] = 1
    """The factor of chroma at vividness 0.5; fitted by `calibrate`."""
    smooth: bool = False
    """Whether predictions are averaged over what looks alike (non-local means), so that one thing gets one colour."""

    @model_validator(mode="after")
    def _check_heads(self) -> "UnetOptions":
        if self.attention and self.widths[0] % HEADS:
            raise ValueError(f"with `attention`, the first of `widths` must be a multiple of {HEADS}, not {self.widths[0]}")
        return self


@network("unet")
class Unet(Network):
    """A U-Net on an encoder pretrained on ImageNet: predicts a distribution over 161 chroma bins, for images of any shape.

    The encoder is an EfficientNet-Lite (Tan and Le 2019) and the decoder lightweight; the distribution over bins follows Zhang,
    Isola and Efros, "Colorful Image Colorization" (ECCV 2016). Luma (B, 1, H, W) in 0..1 becomes logits (B, 161, H / 4, W / 4),
    sides rounded up. Features of the whole image scale and shift the decoder's channels (Perez et al. 2018, "FiLM"). Predicted
    chroma fades out towards black and white.
    """

    produces: ClassVar[Literal["rgb", "chroma", "bins"]] = "bins"
    sizes: ClassVar[InputSizes] = InputSizes(SHORT_SIDES, STRIDE, MAX_ASPECT, FURTHER_VIEWS)
    Options = UnetOptions
    options: UnetOptions

    def __init__(self, options: UnetOptions) -> None:
        """Build it with random weights; `prime` loads pretrained ones for training."""
        import timm  # takes two seconds, which others should not have to wait for

        super().__init__(options)
        self.register_buffer("bins", bin_centres(STEP))
        encoder: Any = timm.create_model(f"tf_efficientnet_{options.encoder}", features_only=True, in_chans=1)
        _, *skips, deepest = encoder.feature_info.channels()
        self.encoder: nn.Module = (fold_norms if options.trained == "whole" else freeze_depthwise)(encoder)
        widths = (deepest, *options.widths)
        self.ups = nn.ModuleList(_Up(*pair, skip) for pair, skip in zip(pairwise(widths), reversed(skips), strict=True))
        self.scene = _Scene(deepest, options.widths)
        self.head = nn.Conv2d(widths[-1], len(self.bins), 1)
        self.hints = _Hints(widths[:-1], deepest) if options.hints else None
        self.attention = _Attention(widths[1], HEADS) if options.attention else None
        self.transformer = nn.Sequential(*(_TransformerBlock(deepest) for _ in range(options.transformer)))
        for part in self._frozen():
            part.requires_grad_(False)

    def forward(self, luma: Tensor, hints: Tensor | None = None) -> Tensor:
        """Turn luma (B, 1, H, W) in 0..1, of at least 32 x 32, into logits (B, Q, H / 4, W / 4), rounded up.

        Hints (B, 3, H, W) as in `guess`; they are ignored without the option `hints`.
        """
        return self._logits(luma, hints)[0]

    def _logits(self, luma: Tensor, hints: Tensor | None) -> tuple[Tensor, Tensor]:
        """The logits, and the encoder's features (B, C, H / 16, W / 16), rounded up."""
        _, *skips, x = self.encoder(2 * luma - 1)  # the input range of the ImageNet weights
        x = self.transformer(x)
        known, overall = (None, None) if self.hints is None or hints is None else self.hints(hints)
        scene = self.scene(x, overall)
        for index, (up, skip, (scale, shift)) in enumerate(zip(self.ups, reversed(skips), scene, strict=True)):
            x = torch.addcmul(shift, up(x, skip, None if known is None else known[index]), scale)
            if index == 0 and self.attention is not None:
                x = self.attention(x)
        logits: Tensor = self.head(x)
        return logits, skips[-1]

    def takes(self, height: int, width: int) -> bool:
        """Any size of at least 32 x 32."""
        return min(height, width) >= STRIDE

    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        """Compute the annealed mean of the distribution, and its confidence.

        Args:
            output: Logits (B, Q, h, w).
            vividness: From 0, a temperature of 1, which gives the mean of all likely chromas, to 1, the option `temperature`,
                by default 0.2, which gives the most likely one; in between, the temperature is interpolated geometrically.
                Chroma gets its `contrast`, and is multiplied by `gain` and by `vividness_range` to a power from -1 to 1.
        """
        return Guess(self._coloured(self._mean(output, vividness), vividness), confidence(output, self.bins))

    def _mean(self, logits: Tensor, vividness: float | None) -> Tensor:
        """The annealed mean (B, 2, h, w) of logits (B, Q, h, w)."""
        vividness = self.options.vividness if vividness is None else vividness
        return annealed_mean(logits, self.bins, self.options.temperature**vividness)

    def _coloured(self, mean: Tensor, vividness: float | None) -> Tensor:
        """The chroma (B, 2, h, w) in -0.5..0.5 of an annealed mean, smoothed or not: with contrast, as strong as asked."""
        options = self.options
        vividness = options.vividness if vividness is None else vividness
        if options.contrast != 1:
            length = torch.linalg.vector_norm(mean, dim=1, keepdim=True)  # its gradient at grey is 0
            mean = mean * ((length + FAINT) / AVERAGE) ** (options.contrast - 1)
        factor: float = options.gain * options.vividness_range ** (2 * vividness - 1)
        return (factor * mean).clamp(-0.5, 0.5)

    def calibrated(self, shift: Tensor, gain: float) -> "Unet":
        """A copy with `shift` (Q,) added to its logits, and another `gain`."""
        network = type(self)(self.options.model_copy(update={"gain": gain}))
        network.load_state_dict(self.state_dict())
        assert network.head.bias is not None
        network.head.bias.data += shift.to(network.head.bias)
        return network.to(self.bins.device).eval().requires_grad_(False)

    def guess(self, luma: Tensor, vividness: float | None = None, hints: Tensor | None = None) -> Guess:
        """Predict as in `Network`, but fade out chroma towards black and white, where it would show as blotches."""
        with torch.no_grad():
            logits, features = self._logits(luma, hints)
            each_alone = torch.split(logits, 1)  # the distributions of a whole batch overflow the caches
            means, sure = zip(*((self._mean(each, vividness), confidence(each, self.bins)) for each in each_alone), strict=True)
            mean, confidences = torch.cat(means), torch.cat(sure)
            if self.options.smooth:
                mean = nonlocal_means(mean, luma, features, confidences)
            chroma = self._coloured(mean, vividness)
            return Guess(chroma * _fade(luma.float(), *chroma.shape[-2:]), confidences, features=features)

    @property
    def takes_hints(self) -> bool:
        """Whether it was built with the option `hints`."""
        return self.options.hints

    def additions(self) -> tuple[str, ...]:
        """The parts for hints and attention, and the transformer: a new one adds nothing to the predictions."""
        return ("hints.", "attention.", "transformer.")

    def backbone(self) -> nn.Module:
        """The trainable part of the encoder: all of it, or its coarser blocks, whose features represent objects and scenes."""
        whole = self.options.trained == "whole"
        return self.encoder if whole else nn.ModuleList(self.encoder.blocks[FROZEN_GROUPS:])  # type: ignore[index]

    def train(self, mode: bool = True) -> "Unet":
        """Set training mode, except for the frozen part, whose batch norms keep their statistics."""
        super().train(mode)
        for part in self._frozen():
            part.train(False)
        return self

    def _frozen(self) -> Iterator[nn.Module]:
        """The frozen part of the encoder."""
        if self.options.trained == "coarse":
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

    def forward(self, x: Tensor, skip: Tensor, known: Tensor | None = None) -> Tensor:
        """From (B, `channels`, h / 2, w / 2), rounded up, and (B, `skip`, h, w) to (B, `out`, h, w).

        Hints (B, `channels`, h, w), if any, are added to the upsampled maps.
        """
        height, width = skip.shape[-2:]
        x = F.interpolate(x, scale_factor=2, mode="nearest")[..., :height, :width]
        x = x if known is None else x + known
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

    def forward(self, x: Tensor, overall: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
        """From the coarsest maps (B, C, h, w): for each width a scale and a shift (B, width, 1, 1).

        Overall hints (B, C), if any, are added before the activation.
        """
        hidden = self.hidden(x.mean(dim=(2, 3)))
        hidden = (hidden if overall is None else hidden + overall).relu()
        pairs = [layer(hidden)[..., None, None].chunk(2, dim=1) for layer in self.out]
        return [(1 + scale, shift) for scale, shift in pairs]


class _Hints(nn.Module):
    """Turns hints into what is added to the decoder's maps at 1/16, 1/8 and 1/4, and to the scene.

    Initially, and where nothing is known, it is 0.
    """

    def __init__(self, channels: Sequence[int], scene: int) -> None:
        super().__init__()
        self.local = nn.ModuleList(nn.Conv2d(4, count, 1, bias=False) for count in channels)
        self.overall = nn.Linear(4, scene, bias=False)
        for weights in self.parameters():
            nn.init.zeros_(weights)

    def forward(self, hints: Tensor) -> tuple[list[Tensor], Tensor]:
        """From hints (B, 3, H, W): maps at 1/16, 1/8 and 1/4, rounded up, and a vector (B, C) for the whole image."""
        mask = hints[:, 2:].clamp(0, 1)
        weighted = torch.cat([hints[:, :2] * mask, mask], dim=1)
        sizes = (16, 8, 4)
        means = [F.avg_pool2d(weighted, size, ceil_mode=True) for size in sizes]
        peaks = [F.max_pool2d(mask, size, ceil_mode=True) for size in sizes]
        maps = [conv(_known(*pair)) for conv, *pair in zip(self.local, means, peaks, strict=True)]
        overall = _known(weighted.mean(dim=(2, 3), keepdim=True), mask.amax(dim=(2, 3), keepdim=True))
        return maps, self.overall(overall.flatten(1))


def _known(means: Tensor, peak: Tensor) -> Tensor:
    """What is known of each cell (B, 4, h, w): mean chroma of its hints, times the greatest mask; that mask; the mean mask.

    Args:
        means: (B, 3, h, w), the means of chroma times mask, and of the mask.
        peak: (B, 1, h, w), the greatest mask.
    """
    density = means[:, 2:]
    chroma = means[:, :2] / density.clamp(min=1e-6)
    of_chroma, of_mask = HINT_SCALES
    return torch.cat([of_chroma * chroma * peak, of_mask * peak, of_mask * density], dim=1)


class _Attention(nn.Module):
    """Self-attention over all cells of a map (Vaswani et al. 2017), added to it; initially it adds nothing."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.inputs = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, C, h, w) to the same."""
        cells = self.norm(x.flatten(2).transpose(1, 2))
        query, key, value = (each.unflatten(2, (self.heads, -1)).transpose(1, 2) for each in self.inputs(cells).chunk(3, dim=2))
        seen = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        added: Tensor = self.output(seen)
        return x + added.transpose(1, 2).reshape(x.shape)


class _TransformerBlock(nn.Module):
    """Self-attention over all cells of a map, then two layers for each cell, added to it; initially they add nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = _Attention(width, width // HEAD_CHANNELS)
        output = nn.Linear(2 * width, width)
        self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.ReLU(), output)
        nn.init.zeros_(output.weight)
        nn.init.zeros_(output.bias)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, C, h, w) to the same."""
        x = self.attention(x)
        added: Tensor = self.layers(x.flatten(2).transpose(1, 2))
        return x + added.transpose(1, 2).reshape(x.shape)


def _fade(luma: Tensor, height: int, width: int) -> Tensor:
    """The factor of chroma: 0 at black and white, 1 in between, for luma (B, 1, H, W) averaged to another grid."""
    small = F.adaptive_avg_pool2d(luma, (height, width))
    near = torch.minimum(small / DARK, (1 - small) / (1 - BRIGHT)).clamp(0, 1)
    return near * near * (3 - 2 * near)  # smoothstep, without a kink
