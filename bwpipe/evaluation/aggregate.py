"""Everything that is measured of one picture."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bwpipe.scoring.figures import chroma_of, figures
from bwpipe.scoring.frechet import Features
from bwpipe.scoring.guesses import Painted
from bwpipe.scoring.hues import hues
from bwpipe.scoring.truths import Truth


@dataclass(frozen=True, slots=True, eq=False)
class Marks:
    """What a picture adds to the figures of its folder and of all.

    Attributes:
        name: The picture's.
        guess: Its own figures.
        grey: Those of the picture without colour.
        chroma: Guessed and true, (2, H, W) each.
        strength: Mean length of chroma, guessed and true.
        hues: How much there is of each, guessed and true, (Q,) each.
        features: Of guess, truth and grey, (3, 1280); None where nobody looks.
    """

    name: str
    guess: dict[str, float]
    grey: dict[str, float]
    chroma: tuple[NDArray[np.float32], NDArray[np.float32]]
    strength: tuple[float, float]
    hues: tuple[NDArray[np.float64], NDArray[np.float64]]
    features: Features | None


def mark(truth: Truth, painted: Painted, eyes: Callable[[list[NDArray[np.uint8]]], Features] | None) -> Marks:
    """Compare a guess and its grey with the truth. Raises MediaError where the picture is too small."""
    guess, grey = (figures(rgb, truth.rgb) for rgb in (painted.rgb, truth.grey))
    if painted.own_mse is not None:
        guess["own_rgb_mse"] = painted.own_mse
    guessed, true = chroma_of(painted.rgb), chroma_of(truth.rgb)
    return Marks(
        name=truth.name,
        guess=guess,
        grey=grey,
        chroma=(guessed, true),
        strength=(_length(guessed), _length(true)),
        hues=(hues(guessed), hues(true)),
        features=eyes([painted.rgb, truth.rgb, truth.grey]) if eyes else None,
    )


def _length(chroma: NDArray[np.float32]) -> float:
    return float(np.hypot(*chroma).mean(dtype=np.float64))
