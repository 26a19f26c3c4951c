"""OpenVINO's model of a network whose middle is a graph of ONNX: what comes before and after is traced, and joined to it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bwpipe.nn.network import ForeignGraph
from bwpipe.nn.runtime.openvino import import_openvino

Convert = Callable[[nn.Module, tuple[Tensor, ...]], Any]
"""Traces a module with example inputs; OpenVINO's model of it."""


def joined_model(graph: ForeignGraph, convert: Convert, luma: Tensor, *, takes_hints: bool) -> Any:
    """The model from luma, vividness and, if it takes any, hints, to the fields of a prediction, in order.

    Args:
        graph: The graph, and what comes before and after it.
        convert: Traces a module.
        luma: An example of luma (1, 1, H, W).
        takes_hints: Whether there is an input for hints.
    """
    openvino = import_openvino()
    from openvino import opset13

    inner = openvino.Core().read_model(graph.data)
    parameters = {
        "luma": opset13.parameter([1, 1, -1, -1], openvino.Type.f32, name="luma"),
        "vividness": opset13.parameter([], openvino.Type.f32, name="vividness"),
        **({"hints": opset13.parameter([1, 3, -1, -1], openvino.Type.f32, name="hints")} if takes_hints else {}),
    }
    before = convert(graph.before, (luma,))
    _feed(before, 0, parameters["luma"].output(0))
    named = {name: each for each in inner.get_parameters() for name in each.output(0).get_names()}
    _replace(named[graph.picture], _result(before, 0))
    for own, name in graph.others.items():
        rank = named[name].get_partial_shape().rank
        shape = opset13.constant([1] * (rank.get_length() if rank.is_static else 0), openvino.Type.i64)
        given = parameters[own].output(0)
        _replace(named[name], opset13.reshape(given, shape, False).output(0) if own == "vividness" else given)
    outputs = {name: each for each in inner.get_results() for name in each.input_value(0).get_names()}
    found = [outputs[name].input_value(0) for name in graph.outputs]
    after = convert(graph.after, (luma, torch.tensor(0.0), *_examples(found, luma)))
    for number, source in enumerate([parameters["luma"].output(0), parameters["vividness"].output(0), *found]):
        _feed(after, number, source)
    return openvino.Model([_result(after, number) for number in range(len(graph.gives))], list(parameters.values()), "onnx")


def _examples(outputs: list[Any], luma: Tensor) -> list[Tensor]:
    """Tensors with the numbers of planes of the graph's outputs, a quarter as high and wide as the luma."""
    height, width = (max(side // 4, 1) for side in luma.shape[-2:])

    def planes(output: Any) -> int:
        sides = output.get_partial_shape()
        return sides[1].get_length() if sides.rank.is_static and sides[1].is_static else 2

    return [torch.rand(1, planes(output), height, width) for output in outputs]


def _feed(model: Any, number: int, source: Any) -> None:
    """Connect the input of a traced module with that number to a source, if the module uses it."""
    parameters = model.get_parameters()
    if number < len(parameters):
        _replace(parameters[number], source)


def _replace(parameter: Any, source: Any) -> None:
    for target in parameter.output(0).get_target_inputs():
        target.replace_source_output(source)


def _result(model: Any, number: int) -> Any:
    """What a model's result with that number takes."""
    return model.get_results()[number].input_value(0)
