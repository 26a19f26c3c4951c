"""The figures of a validation, and which weights are the best by them."""

from collections.abc import Callable, Iterator

FIGURES = {
    "training_loss": "mean loss of the steps since the last validation",
    "loss": "the sum of the losses by their weights",
    "own_rgb_mse": "mean squared error in RGB, 0..1, of the network's own picture",
    "kept_mse": "the same with the source's luma kept, as `bwpipe run` keeps it",
    "grey_mse": "the same of the picture in grey, for comparison",
    "chroma_ratio": "mean chroma, the length of (Cb, Cr), as a share of the truth's",
    "chroma_correlation": "Pearson's, of Cb and Cr with the truth's, over all pixels",
}
"""What the figures of a validation are; each loss has its own, too, where there are several."""

GOALS: dict[str, Callable[[float], float]] = {
    "loss": lambda value: value,
    "own_rgb_mse": lambda value: value,
    "kept_mse": lambda value: value,
    "chroma_ratio": lambda value: abs(1 - value),
    "chroma_correlation": lambda value: -value,
    "epoch": lambda value: -value,
}
"""The figures that can choose the best weights; what a figure is turned into is lowest in the best. By `epoch` the last
ones are: where the rate falls to 0 at the end, no one figure knows better."""


def ranks(history: list[dict[str, float]], goal: str) -> Iterator[float]:
    """What each validation is worth by a goal of `GOALS`: the lower, the better."""
    return (GOALS[goal](figures[goal]) for figures in history)


def best(history: list[dict[str, float]], goal: str) -> int:
    """Which validation was best by a goal, counted from 1; the first of equals."""
    worth = list(ranks(history, goal))
    return 1 + worth.index(min(worth))
