"""ONNX files: what may be in one, and what its inputs and outputs are.

A graph of ONNX holds no code, but it can name other files as its weights, and operators that only some program knows. Such
graphs are refused, as are loops and constants of any size, so that reading one allocates no more than its file has.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Any

from bwpipe.core.extras import install_command
from bwpipe.core.json_text import parse_json
from bwpipe.errors import UsageError
from bwpipe.nn.checkpoint_file import METADATA_KEY
from bwpipe.nn.foreign.pytorch_file import ForeignFileError

LARGEST_GRAPH = 2**31 - 1
"""Bytes of a graph with its weights: protobuf's own limit."""
LARGEST_CONSTANT = 2**26
"""Numbers in a constant that a graph makes by itself."""
_STANDARD = {"", "ai.onnx"}
_LOOPS = {"Loop", "Scan", "SequenceMap"}
_OWN_INPUTS = {"vividness", "hints"}
"""Inputs of graphs that bwpipe exports, beside the luma."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a graph: its name and shape, with None for a side that is not fixed."""

    name: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Ports:
    """The inputs and outputs of a graph, and what it says of itself if bwpipe exported it."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    about: Mapping[str, Any]

    @property
    def picture(self) -> Port:
        """The input for the picture. Raises ForeignFileError if there is not exactly one."""
        planes = [port for port in self.inputs if len(port.shape) == 4 and port.name not in _OWN_INPUTS]
        if len(planes) != 1 or len(self.inputs) > 1 + len({port.name for port in self.inputs} & _OWN_INPUTS):
            raise ForeignFileError(f"its graph has the inputs {_listed(self.inputs)}; it must have one, for a picture")
        return planes[0]

    @property
    def planes(self) -> Port:
        """The output with the colours: the first with two or three planes. Raises ForeignFileError if there is none."""
        for port in self.outputs:
            if len(port.shape) == 4 and port.shape[1] in (2, 3, None):
                return port
        raise ForeignFileError(f"its graph has the outputs {_listed(self.outputs)}; one must have 2 or 3 planes of colour")


def _listed(ports: tuple[Port, ...]) -> str:
    return ", ".join(f"{port.name} {tuple('?' if side is None else side for side in port.shape)}" for port in ports) or "none"


def onnx_package() -> Any:
    """The package `onnx`. Raises UsageError."""
    try:
        import onnx
        import onnx.checker
    except ImportError as error:
        raise UsageError(
            f"ONNX graphs need a package that can't be imported ({error}); run: {install_command('import')}"
        ) from None
    return onnx


def check_graph(data: bytes) -> Ports:
    """Check a graph with its weights; what its inputs and outputs are. Raises ForeignFileError, UsageError."""
    onnx = onnx_package()
    if len(data) > LARGEST_GRAPH:
        raise ForeignFileError(f"it has {len(data):,} bytes; a graph has at most {LARGEST_GRAPH:,}")
    try:
        model = onnx.load_model_from_string(data)
        _check_weights_inside(onnx, model)
        _check_operators(model)
        _check_sizes(onnx, model)
        onnx.checker.check_model(model)
    except ForeignFileError:
        raise
    except Exception as error:  # protobuf's, the checker's; their classes have no common parent
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ForeignFileError(f"it is damaged, or no ONNX graph ({lines[0][:200].rstrip('.')})") from error
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_port(value) for value in model.graph.input if value.name not in weights)
    return Ports(inputs, tuple(map(_port, model.graph.output)), _about(model))


def _about(model: Any) -> Mapping[str, Any]:
    """What bwpipe wrote into a graph that it exported: the licence, the default vividness, the input's size."""
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            with suppress(ValueError):
                found = parse_json(entry.value)
                return found if isinstance(found, dict) else {}
    return {}


def _port(value: Any) -> Port:
    sides = value.type.tensor_type.shape.dim
    return Port(value.name, tuple(side.dim_value if side.HasField("dim_value") else None for side in sides))


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and those inside its operators."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") or attribute.graphs else ():
                yield from _graphs(inner)


def _nodes(model: Any) -> Iterator[Any]:
    for graph in _graphs(model.graph):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def _tensors(model: Any) -> Iterator[Any]:
    """Every tensor that is stored in a model."""
    for graph in _graphs(model.graph):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in _nodes(model):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)


def _check_weights_inside(onnx: Any, model: Any) -> None:
    """Refuse weights in other files. Raises ForeignFileError."""
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ForeignFileError(
                f"its weight {tensor.name!r} is in another file; save it as one file, with its weights inside"
            )


def _check_operators(model: Any) -> None:
    """Refuse operators that are not ONNX's own, and loops. Raises ForeignFileError."""
    if model.functions:
        raise ForeignFileError("its graph defines operators of its own; inline them (`onnx.inliner`), and save it again")
    for node in _nodes(model):
        if node.domain not in _STANDARD:
            raise ForeignFileError(f"its graph uses the operator {node.op_type!r} of {node.domain!r}, which is not one of ONNX")
        if node.op_type in _LOOPS:
            raise ForeignFileError(f"its graph has a loop ({node.op_type}), which a network for pictures does not need")


def _check_sizes(onnx: Any, model: Any) -> None:
    """Refuse tensors that say that they are larger than what is stored, and large constants. Raises ForeignFileError."""
    for tensor in _tensors(model):
        if tensor.data_type and prod(tensor.dims) * 4 > 64 * max(tensor.ByteSize(), 1):  # even of 4-bit numbers
            raise ForeignFileError(
                f"it is damaged: its tensor {tensor.name!r} has the shape {tuple(tensor.dims)}, and fewer numbers"
            )
    stored = {tensor.name: tensor for graph in _graphs(model.graph) for tensor in graph.initializer}
    for node in _nodes(model):
        if node.op_type == "ConstantOfShape" and (shape := stored.get(node.input[0])) is not None:
            count = prod(map(int, onnx.numpy_helper.to_array(shape)))
            if count > LARGEST_CONSTANT:
                raise ForeignFileError(
                    f"its graph makes a constant of {count:,} numbers; at most {LARGEST_CONSTANT:,} are accepted"
                )


def graph_options(ports: Ports, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the network `onnx` that follow from a graph.

    Args:
        ports: Its inputs and outputs.
        given: Options that the user states.

    Raises:
        ForeignFileError: The user has to state what its output means, or it takes other pictures.
    """
    own = {port.name for port in (*ports.inputs, *ports.outputs)}
    picture, planes = ports.picture, ports.planes
    exported = "chroma" in own and "luma" in own
    batch, channels, height, width = picture.shape
    if channels not in (1, 3) or batch not in (None, 1):
        raise ForeignFileError(
            f"its input {picture.name} has the shape {_listed((picture,))}; it must be (1, 1 or 3, height, width)"
        )
    if not exported and planes.shape[1] != 3 and "gives" not in given:
        raise ForeignFileError(
            f"its output {planes.name} has two planes; say what they are, with `--set gives=ab` (a* and b*) or "
            "`--set gives=chroma` (Cb and Cr), and `--set factor=...` if they are not in their usual units"
        )
    return {
        "input": picture.name,
        "output": "chroma" if exported else planes.name,
        "sees": "luma" if channels == 1 else "grey_rgb",
        "gives": "rgb" if planes.shape[1] == 3 else "chroma",
        "height": height,
        "width": width,
        **({name: name for name in ("vividness", "hints", "confidence", "features") if name in own} if exported else {}),
        **(_exported_options(ports.about, heeds_vividness="vividness" in own) if exported else {}),
    }


def _exported_options(about: Mapping[str, Any], *, heeds_vividness: bool) -> dict[str, Any]:
    """The default vividness and the input's size as an exported graph states them; the options' own checks follow.

    A graph without an input for the vividness has no default for it: at 0 its colours are its own.
    """
    sizes = about.get("sizes")
    sizes = sizes if isinstance(sizes, dict) else {}
    sides = sizes.get("short_sides")
    sides = sides if isinstance(sides, dict) else {}
    further = sizes.get("further")
    found = {
        "default_vividness": about.get("vividness") if heeds_vividness else None,
        "short_side": sides.get("normal"),
        "fast_side": sides.get("fast"),
        "best_side": sides.get("best"),
        "stride": sizes.get("stride"),
        "max_aspect": sizes.get("max_aspect"),
        "further": further.get("best") if isinstance(further, dict) else None,
    }
    return {name: value for name, value in found.items() if value is not None}
