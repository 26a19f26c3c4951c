"""Scores of single images, and their aggregation."""

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
from bwpipe.metrics.regions import region_figures, region_sums


@dataclass(frozen=True, slots=True, eq=False)
class ImageScores:
    """The scores of one image.

    Attributes:
        name: Name of the image.
        prediction: Figures of the prediction.
        grey: Figures of the image without colour.
        chroma: Chroma of prediction and reference, (2, H, W) each.
        strength: Mean length of chroma, of prediction and reference.
        hues: Amount of each hue, of prediction and reference, (Q,) each.
        features: Features of prediction, reference and grey, (3, 1280); None without an extractor.
        regions: The `region_sums` of the prediction, (6,).
    """

    name: str
    prediction: dict[str, float]
    grey: dict[str, float]
    chroma: tuple[NDArray[np.float32], NDArray[np.float32]]
    strength: tuple[float, float]
    hues: tuple[NDArray[np.float64], NDArray[np.float64]]
    features: Features | None
    regions: NDArray[np.float64]


def score_image(
    reference: Reference, colourised: ColourisedImage, extractor: Callable[[list[NDArray[np.uint8]]], Features] | None
) -> ImageScores:
    """Compare a prediction and the grey image with the reference. Raises MediaError if the image is too small."""
    prediction, grey = (figures(rgb, reference.rgb) for rgb in (colourised.rgb, reference.grey))
    if colourised.own_mse is not None:
        prediction["own_rgb_mse"] = colourised.own_mse
    predicted, target = chroma_of(colourised.rgb), chroma_of(reference.rgb)
    return ImageScores(
        name=reference.name,
        prediction=prediction,
        grey=grey,
        chroma=(predicted, target),
        strength=(_mean_length(predicted), _mean_length(target)),
        hues=(hues(predicted), hues(target)),
        features=extractor([colourised.rgb, reference.rgb, reference.grey]) if extractor else None,
        regions=region_sums(colourised.rgb, reference.rgb),
    )


def _mean_length(chroma: NDArray[np.float32]) -> float:
    return float(np.hypot(*chroma).mean(dtype=np.float64))


@dataclass(frozen=True, slots=True)
class AggregateScores:
    """The scores of a set of images.

    Attributes:
        count: Number of images.
        figures: Figures of the predictions, by the names of `FIGURES`.
        grey: Figures of the images without colour.
        hues: The share of each hue in all colour, by the hue's name: {"guess": ..., "truth": ...}.
    """

    count: int
    figures: dict[str, float]
    grey: dict[str, float]
    hues: dict[str, dict[str, float]]

    def to_json(self) -> dict[str, Any]:
        """As JSON-serialisable values."""
        return {"pictures": self.count, "figures": self.figures, "grey": self.grey, "hues": self.hues}


class Aggregator:
    """Aggregates the scores of a folder's images, or of all images."""

    def __init__(self) -> None:
        self._prediction: list[dict[str, float]] = []
        self._grey: list[dict[str, float]] = []
        self._correlation = Correlation()
        self._strength = np.zeros(2)
        self._hues = np.zeros((2, len(NAMES)))
        self._regions = np.zeros(6)
        self._features: list[Features] = []

    @property
    def count(self) -> int:
        """Number of images added."""
        return len(self._prediction)

    def add(self, scores: ImageScores) -> None:
        """Add an image."""
        self._prediction.append(scores.prediction)
        self._grey.append(scores.grey)
        self._correlation.add(*scores.chroma)
        self._strength += scores.strength
        self._hues += scores.hues
        self._regions += scores.regions
        if scores.features is not None:
            self._features.append(scores.features)

    def result(self) -> AggregateScores:
        """The scores of all images added, at least one."""
        prediction, grey = _means(self._prediction), _means(self._grey)
        predicted, target = self._strength
        prediction |= {
            "chroma_ratio": float(predicted / target) if target else 0.0,
            "chroma_correlation": self._correlation.value,
            **region_figures(self._regions),
        }
        grey |= {"chroma_ratio": 0.0, "chroma_correlation": 0.0, "unevenness": 0.0, "neutral_painted": 0.0}
        if len(self._features) >= LEAST:
            of_prediction, of_reference, of_grey = np.stack(self._features, axis=1)
            prediction["frechet"], grey["frechet"] = frechet(of_prediction, of_reference), frechet(of_grey, of_reference)
        shares = self._hues / np.maximum(self._hues.sum(axis=1, keepdims=True), np.finfo(float).tiny)
        return AggregateScores(
            count=self.count,
            figures=_in_order(prediction),
            grey=_in_order(grey),
            hues={
                name: {"guess": float(predicted_share), "truth": float(reference_share)}
                for name, predicted_share, reference_share in zip(NAMES, *shares, strict=True)
            },
        )


def _means(scores: list[dict[str, float]]) -> dict[str, float]:
    means = {name: float(np.mean([figures[name] for figures in scores])) for name in scores[0]}
    return means | {"colourfulness_difference": means["colourfulness"] - means["colourfulness_truth"]}


def _in_order(figures: dict[str, float]) -> dict[str, float]:
    return {name: figures[name] for name in FIGURES if name in figures}
