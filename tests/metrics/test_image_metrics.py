"""Formulas of the metrics."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from bwpipe.errors import MediaError
from bwpipe.evaluation.aggregate import Aggregator, score_image
from bwpipe.evaluation.predictions import ColourisedImage, partners
from bwpipe.evaluation.references import Reference
from bwpipe.metrics.correlation import Correlation
from bwpipe.metrics.frechet import LEAST, SIDE, WIDTH, FeatureExtractor, frechet
from bwpipe.metrics.image_metrics import NAMES, chroma_of, figures, hues
from bwpipe.nn.efficientnet import Encoder

rng = np.random.default_rng(5)


def flat(*rgb: int) -> NDArray[np.uint8]:
    return np.broadcast_to(np.array(rgb, np.uint8), (12, 12, 3))


def test_correlation_is_pearson_over_all_pixels_of_all_images_with_cb_and_cr_pooled() -> None:
    references = [rng.normal(0.01, 0.1, (2, 64, 64)) for _ in range(3)]
    predictions = [0.3 * reference + rng.normal(0, 0.05, reference.shape) for reference in references]
    correlation = Correlation()
    for pair in zip(predictions, references, strict=True):
        correlation.add(*pair)

    expected = np.corrcoef(np.concatenate(predictions).ravel(), np.concatenate(references).ravel())[0, 1]

    assert correlation.value == pytest.approx(expected, rel=1e-6)


def test_correlation_compares_averages_on_a_common_grid() -> None:
    reference, prediction = (rng.normal(0, 0.1, (2, 64, 64)) for _ in range(2))
    small, large = Correlation(), Correlation()
    small.add(prediction, reference)
    large.add(prediction.repeat(2, axis=1).repeat(3, axis=2), reference.repeat(2, axis=1).repeat(2, axis=2))

    assert large.value == pytest.approx(small.value, rel=1e-5)


def test_a_constant_correlates_with_nothing() -> None:
    correlation = Correlation()
    assert correlation.value == 0
    correlation.add(np.full((2, 8, 8), 0.1), rng.normal(size=(2, 8, 8)))

    assert correlation.value == 0


@pytest.mark.parametrize(("count", "width"), [(300, 6), (20, 40)])
def test_the_frechet_distance_is_that_of_two_normal_distributions(count: int, width: int) -> None:
    prediction, reference = (rng.normal(shift, 1, (count, width)).astype(np.float32) for shift in (0.5, 0))
    prediction_covariance, reference_covariance = (np.cov(features, rowvar=False) for features in (prediction, reference))
    values, vectors = np.linalg.eigh(reference_covariance)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    both = np.sqrt(np.linalg.eigvalsh(root @ prediction_covariance @ root).clip(0)).sum()
    mean_distance = np.sum((prediction.mean(0) - reference.mean(0)) ** 2)

    assert frechet(prediction, reference) == pytest.approx(
        mean_distance + np.trace(prediction_covariance + reference_covariance) - 2 * both, rel=1e-3
    )
    assert frechet(reference, reference) == pytest.approx(0, abs=1e-3)


def test_the_features_of_an_image_are_those_of_the_encoder_whatever_shares_its_batch() -> None:
    first, second = rng.integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    extract = FeatureExtractor(torch.device("cpu"))

    (alone,), (batched, _) = extract([first]), extract([first, second[:100, :50]])

    with torch.no_grad():
        expected = Encoder().pooled(torch.from_numpy(first).permute(2, 0, 1)[None] / 255)[0]
    assert alone.shape == (WIDTH,)
    assert_allclose(alone, expected, atol=1e-4)
    assert_allclose(batched, expected, atol=1e-4)


def test_few_images_have_no_frechet_distance() -> None:
    scores = score_image(Reference("a", flat(90, 90, 90)[..., 0], flat(100, 90, 80)), ColourisedImage(flat(90, 90, 90)), None)
    aggregator = Aggregator()
    for _ in range(LEAST - 1):
        aggregator.add(replace(scores, features=rng.normal(size=(3, 4)).astype(np.float32)))
    few = aggregator.result()
    aggregator.add(replace(scores, features=rng.normal(size=(3, 4)).astype(np.float32)))
    enough = aggregator.result()

    assert "frechet" not in few.figures | few.grey
    assert 0 < enough.figures["frechet"] < 0.1
    assert 0 < enough.grey["frechet"] < 0.1


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((200, 30, 30), "red"),
        ((224, 172, 105), "orange"),  # skin
        ((230, 220, 60), "yellow"),
        ((60, 140, 50), "green"),
        ((60, 200, 200), "cyan"),
        ((80, 150, 230), "azure"),  # sky
        ((40, 40, 200), "blue"),
        ((150, 40, 150), "purple"),
    ],
)
def test_colours_have_the_hue_of_their_common_name(rgb: tuple[int, int, int], name: str) -> None:
    found = dict(zip(NAMES, hues(chroma_of(flat(*rgb))), strict=True))

    assert found.pop(name) > 0.05
    assert set(found.values()) == {0}


def test_hues_are_weighted_by_chroma_and_grey_has_none() -> None:
    both = np.concatenate([flat(120, 100, 100), flat(100, 100, 180), flat(90, 91, 90)])
    chroma = chroma_of(both)
    lengths = np.hypot(*chroma).reshape(3, -1).sum(axis=1) / chroma[0].size

    found = dict(zip(NAMES, hues(chroma), strict=True))

    assert found.pop("red") == pytest.approx(lengths[0])
    assert found.pop("blue") == pytest.approx(lengths[1])
    assert set(found.values()) == {0}


def test_chroma_error_is_in_code_values() -> None:
    grey, red = flat(100, 100, 100), flat(200, 100, 100)
    cb, cr = (100 - 129.9) / 1.772, (200 - 129.9) / 1.402

    assert figures(red, grey)["chroma_error"] == pytest.approx(np.hypot(cb, cr), rel=1e-3)


def test_an_image_smaller_than_the_ssim_window_is_refused() -> None:
    with pytest.raises(MediaError, match="smaller than 11 pixels"):
        figures(flat(1, 2, 3)[:10], flat(1, 2, 3)[:10])


def test_a_large_image_is_compared_in_bands_without_a_seam() -> None:
    prediction, reference = (rng.integers(0, 256, (700, 150, 3), np.uint8) for _ in range(2))

    whole = figures(prediction, reference)["ciede2000"]

    parts = [figures(prediction[top : top + 350], reference[top : top + 350])["ciede2000"] for top in (0, 350)]
    assert whole == pytest.approx(np.mean(parts), rel=1e-6)


def test_partners_have_the_same_name_or_a_unique_stem() -> None:
    references = ["a/x.jpg", "a/y.jpg", "b/x.jpg", "c/z.jpg", "c/z.png", "d.jpg"]
    predictions = ["a/x.jpg", "a/x.png", "a/y.png", "b/x.tif", "b/x.bmp", "c/z.tif", "d.jpg"]

    assert partners(references, predictions) == {"a/x.jpg": "a/x.jpg", "a/y.jpg": "a/y.png", "d.jpg": "d.jpg"}
