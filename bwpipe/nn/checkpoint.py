"""Self-describing checkpoints: weights with their network, its options and how they were trained."""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as serialise
from torch import Tensor
from torch.overrides import TorchFunctionMode

from bwpipe.errors import RunAborted
from bwpipe.nn.checkpoint_file import METADATA_KEY, Checkpoint, describe, locate, not_finite, opened
from bwpipe.nn.network import Network, networks

__all__ = ["Checkpoint", "describe", "load", "locate", "save", "serialise_checkpoint"]

_BYTES_A_NUMBER = 16
"""What a network may allocate for each number of its checkpoint: four times what it takes in float32."""
_SPARE_BYTES = 256 << 20
"""What it may allocate besides; the networks that ship need at most 4 MB (`ddcolor`)."""
_BY_SIZE = frozenset(
    {
        torch.arange,
        torch.empty,
        torch.eye,
        torch.full,
        torch.linspace,
        torch.logspace,
        torch.ones,
        torch.rand,
        torch.randint,
        torch.randn,
        torch.randperm,
        torch.zeros,
    }
)
"""The functions of torch that make a tensor from its size alone."""


def save(path: Path, net: Network, checkpoint: Checkpoint, *, half: bool = False) -> None:
    """Write a network's weights and description to a safetensors file, in float16 if `half`. Raises OSError, RunAborted."""
    path.write_bytes(serialise_checkpoint(net, checkpoint, half=half))


def serialise_checkpoint(net: Network, checkpoint: Checkpoint, *, half: bool = False) -> bytes:
    """The bytes that `save` writes. Raises RunAborted if float16 can't represent a weight."""
    weights = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    if half:
        weights = {name: _to_half(name, value) if value.is_floating_point() else value for name, value in weights.items()}
    return serialise(weights, metadata={METADATA_KEY: checkpoint.to_json()})


def _to_half(name: str, value: Tensor) -> Tensor:
    """Weights as float16. Raises RunAborted if a finite value overflows to infinity."""
    half = value.half()
    if lost := value[half.isinf() & value.isfinite()].tolist():
        raise RunAborted(f"the weight {lost[0]:.4g} in {name} exceeds the range of float16; set `half: false` and start again")
    return half


def load(path: Path) -> tuple[Network, Checkpoint]:
    """Build the network of a checkpoint in float32, on the CPU, in evaluation mode.

    No code in the file is executed: safetensors holds only numbers and JSON. A network larger than the file's weights is never
    allocated. Raises UsageError, also if a weight is not a finite number.
    """
    with opened(path, "pt") as (file, checkpoint):
        names = list(file.keys())
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
        net = _build(checkpoint, sum(prod(shape) for shape in shapes.values()))
        _check_shapes(shapes, net)
        net.load_state_dict({name: file.get_tensor(name) for name in names})
        net.float()
        for name, value in net.state_dict().items():
            if not value.isfinite().all():
                raise ValueError(not_finite(name))
    return net.eval().requires_grad_(False), checkpoint


def _build(checkpoint: Checkpoint, numbers: int) -> Network:
    """The network that a checkpoint with that many numbers names, with random weights.

    Raises UnknownNameError, ValueError, RuntimeError.
    """
    cls = networks[checkpoint.network]
    options = cls.Options.model_validate(checkpoint.options)
    try:
        with _Allowance(_BYTES_A_NUMBER * numbers + _SPARE_BYTES):
            return cls(options)
    except (TypeError, OverflowError) as error:  # such as 10 ** 30 channels
        raise ValueError(f"the network it names can't be built: {error}") from error
    except _Exceeded:
        raise ValueError(
            f"the network it names, {checkpoint.network}, is with its options much larger than the weights that it holds; "
            "restore the original, or train again"
        ) from None


class _Exceeded(Exception):
    """A network is larger than allowed."""


class _Allowance(TorchFunctionMode):
    """While it is entered, this thread makes no more tensors by their size alone than fit in that many bytes, all together.

    What is too large is never allocated. Not counted are tensors that are computed from others: a TorchDispatchMode would see
    them too, but its first use takes 2 s of CPU time. Raises _Exceeded.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._left = size

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if function in _BY_SIZE:
            self._left -= function(*args, **{**options, "device": "meta", "out": None}).nbytes  # allocates nothing
            if self._left < 0:
                raise _Exceeded
        return function(*args, **options)


def _check_shapes(found: Mapping[str, tuple[int, ...]], net: Network) -> None:
    """Compare the shapes of a file's weights with those of the network it names. Raises ValueError."""
    wanted = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            has, needs = (f"{shapes[name]}" if name in shapes else "nothing" for shapes in (found, wanted))
            raise ValueError(
                f"its weights do not fit the network it names, {net.registered}, with its options: for {name} it holds "
                f"{has}, not {needs}; restore the original, or train again"
            )
