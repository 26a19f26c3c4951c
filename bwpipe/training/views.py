"""Batches as a training shows them: augmented, and seen through damaged looks."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bwpipe.dataset import Dataset
from bwpipe.losses.truth import moved
from bwpipe.training.options import TrainingOptions


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


class Shower:
    """Makes the views of each step; they follow from the seed, the step, and which part of its batch they are."""

    def __init__(self, data: Dataset, options: TrainingOptions, looks: int, device: torch.device) -> None:
        """`looks` of each picture are made, on the device."""
        self._data = data
        self._options = options
        self._looks = looks
        self._device = device

    def views(self, step: int, places: NDArray[np.intp], part: slice) -> Views:
        """Show a part of a batch: the pictures of `places[part]`, as they are shown within all of `places`."""
        options = self._options
        chances = np.random.default_rng([options.seed, step])
        drawn = options.augment.draw(len(places), self._data.size, chances)
        shifts = [(0, 0), *(self._shift(chances) for _ in range(1, self._looks))]
        luma, rgb = self._data.batch(places[part], self._device)
        luma, rgb = options.augment.apply(luma, rgb, drawn[part])
        generator = torch.Generator(self._device).manual_seed(seed_of(options.seed, step, part.start))
        seen = []
        for shift in shifts:
            grey, colours = (moved(each, shift) for each in (luma, rgb))
            seen.append(options.damage(grey, colours, generator) if options.damage else grey)
        return Views(luma, rgb, seen, shifts)

    def plainly(self, places: NDArray[np.intp], start: int) -> Views:
        """Show whole pictures as they are, for validation; further looks are damaged and moved, each time in the same way.

        Args:
            places: (N,) which.
            start: How many pictures were shown before.
        """
        options = self._options
        luma, rgb = self._data.batch(places, self._device)
        seed = seed_of(options.seed, start)
        seen, shifts = [luma], [(0, 0)]
        for number in range(1, self._looks):
            shifts.append(self._shift(np.random.default_rng([seed, number])))
            grey, colours = (moved(each, shifts[-1]) for each in (luma, rgb))
            generator = torch.Generator(self._device).manual_seed(seed + number)
            seen.append(options.damage(grey, colours, generator) if options.damage else grey)
        return Views(luma, rgb, seen, shifts)

    def _shift(self, chances: np.random.Generator) -> tuple[int, int]:
        most = self._options.shift
        rows, columns = chances.integers(-most, most + 1, size=2)
        return int(rows), int(columns)


def seed_of(*numbers: int) -> int:
    """One seed for torch, made of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
