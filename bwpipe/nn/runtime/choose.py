"""Which run time computes a network."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.fingerprint import cached_digest
from bwpipe.errors import RunAborted, UsageError
from bwpipe.nn.checkpoint_file import describe, read_arrays
from bwpipe.nn.processor import computes_bfloat16, may_have_accelerator
from bwpipe.nn.runtime.base import Runtime
from bwpipe.nn.runtime.compiled import FOLDER, CompiledNetworks
from bwpipe.nn.runtime.graph_file import NetworkGraph
from bwpipe.nn.runtime.graphs import cache_folders, find_graph, keep_graph
from bwpipe.nn.runtime.openvino import HINTS, OpenVinoRuntime, openvino_version

Engine: TypeAlias = Literal["openvino", "torch"]
Precision: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]


def choose_engine(
    runtime: Literal["auto", "torch", "openvino"],
    devices: Sequence[str],
    precision: Precision,
    before: Literal["torch"] | None = None,
) -> Engine:
    """The run time for some devices: for `auto` OpenVINO where it is installed and all devices are CPUs, else torch.

    Args:
        runtime: The option.
        devices: The names of devices, as in the option.
        precision: The option; OpenVINO has no float16 on a CPU.
        before: "torch" if that is what `auto` was in earlier runs into the same folder, as it then stays.

    Raises:
        UsageError: OpenVINO was asked for, and is missing or can't compute that.
    """
    if runtime == "torch":
        return "torch"
    on_cpu = all(map(_is_cpu, devices))
    known = precision == "auto" or precision in HINTS
    if runtime == "auto":
        possible = on_cpu and known and openvino_version() is not None and (precision != "bfloat16" or computes_bfloat16())
        return "openvino" if possible and before != "torch" else "torch"
    if openvino_version() is None:
        raise UsageError("OpenVINO is not installed; install it with `pip install openvino`, or set `runtime: torch`")
    if not on_cpu:
        raise UsageError("OpenVINO computes on CPUs only; set `device: cpu`, or `runtime: torch`")
    if not known:
        raise UsageError(f"OpenVINO does not compute in {precision} on a CPU; set `precision: float32`, or `runtime: torch`")
    return "openvino"


def _is_cpu(name: str) -> bool:
    """Whether the device with that name is a CPU; torch is imported only where there may be others. Raises UsageError."""
    if name == "cpu" or (name == "auto" and not may_have_accelerator()):
        return True
    from bwpipe.nn.device import find_device

    return find_device(name).type == "cpu"


def open_runtime(
    path: Path,
    engine: Engine,
    devices: Sequence[str],
    precision: Precision,
    *,
    threads: int = 1,
    resolve: Callable[[str, Callable[[], str]], str] = lambda key, find: find(),
    warn: Callable[[str], None] = lambda text: None,
    work: Sequence[Path] = (),
) -> Runtime:
    """Make a checkpoint's network ready to compute.

    A graph for OpenVINO is made if there is none; a network of which none can be made is computed by torch, with a warning.

    Args:
        path: The checkpoint.
        engine: What computes it.
        devices: Names of devices; torch uses them in turn.
        precision: The precision.
        threads: How many threads will call `predict` at a time.
        resolve: Returns what `auto` is on a kind of device, a function of which finds it: `RunContext.remember`, under a key.
        warn: Warns the user.
        work: Output folders, for a graph if the user has no cache folder.

    Raises:
        UsageError: The checkpoint or an option can't be used.
    """
    if engine == "openvino" and (runtime := _open_graph(path, precision, threads, warn, cache_folders(work))):
        return runtime
    from bwpipe.nn.checkpoint import load
    from bwpipe.nn.device import find_device, fitting_precision
    from bwpipe.nn.runtime.pytorch import TorchRuntime

    found = [find_device(name) for name in devices]
    network, _ = load(path)
    kind = found[0].type
    resolved: str = precision
    if precision == "auto":
        resolved = resolve(kind, lambda: fitting_precision(kind))
    return TorchRuntime(network, found, resolved, warn)


def _open_graph(
    path: Path, precision: Precision, threads: int, warn: Callable[[str], None], folders: Sequence[Path]
) -> Runtime | None:
    """The run time by OpenVINO; None if the network can't be turned into a graph. Raises UsageError."""
    resolved = "float32" if precision == "auto" else precision
    checkpoint = describe(path)
    graph = find_graph(path, checkpoint, folders)
    if graph and graph.info.sizes:
        kept = _kept(path, graph, folders)
        weights = partial(_weights, path, cached_digest(path))
        weights()  # raises now if they are damaged, before anything is written
        return OpenVinoRuntime(graph, weights, precision=resolved, threads=threads, kept=kept)
    from bwpipe.nn.checkpoint import load
    from bwpipe.nn.runtime.graphs import source_digest
    from bwpipe.nn.runtime.trace import CannotTrace, trace, weight_arrays

    network, _ = load(path)
    if graph is None:
        try:
            graph = trace(network, checkpoint.options, source_digest(checkpoint.network))
        except CannotTrace as error:
            warn(f"the network {checkpoint.network!r} can't be compiled for OpenVINO ({error}), so torch computes it")
            return None
        keep_graph(graph, path, checkpoint, folders)
    kept = _kept(path, graph, folders)
    arrays = weight_arrays(network)
    return OpenVinoRuntime(graph, lambda: arrays, network=network, precision=resolved, threads=threads, kept=kept)


def _weights(path: Path, digest: str) -> dict[str, NDArray[np.floating]]:
    """The weights of a checkpoint whose digest was known before. Raises RunAborted if it is another now, UsageError."""
    weights = read_arrays(path)
    if cached_digest(path) != digest:
        raise RunAborted(f"{path}: the checkpoint changed during the run; run again")
    return weights


def _kept(path: Path, graph: NetworkGraph, folders: Sequence[Path]) -> CompiledNetworks:
    """What was compiled before of a checkpoint's network."""
    network = {"name": graph.info.network, "weights": cached_digest(path), "graph": graph.digest}
    return CompiledNetworks([folder.with_name(FOLDER) for folder in folders], network)
