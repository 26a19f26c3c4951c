"""From a network in torch to an ONNX model, compared by ONNX Runtime with torch before it is used."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bwpipe.core.extras import install_command
from bwpipe.errors import UsageError
from bwpipe.nn.checkpoint import Checkpoint, load
from bwpipe.nn.checkpoint_file import METADATA_KEY
from bwpipe.nn.inference import predict
from bwpipe.nn.network import Network
from bwpipe.nn.runtime.base import Prediction
from bwpipe.nn.runtime.trace import CannotTrace, NetworkFunction, check_equal, random_hints, trial_inputs
from bwpipe.version import __version__

OPSETS = (18, 20)
"""The oldest and the newest version of ONNX's operators that can be written; the oldest is the default."""
INPUTS = ("luma", "vividness", "hints")
_EXAMPLE = (480, 720)
"""Height and width of the image for whose input the network is traced."""


def export_onnx(path: Path, opset: int = OPSETS[0]) -> bytes:
    """A checkpoint's network as an ONNX model whose height and width are free.

    Inputs and outputs are named as the arguments and results of `Network.guess`: luma (1, 1, H, W), vividness (a scalar) and,
    of networks that take them, hints (1, 3, H, W), all float32; zeros for hints stand for none. Its metadata have, under
    "bwpipe", the network, its options, licence, default vividness and input sizes as JSON.

    Args:
        path: The checkpoint.
        opset: The version of ONNX's operators, within `OPSETS`.

    Raises:
        UsageError: A package is missing, the file is no checkpoint, or its network can't be exported.
    """
    check_installed()
    network, checkpoint = load(path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in `colorize`; several would wait for each other where other processes compute
    try:
        model = _exported(network, opset)
        return _described(model, network, checkpoint)
    except CannotTrace as error:
        raise UsageError(f"{path}: the network {network.registered!r} can't be written as ONNX ({error})") from error
    finally:
        torch.set_num_threads(threads)


def check_installed() -> None:
    """Raise UsageError if a package that the export needs is missing."""
    for package in ("onnx", "onnxruntime"):
        if find_spec(package) is None:
            raise UsageError(f"export: {package} is not installed; run: {install_command('export')}")


def _exported(network: Network, opset: int) -> bytes:
    """The model, compared with the network. Raises CannotTrace."""
    function = NetworkFunction(network).eval()  # the exporter restores the mode, in all modules
    height, width = network.input_size(*_EXAMPLE)
    example: tuple[Tensor, ...] = (torch.rand(1, 1, height, width), torch.tensor(network.default_vividness))
    example += (random_hints(height, width),) if network.takes_hints else ()
    data: Any = BytesIO()  # typed as a path there
    try:
        with warnings.catch_warnings(), torch.no_grad(), _exact_pooling(opset):
            warnings.simplefilter("ignore")  # that this exporter will end one day: its successor does not finish on `unet`
            function(*example)  # it now knows what it returns
            free = {name: {2: f"{name}_height", 3: f"{name}_width"} for name in function.outputs}
            free |= {name: {2: "height", 3: "width"} for name in INPUTS if name != "vividness"}
            names = list(INPUTS[: len(example)])
            torch.onnx.export(
                function, example, data, dynamo=False, opset_version=opset,
                input_names=names, output_names=function.outputs,
                dynamic_axes={name: axes for name, axes in free.items() if name in (*names, *function.outputs)},
            )  # fmt: skip
    except Exception as error:  # torch's, and the network's own
        raise CannotTrace(" ".join(str(error).split())[:200].rstrip(".")) from error
    model: bytes = data.getvalue()
    _compare(model, network)
    return model


def _compare(model: bytes, network: Network) -> None:
    """Compare a model's predictions with the network's, at several sizes. Raises CannotTrace."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_outputs()]
        used = {each.name for each in session.get_inputs()}  # a network may ignore the vividness, which the graph then lacks
        for luma, vividness, hints in trial_inputs(network):
            strength = network.default_vividness if vividness is None else vividness
            inputs = {"luma": luma[:, None], "vividness": np.array(strength, np.float32)}
            if network.takes_hints:
                inputs["hints"] = np.zeros((1, 3, *luma.shape[1:]), np.float32) if hints is None else hints
            found = dict(zip(names, session.run(names, {key: inputs[key] for key in used}), strict=True))
            check_equal(Prediction(**found), predict(network, luma, vividness, hints), luma.shape[1:])
    except CannotTrace:
        raise
    except Exception as error:  # ONNX Runtime's
        raise CannotTrace(" ".join(str(error).split())[:200].rstrip(".")) from error


def _described(model: bytes, network: Network, checkpoint: Checkpoint) -> bytes:
    """The model with metadata, checked by ONNX."""
    import onnx

    read = onnx.load_from_string(model)
    read.producer_name, read.producer_version = "bwpipe", __version__
    read.doc_string = (type(network).__doc__ or "").strip().partition("\n")[0]
    sizes = network.sizes if type(network).input_size is Network.input_size else None
    about = {
        "network": checkpoint.network,
        "options": checkpoint.options,
        "licence": checkpoint.licence,
        "vividness": network.default_vividness,
        "sizes": sizes and asdict(sizes),
    }
    entry = read.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(about)
    onnx.checker.check_model(read, full_check=True)
    return bytes(read.SerializeToString())


@contextmanager
def _exact_pooling(opset: int) -> Iterator[None]:
    """Make torch's exporter write poolings for any size: it knows those that round up, or whose size is given, for one only."""
    exporter: Any = torch.onnx
    operator = "aten::avg_pool2d"
    exporter.register_custom_op_symbolic(operator, _average_pool(), opset)
    try:
        with patch.object(F, "adaptive_avg_pool2d", _adaptive_average(F.adaptive_avg_pool2d)):
            yield
    finally:
        exporter.unregister_custom_op_symbolic(operator, opset)


def _average_pool() -> Any:
    """The symbolic function of `avg_pool2d` as ONNX's operator, which rounds up by itself."""
    from torch.onnx.symbolic_helper import parse_args

    @parse_args("v", "is", "is", "is", "i", "i", "none")
    def average_pool(  # noqa: PLR0917 (the signature of torch's operator)
        graph: Any, x: Any, size: list[int], stride: list[int], padding: list[int], up: int, count: int, divisor: None = None
    ) -> Any:
        attributes = {"kernel_shape_i": size, "strides_i": stride or size, "pads_i": padding * 2}
        return graph.op("AveragePool", x, **attributes, ceil_mode_i=up, count_include_pad_i=count)

    return average_pool


def _adaptive_average(original: Any) -> Any:
    """A function like `adaptive_avg_pool2d`, of operators that ONNX has, for sizes that depend on the input's."""

    def pooled(x: Tensor, size: Any) -> Any:
        height, width = (size, size) if isinstance(size, int) else size
        if not any(isinstance(side, Tensor) or side != 1 for side in (height, width)):
            return original(x, size)
        return _means(_means(x, width).transpose(-1, -2), height).transpose(-1, -2)

    return pooled


def _means(x: Tensor, count: Any) -> Tensor:
    """The means of `count` ranges along the last axis of n, from floor(i n / count) to ceil((i + 1) n / count), as torch's."""
    length = x.shape[-1]
    index = torch.arange(count)
    start, end = (index * length) // count, ((index + 1) * length + count - 1) // count
    sums = F.pad(torch.cumsum(x, -1), (1, 0))
    means: Tensor = (sums.index_select(-1, end) - sums.index_select(-1, start)) / (end - start)
    return means
