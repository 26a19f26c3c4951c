"""Self-describing checkpoints: weights with their network, its options and how they were trained."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from bwpipe.core.inputs import expand_user
from bwpipe.core.registry import UnknownNameError
from bwpipe.errors import RunAborted, UsageError
from bwpipe.nn.network import Network, networks


class Checkpoint(BaseModel):
    """The description stored in a checkpoint alongside its weights.

    Attributes:
        network: The registered name of the network.
        options: The options it was built with.
        version: The version of bwpipe that wrote it.
        licence: The licence of the weights.
        training: How it was trained: data, steps, seed, hardware, metrics with their protocol.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    network: str
    options: dict[str, Any] = {}
    version: str
    licence: str = "not stated"
    training: dict[str, Any] = {}


_KEY = "bwpipe"
_REMEDY = "weights of other programs can't be used: give a .safetensors file from `bwpipe train`, or the name of a network"
_FOREIGN = {
    b"PK\x03\x04": "a file saved by PyTorch",
    b"\x80": "a file saved by PyTorch",  # as a pickle, the older form
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, such as Keras writes",
}
"""Kinds of files that people take for checkpoints, by how they begin."""


def save(path: Path, net: Network, checkpoint: Checkpoint, *, half: bool = False) -> None:
    """Write a network's weights and description to a safetensors file, in float16 if `half`. Raises OSError, RunAborted."""
    path.write_bytes(serialise_checkpoint(net, checkpoint, half=half))


def serialise_checkpoint(net: Network, checkpoint: Checkpoint, *, half: bool = False) -> bytes:
    """The bytes that `save` writes. Raises RunAborted if float16 can't represent a weight."""
    weights = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    if half:
        weights = {name: _to_half(name, value) if value.is_floating_point() else value for name, value in weights.items()}
    return serialise(weights, metadata={_KEY: checkpoint.model_dump_json()})


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
    with _opened(path) as (file, checkpoint):
        names = list(file.keys())
        _check_shapes({name: tuple(file.get_slice(name).get_shape()) for name in names}, checkpoint)
        net = _build(checkpoint)
        net.load_state_dict({name: file.get_tensor(name) for name in names})
        net.float()
        for name, value in net.state_dict().items():
            if not value.isfinite().all():
                raise ValueError(
                    f"its weight {name} has values that are not finite numbers; restore the original, or train again"
                )
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


def describe(path: Path) -> Checkpoint:
    """Read a checkpoint's description without its weights. Raises UsageError."""
    with _opened(path) as (_, checkpoint):
        return checkpoint


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Checkpoint]]:
    """Open a checkpoint and read its description. Raises UsageError."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file, Checkpoint.model_validate(json.loads((file.metadata() or {})[_KEY]))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such checkpoint") from None
    except KeyError:
        raise UsageError(f"{path}: is no checkpoint of bwpipe: it does not name its network; {_REMEDY}") from None
    except SafetensorError as error:
        if kind := _foreign_kind(path):
            raise UsageError(f"{path}: is no checkpoint of bwpipe, but {kind}; {_REMEDY}") from None
        raise UsageError(f"{path}: can't be used as a checkpoint: {' '.join(str(error).split())}") from error
    except (UnknownNameError, ValueError, RuntimeError, OSError) as error:
        raise UsageError(f"{path}: can't be used as a checkpoint: {' '.join(str(error).split())}") from error


def _foreign_kind(path: Path) -> str:
    """What a file is that is no safetensors file, in words; empty if it seems to be a damaged one. Raises UsageError."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror}); give another file") from error
    if head[8:] == b"{":  # after the length of the header, which is JSON
        return ""
    for magic, kind in _FOREIGN.items():
        if head.startswith(magic):
            return kind
    return "an ONNX model" if path.suffix.lower() == ".onnx" else "a file of another kind"


def locate(model: str) -> Path:
    """Find a checkpoint file by the name of a network (for the weights shipped with it) or by path. Raises UsageError."""
    if Path(model).suffix:
        path = expand_user(model)
    else:
        try:
            cls = networks[model]
        except UnknownNameError as error:
            raise UsageError(f"{error}; or give the path of a checkpoint file") from None
        path = Path(str(files("bwpipe.models"))) / "weights" / f"{cls.registered}.safetensors"
    if not path.is_file():
        raise UsageError(f"there is no checkpoint {path}; train one with `bwpipe train`")
    return path
