import numpy as np
import pytest
import torch
from skimage.color import lab2rgb, rgb2lab
from torch import Tensor
from torch.testing import assert_close

from bwpipe.nn.lab import ab_to_chroma, chroma_to_ab, luma_to_lightness
from bwpipe.nn.ycbcr import add_offsets, offsets, rgb_to_ycbcr


@pytest.fixture
def rgb() -> Tensor:
    """Colours (1, 3, 1, N) all over sRGB's gamut."""
    return torch.rand(1, 3, 1, 5000, generator=torch.Generator().manual_seed(0))


def lab(rgb: Tensor) -> Tensor:
    """L*a*b* as scikit-image computes it."""
    return torch.from_numpy(rgb2lab(rgb[0].permute(1, 2, 0).double().numpy())).permute(2, 0, 1)[None].float()


def test_the_lightness_of_a_grey_follows_from_its_luma() -> None:
    luma = torch.linspace(0, 1, 300).view(1, 1, 1, -1)

    assert_close(luma_to_lightness(luma), lab(luma.repeat(1, 3, 1, 1))[:, :1], atol=0.02, rtol=0)


def test_chroma_is_that_of_the_colour_with_the_grey_s_lightness(rgb: Tensor) -> None:
    lightness, ab = torch.split(lab(rgb), [1, 2], dim=1)
    luma = grey_of(lightness)

    chroma = ab_to_chroma(luma, ab)

    assert_close(chroma, rgb_to_ycbcr(rgb)[1], atol=0.5 / 255, rtol=0)


def grey_of(lightness: Tensor) -> Tensor:
    """The luma of greys of a lightness, as scikit-image computes it."""
    planes = np.dstack([lightness[0, 0].double().numpy(), *2 * [np.zeros(lightness.shape[2:])]])
    return torch.from_numpy(lab2rgb(planes)[None, None, ..., 0]).float()


def test_hints_come_back_as_the_same_chroma(rgb: Tensor) -> None:
    luma = torch.rand(1, 1, 1, 5000, generator=torch.Generator().manual_seed(1))
    chroma = rgb_to_ycbcr(add_offsets(luma, offsets(rgb_to_ycbcr(rgb)[1])))[1]  # such as the luma can have

    found = ab_to_chroma(luma, chroma_to_ab(luma, chroma))

    assert ((found - chroma).abs() < 0.5 / 255).float().mean() > 0.999


def test_grey_stays_grey_at_every_luma() -> None:
    luma = torch.linspace(0, 1, 300).view(1, 1, 1, -1)

    assert_close(ab_to_chroma(luma, torch.zeros(1, 2, 1, 300)), torch.zeros(1, 2, 1, 300), atol=1e-4, rtol=0)
    assert_close(chroma_to_ab(luma, torch.zeros(1, 2, 1, 300)), torch.zeros(1, 2, 1, 300), atol=0.02, rtol=0)


def test_colours_far_outside_the_gamut_are_scaled_into_range_at_the_same_hue() -> None:
    random = torch.Generator().manual_seed(0)
    luma, ab = torch.rand(1, 1, 50, 50, generator=random), 600 * torch.rand(1, 2, 50, 50, generator=random) - 300

    chroma = ab_to_chroma(luma, ab)

    assert chroma.isfinite().all()
    assert chroma.abs().max() <= 0.5
    assert (chroma.abs().amax(dim=1) == 0.5).any(), "some were scaled"


def test_networks_in_sixteen_bits_get_the_same_colours() -> None:
    random = torch.Generator().manual_seed(0)
    luma = torch.rand(1, 1, 50, 50, generator=random).bfloat16()
    ab = (80 * torch.rand(1, 2, 50, 50, generator=random) - 40).bfloat16()

    assert luma_to_lightness(luma).dtype == chroma_to_ab(luma, ab / 400).dtype == torch.bfloat16
    assert_close(ab_to_chroma(luma, ab), ab_to_chroma(luma.float(), ab.float()))


def test_gradients_are_finite_at_black_and_white_too() -> None:
    luma = torch.tensor([0.0, 1e-6, 0.5, 1.0]).view(1, 1, 1, 4).requires_grad_()
    ab = torch.zeros(1, 2, 1, 4, requires_grad=True)

    gradients = torch.autograd.grad(ab_to_chroma(luma, ab).sum(), (luma, ab))

    assert all(each.isfinite().all() for each in gradients)
