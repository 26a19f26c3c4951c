"""Summarises a dataset in a few lines."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

from bwpipe.data.cache import INFO_FILE
from bwpipe.data.dataset import Dataset

_FOLDERS = 12
"""Number of folders listed; the smaller ones are only counted."""


def summary(data: Dataset, colourfulness: float, failed: int) -> Iterator[str]:
    """The contents of a dataset, in lines for the user.

    Args:
        data: The dataset.
        colourfulness: The mean over its images.
        failed: Number of files that could not be read.
    """
    split = f"{len(data.training):,} for training, {len(data.validation):,} for validation"
    yield f"{len(data.names):,} images of {data.size} x {data.size} ({split}), mean colourfulness {colourfulness:.1f}"
    weights: dict[str, list[float]] = defaultdict(list)
    for name, weight in zip(data.names, data.weights.tolist(), strict=True):
        weights[PurePosixPath(name).parts[0] if "/" in name else "."].append(weight)
    if len(weights) > 1 or (data.weights != 1).any():
        ranked = sorted(weights, key=lambda folder: -len(weights[folder]))
        listed = [f"{folder} {len(weights[folder]):,}{_times(weights[folder])}" for folder in ranked[:_FOLDERS]]
        yield ", ".join([*listed, *([f"{len(ranked) - _FOLDERS} more folders"] if len(ranked) > _FOLDERS else [])])
    if data.left_out:
        details = f"; listed in {data.folder / INFO_FILE}" if data.folder else ""
        yield "left out: " + ", ".join(f"{count:,} {why}" for why, count in data.left_out.items()) + details
    if data.folder:
        size = (data.grey.nbytes + data.colour.nbytes) / 1e6
        retry = f"; remove it to retry the files that failed ({failed:,})" if failed else ""
        yield f"cached in {data.folder} ({size:,.1f} MB){retry}"


def _times(weights: list[float]) -> str:
    """How often images are used per epoch, unless once each."""
    low, high = min(weights), max(weights)
    return "" if low == high == 1 else f" x {low:.4g}" if low == high else f" x {low:.4g} to {high:.4g}"
