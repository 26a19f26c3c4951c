"""From a network in torch to a graph for OpenVINO, compared with torch before it is used."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bwpipe.errors import BwpipeError
from bwpipe.nn.inference import predict
from bwpipe.nn.network import Guess, Network
from bwpipe.nn.runtime.base import Planes, Prediction
from bwpipe.nn.runtime.foreign_graph import joined_model
from bwpipe.nn.runtime.graph_file import WEIGHT, GraphInfo, NetworkGraph
from bwpipe.nn.runtime.openvino import OpenVinoRuntime, import_openvino, openvino_version
from bwpipe.version import __version__

LARGEST_MEAN_ERROR = 0.2 / 255
"""Mean difference of chroma from torch's above which a graph is not used: a fifth of a code value."""
LARGEST_ERROR = 8 / 255
"""The same for the largest difference, which a graph that treats edges differently exceeds."""
_IMAGES = ((512, 512), (480, 720), (900, 600))
"""Sizes (height, width) of images for whose inputs a graph is compared."""
_PREFIX = "self.network."
"""What precedes a weight's name in those of the traced module."""


class CannotTrace(Exception):
    """A network that can't be turned into a graph; the text says why, in a few words."""


def trace(network: Network, options: dict[str, Any], source: str) -> NetworkGraph:
    """Turn a network into a graph, and compare it with the network at several input sizes.

    Args:
        network: In float32, on the CPU, in evaluation mode.
        options: The options by which its checkpoint describes it.
        source: The digest of its code.

    Raises:
        CannotTrace: It does something that OpenVINO does not know, or the results differ.
        UsageError: OpenVINO can't be imported.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in `colorize`; several would wait for each other where other processes compute
    try:
        return _trace(network, options, source)
    finally:
        torch.set_num_threads(threads)


def _trace(network: Network, options: dict[str, Any], source: str) -> NetworkGraph:
    openvino = import_openvino()
    weights = weight_arrays(network)
    module = NetworkFunction(network)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # that the tracing of torch will end one day, and that it follows one path
            height, width = network.input_size(*_IMAGES[1])
            example: tuple[Tensor, ...] = (torch.rand(1, 1, height, width), torch.tensor(network.default_vividness))
            example += (random_hints(height, width),) if network.takes_hints else ()
            if foreign := network.foreign_graph():
                module.outputs = list(foreign.gives)
                model = joined_model(foreign, _traced, example[0], takes_hints=network.takes_hints)
            else:
                model = _traced(module, example)
            _name_inputs(model)
            shapes = _weights_as_parameters(model, weights)
    except Exception as error:  # torch's, OpenVINO's and the network's own
        raise CannotTrace(_reason(error)) from error
    with TemporaryDirectory() as folder:
        path = Path(folder) / "graph.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        operations, constants = path.read_bytes(), path.with_suffix(".bin").read_bytes()
    info = GraphInfo(
        network=network.registered,
        options=options,
        source=source,
        sizes=network.sizes if type(network).input_size is Network.input_size else None,
        takes_hints=network.takes_hints,
        vividness=network.default_vividness,
        outputs=tuple(module.outputs),
        weights=shapes,
        made_with={"bwpipe": __version__, "openvino": openvino_version() or "", "torch": torch.__version__},
    )
    graph = NetworkGraph(info, operations, constants)
    _compare(graph, network, weights)
    return graph


def weight_arrays(network: Network) -> dict[str, NDArray[np.float32]]:
    """A network's weights and buffers of floating-point numbers by name, in float32."""
    return {name: value.numpy() for name, value in network.state_dict().items() if value.dtype == torch.float32}


class NetworkFunction(nn.Module):
    """A network as a function of tensors only; `outputs` names what it returns."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.outputs: list[str] = []

    def forward(self, luma: Tensor, vividness: Tensor, hints: Tensor | None = None) -> tuple[Tensor, ...]:
        """What `Network.guess` predicts, in the order of `outputs`."""
        guess = self.network.guess(luma, cast(float, vividness), *(() if hints is None else (hints,)))
        found = {name: getattr(guess, name) for name in ("chroma", "confidence", "features")}
        self.outputs = [name for name, value in found.items() if value is not None]
        return tuple(found[name] for name in self.outputs)


def _traced(module: nn.Module, example: tuple[Tensor, ...]) -> Any:
    """OpenVINO's model of a module, traced with example inputs."""
    traced: Any = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
    import_openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    frontend = FrontEndManager().load_by_framework("pytorch")  # without OpenVINO's converter, which reports its use
    decoder = TorchScriptPythonDecoder(traced, example_input=example)  # must outlive the conversion
    return frontend.convert(frontend.load(decoder))


def _name_inputs(model: Any) -> None:
    """Name the inputs, and give each its shape and type."""
    from openvino import PartialShape, Type

    shapes = {"luma": [1, 1, -1, -1], "vividness": [], "hints": [1, 3, -1, -1]}
    for parameter, (name, shape) in zip(model.get_parameters(), shapes.items(), strict=False):
        parameter.output(0).get_tensor().set_names({name})
        parameter.set_element_type(Type.f32)
        parameter.set_partial_shape(PartialShape(shape))
    model.validate_nodes_and_infer_types()


def _weights_as_parameters(model: Any, weights: dict[str, NDArray[np.float32]]) -> dict[str, tuple[int, ...]]:
    """Replace each constant that is a weight by a parameter; the shapes of these weights, by name."""
    from openvino import opset13

    found: dict[str, Any] = {}
    for constant in [each for each in model.get_ops() if each.get_type_name() == "Constant"]:
        name = constant.get_friendly_name().removeprefix(_PREFIX)
        weight = weights.get(name)
        if weight is None or constant.get_friendly_name() == name or not np.array_equal(constant.data, weight):
            continue
        if name not in found:
            found[name] = opset13.parameter(weight.shape, np.float32, name=f"{WEIGHT}{name}")
        for target in constant.output(0).get_target_inputs():
            target.replace_source_output(found[name].output(0))
    model.add_parameters(list(found.values()))
    return {name: tuple(weights[name].shape) for name in sorted(found)}


def _compare(graph: NetworkGraph, network: Network, weights: dict[str, NDArray[np.float32]]) -> None:
    """Compare a graph's predictions with the network's, each compiled for one size and for all. Raises CannotTrace."""
    runtime = OpenVinoRuntime(graph, lambda: weights, network=network)
    for luma, vividness, hints in trial_inputs(network):
        wanted = predict(network, luma, vividness, hints)
        for many in (False, True):
            try:
                found = runtime.predict(luma, vividness, hints, many=many)
            except BwpipeError as error:
                raise CannotTrace(_reason(error)) from error
            check_equal(found, wanted, luma.shape[1:])


def trial_inputs(network: Network) -> Iterator[tuple[Planes, float | None, Planes | None]]:
    """Inputs to compare with: at each size a dark image, and a bright one with another vividness, and hints if it takes any."""
    random = np.random.default_rng(0)
    for number, size in enumerate(dict.fromkeys(network.input_size(*image) for image in _IMAGES)):
        image = _enlarged(random.random((3, 5), np.float32), size) + random.normal(0, 0.05, size)
        luma = np.clip(image, 0, 1).astype(np.float32)[None]
        yield 0.6 * luma, None, None
        yield 0.4 + 0.6 * luma, (0.9, 0.1, 0.6)[number], random_hints(*size).numpy() if network.takes_hints else None


def _enlarged(plane: Planes, size: tuple[int, int]) -> Planes:
    import cv2

    return np.asarray(cv2.resize(plane, size[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def random_hints(height: int, width: int) -> Tensor:
    """Hints (1, 3, h, w) at a few points."""
    random = torch.Generator().manual_seed(0)
    known = (torch.rand(1, 1, height, width, generator=random) < 0.01).float()
    return torch.cat([(torch.rand(1, 2, height, width, generator=random) - 0.5) * known, known], dim=1)


def check_equal(found: Prediction, wanted: Guess, size: tuple[int, ...]) -> None:
    """Compare a prediction with torch's. Raises CannotTrace."""
    for name in ("chroma", "confidence"):
        one, other = getattr(found, name), getattr(wanted, name)
        if (one is None) != (other is None) or (other is not None and one.shape != tuple(other.shape)):
            raise CannotTrace(f"at {size[0]} x {size[1]} its {name} has another shape")
    difference = np.abs(found.chroma - wanted.chroma.numpy())
    if not (difference.mean() <= LARGEST_MEAN_ERROR and difference.max() <= LARGEST_ERROR):  # no comparison with NaN is true
        raise CannotTrace(f"at {size[0]} x {size[1]} its colours differ by {255 * difference.mean():.2f} code values")


def _reason(error: BaseException) -> str:
    """An error's line that says most: the first, or of OpenVINO's, which begin with a place in its code, the last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1 if lines[0].startswith(("Check ", "Exception ")) else 0].rstrip(".")
