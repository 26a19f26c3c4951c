"""Random hints for training: parts of the target's chroma that a network is told."""

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Generator, Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, interpolate

from bwpipe.memory.hint_spreading import TINT_MASK
from bwpipe.nn.ycbcr import rgb_to_ycbcr

GRID_MASK = 0.5
"""The mask of chroma on a coarse grid."""
MOST_POINTS = 30
"""The largest number of points; smaller numbers are as frequent as in a geometric series, with a mean of about 8."""
LARGEST_DOT = 4
"""The largest radius of a point, in pixels; a point is a square."""


class RandomHints(BaseModel):
    """Hints that are drawn from the target, so that a network learns to make use of what a person or a memory tells it.

    Each photograph that gets hints gets one kind of them: points, twice as often as each of the others; the mean chroma of the
    photograph; chroma on a grid of 4 x 4 to 16 x 16 cells some of which are unknown; or the chroma of a neighbouring frame:
    shifted, of another saturation, and unknown in places.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    chance: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The share of photographs that get hints."""

    def __call__(self, rgb: Tensor, generator: Generator) -> Tensor:
        """Draw hints (B, 3, H, W), as in `Network.guess`, for targets (B, 3, H, W) in 0..1."""
        chroma = rgb_to_ycbcr(rgb)[1]
        hints = torch.zeros_like(rgb)
        numbers = torch.rand(len(rgb), 2, generator=generator, device=generator.device).tolist()
        for image, (chance, kind) in enumerate(numbers):
            if chance < self.chance:
                hints[image] = KINDS[int(kind * len(KINDS))](chroma[image], generator)
        return hints


def points(chroma: Tensor, generator: Generator) -> Tensor:
    """Squares of the chroma (2, H, W) at 1 to `MOST_POINTS` random places: hints (3, H, W)."""
    height, width = chroma.shape[1:]
    hints = chroma.new_zeros(3, height, width)
    (number,) = _random(1, generator)
    count = min(MOST_POINTS, 1 + int(torch.tensor(1 - number).log() / torch.tensor(1 - 1 / 8).log()))
    for down, right, size in torch.rand(count, 3, generator=generator, device=generator.device).tolist():
        top, left, radius = int(down * height), int(right * width), int(size * (LARGEST_DOT + 1))
        area = (slice(max(top - radius, 0), top + radius + 1), slice(max(left - radius, 0), left + radius + 1))
        hints[:2, *area] = chroma[:, top, left, None, None]
        hints[2, *area] = 1
    return hints


def tint(chroma: Tensor, generator: Generator) -> Tensor:
    """The mean of the chroma (2, H, W): hints (3, H, W)."""
    return _with_mask(chroma.mean(dim=(1, 2), keepdim=True).expand_as(chroma), torch.full_like(chroma[:1], TINT_MASK))


def grid(chroma: Tensor, generator: Generator) -> Tensor:
    """The chroma (2, H, W) averaged to a coarse grid, up to half of whose cells are unknown: hints (3, H, W)."""
    size, unknown = _random(2, generator)
    cells = 4 << int(size * 3)
    small = adaptive_avg_pool2d(chroma, cells)
    known = torch.rand(1, cells, cells, generator=generator, device=generator.device) >= unknown / 2
    return _resized(_with_mask(small, GRID_MASK * known.to(chroma)), chroma, "nearest")


def neighbour(chroma: Tensor, generator: Generator) -> Tensor:
    """The chroma (2, H, W) as a neighbouring frame may have it: hints (3, H, W).

    It is blurred, shifted by up to 1/24 of a side, 0.7 to 1.3 times as saturated, and unknown in smooth regions.
    """
    down, right, saturation, mask, unknown = _random(5, generator)
    height, width = chroma.shape[1:]
    moved = avg_pool2d(chroma, 9, stride=1, padding=4, count_include_pad=False)
    moved = moved.roll((int((2 * down - 1) * height / 24), int((2 * right - 1) * width / 24)), dims=(1, 2))
    regions = torch.rand(1, 5, 5, generator=generator, device=generator.device).to(chroma)
    known = (_resized(regions, chroma, "bilinear") >= 0.2 + 0.5 * unknown).to(chroma)
    return _with_mask(moved * (0.7 + 0.6 * saturation), known * (0.3 + 0.6 * mask))


KINDS: tuple[Callable[[Tensor, Generator], Tensor], ...] = (points, points, tint, grid, neighbour)


def _random(count: int, generator: Generator) -> list[float]:
    numbers: list[float] = torch.rand(count, generator=generator, device=generator.device).tolist()
    return numbers


def _with_mask(chroma: Tensor, mask: Tensor) -> Tensor:
    """Hints (3, h, w) of chroma (2, h, w) where a mask (1, h, w) is not 0."""
    return torch.cat([chroma * (mask > 0), mask])


def _resized(planes: Tensor, like: Tensor, mode: str) -> Tensor:
    resized: Tensor = interpolate(planes[None], like.shape[1:], mode=mode)[0]
    return resized
