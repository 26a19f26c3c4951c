"""Metrics of regions."""

import numpy as np
from numpy.typing import NDArray

from bwpipe.metrics.regions import region_figures, region_sums
from bwpipe.pixels.ycbcr import rgb_to_ycbcr

RGB = NDArray[np.uint8]


def figures(prediction: RGB, reference: RGB) -> dict[str, float]:
    return region_figures(region_sums(prediction, reference))


def halves(left: tuple[int, int, int], right: tuple[int, int, int]) -> RGB:
    image = np.empty((96, 96, 3), np.uint8)
    image[:, :48], image[:, 48:] = left, right
    return image


REFERENCE = halves((180, 90, 60), (60, 90, 180))


def test_a_prediction_with_one_colour_in_each_thing_is_even_also_if_the_colours_are_wrong() -> None:
    assert figures(REFERENCE, REFERENCE)["unevenness"] < 1e-6
    assert figures(halves((60, 160, 60), (160, 60, 160)), REFERENCE)["unevenness"] < 1e-6


def test_unevenness_is_the_variance_within_things_as_a_share_of_the_mean_square() -> None:
    patchy = halves((180, 90, 60), (60, 90, 180))
    patchy[48:] = halves((60, 90, 180), (180, 90, 60))[48:]  # each thing in two colours, equally often
    first, second = (rgb_to_ycbcr(patchy[row, :1][None])[1][:, 0, 0].astype(float) for row in (0, 95))
    variance = ((first - second) ** 2).sum() / 4

    assert np.isclose(
        figures(patchy, REFERENCE)["unevenness"], variance / ((first**2).sum() + (second**2).sum()) * 2, rtol=0.02
    )


def test_paler_colours_are_as_uneven() -> None:
    patchy = halves((180, 90, 60), (60, 90, 180))
    patchy[40:60] = (120, 120, 60)
    pale = (0.5 * patchy + 0.5 * 100).astype(np.uint8)

    assert np.isclose(figures(pale, REFERENCE)["unevenness"], figures(patchy, REFERENCE)["unevenness"], rtol=0.1)


def test_neutral_things_count_as_painted_above_a_chroma_of_0_06() -> None:
    reference = halves((100, 100, 100), (60, 90, 180))

    assert figures(reference, reference)["neutral_painted"] == 0
    painted = halves((130, 95, 70), (60, 90, 180))
    painted[:24, :48] = (104, 100, 98)
    assert np.isclose(figures(painted, reference)["neutral_painted"], 0.75)


def test_sums_of_images_add_up_and_grey_predictions_are_0() -> None:
    grey = np.full_like(REFERENCE, 100)
    sums = region_sums(REFERENCE, REFERENCE)

    assert region_figures(sums + sums) == figures(REFERENCE, REFERENCE)
    assert figures(grey, REFERENCE) == {"unevenness": 0.0, "neutral_painted": 0.0}
