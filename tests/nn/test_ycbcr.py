"""RGB and YCbCr tensors."""

import numpy as np
import torch
from torch.testing import assert_close

from bwpipe.nn.ycbcr import offsets, rgb_to_ycbcr, ycbcr_to_rgb
from bwpipe.pixels.ycbcr import ycbcr_to_rgb as ycbcr_to_rgb_planes


def test_the_conversions_are_inverse() -> None:
    rgb = torch.rand(2, 3, 5, 7)

    assert_close(ycbcr_to_rgb(*rgb_to_ycbcr(rgb)), rgb)


def test_offsets_are_the_difference_of_rgb_from_luma() -> None:
    rgb = torch.rand(2, 3, 5, 7)
    luma, chroma = rgb_to_ycbcr(rgb)

    assert_close(luma + offsets(chroma), rgb)


def test_known_colours() -> None:
    colours = torch.tensor([[0.0, 0, 1], [1, 0, 0], [1, 1, 1], [0, 0, 0]]).T.reshape(1, 3, 1, 4)

    luma, chroma = rgb_to_ycbcr(colours)

    assert_close(luma.flatten(), torch.tensor([0.114, 0.299, 1, 0]))
    assert_close(chroma[0, 0, 0], torch.tensor([0.5, -0.299 / 1.772, 0, 0]))
    assert_close(chroma[0, 1, 0], torch.tensor([-0.114 / 1.402, 0.5, 0, 0]))


def test_out_of_gamut_colours_lose_chroma_and_keep_luma_and_hue() -> None:
    luma, chroma = torch.rand(1, 1, 20, 20), torch.rand(1, 2, 20, 20) - 0.5

    rgb = ycbcr_to_rgb(luma, chroma)

    new_luma, new_chroma = rgb_to_ycbcr(rgb)
    assert rgb.min() >= 0
    assert rgb.max() <= 1
    assert_close(new_luma, luma, atol=1e-5, rtol=0)
    assert_close(new_chroma[:, 0] * chroma[:, 1], new_chroma[:, 1] * chroma[:, 0], atol=1e-5, rtol=0)
    assert (new_chroma.norm(dim=1) <= chroma.norm(dim=1) + 1e-5).all()


def test_it_matches_the_conversion_of_planes() -> None:
    rng = np.random.default_rng(0)
    luma, chroma = rng.integers(0, 256, (9, 9), dtype=np.uint8), (rng.random((2, 9, 9), dtype=np.float32) - 0.5)

    planes = ycbcr_to_rgb_planes(luma, chroma)

    tensors = ycbcr_to_rgb(torch.from_numpy(luma / np.float32(255))[None, None], torch.from_numpy(chroma)[None])
    assert_close(255 * tensors[0].permute(1, 2, 0), torch.from_numpy(planes).float(), atol=1.6, rtol=0)
