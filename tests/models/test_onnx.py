"""The `onnx` network: graphs of others, computed by ONNX Runtime and by OpenVINO, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close
from typer.testing import CliRunner

from bwpipe.cli.main import app
from bwpipe.nn.checkpoint import load, locate
from bwpipe.nn.lab import ab_to_chroma, luma_to_lightness
from bwpipe.nn.network import Network
from bwpipe.nn.onnx_export import export_onnx
from bwpipe.nn.runtime.openvino import OpenVinoRuntime
from bwpipe.nn.runtime.trace import trace
from bwpipe.nn.ycbcr import rgb_to_ycbcr

onnx: Any = pytest.importorskip("onnx", reason="ONNX graphs are read by `onnx`, which is not installed")
pytest.importorskip(
    "onnxruntime", reason="where torch computes networks, ONNX graphs need `onnxruntime`, which is not installed"
)


def weights(channels: int, planes: int) -> Tensor:
    random = np.random.default_rng(0)
    return torch.from_numpy((0.2 * random.standard_normal((planes, channels, 3, 3))).astype(np.float32))


def graph(channels: int = 3, planes: int = 2, size: tuple[int | str, int | str] = ("h", "w"), batch: int | str = 1) -> Any:
    """A graph of a convolution with stride 2 and a tanh."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Tanh", ["c"], ["y"]),
    ]
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, channels, *size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, planes, "a", "b"])],
        [numpy_helper.from_array(weights(channels, planes).numpy(), "w")],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def imported(model: Any, folder: Path, *options: str, code: int = 0) -> str:
    """Import a graph as `out.safetensors`: standard output, or standard error if a failure is expected."""
    source = folder / "theirs.onnx"
    source.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    result = CliRunner().invoke(app, ["import", str(source), "-o", str(folder / "out.safetensors"), *options])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    if code:
        assert len(result.stderr.splitlines()) == 1
    return result.stderr if code else result.stdout


def computed(x: Tensor, planes: int) -> Tensor:
    """What the graph computes."""
    return F.conv2d(x, weights(x.shape[1], planes), stride=2, padding=1).tanh()


def ab_of_grey(luma: Tensor) -> Tensor:
    return ab_to_chroma(F.avg_pool2d(luma, 2), 110 * computed(luma.repeat(1, 3, 1, 1), 2))


def rgb_of_normalised(luma: Tensor) -> Tensor:
    mean, deviation = (torch.tensor(each).view(1, 3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return rgb_to_ycbcr((computed((luma.repeat(1, 3, 1, 1) - mean) / deviation, 3) + 1) / 2)[1]


def chroma_of_lightness(luma: Tensor) -> Tensor:
    return 0.25 * computed(2 * luma_to_lightness(luma) / 100 - 1, 2)


CASES: dict[str, tuple[Any, tuple[str, ...], Callable[[Tensor], Tensor]]] = {
    "grey RGB to ab": (graph(), ("gives=ab", "factor=110"), ab_of_grey),
    "normalised grey RGB to RGB": (graph(planes=3), ("values=imagenet", "rgb_values=signed"), rgb_of_normalised),
    "lightness to chroma": (
        graph(channels=1, size=(64, 96)),
        ("gives=chroma", "factor=0.25", "sees=lightness", "values=signed"),
        chroma_of_lightness,
    ),
}


@pytest.mark.parametrize(("model", "options", "expected"), CASES.values(), ids=CASES)
def test_a_graph_predicts_chroma_by_onnx_runtime_and_by_openvino(
    tmp_path: Path, model: Any, options: tuple[str, ...], expected: Callable[[Tensor], Tensor]
) -> None:
    imported(model, tmp_path, *(word for option in options for word in ("--set", option)))
    net, checkpoint = load(tmp_path / "out.safetensors")
    luma = torch.rand(2, 1, 64, 96)

    wanted = expected(luma).clamp(-0.5, 0.5)
    by_openvino = OpenVinoRuntime(trace(net, checkpoint.options, "test"), dict, network=net).predict(luma[:, 0].numpy())

    assert_close(net.guess(luma).chroma, wanted, atol=1e-4, rtol=0)
    assert_close(torch.from_numpy(by_openvino.chroma), wanted, atol=1e-4, rtol=0)
    assert_close(net.guess(luma, 1.0).chroma, (2 * wanted).clamp(-0.5, 0.5), atol=2e-4, rtol=0)


@pytest.mark.parametrize(("size", "expected"), [((64, 96), (64, 96)), (("h", "w"), (256, 448)), ((128, "w"), (128, 448))])
def test_the_input_has_the_graph_s_size_or_the_image_s_shape(
    tmp_path: Path, size: tuple[int | str, int | str], expected: tuple[int, int]
) -> None:
    imported(graph(size=size), tmp_path, "--set", "gives=ab")

    net: Network = load(tmp_path / "out.safetensors")[0]

    assert net.input_size(1080, 1920) == expected


def weights_elsewhere(model: Any) -> None:
    (tensor,) = model.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def operator_of_others(model: Any) -> None:
    model.graph.node[1].domain = "com.somebody"
    model.graph.node[1].op_type = "RunAnything"
    model.opset_import.add(domain="com.somebody", version=1)


def loop(model: Any) -> None:
    model.graph.node[1].op_type = "Loop"


def huge_weight(model: Any) -> None:
    model.graph.initializer[0].dims[:] = [10**6, 10**6]


def huge_constant(model: Any) -> None:
    shape = onnx.numpy_helper.from_array(np.array([10**6, 10**6]), "shape")
    model.graph.initializer.append(shape)
    model.graph.node.append(onnx.helper.make_node("ConstantOfShape", ["shape"], ["zeros"]))


def unknown_operator(model: Any) -> None:
    model.graph.node[1].op_type = "Tanhh"


def second_picture(model: Any) -> None:
    model.graph.input.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [1, 3, 4, 4]))


def many_planes(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (weights_elsewhere, "its weight 'w' is in another file"),
        (operator_of_others, "uses the operator 'RunAnything' of 'com.somebody', which is not one of ONNX"),
        (loop, "has a loop (Loop)"),
        (huge_weight, "its tensor 'w' has the shape (1000000, 1000000), and fewer numbers"),
        (huge_constant, "makes a constant of 1,000,000,000,000 numbers"),
        (unknown_operator, "is damaged, or no ONNX graph"),
        (second_picture, "it must have one, for a picture"),
        (many_planes, "it must be (1, 1 or 3, height, width)"),
    ],
)
def test_graphs_that_are_not_safe_or_not_for_pictures_are_refused(
    tmp_path: Path, change: Callable[[Any], None], reason: str
) -> None:
    model = graph()
    change(model)

    assert reason in imported(model, tmp_path, "--set", "gives=ab", code=2)


def test_a_truncated_graph_is_refused(tmp_path: Path) -> None:
    data = graph().SerializeToString()

    assert "is damaged, or no ONNX graph" in imported(data[: len(data) // 2], tmp_path, code=2)


def test_what_two_planes_mean_has_to_be_said(tmp_path: Path) -> None:
    assert "say what they are, with `--set gives=ab`" in imported(graph(), tmp_path, code=2)


def test_a_checkpoint_whose_graph_was_exchanged_is_checked_again(tmp_path: Path) -> None:
    from bwpipe.errors import UsageError

    imported(graph(), tmp_path, "--set", "gives=ab")
    net, _ = load(tmp_path / "out.safetensors")
    model = graph()
    operator_of_others(model)
    data = model.SerializeToString()
    net.model = torch.frombuffer(bytearray(data), dtype=torch.uint8)

    with pytest.raises(UsageError, match="uses the operator 'RunAnything'"):
        net.guess(torch.rand(1, 1, 32, 32))


def test_an_exported_graph_brings_its_sizes_vividness_and_hints(tmp_path: Path) -> None:
    """A graph with the inputs, outputs and metadata that `bwpipe export` writes."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Slice", ["hints", "zero", "two", "axis"], ["known"]),
        helper.make_node("Mul", ["known", "vividness"], ["tinted"]),
        helper.make_node("Mul", ["tinted", "luma"], ["chroma"]),
        helper.make_node("Identity", ["luma"], ["confidence"]),
    ]
    numbers = {"zero": [0], "two": [2], "axis": [1]}
    free = [1, 1, "h", "w"]
    inputs = {"luma": free, "vividness": [], "hints": [1, 3, "h", "w"]}
    outputs = {"chroma": [1, 2, "h", "w"], "confidence": free}
    made = helper.make_graph(
        nodes,
        "exported",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [onnx.numpy_helper.from_array(np.array(value, np.int64), name) for name, value in numbers.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    sizes = {"short_sides": {"fast": 64, "normal": 96, "best": 128}, "stride": 16, "max_aspect": 3, "further": {"best": [80]}}
    about = {"network": "other", "licence": "theirs", "vividness": 0.25, "sizes": sizes}
    model.metadata_props.add(key="bwpipe", value=json.dumps(about))
    luma, hints = torch.rand(1, 1, 32, 48), torch.rand(1, 3, 32, 48) / 2

    imported(model, tmp_path)
    net, checkpoint = load(tmp_path / "out.safetensors")
    by_openvino = OpenVinoRuntime(trace(net, checkpoint.options, "test"), dict, network=net)

    assert net.takes_hints
    assert net.default_vividness == 0.25
    assert checkpoint.licence == "theirs"
    assert [net.input_size(100, 200, quality) for quality in ("fast", "normal", "best")] == [(64, 128), (96, 192), (128, 256)]
    assert net.further_views(100, 200, "best") == ((80, 160),)
    for vividness in (None, 0.8):
        found = net.guess(luma, vividness, hints)
        other = by_openvino.predict(luma[0].numpy(), vividness, hints.numpy())
        assert_close(found.chroma, hints[:, :2] * (vividness or 0.25) * luma)
        assert_close(torch.from_numpy(other.chroma), found.chroma)
        assert found.confidence is not None
        assert_close(found.confidence, luma)


@pytest.mark.slow  # exporting and importing it take ten seconds
def test_unet_exported_and_imported_gives_the_same_chroma(tmp_path: Path) -> None:
    original, _ = load(locate("unet"))
    imported(export_onnx(locate("unet")), tmp_path)
    copy, _ = load(tmp_path / "out.safetensors")
    size = original.input_size(400, 600)
    luma = F.interpolate(torch.rand(1, 1, 8, 12, generator=torch.Generator().manual_seed(0)), size, mode="bicubic").clamp(0, 1)

    assert copy.input_size(400, 600) == size
    for vividness in (None, 0.9):
        expected = original.guess(luma, vividness).chroma
        assert 255 * float(expected.abs().max()) > 5
        assert 255 * float((copy.guess(luma, vividness).chroma - expected).abs().max()) < 0.1


def test_a_network_that_ignores_the_vividness_has_its_own_colours_by_default_when_imported(tmp_path: Path) -> None:
    model = graph(channels=1)
    model.graph.input[0].name = model.graph.node[0].input[0] = "luma"
    model.graph.output[0].name = model.graph.node[1].output[0] = "chroma"
    model.metadata_props.add(key="bwpipe", value=json.dumps({"network": "other", "licence": "theirs", "vividness": 0.5}))
    luma = torch.rand(1, 1, 32, 48)

    imported(model, tmp_path)
    net, _ = load(tmp_path / "out.safetensors")

    expected = torch.tanh(F.conv2d(luma, weights(1, 2), stride=2, padding=1)).clamp(-0.5, 0.5)
    assert_close(net.guess(luma).chroma, expected)
