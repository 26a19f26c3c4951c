"""Pictures in grey and in colour, and datasets of them, in memory or in files that are mapped into it."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bwpipe.core.frame import Unit

GREY, COLOUR = "grey.npy", "colour.npy"
"""The files of a dataset's folder; numpy reads them."""


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A picture in grey and in colour.

    Attributes:
        unit: Where it comes from.
        grey: (S, S) uint8, its luma in full range, or the grey picture that came with it.
        colour: (S, S, 3) uint8, RGB.
    """

    unit: Unit
    grey: NDArray[np.uint8]
    colour: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Pairs of one size, some of them to train on and the others to validate on.

    It can be given to another process: one that is kept as files is opened there, its pictures are not copied.

    Attributes:
        grey: (N, S, S) uint8.
        colour: (N, S, S, 3) uint8, RGB.
        training: (T,) the places of those to train on, ascending.
        validation: (V,) the places of the others, ascending.
        names: (N,) the name of each below the folder that was read, such as "people/anna.jpg".
        weights: (N,) how often each is shown in an epoch.
        digest: A hash of it all but the weights: equal for equal datasets only.
        folder: Where it is kept as files, so that another process can open it too; None for one in memory.
        left_out: How many pictures were left out, by reason.
        root: The folder that was read; None where there was none.
    """

    grey: NDArray[np.uint8]
    colour: NDArray[np.uint8]
    training: NDArray[np.intp]
    validation: NDArray[np.intp]
    names: list[str]
    weights: NDArray[np.float32]
    digest: str
    folder: Path | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    root: Path | None = None

    @classmethod
    def of(
        cls,
        grey: NDArray[np.uint8],
        colour: NDArray[np.uint8],
        *,
        validation: Sequence[int],
        names: Sequence[str] | None = None,
        weights: Sequence[float] | None = None,
    ) -> "Dataset":
        """Make one in memory.

        Args:
            grey: (N, S, S).
            colour: (N, S, S, 3).
            validation: The places of those to validate on; all others are to train on.
            names: "0", "1" and so on by default.
            weights: 1 each by default.
        """
        count = len(grey)
        aside = np.zeros(count, bool)
        aside[list(validation)] = True
        called = [str(i) for i in range(count)] if names is None else list(names)
        digest = blake2b(repr((grey.shape, called)).encode("utf-8", "surrogateescape"), digest_size=16)
        for array in (grey, colour, aside):
            digest.update(np.ascontiguousarray(array).data)
        return cls(
            grey,
            colour,
            np.flatnonzero(~aside),
            np.flatnonzero(aside),
            called,
            np.array([1] * count if weights is None else weights, np.float32),
            digest.hexdigest(),
        )

    @property
    def size(self) -> int:
        """Height and width of a pair, in pixels."""
        return int(self.grey.shape[1])

    def order(self, seed: int, epoch: int) -> NDArray[np.intp]:
        """The places to train on in an epoch, each as often as its weight says, in an order that follows from seed and epoch.

        A weight of 2.3 is twice in every epoch, and a third time in 3 of 10, by chance.
        """
        rng = np.random.default_rng([seed, epoch])
        weights = self.weights[self.training]
        times = np.floor(weights).astype(np.intp)
        times += rng.random(len(times)) < weights - times
        return rng.permutation(np.repeat(self.training, times))

    def batch(self, places: NDArray[np.intp], device: torch.device) -> tuple[Tensor, Tensor]:
        """Some pairs as networks take them: luma (B, 1, S, S) and RGB (B, 3, S, S), float32 in 0..1, channels last."""
        luma = torch.from_numpy(self.grey[places]).to(device).unsqueeze(1)
        rgb = torch.from_numpy(self.colour[places]).to(device).permute(0, 3, 1, 2)
        return tuple(each.contiguous(memory_format=torch.channels_last).float() / 255 for each in (luma, rgb))  # type: ignore[return-value]

    def seen(self) -> Iterator[Path]:
        """The files of those that are trained on, links followed; none where no folder was read."""
        shown = self.training[self.weights[self.training] > 0].tolist()
        return (Path(self.root, self.names[place]).resolve() for place in shown) if self.root else iter(())

    def fetch(self, places: NDArray[np.intp]) -> None:
        """Have the system read some pairs from the disk meanwhile, so that `batch` need not wait for it.

        It only asks, and does not wait; for pairs in memory, and where the system can't be asked, nothing is done.
        """
        if self.folder and hasattr(os, "posix_fadvise"):
            for name, array in ((GREY, self.grey), (COLOUR, self.colour)):
                with suppress(OSError), (self.folder / name).open("rb", buffering=0) as file:  # `batch` tells what is wrong
                    start, row = os.fstat(file.fileno()).st_size - array.nbytes, array[0].nbytes
                    for place in places.tolist():
                        os.posix_fadvise(file.fileno(), start + place * row, row, os.POSIX_FADV_WILLNEED)

    def __getstate__(self) -> dict[str, Any]:
        """All of it, but for arrays that are kept as files."""
        return {key: value for key, value in vars(self).items() if not (self.folder and key in {"grey", "colour"})}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the files again, if there are some. Raises OSError, ValueError."""
        vars(self).update(state)
        if self.folder:
            vars(self).update(grey=map_array(self.folder / GREY), colour=map_array(self.folder / COLOUR))


def map_array(path: Path) -> NDArray[Any]:
    """The array in an .npy file, mapped into memory, read-only. Raises OSError, ValueError."""
    return np.asarray(np.load(path, mmap_mode="r"))


def split_validation(names: Iterable[str], share: float, seed: int) -> set[str]:
    """Choose about this share, in 0..1, of some names.

    A hash of the name and the seed decides on each by itself, so that a name more or less moves no other one. Of two names or
    more at least one is chosen and one is not.
    """
    chances = {name: _chance(name, seed) for name in names}
    ranked = sorted(chances, key=chances.__getitem__)
    count = sum(chance < share for chance in chances.values())
    return set(ranked[: min(max(count, 1), len(ranked) - 1)])


def _chance(name: str, seed: int) -> float:
    """A number in 0..1 that follows from the name and the seed and otherwise looks like chance."""
    digest = blake2b(f"{seed}/{name}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
