"""Networks computed by torch, on any device."""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from threading import Lock

import numpy as np
import torch

from bwpipe.nn.device import prepare
from bwpipe.nn.inference import predict, remedy
from bwpipe.nn.input_size import Quality
from bwpipe.nn.network import Network
from bwpipe.nn.runtime.base import Planes, Prediction
from bwpipe.nn.runtime.gpu import GpuNetwork


class TorchRuntime:
    """A network on one or more devices, which are used in turn. On a CPU each worker uses one thread."""

    def __init__(
        self,
        network: Network,
        devices: Sequence[torch.device],
        precision: str,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Copy the network to the devices, with its weights in a precision, by torch's name."""
        self._network = network
        self._precision: torch.dtype = getattr(torch, precision)
        self._copies = [_copy(network, device, self._precision, warn) for device in devices]
        self._turns = cycle(self._copies)
        self._lock = Lock()
        self._threads = torch.get_num_threads()
        self._tensor_float = torch.backends.cudnn.allow_tf32
        if precision == "float32":
            torch.backends.cudnn.allow_tf32 = False  # it has the 11 bits of float16
        used = ", ".join(dict.fromkeys(map(str, devices)))
        self._resolved = {"runtime": f"torch {torch.__version__}", "precision": precision, "device": used}

    @property
    def registered(self) -> str:
        """The network's name."""
        return self._network.registered

    @property
    def takes_hints(self) -> bool:
        """Whether the network uses hints."""
        return self._network.takes_hints

    @property
    def resolved(self) -> Mapping[str, str]:
        """For the provenance."""
        return self._resolved

    def input_size(self, height: int, width: int, quality: Quality = "normal") -> tuple[int, int]:
        """As in `bwpipe.nn.network.Network`."""
        return self._network.input_size(height, width, quality)

    def further_views(self, height: int, width: int, quality: Quality = "normal") -> tuple[tuple[int, int], ...]:
        """As in `bwpipe.nn.network.Network`."""
        return self._network.further_views(height, width, quality)

    def predict(
        self, luma: Planes, vividness: float | None = None, hints: Planes | None = None, *, many: bool = False
    ) -> Prediction:
        """As in `Runtime`."""
        if torch.get_num_threads() > 1:  # set for this thread and those started by it later; slow to change
            torch.set_num_threads(1)
        with self._lock:
            network = next(self._turns)
        prediction = network.predict(luma, vividness, hints, many=many)
        prediction.check_finite(self._network.registered, remedy(self._precision))
        return prediction

    def close(self) -> None:
        """Release the weights, and restore torch's settings."""
        for each in self._copies:
            each.close()
        self._copies.clear()
        self._turns = cycle(())  # it would keep the weights
        torch.set_num_threads(self._threads)
        torch.backends.cudnn.allow_tf32 = self._tensor_float


class _PlainNetwork:
    """A network on a device whose copies wait, such as a CPU, where there are none."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def predict(
        self, luma: Planes, vividness: float | None = None, hints: Planes | None = None, *, many: bool = False
    ) -> Prediction:
        """As in `Runtime`."""
        guess = predict(self._network, luma, vividness, hints)

        def planes(tensor: torch.Tensor | None) -> Planes | None:
            return None if tensor is None else np.asarray(tensor.numpy(), np.float32)

        return Prediction(guess.chroma.numpy(), planes(guess.confidence), planes(guess.features))

    def close(self) -> None:
        """Nothing is to be released but the network."""


def _copy(
    network: Network, device: torch.device, precision: torch.dtype, warn: Callable[[str], None]
) -> GpuNetwork | _PlainNetwork:
    """A copy of a network on a device, in a precision."""
    prepared = prepare(network, device, precision)
    return GpuNetwork(prepared, device, warn) if device.type == "cuda" else _PlainNetwork(prepared)
