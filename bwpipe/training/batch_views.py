"""Training batches: augmented, with one or more degraded views of each image."""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bwpipe.data.dataset import Dataset
from bwpipe.losses.base import shift_target
from bwpipe.training.options import TrainingOptions

_AUGMENT, _DAMAGE, _VALIDATION, _HINTS = 1, 2, 3, 5
"""Separates the random streams of different uses; stands between the seed and the step. The 4 is in `step`."""


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """Some images and the inputs made of them for a network.

    Attributes:
        luma: (B, 1, H, W) in 0..1, undamaged.
        rgb: (B, 3, H, W) in 0..1, the target.
        inputs: For each view (B, 1, H, W) in 0..1, degraded independently.
        hints: For each view (B, 3, H, W), as in `Network.guess`; empty if the network is told nothing.
        shifts: For each view, its shift (rows, columns) down and right, in pixels.
    """

    luma: Tensor
    rgb: Tensor
    inputs: list[Tensor]
    shifts: list[tuple[int, int]]
    hints: list[Tensor] = field(default_factory=list)

    def __getitem__(self, part: slice) -> "Views":
        """The views of a slice of the images."""
        hints = [each[part] for each in self.hints]
        return Views(self.luma[part], self.rgb[part], [each[part] for each in self.inputs], self.shifts, hints)


class BatchAugmenter:
    """Makes the views of each step, determined by the seed and the step alone.

    Always makes the whole batch, however many processes and micro-batches share it: its randomness must not depend on that.
    """

    def __init__(self, data: Dataset, options: TrainingOptions, views: int, device: torch.device) -> None:
        """Make `views` views of each image, on `device`."""
        self._data = data
        self._options = options
        self._view_count = views
        self._device = device

    def views(self, step: int, indices: NDArray[np.intp]) -> Views:
        """The views of a training batch."""
        options = self._options
        rng = np.random.default_rng([options.seed, _AUGMENT, step])
        drawn = options.augment.draw(len(indices), self._data.size, rng)
        shifts = [(0, 0), *(self._shift(rng) for _ in range(1, self._view_count))]
        luma, rgb = options.augment.apply(*self._data.batch(indices, self._device), drawn)
        generator = torch.Generator(self._device).manual_seed(seed_of(options.seed, _DAMAGE, step))
        inputs = [self._input(luma, rgb, shift, generator) for shift in shifts]
        return Views(luma, rgb, inputs, shifts, [self._hints(rgb, shift, step) for shift in shifts] if options.hints else [])

    def validation_views(self, indices: NDArray[np.intp], start: int) -> Views:
        """The views for validation: whole, undamaged images; further views are degraded and shifted, the same way every time.

        Args:
            indices: (N,) images of the dataset.
            start: Number of images validated before.
        """
        luma, rgb = self._data.batch(indices, self._device)
        inputs, shifts = [luma], [(0, 0)]
        for view in range(1, self._view_count):
            seed = seed_of(self._options.seed, _VALIDATION, view, start)
            shifts.append(self._shift(np.random.default_rng(seed)))
            inputs.append(self._input(luma, rgb, shifts[-1], torch.Generator(self._device).manual_seed(seed)))
        return Views(luma, rgb, inputs, shifts)

    def _input(self, luma: Tensor, rgb: Tensor, shift: tuple[int, int], generator: torch.Generator) -> Tensor:
        """The network's input for one view."""
        luma, rgb = shift_target(luma, shift), shift_target(rgb, shift)
        return self._options.damage(luma, rgb, generator) if self._options.damage else luma

    def _hints(self, rgb: Tensor, shift: tuple[int, int], step: int) -> Tensor:
        """The hints for one view: of the same kind and at the same places in each."""
        assert self._options.hints
        generator = torch.Generator(self._device).manual_seed(seed_of(self._options.seed, _HINTS, step))
        return self._options.hints(shift_target(rgb, shift), generator)

    def _shift(self, rng: np.random.Generator) -> tuple[int, int]:
        limit = self._options.shift
        rows, columns = rng.integers(-limit, limit + 1, size=2)
        return int(rows), int(columns)


def seed_of(*numbers: int) -> int:
    """One seed for torch, derived from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
