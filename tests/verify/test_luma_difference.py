import numpy as np
import pytest
from numpy.testing import assert_allclose

from bwpipe.verify.luma_difference import LumaTally, block_means
from bwpipe.verify.verdict import Limits


@pytest.mark.parametrize("shape", [(32, 48), (33, 47), (16, 16), (5, 70), (1, 1)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_the_mean_of_each_block_is_compared_including_partial_blocks_at_the_edges(
    shape: tuple[int, int], kind: type[np.uint8]
) -> None:
    rng = np.random.default_rng(7)
    before, after = (rng.integers(0, np.iinfo(kind).max, shape).astype(kind) for _ in range(2))

    means = block_means(before, after)

    difference = after.astype(float) - before
    assert means.shape == (-(-shape[0] // 16), -(-shape[1] // 16))
    for (y, x), mean in np.ndenumerate(means):
        assert_allclose(
            mean, difference[16 * y : 16 * y + 16, 16 * x : 16 * x + 16].mean(), atol=0.01 * np.iinfo(kind).max / 255
        )


def test_figures_cover_all_frames_and_name_the_worst() -> None:
    tally = LumaTally(10, Limits())
    grey = np.full((32, 32), 400, np.uint16)
    bright = grey.copy()
    bright[16:, 16:] += 20

    for number, after in enumerate([grey, bright, grey]):
        tally.add(number, grey, after)

    figures = tally.to_json()
    assert figures["mean"] == pytest.approx(20 * 256 / (3 * 32 * 32))
    assert (figures["max"], figures["changed"], figures["worst_frame"]) == (20, 1, 1)
    assert figures["psnr"] == pytest.approx(10 * np.log10(1023**2 / (400 / 4)), abs=1e-3)
    assert figures["worst_block"] == {"frame": 1, "x": 16, "y": 16, "brighter": 5.0}
    assert figures["first"] == {"frame": 1, "x": 16, "y": 16, "before": 400, "after": 420}
    assert tally.violations(lossless=False) == [
        "16x16 blocks of luma are off by more than 4 in 1 frames; worst in frame 1: the one at (16, 16) is 5.00 brighter"
    ]
    assert tally.violations(lossless=True) == ["the luma of 1 frames differs: first in frame 1 at (16, 16), 420 instead of 400"]


def test_equal_frames_give_no_violations() -> None:
    tally = LumaTally(8, Limits(exact=True))
    tally.add(0, np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8))

    assert tally.violations(lossless=True) == []
    assert tally.to_json()["psnr"] is None
