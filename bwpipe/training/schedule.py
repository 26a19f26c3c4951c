"""Which pictures each step of a training shows, and how fast it learns there."""

import math
from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from bwpipe.data.dataset import Dataset
from bwpipe.errors import UsageError
from bwpipe.training.options import TrainingOptions


class Schedule:
    """The steps of a training, counted from 0, in epochs, counted from 1.

    Attributes:
        steps: How many there are in all.
        ends: After how many steps each epoch ends.
    """

    def __init__(self, data: Dataset, options: TrainingOptions) -> None:
        """Lay it out; all of it follows from the options. Raises UsageError where an epoch shows less than a batch."""
        self._options = options
        self._order = lru_cache(maxsize=1)(lambda epoch: data.order(options.seed, epoch))
        shown = [len(self._order(epoch)) for epoch in range(1, options.epochs + 1)]
        if min(shown) < options.batch:
            raise UsageError(
                f"there are {min(shown)} pictures to train on in an epoch, less than one batch of {options.batch}; "
                "add some, or set a smaller `fit.batch`"
            )
        counts = [count // options.batch for count in shown]
        self.ends = list(accumulate(counts))
        self.steps = self.ends[-1]

    def epoch(self, step: int) -> int:
        """The epoch that a step belongs to."""
        return bisect_right(self.ends, step) + 1

    def share(self, step: int) -> float:
        """How many epochs are over before a step, in parts of epochs too."""
        epoch = self.epoch(step)
        start = self.ends[epoch - 2] if epoch > 1 else 0
        return epoch - 1 + (step - start) / (self.ends[epoch - 1] - start) if step < self.steps else float(len(self.ends))

    def places(self, step: int) -> NDArray[np.intp]:
        """(batch,) which pictures of the dataset a step shows."""
        epoch, batch = self.epoch(step), self._options.batch
        first = (step - (self.ends[epoch - 2] if epoch > 1 else 0)) * batch
        return self._order(epoch)[first : first + batch]

    def rate(self, step: int) -> float:
        """The learning rate of a step: a linear warm-up, then constant or half a cosine (Loshchilov and Hutter 2017)."""
        options = self._options
        rising = min(1.0, (step + 1) / (options.warmup + 1))
        if options.schedule == "constant":
            return options.rate * rising
        over = max(0.0, (step - options.warmup) / max(1, self.steps - options.warmup))
        return options.rate * rising * 0.5 * (1 + math.cos(math.pi * over))
