"""CUDA graphs: a network's kernels for one size and batch, captured once and launched as one.

A small network is many short kernels, and launching them one by one takes the processor longer than the GPU computes.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bwpipe.nn.network import Guess

GRAPHS = 8
"""How many graphs of a network are kept on a device."""
WARM_UPS = 2
"""Predictions before the capture, in which libraries choose kernels and take their memory."""
LARGEST_DIFFERENCE = 1 / 255
"""Difference from the chroma predicted without a graph above which a graph is not used."""

Compute: TypeAlias = Callable[[Tensor, float | None, Tensor | None], Guess]
"""From luma (B, 1, H, W), vividness and hints (B, 3, H, W), on the device, to a prediction on the device."""
Capture: TypeAlias = Callable[[Callable[[], Guess]], tuple[Callable[[], None], Guess]]
"""Captures a call: what replays it, and the tensors that each replay fills. Raises CannotCapture."""


class CannotCapture(Exception):
    """A network that can't be captured; the text says why, in a few words."""


class StaysOnDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raises CannotCapture at whatever makes the processor wait for the device, or copies between both."""

    def __init__(self) -> None:
        """To be entered by `with`."""
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at an operation before and after it runs."""
        if {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags) and _waits(func, args):
            raise CannotCapture(f"{func} needs a result of the device before it goes on")
        with self:
            result = func.decompose(*args, **(kwargs or {}))  # without gradients, operations come here whole
        if result is not NotImplemented:
            return result
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in {torch.ops.aten._to_copy, torch.ops.aten.copy_}:
            source = next(each for each in reversed(args) if isinstance(each, Tensor))
            if source.device != result.device:
                raise CannotCapture(f"{func} copies from {source.device.type} to {result.device.type}")
        return result


def _waits(func: Any, args: Any) -> bool:
    """Whether an operation that may need a result of the device does: elements may be taken by a mask, or by their numbers."""
    if func.overloadpacket is torch.ops.aten.index:
        return any(each is not None and each.dtype in {torch.bool, torch.uint8} for each in args[1])
    return any(isinstance(each, Tensor) and each.device.type != "cpu" for each in args)


@dataclass(frozen=True, slots=True)
class _Captured:
    """A captured prediction: its inputs, what computes, and its outputs."""

    luma: Tensor
    hints: Tensor | None
    replay: Callable[[], None]
    guess: Guess


class CudaGraphs:
    """The captured predictions of a network by shape, vividness and whether there are hints.

    The graph that was not used for the longest time goes first. Calls must not overlap: all graphs share inputs' and outputs'
    memory in the order of the device's stream.
    """

    def __init__(self, compute: Compute, capture: Capture, device: torch.device, limit: int = GRAPHS) -> None:
        """Capture `compute` when a shape is first seen."""
        self._compute = compute
        self._capture = capture
        self._device = device
        self._limit = limit
        self._kept: OrderedDict[tuple[Any, ...], _Captured] = OrderedDict()

    def predict(self, luma: Tensor, vividness: float | None, hints: Tensor | None) -> Guess:
        """Predict; the outputs hold until the next call.

        Args:
            luma: (B, 1, H, W) in main memory; it must stay as it is until the device has copied it.
            vividness: As in `Network.decode`.
            hints: (B, 3, H, W), likewise, or None.

        Raises:
            CannotCapture: The network does something that can't be captured.
        """
        key = (tuple(luma.shape), vividness, hints is not None)
        found = self._kept.get(key)
        if found is None:
            while len(self._kept) >= self._limit:
                self._kept.popitem(last=False)
            found = self._kept[key] = self._captured(luma, vividness, hints)
        self._kept.move_to_end(key)
        found.luma.copy_(luma, non_blocking=True)
        if hints is not None and found.hints is not None:
            found.hints.copy_(hints, non_blocking=True)
        found.replay()
        return found.guess

    def _captured(self, luma: Tensor, vividness: float | None, hints: Tensor | None) -> _Captured:
        inputs = luma.to(self._device), None if hints is None else hints.to(self._device)
        if inputs[0] is luma:  # on the device of the caller's own tensors
            inputs = luma.clone(), None if hints is None else hints.clone()
        replay, guess = self._capture(lambda: self._compute(inputs[0], vividness, inputs[1]))
        return _Captured(*inputs, replay, guess)

    def clear(self) -> None:
        """Release all graphs."""
        self._kept.clear()


class CudaCapture:
    """Captures calls on a GPU. All graphs share one pool of memory, which is as large as the largest of them needs."""

    def __init__(self, device: torch.device) -> None:
        """For a device of type `cuda`."""
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Callable[[], Guess]) -> tuple[Callable[[], None], Guess]:
        """Warm up, capture, and compare with what was predicted without a graph; the device must be torch's current one.

        Raises:
            CannotCapture: It can't be captured, or its colours differ.
            torch.OutOfMemoryError: The device is out of memory.
        """
        before, beside = torch.cuda.current_stream(self._device), torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        beside.wait_stream(before)
        try:
            with torch.cuda.stream(beside):
                with StaysOnDevice():
                    function()
                for _ in range(WARM_UPS):
                    expected = function()
            before.wait_stream(beside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, self._pool, beside, "thread_local"):  # other threads may use the GPU meanwhile
                found = function()
            graph.replay()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise CannotCapture(str(error).partition("\n")[0].rstrip(".")) from error
        finally:
            torch.cuda.set_stream(before)  # a capture that fails leaves its own
        if not torch.allclose(found.chroma, expected.chroma, rtol=0, atol=LARGEST_DIFFERENCE, equal_nan=True):
            apart = 255 * float((found.chroma - expected.chroma).abs().max())
            raise CannotCapture(f"its colours differ by {apart:.2f} code values")
        return graph.replay, found
