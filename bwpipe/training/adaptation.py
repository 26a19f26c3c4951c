"""Fits the part of a network that chooses colours to a few coloured stills, in seconds."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, l1_loss
from torch.optim import Adam

from bwpipe.core.frame import Frame, Luma
from bwpipe.errors import RunAborted
from bwpipe.nn.inference import network_input
from bwpipe.nn.network import Network
from bwpipe.nn.ycbcr import rgb_to_ycbcr
from bwpipe.pixels.levels import full_range
from bwpipe.pixels.orientation import upright
from bwpipe.pixels.resize import squash
from bwpipe.pixels.ycbcr import ycbcr_to_rgb

_ORDER = 0
"""Seed of the order in which stills are looked at."""


@dataclass(frozen=True, slots=True, eq=False)
class ColouredStill:
    """A picture to fit a network to, upright, at the network's input size.

    Attributes:
        luma: (h, w) float32 in 0..1, as the network is shown it.
        colour: (h, w, 3) uint8, RGB.
    """

    luma: NDArray[np.float32]
    colour: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Adaptation:
    """How far a network's colours were from those of the stills: the mean absolute error of Cb and Cr, which span 1.

    Attributes:
        before: Of the network as it was.
        after: Of the network as it is now.
    """

    before: float
    after: float


def coloured_still(frame: Frame, network: Network) -> ColouredStill:
    """A frame with chroma as a still for a network, which sees its guide, or its luma if it has none."""
    assert frame.chroma is not None
    media = frame.unit.media
    height, width = network.input_size(*upright(frame.luma, media.orientation).shape)

    small = squash(upright(frame.luma, media.orientation), height, width)
    luma = full_range(cast(Luma, small), media.levels)
    chroma = np.stack([squash(upright(plane.astype(np.float32), media.orientation), height, width) for plane in frame.chroma])
    colour = np.asarray(ycbcr_to_rgb(luma, chroma, media.matrix), np.uint8)
    return ColouredStill(network_input(frame, height, width), colour)


def adapt(
    network: Network,
    stills: Sequence[ColouredStill],
    *,
    steps: int,
    rate: float,
    device: torch.device,
    tick: Callable[[], None] = lambda: None,
) -> Adaptation:
    """Fit a network's weights, but for its backbone, to stills; each step looks at one of them, or at its mirror image.

    Minimised is the mean absolute error of the decoded chroma, by Adam (Kingma and Ba 2015), whose rate decays to 0 along half
    a cosine. Norms keep their statistics, which a few stills would not give. On a CPU the result is a function of the
    arguments and the number of threads.

    Args:
        network: As `build` returns it: weights that are never trained require no gradients. Afterwards it is on the device, in
            evaluation mode.
        stills: At least one.
        steps: Number of steps.
        rate: The learning rate of the first step.
        device: Where to compute.
        tick: Called before each step; may raise.

    Raises:
        RunAborted: An error is not finite.
    """
    network.to(device).eval()
    if backbone := network.backbone():
        backbone.requires_grad_(False)
    before = _error(network, stills)
    optimiser = Adam([weights for weights in network.parameters() if weights.requires_grad], lr=rate)
    rng = np.random.default_rng(_ORDER)
    looks: list[int] = []
    for step in range(steps):
        tick()
        looks = looks or rng.permutation(2 * len(stills)).tolist()
        place, mirrored = divmod(looks.pop(), 2)
        for group in optimiser.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimiser.zero_grad()
        loss = _loss(network, stills[place], mirrored=bool(mirrored))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    network.requires_grad_(False)
    after = _error(network, stills)
    if not math.isfinite(after):
        raise RunAborted(f"adapt: the error is not finite after {steps} steps; start again with a lower `adapt.rate`")
    return Adaptation(before, after)


def _error(network: Network, stills: Sequence[ColouredStill]) -> float:
    """The mean absolute error over all stills."""
    with torch.no_grad():
        return float(np.mean([_loss(network, still).item() for still in stills]))


def _loss(network: Network, still: ColouredStill, *, mirrored: bool = False) -> Tensor:
    """The mean absolute error of the decoded chroma, on its own grid, for a still or its mirror image."""
    device = next(network.parameters()).device
    luma = torch.from_numpy(still.luma)[None, None].to(device)
    colour = torch.from_numpy(still.colour).permute(2, 0, 1)[None].to(device).float() / 255
    if mirrored:
        luma, colour = luma.flip(3), colour.flip(3)
    chroma = network.decode(network(luma).float()).chroma
    return l1_loss(chroma, adaptive_avg_pool2d(rgb_to_ycbcr(colour)[1], (chroma.shape[2], chroma.shape[3])))
