"""Batches as a training shows them: augmented, and seen through damaged looks."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bwpipe.data.dataset import Dataset
from bwpipe.losses.base import shift_target
from bwpipe.training.options import TrainingOptions

_AUGMENT, _DAMAGE, _VALIDATION = 1, 2, 3
"""What tells the random numbers of one use from those of another, between the seed and the step."""


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """Some pictures, and how a network is to see them.

    Attributes:
        luma: (B, 1, H, W) in 0..1, undamaged.
        rgb: (B, 3, H, W) in 0..1, the truth.
        seen: For each look (B, 1, H, W) in 0..1, damaged in its own way.
        shifts: For each look, by how many (rows, columns) it was moved down and right.
    """

    luma: Tensor
    rgb: Tensor
    seen: list[Tensor]
    shifts: list[tuple[int, int]]

    def __getitem__(self, part: slice) -> "Views":
        """Those of some of the pictures."""
        return Views(self.luma[part], self.rgb[part], [each[part] for each in self.seen], self.shifts)


class BatchAugmenter:
    """Makes the views of each step; they follow from the seed and the step.

    The whole batch is made, however many processes and parts share it: what is random in it must not depend on that.
    """

    def __init__(self, data: Dataset, options: TrainingOptions, views: int, device: torch.device) -> None:
        """`views` of each picture are made, on the device."""
        self._data = data
        self._options = options
        self._looks = views
        self._device = device

    def views(self, step: int, places: NDArray[np.intp]) -> Views:
        """Show the pictures of a batch."""
        options = self._options
        chances = np.random.default_rng([options.seed, _AUGMENT, step])
        drawn = options.augment.draw(len(places), self._data.size, chances)
        shifts = [(0, 0), *(self._shift(chances) for _ in range(1, self._looks))]
        luma, rgb = options.augment.apply(*self._data.batch(places, self._device), drawn)
        generator = torch.Generator(self._device).manual_seed(seed_of(options.seed, _DAMAGE, step))
        return Views(luma, rgb, [self._seen(luma, rgb, shift, generator) for shift in shifts], shifts)

    def plainly(self, places: NDArray[np.intp], start: int) -> Views:
        """Show whole pictures as they are, for validation; further looks are damaged and moved, each time in the same way.

        Args:
            places: (N,) which.
            start: How many pictures were shown before.
        """
        luma, rgb = self._data.batch(places, self._device)
        seen, shifts = [luma], [(0, 0)]
        for look in range(1, self._looks):
            seed = seed_of(self._options.seed, _VALIDATION, look, start)
            shifts.append(self._shift(np.random.default_rng(seed)))
            seen.append(self._seen(luma, rgb, shifts[-1], torch.Generator(self._device).manual_seed(seed)))
        return Views(luma, rgb, seen, shifts)

    def _seen(self, luma: Tensor, rgb: Tensor, shift: tuple[int, int], generator: torch.Generator) -> Tensor:
        """What a look shows to the network."""
        luma, rgb = shift_target(luma, shift), shift_target(rgb, shift)
        return self._options.damage(luma, rgb, generator) if self._options.damage else luma

    def _shift(self, chances: np.random.Generator) -> tuple[int, int]:
        most = self._options.shift
        rows, columns = chances.integers(-most, most + 1, size=2)
        return int(rows), int(columns)


def seed_of(*numbers: int) -> int:
    """One seed for torch, made of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
