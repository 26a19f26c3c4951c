"""Copies between main memory and a device, on a GPU through pinned memory, so that they do not block."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bwpipe.nn.runtime.base import Planes


class Staging:
    """Buffers from which a device reads and into which it writes.

    On a GPU they are pinned: page-locked, so that the GPU copies by itself while the processor goes on. Torch keeps pinned
    memory that is no longer used, in sizes of powers of two, and gives it out again.
    """

    def __init__(self, device: torch.device) -> None:
        """For a device."""
        self._device = device
        self._pinned = device.type == "cuda"

    def filled(self, planes: Planes) -> Tensor:
        """A buffer in main memory with these planes, to be copied with `non_blocking`; keep it until the device has read it."""
        buffer = torch.empty(planes.shape, dtype=torch.float32, pin_memory=self._pinned)
        np.copyto(buffer.numpy(), planes)
        return buffer

    def fetch(self, tensors: Sequence[Tensor | None]) -> Callable[[], list[NDArray[np.float32] | None]]:
        """Begin to copy tensors from the device.

        Returns:
            A function that waits for these copies, and for nothing that the device is asked for later, and returns arrays.
        """
        buffers = [
            None if each is None else torch.empty(each.shape, dtype=torch.float32, pin_memory=self._pinned) for each in tensors
        ]
        for buffer, each in zip(buffers, tensors, strict=True):
            if buffer is not None and each is not None:
                buffer.copy_(each, non_blocking=self._pinned)
        done = None
        if self._pinned:
            done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # a thread that waits must not spin
            done.record(torch.cuda.current_stream(self._device))

        def arrays() -> list[NDArray[np.float32] | None]:
            if done is not None:
                done.synchronize()
            return [None if each is None else each.numpy().copy() for each in buffers]  # so that the buffers are free again

        return arrays
