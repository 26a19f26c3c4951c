"""A network on a GPU of NVIDIA's."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from threading import Lock

import torch
from torch import Tensor

from bwpipe.nn.inference import device_failures, infer
from bwpipe.nn.network import Guess, Network
from bwpipe.nn.runtime.base import Planes, Prediction
from bwpipe.nn.runtime.cuda_graphs import CannotCapture, Capture, CudaCapture, CudaGraphs
from bwpipe.nn.runtime.staging import Staging


class GpuNetwork:
    """A network on one GPU. `predict` may be called by several threads at a time.

    Copies go through pinned memory, and a thread waits for its own prediction only: the others fill their buffers and queue
    their work meanwhile. Where many predictions of a size are to come, they are CUDA graphs.
    """

    def __init__(
        self,
        network: Network,
        device: torch.device,
        warn: Callable[[str], None] = lambda text: None,
        capture: Capture | None = None,
    ) -> None:
        """Use a network that is on the device already.

        Args:
            network: From `bwpipe.nn.device.prepare`.
            device: Where it is.
            warn: Warns the user that the network can't be captured.
            capture: Captures a prediction; by default as a CUDA graph.
        """
        self._network = network
        self._device = device
        self._warn = warn
        self._staging = Staging(device)
        self._graphs: CudaGraphs | None = CudaGraphs(self._infer, capture or CudaCapture(device), device)
        self._lock = Lock()

    def _infer(self, luma: Tensor, vividness: float | None, hints: Tensor | None) -> Guess:
        return infer(self._network, luma, vividness, hints)

    def predict(
        self, luma: Planes, vividness: float | None = None, hints: Planes | None = None, *, many: bool = False
    ) -> Prediction:
        """As in `bwpipe.nn.runtime.base.Runtime`."""
        with device_failures(self._device), self._current(), torch.inference_mode():
            staged = self._staging.filled(luma[:, None])
            known = None if hints is None else self._staging.filled(hints)
            with self._lock:  # so that graphs' inputs are not filled again before they are used
                guess = self._replayed(staged, vividness, known) if many else None
                if guess is None:
                    moved = None if known is None else known.to(self._device, non_blocking=True)
                    guess = self._infer(staged.to(self._device, non_blocking=True), vividness, moved)
                arrays = self._staging.fetch((guess.chroma, guess.confidence, guess.features))
            chroma, confidence, features = arrays()
        assert chroma is not None
        return Prediction(chroma, confidence, features)

    def _current(self) -> AbstractContextManager[object]:
        """Makes the device torch's current one, which is where graphs are captured and replayed."""
        return torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()

    def _replayed(self, luma: Tensor, vividness: float | None, hints: Tensor | None) -> Guess | None:
        """The prediction of a graph; None if the network can't be captured."""
        if self._graphs is None:
            return None
        try:
            return self._graphs.predict(luma, vividness, hints)
        except torch.OutOfMemoryError:
            self._graphs.clear()  # for the smaller batches that follow
            raise
        except CannotCapture as error:
            self._graphs = None
            name = self._network.registered
            self._warn(f"the network {name!r} can't be captured as a CUDA graph ({error}), so it is computed without, slower")
            return None

    def close(self) -> None:
        """Release the graphs."""
        with self._lock:
            self._graphs = None
