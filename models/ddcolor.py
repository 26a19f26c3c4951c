"""The `ddcolor` network."""

import warnings
from collections.abc import Mapping
from threading import local
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from bwpipe.core.extras import install_command
from bwpipe.errors import UsageError
from bwpipe.nn.lab import ab_to_chroma
from bwpipe.nn.network import Guess, InputSizes, Network, NetworkOptions, Published, network

SIDE = 512
"""Short side of its input, in pixels: that of the project's own scripts."""
STRIDE = 32
PREFIX = "net."
"""What precedes the names of weights here."""
_UNUSED = "encoder.arch.head_cls."
"""Weights of the encoder's own classes, which the published files hold and nothing uses."""
_ENCODERS: dict[tuple[int, int], Literal["convnext-t", "convnext-s", "convnext-b", "convnext-l"]] = {
    (9, 96): "convnext-t",
    (27, 96): "convnext-s",
    (27, 128): "convnext-b",
    (27, 192): "convnext-l",
}
"""Encoders by the blocks of their third stage and the channels of their first."""


class DdcolorOptions(NetworkOptions):
    """Options of `ddcolor`, which `bwpipe import` finds from the weights."""

    encoder: Literal["convnext-t", "convnext-s", "convnext-b", "convnext-l"] = "convnext-t"
    """The ConvNeXt encoder: `convnext-t` in DDColor-tiny, `convnext-l` in the others."""
    decoder: Literal["MultiScaleColorDecoder", "SingleColorDecoder"] = "MultiScaleColorDecoder"
    """The colour decoder: on three scales, as published, or on one."""
    last_norm: Literal["Spectral", "Batch", "Weight"] = "Spectral"
    """The norm of the last upsampling."""
    queries: Annotated[int, Field(gt=0, le=4096)] = 100
    """Number of colour queries."""
    scales: Annotated[int, Field(gt=0, le=3)] = 3
    """Scales of the colour decoder."""
    layers: Annotated[int, Field(gt=0, le=64)] = 9
    """Layers of the colour decoder."""


@network("ddcolor")
class Ddcolor(Network):
    """The network of "DDColor", a ConvNeXt encoder with a pixel decoder and colour queries: 55 to 228 million parameters.

    Its layers are those of the package `spandrel_extra_arches`, which has to be installed. Luma (B, 1, H, W) in 0..1 becomes
    chroma (B, 2, H, W); between them it computes in L*a*b*, unlimited: here colours are scaled into range at the same hue.
    Images keep their aspect ratio, up to 2; both sides of the input are multiples of 32.
    """

    produces: ClassVar[Literal["rgb", "chroma", "bins"]] = "chroma"
    sizes: ClassVar[InputSizes] = InputSizes(
        {"fast": SIDE // 2, "normal": SIDE, "best": SIDE}, STRIDE, max_aspect=2, further={"best": (SIDE,)}
    )
    published: ClassVar[Published | None] = Published(
        project="piddnad/DDColor",
        citation=(
            "X. Kang, T. Yang, W. Ouyang, P. Ren, L. Li, X. Xie: DDColor: Towards Photo-Realistic Image Colorization via Dual "
            "Decoders, International Conference on Computer Vision, 2023"
        ),
        terms="Apache 2.0, the licence of the project, which names no other for its weights; trained on ImageNet and more",
        colours="CIE L*a*b*",
    )
    Options = DdcolorOptions
    options: DdcolorOptions

    def __init__(self, options: DdcolorOptions) -> None:
        """Build it with random weights. Raises UsageError if `spandrel_extra_arches` is not installed."""
        super().__init__(options)
        build = _architecture()
        with torch.no_grad():  # it looks at a picture to learn its own channels
            self.net: Any = build(
                encoder_name=options.encoder,
                decoder_name=options.decoder,
                input_size=(STRIDE, STRIDE),
                num_output_channels=2,
                last_norm=options.last_norm,
                do_normalize=False,
                num_queries=options.queries,
                num_scales=options.scales,
                dec_layers=options.layers,
            )
        for hook in self.net.encoder.hooks:
            _keep_by_thread(hook)

    @classmethod
    def recognise(cls, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
        """By the layers that only DDColor has; its options by numbers of layers and channels."""
        refine = shapes.get("refine_net.0.0.weight_orig", ())
        first = shapes.get("encoder.arch.stages.0.0.norm.weight", ())
        if len(refine) != 4 or len(first) != 1:
            return None
        single = "decoder.color_decoder.query_feat.weight" not in shapes
        levels = shapes.get("decoder.color_decoder.level_embed.weight", (3,))[0]
        layers = _count(shapes, "decoder.color_decoder.transformer_self_attention_layers.")
        blocks = _count(shapes, "encoder.arch.stages.2.")
        return {
            "encoder": _ENCODERS.get((blocks, first[0]), f"ConvNeXt with {blocks} blocks and {first[0]} channels"),
            "decoder": "SingleColorDecoder" if single else "MultiScaleColorDecoder",
            "last_norm": _last_norm(shapes),
            "queries": refine[1] - 3,
            **({} if single else {"scales": levels, "layers": layers}),
        }

    @classmethod
    def rename(cls, weight: str) -> str | None:
        """The same name after "net."; the encoder's classes are left out."""
        return None if weight.startswith(_UNUSED) else PREFIX + weight

    def forward(self, luma: Tensor) -> Tensor:
        """Turn luma (B, 1, H, W) in 0..1, with sides that are multiples of 32, into chroma (B, 2, H, W) in -0.5..0.5."""
        return ab_to_chroma(luma, self.ab(luma))

    def ab(self, luma: Tensor) -> Tensor:
        """The a* and b* (B, 2, H, W) that it predicts for luma, as published."""
        ab: Tensor = self.net(luma.repeat(1, 3, 1, 1))
        return ab

    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        """Its chroma, without a confidence.

        Args:
            output: (B, 2, H, W) in -0.5..0.5.
            vividness: Chroma is multiplied by 1 + vividness: at 0, the default, it is unchanged, at 1 doubled.
        """
        return Guess((output * (1 + (0.0 if vividness is None else vividness))).clamp(-0.5, 0.5))

    def takes(self, height: int, width: int) -> bool:
        """Any size whose sides are multiples of 32."""
        return height % STRIDE == 0 and width % STRIDE == 0


def _architecture() -> Any:
    """The class of the layers. Raises UsageError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of torch, for what a package of that package does
            from spandrel_extra_arches.architectures.DDColor import DDColor
    except ImportError as error:
        raise UsageError(
            f"the network 'ddcolor' needs a package that can't be imported ({error}); run: {install_command('import')}"
        ) from None
    return DDColor


class _Seen(local):
    """What a hook saw last, for each thread; a copy has seen nothing."""

    feature: Tensor | None = None

    def __deepcopy__(self, memo: object) -> "_Seen":
        return _Seen()


def _keep_by_thread(hook: Any) -> None:
    """Let a hook, which hands the encoder's features to the decoder, keep them for each thread: workers share it."""
    hook.__dict__.pop("feature", None)
    hook.seen = _Seen()
    feature = property(lambda self: self.seen.feature, lambda self, value: setattr(self.seen, "feature", value))
    hook.__class__ = type("HookByThread", (type(hook),), {"feature": feature})


def _last_norm(shapes: Mapping[str, tuple[int, ...]]) -> str:
    last = "decoder.last_shuf.conv"
    if f"{last}.1.weight" in shapes:
        return "Batch"
    return "Spectral" if f"{last}.0.weight_orig" in shapes else "Weight"


def _count(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    """How many numbers follow a prefix in the names."""
    return len({name.removeprefix(prefix).partition(".")[0] for name in shapes if name.startswith(prefix)})
