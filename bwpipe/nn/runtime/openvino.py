"""Networks computed by OpenVINO, on a CPU, without torch."""

import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from io import BytesIO
from threading import Lock, local
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.memory import is_out_of_memory
from bwpipe.errors import RunAborted, UsageError
from bwpipe.nn.input_size import HasInputSize, Quality
from bwpipe.nn.runtime.base import Planes, Prediction
from bwpipe.nn.runtime.compiled import CompiledNetworks
from bwpipe.nn.runtime.graph_file import WEIGHT, NetworkGraph

HINTS = {"float32": "f32", "bfloat16": "bf16"}
"""The precisions that OpenVINO computes in on a CPU, and its names for them."""
_SIZES = 4
"""How many input sizes of films stay compiled: each takes some 20 MB for each worker."""
_CONVERSION = "openvino.tools.ovc"
_import_lock = Lock()
_Key = tuple[int, int] | None
"""A size that the network is compiled for; None for all sizes."""


class OpenVinoRuntime:
    """A network's graph with a checkpoint's weights.

    Images are computed one by one, each by one thread, so that a result depends on nothing else in the batch; a worker gets
    its own inference request. For a film the network is compiled for its frame size; for pictures once for all sizes, which
    takes a third longer an image: compiling takes as long as ten of them. What was compiled is kept for other processes.
    """

    def __init__(
        self,
        graph: NetworkGraph,
        weights: Callable[[], Mapping[str, NDArray[np.floating]]],
        *,
        network: HasInputSize | None = None,
        precision: str = "float32",
        threads: int = 1,
        kept: CompiledNetworks | None = None,
    ) -> None:
        """Prepare it; compiling comes with the first prediction.

        Args:
            graph: The graph.
            weights: Reads the checkpoint's weights by name, which the graph fits: only what has to be compiled needs them.
            network: What knows the input's size, if the graph does not.
            precision: One of `HINTS`.
            threads: How many threads will call `predict` at a time.
            kept: What was compiled before.

        Raises:
            UsageError: OpenVINO can't be imported, or the processor lacks the instructions for the precision.
        """
        self._info = graph.info
        self._network = network
        self._precision = precision
        self._core = _core()
        if precision == "bfloat16" and "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise UsageError("this processor has no instructions for bfloat16; set `precision: float32`")
        self._config = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # the other stages compute too
            "ENABLE_HYPER_THREADING": True,
        }
        self._graph, self._weights, self._kept = graph, weights, kept
        self._compiled: OrderedDict[_Key, Any] = OrderedDict()
        self._lock = Lock()
        self._requests = local()

    @property
    def registered(self) -> str:
        """The network's name."""
        return self._info.network

    @property
    def takes_hints(self) -> bool:
        """Whether the network uses hints."""
        return self._info.takes_hints

    @property
    def resolved(self) -> Mapping[str, str]:
        """For the provenance."""
        return {"runtime": f"openvino {openvino_version()}", "precision": self._precision, "device": "cpu"}

    def input_size(self, height: int, width: int, quality: Quality = "normal") -> tuple[int, int]:
        """As in `bwpipe.nn.network.Network`."""
        if self._info.sizes:
            return self._info.sizes.of(height, width, quality)
        assert self._network
        return self._network.input_size(height, width, quality)

    def further_views(self, height: int, width: int, quality: Quality = "normal") -> tuple[tuple[int, int], ...]:
        """As in `bwpipe.nn.network.Network`."""
        sizes = self._info.sizes or self._network
        assert sizes
        return sizes.further_views(height, width, quality)

    def predict(
        self, luma: Planes, vividness: float | None = None, hints: Planes | None = None, *, many: bool = False
    ) -> Prediction:
        """As in `Runtime`."""
        height, width = luma.shape[1:]
        request = self._request((height, width) if many else None)
        inputs: dict[str, Planes] = {
            "vividness": np.array(self._info.vividness if vividness is None else vividness, np.float32)
        }
        parts = []
        for number in range(len(luma)):
            inputs["luma"] = luma[number, None, None]
            if self._info.takes_hints:
                inputs["hints"] = np.zeros((1, 3, height, width), np.float32) if hints is None else hints[number, None]
            parts.append(self._infer(request, inputs))
        prediction = Prediction.joined(parts)
        remedy = "use another checkpoint" if self._precision == "float32" else "try `precision: float32`"
        prediction.check_finite(self.registered, remedy)
        return prediction

    def close(self) -> None:
        """Release the weights."""
        self._compiled.clear()
        self._requests = local()

    def _infer(self, request: Any, inputs: Mapping[str, Planes]) -> Prediction:
        """The prediction for one image. Raises MemoryError, RunAborted."""
        try:
            outputs = request.infer(inputs, share_inputs=True)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise MemoryError(str(error)) from error
            raise RunAborted(f"OpenVINO failed: {' '.join(str(error).split())}; set `runtime: torch`") from error
        return Prediction(**{name: np.array(outputs[number]) for number, name in enumerate(self._info.outputs)})

    def _request(self, key: _Key) -> Any:
        """This thread's inference request for a size."""
        compiled = self._compile(key)
        requests: OrderedDict[_Key, tuple[Any, Any]] = self._requests.__dict__.setdefault("found", OrderedDict())
        if key not in requests or requests[key][0] is not compiled:
            requests[key] = compiled, compiled.create_infer_request()
            while len(requests) > _SIZES:
                requests.popitem(last=False)
        requests.move_to_end(key)
        return requests[key][1]

    def _compile(self, key: _Key) -> Any:
        """The network compiled for a size. Raises MemoryError, RunAborted."""
        with self._lock:
            if key not in self._compiled:
                try:
                    self._compiled[key] = self._found(key) or self._made(key)
                except RuntimeError as error:
                    if is_out_of_memory(error):
                        raise MemoryError(str(error)) from error
                    raise RunAborted(f"OpenVINO failed: {' '.join(str(error).split())}; set `runtime: torch`") from error
                while len(self._compiled) > _SIZES:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(key)
            return self._compiled[key]

    def _found(self, key: _Key) -> Any:
        """What an earlier process compiled; None if there is nothing that can be used."""
        data = self._kept.read(self._how(key)) if self._kept else None
        return data and self._imported(data)

    def _made(self, key: _Key) -> Any:
        """The network, compiled now.

        It is read back even if it is not kept: for all sizes, OpenVINO computes the last bit of some colours otherwise then.
        """
        file = BytesIO()
        compiled = self._core.compile_model(self._reshaped(key), "CPU", self._config)
        try:
            compiled.export_model(file)
        except RuntimeError:  # it has operations that can't be written
            return compiled
        del compiled  # two of them at a time would be the most memory that a film ever takes
        data = file.getvalue()
        file.close()
        imported = self._imported(data)
        if imported and self._kept:
            self._kept.keep(self._how(key), data)
        return imported or self._core.compile_model(self._reshaped(key), "CPU", self._config)

    def _reshaped(self, key: _Key) -> Any:
        """The network for a size."""
        model = with_weights(self._core.read_model(self._graph.operations, self._graph.constants), self._weights())
        if key:
            hints = {"hints": [1, 3, *key]} if self._info.takes_hints else {}
            model.reshape({"luma": [1, 1, *key], **hints})
        return model

    def _imported(self, data: bytes) -> Any:
        """A compiled network; None if this version of OpenVINO can't read it."""
        with suppress(RuntimeError):
            return self._core.import_model(data, "CPU", self._config)
        return None

    def _how(self, key: _Key) -> dict[str, Any]:
        """What distinguishes a compiled network from others of the same network."""
        return {"openvino": openvino_version(), "precision": self._precision, "size": key}


@cache
def _core() -> Any:
    """What compiles networks: one for the whole process, as OpenVINO's documentation asks. Raises UsageError."""
    return import_openvino().Core()


def with_weights(model: Any, weights: Mapping[str, NDArray[np.floating]]) -> Any:
    """A graph whose parameters for weights are replaced by the weights, in float32."""
    from openvino import opset13

    for parameter in model.get_parameters():
        name = parameter.get_friendly_name()
        if name.startswith(WEIGHT):
            constant = opset13.constant(weights[name.removeprefix(WEIGHT)].astype(np.float32, copy=False), name=name)
            for target in parameter.output(0).get_target_inputs():
                target.replace_source_output(constant.output(0))
            model.remove_parameter(parameter)
    model.validate_nodes_and_infer_types()
    return model


def import_openvino() -> Any:
    """The package, without its conversion tools, whose import starts a thread that sends usage statistics.

    A type is converted to numpy's here, in one thread: OpenVINO 2026.4 makes its table of them at first use, and gives up
    Python's lock meanwhile, so two threads whose first inferences are at the same time would wait for each other for ever.

    Call it before anything else imports from the package. Raises UsageError.
    """
    try:
        with _import_lock:
            blocked = _CONVERSION not in sys.modules
            if blocked:
                sys.modules[_CONVERSION] = None  # type: ignore[assignment]
            try:
                import openvino

                openvino.Type.f32.to_dtype()
            finally:
                if blocked:
                    del sys.modules[_CONVERSION]
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"OpenVINO can't be imported ({reason}); install it again, or set `colorize.runtime: torch`"
        ) from error
    return openvino


@cache
def openvino_version() -> str | None:
    """The installed version of OpenVINO, without importing it; None if there is none. Recipes ask for it for each segment."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("openvino")
    except PackageNotFoundError:
        return None
