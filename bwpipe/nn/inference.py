"""Inference: from frames to network input, and from predictions to the planes of frames."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import Frame
from bwpipe.errors import RunAborted
from bwpipe.pixels.orientation import upright
from bwpipe.pixels.resize import squash

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bwpipe.nn.network import Guess, Network


def network_input(frame: Frame, height: int, width: int) -> NDArray[np.float32]:
    """A frame's guide, or its luma if it has none, upright, resized to (height, width), in 0..1: black is 0, white is 1."""
    media = frame.unit.media
    plane, (black, white) = media.on_display(frame.luma) if frame.guide is None else (frame.guide, (0, 255))
    small = squash(upright(plane, media.orientation), height, width)
    return np.clip((small.astype(np.float32) - black) / (white - black), 0, 1)


def infer(network: "Network", luma: "Tensor", vividness: float | None = None, hints: "Tensor | None" = None) -> "Guess":
    """Predict chroma for a batch, without leaving the network's device: nothing waits for it.

    Args:
        network: On any device, in any precision.
        luma: (B, 1, h, w) in 0..1 in float32, at the network's `input_size`.
        vividness: As in `Network.decode`.
        hints: (B, 3, h, w) in float32, as in `Network.guess`.

    Returns:
        Chroma, confidence and features in float32, on the network's device.
    """
    import torch

    from bwpipe.nn.network import Guess

    weights = next(network.parameters())
    batch = luma.to(weights, memory_format=torch.channels_last)
    known = None if hints is None else hints.to(weights, memory_format=torch.channels_last)
    output = network.guess(batch, vividness) if known is None else network.guess(batch, vividness, known)
    confidence, features = (None if each is None else each.float() for each in (output.confidence, output.features))
    return Guess(output.chroma.float(), confidence, output.rgb, features)


def predict(
    network: "Network", luma: NDArray[np.float32], vividness: float | None = None, hints: NDArray[np.float32] | None = None
) -> "Guess":
    """Predict chroma for a batch.

    Args:
        network: On any device, in any precision.
        luma: (B, h, w) in 0..1, at the network's `input_size`.
        vividness: As in `Network.decode`.
        hints: (B, 3, h, w), as in `Network.guess`.

    Returns:
        Chroma, confidence and features in float32, on the CPU; the network's own RGB stays on its device.

    Raises:
        MemoryError: The device is out of memory.
        RunAborted: The device failed, or the prediction is not finite.
    """
    import torch

    from bwpipe.nn.network import Guess

    weights = next(network.parameters())
    with device_failures(weights.device), torch.inference_mode():
        known = None if hints is None else torch.from_numpy(hints)
        output = infer(network, torch.from_numpy(luma).unsqueeze(1), vividness, known)
        confidence, features = (None if each is None else each.cpu() for each in (output.confidence, output.features))
        chroma = output.chroma.cpu()
    if not (chroma.isfinite().all() and (confidence is None or confidence.isfinite().all())):
        raise RunAborted(
            f"the network {network.registered!r} predicted colours that are not finite numbers; {remedy(weights.dtype)}"
        )
    return Guess(chroma, confidence, output.rgb, features)


@contextmanager
def device_failures(device: "torch.device") -> Iterator[None]:
    """Turn torch's errors into MemoryError if the device is out of memory, and into RunAborted if it is no CPU."""
    try:
        yield
    except RuntimeError as error:
        if "out of memory" in str(error) or "DefaultCPUAllocator" in str(error):
            raise MemoryError(str(error)) from error
        if device.type == "cpu":
            raise
        raise RunAborted(f"{device} failed: {error}; run again, or choose another `device`") from error


def remedy(precision: "torch.dtype") -> str:
    """What to do about a prediction in this precision that is not finite."""
    import torch

    return "use another checkpoint" if precision == torch.float32 else "try `precision: float32`"


def average_views(views: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The mean of predictions for one batch.

    Args:
        views: (B, C, h, w) each, on grids of their own; all but the first are mirrored left to right.

    Returns:
        (B, C, h, w), on the grid of the first.
    """
    first, *others = views
    height, width = first.shape[2:]
    total = first.copy()
    for view in others:
        for number, planes in enumerate(view[..., ::-1]):
            resized = squash(planes.transpose(1, 2, 0), height, width).reshape(height, width, -1)
            total[number] += resized.transpose(2, 0, 1)
    return total / np.float32(len(views))


def frame_planes(planes: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float16]:
    """Planes (C, h, w) of a prediction in the form that frames hold: float16, no finer than the luma of `size`, read-only."""
    height, width = (min(sides) for sides in zip(planes.shape[1:], size, strict=True))
    small = squash(planes.transpose(1, 2, 0), height, width).reshape(height, width, -1)
    output = small.transpose(2, 0, 1).astype(np.float16, order="C")
    output.flags.writeable = False
    return output
