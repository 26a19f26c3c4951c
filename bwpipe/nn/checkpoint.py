"""Self-describing checkpoints: weights with their network, its options and how they were trained."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save as serialise
from torch import Tensor

from bwpipe.errors import RunAborted
from bwpipe.nn.checkpoint_file import METADATA_KEY, Checkpoint, describe, locate, not_finite, opened
from bwpipe.nn.network import Network, networks

__all__ = ["Checkpoint", "describe", "load", "locate", "save", "serialise_checkpoint"]


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
        _check_shapes({name: tuple(file.get_slice(name).get_shape()) for name in names}, checkpoint)
        net = _build(checkpoint)
        net.load_state_dict({name: file.get_tensor(name) for name in names})
        net.float()
        for name, value in net.state_dict().items():
            if not value.isfinite().all():
                raise ValueError(not_finite(name))
    return net.eval().requires_grad_(False), checkpoint


def _build(checkpoint: Checkpoint) -> Network:
    """The network that a checkpoint names, with random weights. Raises UnknownNameError, ValueError, RuntimeError."""
    cls = networks[checkpoint.network]
    options = cls.Options.model_validate(checkpoint.options)
    try:
        return cls(options)
    except (TypeError, OverflowError) as error:  # such as 10 ** 30 channels
        raise ValueError(f"the network it names can't be built: {error}") from error


def _check_shapes(found: Mapping[str, tuple[int, ...]], checkpoint: Checkpoint) -> None:
    """Compare the shapes of a file's weights with those of the network it names, without allocating the network.

    A network whose constructor looks at the values of tensors can't be built that way; `load_state_dict` compares its shapes
    later. Raises UnknownNameError, ValueError, RuntimeError.
    """
    try:
        with torch.device("meta"):
            wanted = {name: tuple(value.shape) for name, value in _build(checkpoint).state_dict().items()}
    except (RuntimeError, ValueError) as error:
        # torch has no class for what tensors without values can't do; any other error spares the memory it is about
        if isinstance(error, NotImplementedError) or "meta" in str(error):
            return
        raise
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            has, needs = (f"{shapes[name]}" if name in shapes else "nothing" for shapes in (found, wanted))
            raise ValueError(
                f"its weights do not fit the network it names, {checkpoint.network}, with its options: for {name} it holds "
                f"{has}, not {needs}; restore the original, or train again"
            )
