"""Pairs of grey and colour images, and datasets of them, in memory or memory-mapped from files."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bwpipe.core.context import RunContext
from bwpipe.core.frame import Unit

GREY, COLOUR = "grey.npy", "colour.npy"
"""The NumPy files in a dataset's folder."""


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """An image in grey and in colour.

    Attributes:
        unit: The source file.
        grey: (S, S) uint8, its luma in full range, or its separate grey partner.
        colour: (S, S, 3) uint8, RGB.
    """

    unit: Unit
    grey: NDArray[np.uint8]
    colour: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Pairs of one size, split into training and validation.

    It can be pickled: if it is stored as files, the other process opens them, and no images are copied.

    Attributes:
        grey: (N, S, S) uint8.
        colour: (N, S, S, 3) uint8, RGB.
        training: (T,) indices of the training pairs, ascending.
        validation: (V,) indices of the validation pairs, ascending.
        names: (N,) name of each relative to the folder that was read, such as "people/anna.jpg".
        weights: (N,) how often each is used per epoch.
        digest: A hash of everything but the weights.
        folder: The folder of its files, which other processes can open; None for a dataset in memory.
        left_out: Number of images left out, by reason.
        root: The folder that was read; None if there was none.
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
        """Create a dataset in memory.

        Args:
            grey: (N, S, S).
            colour: (N, S, S, 3).
            validation: Indices of the validation pairs; all others are for training.
            names: "0", "1" and so on by default.
            weights: 1 each by default.
        """
        count = len(grey)
        held_out = np.zeros(count, bool)
        held_out[list(validation)] = True
        resolved_names = [str(i) for i in range(count)] if names is None else list(names)
        digest = blake2b(repr((grey.shape, resolved_names)).encode("utf-8", "surrogateescape"), digest_size=16)
        for array in (grey, colour, held_out):
            digest.update(np.ascontiguousarray(array).data)
        return cls(
            grey,
            colour,
            np.flatnonzero(~held_out),
            np.flatnonzero(held_out),
            resolved_names,
            np.array([1] * count if weights is None else weights, np.float32),
            digest.hexdigest(),
        )

    @property
    def size(self) -> int:
        """Height and width of a pair, in pixels."""
        return int(self.grey.shape[1])

    def order(self, seed: int, epoch: int) -> NDArray[np.intp]:
        """The training indices of an epoch, each as often as its weight says, in an order determined by seed and epoch.

        A weight of 2.3 means twice in every epoch, and a third time with probability 0.3.
        """
        rng = np.random.default_rng([seed, epoch])
        weights = self.weights[self.training]
        repeats = np.floor(weights).astype(np.intp)
        repeats += rng.random(len(repeats)) < weights - repeats
        return rng.permutation(np.repeat(self.training, repeats))

    def batch(self, indices: NDArray[np.intp], device: torch.device) -> tuple[Tensor, Tensor]:
        """A batch of pairs: luma (B, 1, S, S) and RGB (B, 3, S, S), float32 in 0..1, channels last."""
        luma = torch.from_numpy(self.grey[indices]).to(device).unsqueeze(1)
        rgb = torch.from_numpy(self.colour[indices]).to(device).permute(0, 3, 1, 2)
        return tuple(each.contiguous(memory_format=torch.channels_last).float() / 255 for each in (luma, rgb))  # type: ignore[return-value]

    def training_files(self) -> Iterator[Path]:
        """The files of the training pairs, symlinks resolved; none if no folder was read."""
        indices = self.training[self.weights[self.training] > 0].tolist()
        return (Path(self.root, self.names[index]).resolve() for index in indices) if self.root else iter(())

    def prefetch(self, indices: NDArray[np.intp]) -> None:
        """Ask the operating system to read pairs from the disk in the background, so that `batch` need not wait.

        Returns at once; does nothing for pairs in memory or where the system has no such call.
        """
        if self.folder and hasattr(os, "posix_fadvise"):
            for name, array in ((GREY, self.grey), (COLOUR, self.colour)):
                with suppress(OSError), (self.folder / name).open("rb", buffering=0) as file:  # `batch` reports errors
                    start, row = os.fstat(file.fileno()).st_size - array.nbytes, array[0].nbytes
                    for index in indices.tolist():
                        os.posix_fadvise(file.fileno(), start + index * row, row, os.POSIX_FADV_WILLNEED)

    def __getstate__(self) -> dict[str, Any]:
        """All attributes except arrays that are stored as files."""
        return {key: value for key, value in vars(self).items() if not (self.folder and key in {"grey", "colour"})}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the attributes and open the files, if any. Raises OSError, ValueError."""
        vars(self).update(state)
        if self.folder:
            vars(self).update(grey=map_array(self.folder / GREY), colour=map_array(self.folder / COLOUR))


@runtime_checkable
class ChecksDataset(Protocol):
    """A stage after `pairs` and `dataset` that can refuse a dataset before its images are read."""

    def expect_size(self, size: int) -> None:
        """Take note, before `setup`, of the height and width of the pairs, in pixels."""

    def expect_images(self, count: int) -> None:
        """Check the largest possible number of training images per epoch. Raises UsageError."""


def checks_of(run: RunContext, stage: object, *, between: int) -> list[ChecksDataset]:
    """The stages below a stage that check datasets; those with other than `between` stages in between see something else."""
    below = run.downstream(stage)
    return [
        each
        for each in below
        if isinstance(each, ChecksDataset) and sum(each is one for other in below for one in run.downstream(other)) == between
    ]


def map_array(path: Path) -> NDArray[Any]:
    """The array in an .npy file, memory-mapped read-only. Raises OSError, ValueError."""
    return np.asarray(np.load(path, mmap_mode="r"))


def split_validation(names: Iterable[str], share: float, seed: int) -> set[str]:
    """Choose about a given share, in 0..1, of some names.

    Each name is chosen or not by a hash of itself and the seed, so adding or removing a name moves no other. With two or more
    names, at least one is chosen and at least one is not.
    """
    hashes = {name: _unit_hash(name, seed) for name in names}
    ranked = sorted(hashes, key=hashes.__getitem__)
    count = sum(value < share for value in hashes.values())
    return set(ranked[: min(max(count, 1), len(ranked) - 1)])


def _unit_hash(name: str, seed: int) -> float:
    """A pseudo-random number in 0..1, determined by the name and the seed."""
    digest = blake2b(f"{seed}/{name}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
