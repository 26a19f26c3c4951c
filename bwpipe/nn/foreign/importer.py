"""From a file of another program to a checkpoint: recognise its network, check its weights, and say where they come from."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bwpipe.core.atomic_file import unwritable_reason, write_atomically
from bwpipe.core.options import build
from bwpipe.core.registry import UnknownNameError
from bwpipe.errors import RunAborted, UsageError
from bwpipe.nn.checkpoint import Checkpoint, serialise_checkpoint
from bwpipe.nn.checkpoint_file import METADATA_KEY, not_finite
from bwpipe.nn.foreign import pytorch_file
from bwpipe.nn.foreign.onnx_file import LARGEST_GRAPH, check_graph, graph_options
from bwpipe.nn.foreign.pytorch_file import ForeignFileError
from bwpipe.nn.inference import predict
from bwpipe.nn.network import Network, NetworkOptions, networks
from bwpipe.version import __version__

LARGEST_FILE = 8 * 2**30
"""Bytes of a file; the largest published network has a ninth of that."""
LARGEST_HEADER = 100_000_000
"""Bytes of a safetensors file's header; its library accepts no more."""
LONGEST_TERMS = 1000
"""Characters of terms that are taken from a file."""
ONNX = "onnx"
"""The name of the network for ONNX graphs."""
Format = Literal["PyTorch", "safetensors", "ONNX"]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import wrote.

    Attributes:
        path: The checkpoint.
        card: Its card.
        checkpoint: What the checkpoint says of itself.
    """

    path: Path
    card: Path
    checkpoint: Checkpoint


def import_network(
    source: Path,
    target: Path,
    *,
    network: str | None = None,
    options: Mapping[str, Any] | None = None,
    licence: str | None = None,
) -> Imported:
    """Write a file of another program as a checkpoint, with a card beside it. No code in the file is run.

    Args:
        source: A file of PyTorch, safetensors or ONNX.
        target: The checkpoint, ending in .safetensors; it and the card must not exist.
        network: The name of the network; None to recognise it.
        options: Options of the network, instead of those that are recognised.
        licence: The terms of the weights; None for those that the project states.

    Raises:
        UsageError: The file can't be used, or the target can't be written; nothing is written.
    """
    card = _check_target(target)
    try:
        kind = _kind(source)
        net, stated = _build(source, kind, network, dict(options or {}))
        _load(net, source, kind)
        _try_out(net)
        sha256 = _sha256(source)
    except (ForeignFileError, SafetensorError, RunAborted) as error:
        raise UsageError(f"{source}: can't be imported: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise UsageError(f"{source}: can't be read ({error.strerror or error}); give another file") from error
    checkpoint = Checkpoint(
        network=net.registered,
        options=net.options.model_dump(mode="json"),
        version=__version__,
        licence=licence or _terms(net, stated),
        origin={
            "file": source.name,
            "format": kind,
            "sha256": sha256,
            **({} if net.published is None else net.published.lines()),
            "sees": "a square picture at {} x {} pixels".format(*net.input_size(2048, 2048)),
        },
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, serialise_checkpoint(net, checkpoint))
        write_atomically(card, _card(target.stem, net, checkpoint).encode())
    except OSError as error:
        raise UsageError(f"{target}: {error.strerror}; free some space, or choose another folder") from error
    return Imported(target, card, checkpoint)


def _check_target(target: Path) -> Path:
    """The path of the card. Raises UsageError."""
    card = target.with_suffix(".md")
    if target.suffix != ".safetensors":
        raise UsageError(f"{target} does not end in .safetensors; rename it")
    for path in (target, card):
        if path.exists():
            raise UsageError(f"{path} exists; move it away, or choose another name")
    if reason := unwritable_reason(target.parent):
        raise UsageError(f"{reason}; choose another folder")
    return card


def _kind(source: Path) -> Format:
    """What a file is, by how it begins. Raises ForeignFileError, UsageError, OSError."""
    if not source.is_file():
        raise UsageError(f"{source}: there is no such file")
    size = source.stat().st_size
    if size > LARGEST_FILE:
        raise ForeignFileError(f"it has {size:,} bytes, more than the {LARGEST_FILE:,} that a network may have")
    with source.open("rb") as file:
        head = file.read(9)
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return "PyTorch"
    if head[8:] == b"{":
        length = int.from_bytes(head[:8], "little")
        if length > min(size, LARGEST_HEADER):
            raise ForeignFileError(f"it has {size:,} bytes, and says that its header has {length:,}, so it is damaged")
        return "safetensors"
    if source.suffix.lower() == ".onnx":
        return "ONNX"
    raise ForeignFileError(
        "it is no file of PyTorch (.pth, .pt, .bin), safetensors or ONNX (.onnx), or its beginning is damaged"
    )


def _build(source: Path, kind: Format, name: str | None, options: dict[str, Any]) -> tuple[Network, str | None]:
    """The network of a file, and the terms that it states. Raises ForeignFileError, UsageError, OSError."""
    if kind == "ONNX":
        return _build_onnx(source, name, options)
    shapes = pytorch_file.read_shapes(source) if kind == "PyTorch" else _safetensors_shapes(source)
    try:
        candidates = [name] if name else list(networks)
        found = {each: networks[each].recognise(shapes) for each in candidates}
    except UnknownNameError as error:
        raise UsageError(f"--network: {error}") from None
    fits = {each: recognised for each, recognised in found.items() if recognised is not None}
    if not fits:
        known = ", ".join(each for each in networks if networks[each].published)
        some = ", ".join(sorted(shapes)[:2])
        raise ForeignFileError(
            f"its {len(shapes)} weights ({some}, ...) are not those of {name or 'a network that bwpipe knows'}; "
            f"it knows {known}, and ONNX graphs"
        )
    chosen, recognised = next(iter(fits.items()))
    cls = networks[chosen]
    net = cls(_options(cls, {**recognised, **options}))
    _check_shapes(net, shapes)
    return net, None


def _options(cls: type[Network], options: Mapping[str, Any]) -> NetworkOptions:
    """The options of a network. Raises ForeignFileError."""
    built = build(cls.Options, options, of=cls.registered)
    if isinstance(built, list):
        raise ForeignFileError("; ".join(problem.text for problem in built))
    return built


def _build_onnx(source: Path, name: str | None, options: Mapping[str, Any]) -> tuple[Network, str | None]:
    """The network `onnx` for a graph, and the terms that it states. Raises ForeignFileError, UsageError, OSError."""
    if name not in (None, ONNX):
        raise ForeignFileError(f"a graph of ONNX is for the network {ONNX!r}, not {name!r}")
    size = source.stat().st_size
    if size > LARGEST_GRAPH:
        raise ForeignFileError(f"it has {size:,} bytes; a graph has at most {LARGEST_GRAPH:,}")
    ports = check_graph(source.read_bytes())
    cls = networks[ONNX]
    net = cls(_options(cls, {"size": size, **graph_options(ports, options), **options}))
    licence = ports.about.get("licence")
    return net, licence if isinstance(licence, str) else None


def _safetensors_shapes(source: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights by name. Raises ForeignFileError, SafetensorError."""
    with safe_open(source, framework="pt") as file:
        if METADATA_KEY in (file.metadata() or {}):
            raise ForeignFileError("it is a checkpoint of bwpipe already; use it as it is")
        names = list(file.keys())
        return {name.removeprefix("module."): tuple(file.get_slice(name).get_shape()) for name in names}


def _check_shapes(net: Network, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Compare the weights in a file with those of the network. Raises ForeignFileError."""
    here = {own: shape for name, shape in shapes.items() if (own := net.rename(name)) is not None}
    wanted = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    for name in sorted(wanted.keys() | here.keys()):
        if wanted.get(name) != here.get(name) and not (name not in here and _is_count(name)):
            has, needs = (f"{each[name]}" if name in each else "nothing" for each in (here, wanted))
            raise ForeignFileError(f"it looks like {net.registered}, but for {name} it holds {has}, not {needs}")


def _is_count(name: str) -> bool:
    """Whether a weight is the count of batches of a norm, which old files lack and predictions do not use."""
    return name.endswith(".num_batches_tracked")


def _load(net: Network, source: Path, kind: Format) -> None:
    """Copy the weights of a file into the network. Raises ForeignFileError, SafetensorError, OSError."""
    weights: Mapping[str, Tensor]
    if kind == "ONNX":
        weights = {"model": torch.frombuffer(bytearray(source.read_bytes()), dtype=torch.uint8), "place": torch.empty(0)}
    elif kind == "PyTorch":
        weights = pytorch_file.read_weights(source)
    else:
        with safe_open(source, framework="pt") as file:
            weights = {name.removeprefix("module."): file.get_tensor(name) for name in list(file.keys())}
    state = net.state_dict()
    renamed = {own: value for name, value in weights.items() if (own := net.rename(name)) is not None}
    net.load_state_dict({**{name: value for name, value in state.items() if _is_count(name)}, **renamed})
    net.float().eval().requires_grad_(False)
    for name, value in net.state_dict().items():
        if not value.isfinite().all():
            raise ForeignFileError(not_finite(name).partition(";")[0])


def _try_out(net: Network) -> None:
    """Predict one picture, a ramp of greys. Raises RunAborted if the colours are not finite, ForeignFileError if it fails."""
    height, width = net.input_size(512, 512, "fast")
    ramp = np.linspace(0, 1, width, dtype=np.float32)
    try:
        found = predict(net, np.ascontiguousarray(np.broadcast_to(ramp, (1, height, width))))
    except (RuntimeError, ValueError, TypeError) as error:
        raise ForeignFileError(f"it can't be computed: {error}") from error
    if found.chroma.ndim != 4 or found.chroma.shape[:2] != (1, 2):
        raise ForeignFileError(f"it gives planes of the shape {tuple(found.chroma.shape)}, not two of chroma")


def _sha256(source: Path) -> str:
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _terms(net: Network, stated: str | None) -> str:
    """The terms of weights of which the user states none; `stated` are those in the file."""
    if stated:
        return " ".join(stated.split())[:LONGEST_TERMS]
    return "not stated" if net.published is None else f"not stated; those of {net.published.project}: {net.published.terms}"


def _card(name: str, net: Network, checkpoint: Checkpoint) -> str:
    """The card of an imported checkpoint, in Markdown."""
    about = "\n".join(line.strip() for line in (type(net).__doc__ or "").strip().splitlines())
    facts = "\n".join(f"| {key} | {' '.join(str(value).split())} |" for key, value in checkpoint.origin.items())
    options = "\n".join(f"| `{key}` | {value} |" for key, value in checkpoint.options.items())
    return f"""# {name}

Weights of the network `{checkpoint.network}`, imported by bwpipe {checkpoint.version}; others trained them.
This card is written from what the checkpoint says of itself.

{about}

**Terms of the weights:** {checkpoint.licence}

## Origin

| | |
| --- | --- |
{facts}
{
        f'''
## Options

| | |
| --- | --- |
{options}
'''
        if options
        else ""
    }"""
