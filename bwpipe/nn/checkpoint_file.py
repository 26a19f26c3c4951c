"""Checkpoint files, as far as they need no torch: what they are, where they are, and their weights as arrays."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open

from bwpipe.core.inputs import expand_user
from bwpipe.core.json_text import parse_json
from bwpipe.core.registry import UnknownNameError
from bwpipe.errors import UsageError


class Checkpoint(BaseModel):
    """The description stored in a checkpoint alongside its weights.

    Attributes:
        network: The registered name of the network.
        options: The options it was built with.
        version: The version of bwpipe that wrote it.
        licence: The licence of the weights.
        training: How it was trained: data, steps, seed, hardware, metrics with their protocol.
        origin: Of an imported one, where it comes from: file, SHA-256, project, citation, terms; it was not trained here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    network: str
    options: dict[str, Any] = {}
    version: str
    licence: str = "not stated"
    training: dict[str, Any] = {}
    origin: dict[str, Any] = {}

    @property
    def terms(self) -> dict[str, str]:
        """Of an imported one, for the provenance of pictures: the licence of the weights, the citation, and their SHA-256."""
        keys = {"please cite": "citation", "sha256": "imported_sha256"}
        found = {name: str(self.origin[key]) for key, name in keys.items() if key in self.origin}
        return {"licence": self.licence, **found} if self.origin else {}

    def to_json(self) -> str:
        """As JSON; without `origin` if it was trained here, so that earlier versions can read it."""
        return self.model_dump_json(exclude=None if self.origin else {"origin"})


METADATA_KEY = "bwpipe"
_REMEDY = (
    "give a .safetensors file from `bwpipe train` or `bwpipe import`, which imports weights of others, or a network's name"
)
_FOREIGN = {
    b"PK\x03\x04": "a file saved by PyTorch",
    b"\x80": "a file saved by PyTorch",  # as a pickle, the older form
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, such as Keras writes",
}
"""Kinds of files that people take for checkpoints, by how they begin."""


def describe(path: Path) -> Checkpoint:
    """Read a checkpoint's description without its weights. Raises UsageError."""
    with opened(path) as (_, checkpoint):
        return checkpoint


def weight_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a checkpoint's weights by name, of those that numpy has numbers for and that are no integers.

    Raises UsageError.
    """
    with opened(path) as (file, _):
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no dict)
        return {name: tuple(each.get_shape()) for name, each in slices.items() if each.get_dtype() in {"F16", "F32", "F64"}}


def read_arrays(path: Path) -> dict[str, NDArray[np.floating]]:
    """The weights of a checkpoint by name, in the precision that they are stored in; those that are integers are left out.

    Raises UsageError, also if a weight is not a finite number.
    """
    with opened(path) as (file, _):
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
        weights = {name: array for name, array in arrays.items() if array.dtype.kind == "f"}
        for name, array in weights.items():
            if not np.isfinite(array).all():
                raise ValueError(not_finite(name))
    return weights


def not_finite(name: str) -> str:
    """What is wrong with a checkpoint whose weight of this name has values that are no finite numbers, and what to do."""
    return f"its weight {name} has values that are not finite numbers; restore the original, or train again"


@contextmanager
def opened(path: Path, framework: Literal["np", "pt"] = "np") -> Iterator[tuple[Any, Checkpoint]]:
    """Open a checkpoint, with its weights as numpy's or torch's, and read its description. Raises UsageError."""
    try:
        with safe_open(path, framework=framework) as file:
            yield file, Checkpoint.model_validate(parse_json((file.metadata() or {})[METADATA_KEY]))
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
        path = Path(str(files("bwpipe.models"))) / "weights" / f"{model}.safetensors"
        if not path.is_file():
            _check_network(model)
    if not path.is_file():
        raise UsageError(f"there is no checkpoint {path}; train one with `bwpipe train`")
    return path


def _check_network(name: str) -> None:
    """Refuse a name that no network has. Raises UsageError."""
    from bwpipe.nn.network import networks  # imports torch, and the networks

    try:
        networks[name]
    except UnknownNameError as error:
        raise UsageError(f"{error}; or give the path of a checkpoint file") from None
