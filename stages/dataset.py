"""The `dataset` stage."""

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from pydantic import Field

from bwpipe import Gather, UsageError, stage
from bwpipe.training import Dataset, Pair


@stage("dataset")
class Gathered(Gather):
    """Gathers all pairs in memory and sets some aside, by chance, to validate on."""

    split: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """The share of the pictures that is only validated on; rounded up."""
    seed: Annotated[int, Field(ge=0)] = 42
    """Another seed sets other pictures aside."""

    def gather(self, pairs: Iterator[Pair]) -> Dataset:
        """Stack the pairs in the order they come. Raises UsageError where there are too few to split."""
        grey: list[np.ndarray] = []
        colour: list[np.ndarray] = []
        for pair in pairs:
            grey.append(pair.grey)
            colour.append(pair.colour)
        aside = int(np.ceil(len(grey) * self.split))
        if not 0 < aside < len(grey):
            raise UsageError(
                f"{len(grey)} colour pictures are too few to train and validate on with `dataset.split: {self.split}`; add some"
            )
        places = np.random.default_rng(self.seed).permutation(len(grey))
        return Dataset(np.stack(grey), np.stack(colour), np.sort(places[aside:]), np.sort(places[:aside]))
