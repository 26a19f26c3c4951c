"""Shows luma to a network, and makes of its guess what frames keep."""

import numpy as np
import torch
from numpy.typing import NDArray

from bwpipe.core.frame import Frame
from bwpipe.errors import RunAborted
from bwpipe.nn.network import Guess, Network
from bwpipe.pixels.orientation import upright
from bwpipe.pixels.resize import squash


def network_input(frame: Frame, height: int, width: int) -> NDArray[np.float32]:
    """A frame's guide, or its luma where it has none, upright, brought to (height, width), in 0..1: black is 0, white is 1."""
    media = frame.unit.media
    plane, (black, white) = (frame.luma, media.levels) if frame.guide is None else (frame.guide, (0, 255))
    small = squash(upright(plane, media.orientation), height, width)
    return np.clip((small.astype(np.float32) - black) / (white - black), 0, 1)


def predict(network: Network, luma: NDArray[np.float32], vividness: float | None = None) -> Guess:
    """What a network thinks the colours are.

    Args:
        network: On any device, in any precision.
        luma: (B, h, w) in 0..1, in its `input_size`.
        vividness: As in `Network.decode`.

    Returns:
        Chroma and confidence in float32, on the CPU; the network's own picture stays where it was made.

    Raises:
        MemoryError: The device has not enough memory.
        RunAborted: The device failed, or the colours are no numbers.
    """
    weights = next(network.parameters())
    try:
        with torch.inference_mode():
            shown = torch.from_numpy(luma).unsqueeze(1).to(weights, memory_format=torch.channels_last)
            made = network.guess(shown, vividness)
            chroma = made.chroma.float().cpu()
            confidence = None if made.confidence is None else made.confidence.float().cpu()
    except RuntimeError as error:
        if "out of memory" in str(error) or "DefaultCPUAllocator" in str(error):
            raise MemoryError(str(error)) from error
        if weights.device.type == "cpu":
            raise
        raise RunAborted(f"{weights.device} failed: {error}; run again, or choose another `device`") from error
    if not (chroma.isfinite().all() and (confidence is None or confidence.isfinite().all())):
        remedy = "use another checkpoint" if weights.dtype == torch.float32 else "try `precision: float32`"
        raise RunAborted(f"the network {network.registered!r} gave colours that are no numbers; {remedy}")
    return Guess(chroma, confidence, made.rgb)


def frame_planes(planes: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float16]:
    """Planes (C, h, w) of a guess as a frame keeps them: no finer than its luma, whose size is given, and read-only."""
    height, width = (min(sides) for sides in zip(planes.shape[1:], size, strict=True))
    small = squash(planes.transpose(1, 2, 0), height, width).reshape(height, width, -1)
    made = small.transpose(2, 0, 1).astype(np.float16, order="C")
    made.flags.writeable = False
    return made
