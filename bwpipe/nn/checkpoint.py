"""Checkpoints: weights that say what network they are of and how they were made."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from bwpipe.core.registry import UnknownNameError
from bwpipe.errors import RunAborted, UsageError
from bwpipe.nn.network import Network, networks


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
    path.write_bytes(serialise_checkpoint(net, checkpoint, half=half))


def serialise_checkpoint(net: Network, checkpoint: Checkpoint, *, half: bool = False) -> bytes:
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
