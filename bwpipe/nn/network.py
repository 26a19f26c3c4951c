"""What a network is, and checkpoints that describe themselves."""

import json
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor, nn

from bwpipe.core.registry import Registry, UnknownNameError
from bwpipe.errors import RunAborted, UsageError

N = TypeVar("N", bound="type[Network]")
Quality: TypeAlias = Literal["fast", "normal", "best"]
"""How much of a picture a network is to see: the better, the longer it takes."""


@dataclass(frozen=True, slots=True)
class Guess:
    """What a network thinks the colours are.

    Attributes:
        chroma: (B, 2, h, w) Cb and Cr in -0.5..0.5 (full-range BT.601), on a grid of the network's own.
        confidence: (B, 1, h, w) in 0..1, or None if the network does not say.
        rgb: (B, 3, h, w) in 0..1, the network's own picture, or None if it makes none. Only measured, never shown.
    """

    chroma: Tensor
    confidence: Tensor | None = None
    rgb: Tensor | None = None


class NetworkOptions(BaseModel):
    """What a network can be built with: the fields of a subclass, each with a docstring."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Network(nn.Module):
    """Guesses chroma from luma (B, 1, H, W) in 0..1, where 0 is black and 1 is white.

    `forward(luma)` gives what its losses need: RGB (B, 3, H, W) in 0..1, chroma (B, 2, h, w), or logits over bins
    (B, Q, h, w), as `produces` says; `decode` says what that means.
    """

    registered: ClassVar[str] = ""
    produces: ClassVar[Literal["rgb", "chroma", "bins"]]
    Options: ClassVar[type[NetworkOptions]] = NetworkOptions
    bins: Tensor
    """(Q, 2) the Cb and Cr of each bin, in -0.5..0.5: only a network that produces bins has them."""

    def __init__(self, options: NetworkOptions) -> None:
        """Build it with random weights."""
        super().__init__()
        self.options = options

    @abstractmethod
    def input_size(self, height: int, width: int, quality: Quality = "normal") -> tuple[int, int]:
        """The (height, width) at which it wants to see an upright picture of that size.

        Args:
            height: Of the picture, in pixels.
            width: The same.
            quality: How much time it may take; a network that sees all pictures at one size gives the same for each.
        """

    @abstractmethod
    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        """Say what an output means; gradients pass through it.

        Args:
            output: What `forward` gave, in float32.
            vividness: From 0, the safe average colour, to 1, the lively likely one; None for the network's own default.
        """

    def guess(self, luma: Tensor, vividness: float | None = None) -> Guess:
        """Guess the chroma of luma, without gradients.

        Args:
            luma: (B, 1, H, W) in 0..1, in its `input_size`, on the network's device and in its precision.
            vividness: As in `decode`.
        """
        with torch.no_grad():
            return self.decode(self(luma).float(), vividness)

    def takes(self, height: int, width: int) -> bool:
        """Whether it can see luma of that size, while it is trained, too; by default its `input_size` only."""
        return self.input_size(height, width) == (height, width)

    def backbone(self) -> nn.Module | None:
        """The part whose first weights come from another training, which `fit` can hold still; None if it has none."""
        return None

    def prime(self) -> None:
        """Load into the backbone the weights that a training starts with. Raises UsageError."""


def check_quality(net: Network, quality: Quality, where: str) -> None:
    """Refuse a quality that a network does not tell from the normal one; `where` is the stage or command. Raises UsageError."""
    height, width = 3000, 4000  # larger than what any network looks at
    if quality != "normal" and net.input_size(height, width, quality) == net.input_size(height, width):
        raise UsageError(f"{where}: {net.registered} sees every picture at one size; leave out `quality: {quality}`")


networks: Registry[Network] = Registry("network")


def network(name: str) -> Callable[[N], N]:
    """Decorate a network's class to give it the name that checkpoints know it by. Raises ValueError."""

    def add(cls: N) -> N:
        cls.registered = name
        networks.register(name)(cls)
        return cls

    return add


class Checkpoint(BaseModel):
    """What a checkpoint says of itself, beside its weights.

    Attributes:
        network: The name that the network's class is registered under.
        options: What it was built with.
        version: bwpipe's version that wrote it.
        licence: Terms of the weights.
        training: How it was made: data, steps, seed, hardware, figures with their protocol.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    network: str
    options: dict[str, Any] = {}
    version: str
    licence: str = "not stated"
    training: dict[str, Any] = {}


_KEY = "bwpipe"


def save(path: Path, net: Network, checkpoint: Checkpoint, *, half: bool = False) -> None:
    """Write a network's weights and what they are to a safetensors file, as float16 if `half`. Raises OSError, RunAborted."""
    path.write_bytes(packed(net, checkpoint, half=half))


def packed(net: Network, checkpoint: Checkpoint, *, half: bool = False) -> bytes:
    """What `save` writes. Raises RunAborted where float16 can't hold a weight."""
    weights = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    if half:
        weights = {name: _halved(name, value) if value.is_floating_point() else value for name, value in weights.items()}
    return serialise(weights, metadata={_KEY: checkpoint.model_dump_json()})


def _halved(name: str, value: Tensor) -> Tensor:
    """Weights as float16. Raises RunAborted where that makes infinity of a number."""
    half = value.half()
    if lost := value[half.isinf() & value.isfinite()].tolist():
        raise RunAborted(f"the weight {lost[0]:.4g} in {name} is more than float16 can hold; set `half: false` and start again")
    return half


def load(path: Path) -> tuple[Network, Checkpoint]:
    """Build the network that a checkpoint describes, in float32, on the CPU, ready to guess.

    Nothing in the file is run: safetensors holds numbers and JSON only. Raises UsageError.
    """
    with _opened(path) as (file, checkpoint):
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        cls = networks[checkpoint.network]
        net = cls(cls.Options.model_validate(checkpoint.options))
        net.load_state_dict(weights)
    return net.float().eval().requires_grad_(False), checkpoint


def describe(path: Path) -> Checkpoint:
    """What a checkpoint says of itself, without its weights. Raises UsageError."""
    with _opened(path) as (_, checkpoint):
        return checkpoint


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Checkpoint]]:
    """The open file of a checkpoint; what is wrong with it is said."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file, Checkpoint.model_validate(json.loads((file.metadata() or {})[_KEY]))
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such checkpoint") from None
    except KeyError:
        raise UsageError(f"{path}: not a checkpoint of bwpipe; train one with `bwpipe train`") from None
    except (SafetensorError, UnknownNameError, ValueError, RuntimeError, OSError) as error:
        raise UsageError(f"{path}: can't be used as a checkpoint: {' '.join(str(error).split())}") from error


def locate(model: str) -> Path:
    """The checkpoint file of a network by name (the weights that came with it), or by path. Raises UsageError."""
    if Path(model).suffix:
        path = Path(model).expanduser()
    else:
        try:
            cls = networks[model]
        except UnknownNameError as error:
            raise UsageError(f"{error}; or give the path of a checkpoint file") from None
        path = Path(str(files("bwpipe.models"))) / "weights" / f"{cls.registered}.safetensors"
    if not path.is_file():
        raise UsageError(f"there is no checkpoint {path}; train one with `bwpipe train`")
    return path
