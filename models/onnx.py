"""The `onnx` network."""

from collections.abc import Mapping
from threading import Lock
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from bwpipe.core.extras import install_command
from bwpipe.errors import UsageError
from bwpipe.nn.foreign.onnx_file import LARGEST_GRAPH, Ports, check_graph
from bwpipe.nn.foreign.pytorch_file import ForeignFileError
from bwpipe.nn.lab import ab_to_chroma, luma_to_lightness
from bwpipe.nn.network import ForeignGraph, Guess, InputSizes, Network, NetworkOptions, Quality, network
from bwpipe.nn.ycbcr import rgb_to_ycbcr

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Values = Literal["unit", "signed", "bytes"]
_SCALES: Mapping[str, tuple[float, float]] = {"unit": (1, 0), "signed": (2, -1), "bytes": (255, 0)}
"""What 0..1 is multiplied by, and what is added."""


class OnnxOptions(NetworkOptions):
    """Options of `onnx`. `bwpipe import` finds most of them from the graph."""

    size: Annotated[int, Field(gt=0, le=LARGEST_GRAPH)]
    """Bytes of the graph."""
    input: str
    """The name of its input for the picture."""
    output: str
    """The name of its output with the colours."""
    sees: Literal["luma", "lightness", "grey_rgb"] = "luma"
    """What the input is: luma, lightness L* divided by 100, or luma three times, as red, green and blue."""
    values: Literal["unit", "signed", "bytes", "imagenet"] = "unit"
    """The range of the input: 0 to 1, -1 to 1, 0 to 255, or 0 to 1 normalised by ImageNet's means and deviations."""
    gives: Literal["chroma", "ab", "rgb"] = "chroma"
    """What the output is: Cb and Cr of full-range BT.601, a* and b*, or red, green and blue."""
    factor: Annotated[float, Field(gt=0, le=1000)] = 1
    """What the output is multiplied by, such as 110 for a* and b* in -1 to 1; chroma is then in -0.5 to 0.5."""
    rgb_values: Values = "unit"
    """The range of red, green and blue in the output."""
    height: Annotated[int, Field(gt=0, le=8192)] | None = None
    """The height of the input; null for any."""
    width: Annotated[int, Field(gt=0, le=8192)] | None = None
    """The width of the input; null for any."""
    short_side: Annotated[int, Field(ge=16, le=4096)] = 256
    """The short side of the input, if it may have any size."""
    fast_side: Annotated[int, Field(ge=16, le=4096)] | None = None
    """The same with `quality: fast`; by default three quarters of that."""
    best_side: Annotated[int, Field(ge=16, le=4096)] | None = None
    """The same with `quality: best`; by default the same."""
    further: Annotated[list[Annotated[int, Field(ge=16, le=4096)]], Field(default_factory=list, max_length=4)]
    """With `quality: best`, short sides of further inputs, which are mirrored; predictions are averaged."""
    max_aspect: Annotated[float, Field(ge=1, le=8)] = 2
    """The largest aspect ratio of the input, if it may have any size; longer images are squeezed to it."""
    stride: Annotated[int, Field(gt=0, le=512)] = 32
    """What both sides are multiples of, if the input may have any size."""
    vividness: str | None = None
    """The name of an input for the vividness, of graphs that bwpipe exported."""
    default_vividness: Annotated[float, Field(ge=0, le=1)] = 0
    """The vividness if none is asked for."""
    hints: str | None = None
    """The name of an input for hints, of graphs that bwpipe exported."""
    confidence: str | None = None
    """The name of an output with the confidence, of graphs that bwpipe exported."""
    features: str | None = None
    """The name of an output with features for `anchor`, of graphs that bwpipe exported."""


@network("onnx")
class Onnx(Network):
    """A graph of ONNX that takes luma, lightness or grey RGB, and gives chroma, a* and b*, or RGB.

    The graph with its weights is in the checkpoint, as `bwpipe import` has checked it: without operators of others, loops, or
    weights in other files. On a CPU OpenVINO computes it; where torch computes networks, the package `onnxruntime` does, also
    on a CPU, so it has to be installed. `vividness` multiplies the colours, unless the graph has an input for it.
    """

    produces: ClassVar[Literal["rgb", "chroma", "bins"]] = "chroma"
    Options = OnnxOptions
    options: OnnxOptions
    model: Tensor
    """(N,) uint8, the bytes of the graph."""

    def __init__(self, options: OnnxOptions) -> None:
        """Build it without its graph, which is in the weights."""
        super().__init__(options)
        self.register_buffer("model", torch.zeros(options.size, dtype=torch.uint8))
        self.place = nn.Parameter(torch.empty(0))  # says in which precision and on which device it is
        self._session = _Session()
        names = (options.output, options.confidence, options.features)
        self._outputs = [name for name in names if name is not None]

    def forward(self, luma: Tensor, hints: Tensor | None = None) -> Tensor:
        """Turn luma (B, 1, H, W) in 0..1 into chroma (B, 2, h, w) in -0.5..0.5, on the graph's own grid.

        Raises:
            UsageError: `onnxruntime` is not installed.
        """
        return self.guess(luma, None, hints).chroma

    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        """Its chroma as it is: only the graph itself knows what vividness does."""
        return Guess(output)

    def guess(self, luma: Tensor, vividness: float | None = None, hints: Tensor | None = None) -> Guess:
        """As in `Network`, by `onnxruntime`, image by image."""
        with torch.no_grad():
            parts = []
            for number in range(len(luma)):
                one = luma[number : number + 1].float()
                known = None if hints is None else hints[number : number + 1].float()
                inputs = self._inputs(one, self.default_vividness if vividness is None else float(vividness), known)
                found = self._session.run(self, self._outputs, inputs)
                outputs = [torch.from_numpy(each).to(luma.device) for each in found]
                parts.append(
                    self._decoded(outputs, one, torch.tensor(self.default_vividness if vividness is None else vividness))
                )
            return Guess(**{name: torch.cat([getattr(part, name) for part in parts]) for name in self._found})

    @property
    def _found(self) -> list[str]:
        """The fields of a prediction that it gives."""
        optional = {"confidence": self.options.confidence, "features": self.options.features}
        return ["chroma", *(name for name, output in optional.items() if output)]

    def _inputs(self, luma: Tensor, vividness: float, hints: Tensor | None) -> dict[str, Any]:
        options, ports = self.options, self._session.ports(self)
        inputs: dict[str, Any] = {options.input: self.seen(luma).cpu().numpy()}
        shapes = {port.name: port.shape for port in ports.inputs}
        if options.vividness:
            inputs[options.vividness] = np.full([1] * len(shapes[options.vividness]), vividness, np.float32)
        if options.hints:
            planes = torch.zeros_like(luma).repeat(1, 3, 1, 1) if hints is None else hints
            inputs[options.hints] = planes.cpu().numpy()
        return inputs

    def seen(self, luma: Tensor) -> Tensor:
        """What the graph sees of luma (B, 1, H, W) in 0..1."""
        options = self.options
        x = luma_to_lightness(luma) / 100 if options.sees == "lightness" else luma
        x = x.repeat(1, 3, 1, 1) if options.sees == "grey_rgb" else x
        if options.values == "imagenet":
            mean, deviation = (torch.tensor(each).view(1, 3, 1, 1).to(x) for each in (IMAGENET_MEAN, IMAGENET_DEVIATION))
            return (x - mean[:, : x.shape[1]]) / deviation[:, : x.shape[1]]
        factor, offset = _SCALES[options.values]
        return factor * x + offset

    def _decoded(self, outputs: list[Tensor], luma: Tensor, vividness: Tensor) -> Guess:
        """A prediction from the graph's outputs, in order, and the luma (B, 1, H, W)."""
        options = self.options
        planes = outputs[0].float()
        if options.gives == "rgb":
            factor, offset = _SCALES[options.rgb_values]
            _, chroma = rgb_to_ycbcr(((planes - offset) / factor).clamp(0, 1))
        elif options.gives == "ab":
            chroma = ab_to_chroma(F.adaptive_avg_pool2d(luma, (planes.shape[-2], planes.shape[-1])), options.factor * planes)
        else:
            chroma = options.factor * planes
        if not options.vividness:
            chroma = chroma * (1 + vividness)
        return Guess(chroma.clamp(-0.5, 0.5), **dict(zip(self._found[1:], outputs[1:], strict=True)))

    def foreign_graph(self) -> ForeignGraph:
        """The graph, for OpenVINO. Raises UsageError."""
        options = self.options
        self._session.ports(self)
        names = {"vividness": options.vividness, "hints": options.hints}
        return ForeignGraph(
            data=_bytes(self.model),
            picture=options.input,
            others={name: given for name, given in names.items() if given},
            outputs=self._outputs,
            before=_Before(self),
            after=_After(self),
            gives=self._found,
        )

    @property
    def default_vividness(self) -> float:
        """The option `default_vividness`."""
        return self.options.default_vividness

    @property
    def takes_hints(self) -> bool:
        """Whether its graph has an input for hints."""
        return self.options.hints is not None

    def input_size(self, height: int, width: int, quality: Quality = "normal") -> tuple[int, int]:
        """The graph's own size, or one of the image's shape."""
        return self._fixed(self._rule.of(height, width, quality))

    def further_views(self, height: int, width: int, quality: Quality = "normal") -> tuple[tuple[int, int], ...]:
        """Those of the option `further`."""
        return tuple(map(self._fixed, self._rule.further_views(height, width, quality)))

    @property
    def _rule(self) -> InputSizes:
        options, short = self.options, self.options.short_side
        sides: dict[Quality, int] = {
            "fast": options.fast_side or max(short * 3 // 4, 16),
            "normal": short,
            "best": options.best_side or short,
        }
        return InputSizes(sides, options.stride, options.max_aspect, {"best": tuple(options.further)})

    def _fixed(self, size: tuple[int, int]) -> tuple[int, int]:
        """A size, with the sides that the graph fixes, and none of zero."""
        height, width = (max(side, self.options.stride) for side in size)
        return self.options.height or height, self.options.width or width


class _Before(nn.Module):
    """What comes before the graph, as a module that can be traced."""

    def __init__(self, net: Onnx) -> None:
        super().__init__()
        self.net = [net]  # hidden from torch, which would take its graph for a weight

    def forward(self, luma: Tensor) -> Tensor:
        return self.net[0].seen(luma)


class _After(nn.Module):
    """What comes after the graph: from the luma, the vividness and its outputs to a prediction's fields."""

    def __init__(self, net: Onnx) -> None:
        super().__init__()
        self.net = [net]

    def forward(self, luma: Tensor, vividness: Tensor, *outputs: Tensor) -> tuple[Tensor, ...]:
        guess = self.net[0]._decoded(list(outputs), luma, vividness)
        return tuple(getattr(guess, name) for name in self.net[0]._found)


class _Session:
    """A graph as ONNX Runtime computes it, made at the first use and shared by copies, as it may be used by several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._session: Any = None
        self._ports: Ports | None = None

    def __deepcopy__(self, memo: object) -> "_Session":
        return self

    def ports(self, net: Onnx) -> Ports:
        """The inputs and outputs of the graph, which is checked. Raises UsageError."""
        with self._lock:
            if self._ports is None:
                try:
                    self._ports = check_graph(_bytes(net.model))
                except ForeignFileError as error:
                    raise UsageError(f"the graph of the network 'onnx' can't be used: {error}") from error
            return self._ports

    def run(self, net: Onnx, outputs: list[str], inputs: Mapping[str, Any]) -> list[Any]:
        """The outputs with these names. Raises UsageError, RuntimeError."""
        self.ports(net)
        with self._lock:
            if self._session is None:
                self._session = _make_session(_bytes(net.model))
        try:
            found: list[Any] = self._session.run(outputs, inputs)
        except Exception as error:  # ONNX Runtime's own classes have no common parent
            raise RuntimeError(str(error).strip().splitlines()[0]) from error
        return found


def _make_session(data: bytes) -> Any:
    """ONNX Runtime on a CPU with one thread, as each worker uses one. Raises UsageError, RuntimeError."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(
            f"the network 'onnx' needs a package that can't be imported ({error}); run: {install_command('import')}"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise RuntimeError(str(error).strip().splitlines()[0]) from error


def _bytes(model: Tensor) -> bytes:
    return model.cpu().numpy().tobytes()
