import numpy as np
import pytest
from numpy.testing import assert_allclose

from bwpipe.nn.runtime.base import Planes, Prediction
from bwpipe.nn.runtime.blend import blended


def plane(value: float, height: int = 4, width: int = 6, planes: int = 2) -> Planes:
    return np.full((1, planes, height, width), value, np.float32)


def test_one_prediction_is_returned_as_it_is() -> None:
    only = Prediction(plane(0.1))

    assert blended([only], [1.0], by_confidence=True) is only


def test_shares_weight_the_mean_of_chroma() -> None:
    found = blended([Prediction(plane(0.1)), Prediction(plane(0.3))], [3, 1], by_confidence=False)

    assert_allclose(found.chroma, plane(0.15), atol=1e-6)
    assert found.confidence is None


def test_the_finest_grid_is_that_of_the_blend() -> None:
    coarse, fine = Prediction(plane(0.1, 2, 3)), Prediction(plane(0.3, 8, 12))

    found = blended([coarse, fine], [1, 1], by_confidence=False)

    assert_allclose(found.chroma, plane(0.2, 8, 12), atol=1e-6)


def test_confidence_weights_each_place() -> None:
    sure, unsure = plane(0.9, planes=1), plane(0.3, planes=1)
    sure[..., :3], unsure[..., :3] = 0.5, 0.5
    predictions = [Prediction(plane(0.4), sure), Prediction(plane(0.0), unsure)]

    found = blended(predictions, [1, 1], by_confidence=True)

    assert_allclose(found.chroma[..., :3], 0.2, atol=1e-6)
    assert_allclose(found.chroma[..., 3:], 0.3, atol=1e-6)
    assert found.confidence is not None
    assert_allclose(found.confidence, (sure + unsure) / 2, atol=1e-6)


@pytest.mark.parametrize("by_confidence", [False, True])
def test_a_network_without_confidence_counts_as_sure_as_the_others_are_on_average(by_confidence: bool) -> None:
    predictions = [Prediction(plane(0.4), plane(0.2, planes=1)), Prediction(plane(0.0))]

    found = blended(predictions, [1, 1], by_confidence=by_confidence)

    assert_allclose(found.chroma, plane(0.2), atol=1e-6)


def test_features_are_those_of_the_first_network_that_has_some() -> None:
    features = plane(1, 1, 1, 8)

    found = blended([Prediction(plane(0.1)), Prediction(plane(0.1), None, features)], [1, 1], by_confidence=False)

    assert found.features is features
