"""Everything that is measured of one picture."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bwpipe.evaluation.predictions import ColourisedImage
from bwpipe.evaluation.references import Reference
from bwpipe.metrics.correlation import Correlation
from bwpipe.metrics.descriptions import FIGURES
from bwpipe.metrics.frechet import LEAST, Features, frechet
from bwpipe.metrics.image_metrics import NAMES, chroma_of, figures, hues


@dataclass(frozen=True, slots=True, eq=False)
class ImageScores:
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


def score_image(
    truth: Reference, painted: ColourisedImage, eyes: Callable[[list[NDArray[np.uint8]]], Features] | None
) -> ImageScores:
    """Compare a guess and its grey with the truth. Raises MediaError where the picture is too small."""
    guess, grey = (figures(rgb, truth.rgb) for rgb in (painted.rgb, truth.grey))
    if painted.own_mse is not None:
        guess["own_rgb_mse"] = painted.own_mse
    guessed, true = chroma_of(painted.rgb), chroma_of(truth.rgb)
    return ImageScores(
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


@dataclass(frozen=True, slots=True)
class AggregateScores:
    """How some pictures did.

    Attributes:
        pictures: How many.
        figures: Those of the guesses, by `FIGURES`.
        grey: Those of the pictures without colour.
        hues: The share of each hue of all colour, by the hue's name: {"guess": ..., "truth": ...}.
    """

    pictures: int
    figures: dict[str, float]
    grey: dict[str, float]
    hues: dict[str, dict[str, float]]

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"pictures": self.pictures, "figures": self.figures, "grey": self.grey, "hues": self.hues}


class Aggregator:
    """The pictures of one folder, or all of them."""

    def __init__(self) -> None:
        self._guess: list[dict[str, float]] = []
        self._grey: list[dict[str, float]] = []
        self._correlation = Correlation()
        self._strength = np.zeros(2)
        self._hues = np.zeros((2, len(NAMES)))
        self._features: list[Features] = []

    @property
    def pictures(self) -> int:
        """How many were added."""
        return len(self._guess)

    def add(self, marks: ImageScores) -> None:
        """Add a picture."""
        self._guess.append(marks.guess)
        self._grey.append(marks.grey)
        self._correlation.add(*marks.chroma)
        self._strength += marks.strength
        self._hues += marks.hues
        if marks.features is not None:
            self._features.append(marks.features)

    def standing(self) -> AggregateScores:
        """What came of at least one picture."""
        guess, grey = _means(self._guess), _means(self._grey)
        guessed, true = self._strength
        guess |= {"chroma_ratio": float(guessed / true) if true else 0.0, "chroma_correlation": self._correlation.value}
        grey |= {"chroma_ratio": 0.0, "chroma_correlation": 0.0}
        if len(self._features) >= LEAST:
            of_guess, of_truth, of_grey = np.stack(self._features, axis=1)
            guess["frechet"], grey["frechet"] = frechet(of_guess, of_truth), frechet(of_grey, of_truth)
        shares = self._hues / np.maximum(self._hues.sum(axis=1, keepdims=True), np.finfo(float).tiny)
        return AggregateScores(
            pictures=self.pictures,
            figures=_in_order(guess),
            grey=_in_order(grey),
            hues={
                name: {"guess": float(guess_share), "truth": float(true_share)}
                for name, guess_share, true_share in zip(NAMES, *shares, strict=True)
            },
        )


def _means(pictures: list[dict[str, float]]) -> dict[str, float]:
    means = {name: float(np.mean([figures[name] for figures in pictures])) for name in pictures[0]}
    return means | {"colourfulness_difference": means["colourfulness"] - means["colourfulness_truth"]}


def _in_order(figures: dict[str, float]) -> dict[str, float]:
    return {name: figures[name] for name in FIGURES if name in figures}
