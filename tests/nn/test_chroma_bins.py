"""Chroma as a distribution over bins."""

import math

import pytest
import torch
from torch import Tensor

from bwpipe.nn.chroma_bins import SPREAD, STEP, SoftEncoding, annealed_mean, bin_centres, confidence
from bwpipe.nn.ycbcr import rgb_to_ycbcr, ycbcr_to_rgb


@pytest.fixture
def bins() -> Tensor:
    return bin_centres()


def rgb_colours(count: int = 4000) -> Tensor:
    """Chroma (1, 2, 1, count) of random colours of the RGB cube."""
    return rgb_to_ycbcr(torch.rand(1, 3, 1, count, generator=torch.Generator().manual_seed(1)))[1]


def test_the_bins_lie_on_a_square_grid_that_includes_grey(bins: Tensor) -> None:
    assert bins.shape == (407, 2)
    assert len({tuple(each) for each in bins.tolist()}) == 407
    assert torch.equal(bins, (bins / STEP).round() * STEP)
    assert [0, 0] in bins.tolist()


def test_a_bin_is_in_gamut_over_a_quarter_of_the_range_of_luma(bins: Tensor) -> None:
    luma = torch.linspace(0, 1, 1001).view(-1, 1, 1, 1)
    chroma = bins.T.reshape(1, 2, 1, -1).expand(1001, -1, -1, -1)

    in_gamut = (rgb_to_ycbcr(ycbcr_to_rgb(luma, chroma))[1] - chroma).abs().amax(1) < 1e-5

    assert (in_gamut.float().mean(0) > 0.249).all()


def test_full_reach_covers_the_whole_gamut() -> None:
    bins = bin_centres(reach=1)

    assert len(bins) == 723
    assert torch.cdist(rgb_colours(100_000)[0, :, 0].T, bins).min(1).values.max() < STEP


def test_shares_sum_to_one_and_their_mean_is_the_colour(bins: Tensor) -> None:
    chroma = 0.6 * rgb_colours()  # all surrounding grid points are bins

    target = SoftEncoding(bins)(chroma)

    assert target.places.shape == (1, 1, 4000, 9)
    torch.testing.assert_close(target.shares.sum(-1), torch.ones(1, 1, 4000))
    torch.testing.assert_close((target.dense(len(bins)) @ bins).permute(0, 3, 1, 2), chroma, atol=1e-6, rtol=0)


def test_the_spread_of_a_colour_is_half_a_step_per_axis(bins: Tensor) -> None:
    chroma = 0.3 * rgb_colours()

    target = SoftEncoding(bins)(chroma)

    distance = bins[target.places] - chroma.permute(0, 2, 3, 1).unsqueeze(3)
    variance = (target.shares.unsqueeze(-1) * distance**2).sum(3)
    torch.testing.assert_close(variance, torch.full_like(variance, (STEP / 2) ** 2), atol=1e-7, rtol=0)


def test_colours_beyond_all_bins_are_encoded_by_the_nearest_ones(bins: Tensor) -> None:
    chroma = torch.tensor([[0.5, -0.5, 0.0, 0.9], [-0.0813, -0.5, 0.9, 0.9]]).view(1, 2, 1, 4)

    target = SoftEncoding(bins)(chroma)

    torch.testing.assert_close(target.shares.sum(-1), torch.ones(1, 1, 4))
    means = (target.dense(len(bins)) @ bins)[0, 0]
    distance = torch.cdist(chroma[0, :, 0].T, bins).min(1).values
    assert ((means - chroma[0, :, 0].T).norm(dim=1) < distance + 1.5 * STEP).all()


def test_other_grids_are_encoded_correctly() -> None:
    bins = bin_centres(step=0.1, reach=1).flip(0).half()

    target = SoftEncoding(bins)(torch.tensor([0.1, -0.2]).view(1, 2, 1, 1))

    assert bins[target.dense(len(bins)).argmax()].tolist() == pytest.approx([0.1, -0.2], rel=1e-3)


@pytest.mark.parametrize("bins", [torch.rand(20, 2), bin_centres() + 0.01, torch.zeros(1, 2)])
def test_bins_off_a_grid_are_refused(bins: Tensor) -> None:
    with pytest.raises(ValueError, match="do not lie on a square grid"):
        SoftEncoding(bins)


def test_a_certain_distribution_decodes_to_its_bin_at_any_temperature(bins: Tensor) -> None:
    logits = torch.zeros(1, len(bins), 1, 1)
    logits[0, 100] = 100

    for temperature in (0.2, 0.5, 1):
        assert annealed_mean(logits, bins, temperature).flatten().tolist() == pytest.approx(bins[100].tolist(), abs=1e-6)
    assert confidence(logits, bins).item() == pytest.approx(1)


@pytest.mark.parametrize("temperature", [0.2, 0.38, 1.0, 2.0])
def test_the_annealed_mean_matches_the_paper(temperature: float, bins: Tensor) -> None:
    logits = 3 * torch.randn(2, len(bins), 3, 2)
    shares = logits.softmax(1).double()

    powers = (shares.log() / temperature).exp()
    expected = torch.einsum("bqhw,qc->bchw", powers / powers.sum(1, keepdim=True), bins.double())

    torch.testing.assert_close(annealed_mean(logits, bins, temperature).double(), expected, atol=1e-6, rtol=1e-4)


def test_low_temperatures_choose_and_high_ones_average(bins: Tensor) -> None:
    logits = torch.full((1, len(bins), 1, 1), -1e4)
    red, blue = ((bins - torch.tensor(colour)).norm(dim=1).argmin() for colour in ([-0.1, 0.3], [0.3, -0.1]))
    logits[0, red], logits[0, blue] = math.log(0.7), math.log(0.3)

    safe, vivid = (annealed_mean(logits, bins, temperature).flatten() for temperature in (1, 0.05))

    torch.testing.assert_close(safe, 0.7 * bins[red] + 0.3 * bins[blue])
    torch.testing.assert_close(vivid, bins[red])


def test_confidence_is_one_half_where_chroma_deviates_by_a_typical_amount(bins: Tensor) -> None:
    logits = torch.full((1, len(bins), 1, 2), -1e4)
    for place, offset in enumerate((3 * STEP, 6 * STEP)):
        for sign in (-1, 1):
            logits[0, (bins - torch.tensor([sign * offset, 0])).norm(dim=1).argmin(), 0, place] = 0

    values = confidence(logits, bins).flatten()

    assert values.tolist() == pytest.approx([SPREAD**2 / (SPREAD**2 + (steps * STEP) ** 2) for steps in (3, 6)])
    assert 0.5 < values[0] < 0.6
    assert values[1] < 0.3


def test_decoding_is_exact_under_autocast_and_differentiable(bins: Tensor) -> None:
    logits = torch.randn(2, len(bins), 4, 4, requires_grad=True)
    expected = annealed_mean(logits, bins, 0.5), confidence(logits, bins)

    with torch.autocast("cpu", torch.bfloat16):
        again = annealed_mean(logits, bins, 0.5), confidence(logits, bins)

    assert all(torch.equal(one, other) for one, other in zip(expected, again, strict=True))
    assert all(0 <= value <= 1 for value in again[1].flatten().tolist())
    (gradient,) = torch.autograd.grad(again[0].square().sum(), logits)
    assert gradient.abs().sum() > 0
