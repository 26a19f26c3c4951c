"""A dataset in a few lines for a reader."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

from bwpipe.data.cache import STORY
from bwpipe.data.dataset import Dataset

_FOLDERS = 12
"""So many folders are listed; the smaller ones are counted."""


def summary(data: Dataset, colourfulness: float, failed: int) -> Iterator[str]:
    """What is in a dataset.

    Args:
        data: The dataset.
        colourfulness: The mean over its pictures.
        failed: How many files could not be read.
    """
    used = f"{len(data.training):,} to train on, {len(data.validation):,} to validate on"
    yield f"{len(data.names):,} pictures of {data.size} x {data.size} ({used}), mean colourfulness {colourfulness:.1f}"
    weights: dict[str, list[float]] = defaultdict(list)
    for name, weight in zip(data.names, data.weights.tolist(), strict=True):
        weights[PurePosixPath(name).parts[0] if "/" in name else "."].append(weight)
    if len(weights) > 1 or (data.weights != 1).any():
        ranked = sorted(weights, key=lambda folder: -len(weights[folder]))
        listed = [f"{folder} {len(weights[folder]):,}{_times(weights[folder])}" for folder in ranked[:_FOLDERS]]
        yield ", ".join([*listed, *([f"{len(ranked) - _FOLDERS} more folders"] if len(ranked) > _FOLDERS else [])])
    if data.left_out:
        named = f"; {data.folder / STORY} names them" if data.folder else ""
        yield "left out: " + ", ".join(f"{count:,} {why}" for why, count in data.left_out.items()) + named
    if data.folder:
        size = (data.grey.nbytes + data.colour.nbytes) / 1e6
        again = f"; remove it to have what failed tried again ({failed:,})" if failed else ""
        yield f"kept in {data.folder} ({size:,.1f} MB){again}"


def _times(weights: list[float]) -> str:
    """How often some pictures are shown in an epoch, where that is not once each."""
    low, high = min(weights), max(weights)
    return "" if low == high == 1 else f" x {low:.4g}" if low == high else f" x {low:.4g} to {high:.4g}"
