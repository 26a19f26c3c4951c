"""The batches and the learning rate of each step of a training."""

import math
from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from bwpipe.data.dataset import Dataset
from bwpipe.errors import UsageError
from bwpipe.training.options import TrainingOptions


def check_batch(count: int, options: TrainingOptions) -> None:
    """Refuse epochs of `count` training images if that is less than one batch. Raises UsageError."""
    if count < options.batch:
        raise UsageError(
            f"an epoch has only {count} training images, less than one batch of {options.batch}; "
            "add images, or set a smaller `fit.batch`"
        )


class Schedule:
    """The steps of a training, counted from 0, in epochs, counted from 1.

    Attributes:
        steps: Total number of steps.
        ends: For each epoch, the number of steps up to its end.
    """

    def __init__(self, data: Dataset, options: TrainingOptions) -> None:
        """Lay out all steps, determined by the options. Raises UsageError if an epoch has less than one batch."""
        self._options = options
        self._order = lru_cache(maxsize=1)(lambda epoch: data.order(options.seed, epoch))
        sizes = [len(self._order(epoch)) for epoch in range(1, options.epochs + 1)]
        check_batch(min(sizes), options)
        counts = [count // options.batch for count in sizes]
        self.ends = list(accumulate(counts))
        self.steps = self.ends[-1]

    def epoch(self, step: int) -> int:
        """The epoch of a step."""
        return bisect_right(self.ends, step) + 1

    def epochs_completed(self, step: int) -> float:
        """Epochs completed before a step, with the fraction of the current one."""
        epoch = self.epoch(step)
        start = self.ends[epoch - 2] if epoch > 1 else 0
        return epoch - 1 + (step - start) / (self.ends[epoch - 1] - start) if step < self.steps else float(len(self.ends))

    def indices(self, step: int) -> NDArray[np.intp]:
        """(batch,) indices into the dataset of a step's images."""
        epoch, batch = self.epoch(step), self._options.batch
        first = (step - (self.ends[epoch - 2] if epoch > 1 else 0)) * batch
        return self._order(epoch)[first : first + batch]

    def rate(self, step: int) -> float:
        """The learning rate of a step: a linear warm-up, then constant or half a cosine (Loshchilov and Hutter 2017)."""
        options = self._options
        warmup = min(1.0, (step + 1) / (options.warmup + 1))
        if options.schedule == "constant":
            return options.rate * warmup
        decay = max(0.0, (step - options.warmup) / max(1, self.steps - options.warmup))
        return options.rate * warmup * 0.5 * (1 + math.cos(math.pi * decay))
