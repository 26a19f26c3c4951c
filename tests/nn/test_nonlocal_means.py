"""Non-local means of chroma."""

import torch
from torch import Tensor

from bwpipe.nn.nonlocal_means import nonlocal_means


def two_things(height: int = 64, width: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    """Luma, features and confidence of a picture whose left and right half are different things."""
    left = (torch.arange(4 * width) < 2 * width).expand(1, 1, 4 * height, 4 * width)
    luma = torch.where(left, 0.3, 0.7)
    cells = left[:, :, ::16, ::16].float()
    return luma, torch.cat([cells, 1 - cells], dim=1), torch.full((1, 1, height, width), 0.2)


def noise(height: int, width: int) -> Tensor:
    return 0.1 * torch.randn(1, 2, height, width, generator=torch.Generator().manual_seed(1))


def test_one_thing_gets_one_colour_and_another_thing_keeps_its_own() -> None:
    luma, features, confidence = two_things()
    colours = torch.where(luma[:, :, ::4, ::4] < 0.5, 0.2, -0.1).expand(1, 2, 64, 64)
    coarse = torch.nn.functional.interpolate(noise(8, 8), (64, 64), mode="nearest")

    found = nonlocal_means(colours + coarse, luma, features, confidence)

    assert (found - colours).std() < 0.5 * coarse.std()
    assert (found[..., :28] - 0.2).mean().abs() < 0.03
    assert (found[..., 36:] + 0.1).mean().abs() < 0.03


def test_what_is_of_one_colour_already_stays_as_it_is() -> None:
    luma, features, confidence = two_things(50, 41)
    colour = torch.tensor([0.1, -0.2])[None, :, None, None].expand(1, 2, 50, 41)

    assert torch.allclose(nonlocal_means(colour, luma, features[..., :13, :11], confidence), colour, atol=1e-6)


def test_cells_that_are_hardly_sure_count_little() -> None:
    luma, features, confidence = two_things()
    chroma = torch.zeros(1, 2, 64, 64)
    chroma[..., 20:40, 4:12] = 0.3
    doubtful = confidence.clone()
    doubtful[..., 20:40, 4:12] = 0.01

    sure, unsure = (nonlocal_means(chroma, luma, features, each) for each in (confidence, doubtful))

    beside = (slice(None), slice(None), slice(28, 32), slice(16, 20))  # where nothing of it is kept
    assert sure[beside].mean() > 0.01
    assert unsure[beside].mean() < 0.2 * sure[beside].mean()


def test_a_prediction_is_kept_as_far_as_it_is_confident_and_not_where_it_is_doubtful() -> None:
    luma, features, confidence = two_things()
    chroma = noise(64, 64)

    doubtful, none, half, all_of_it = (
        nonlocal_means(chroma, luma, features, torch.full_like(confidence, each)) for each in (0.1, 0.2, 0.5, 1)
    )

    assert torch.allclose(all_of_it, chroma, atol=1e-6)
    assert torch.allclose(half, (none + all_of_it) / 2, atol=1e-6)
    assert torch.allclose(doubtful, none, atol=1e-6)


def test_each_picture_of_a_batch_is_averaged_alone() -> None:
    luma, features, confidence = two_things()
    one, other = noise(64, 64), 2 * noise(64, 64)

    both = nonlocal_means(
        torch.cat([one, other]), luma.expand(2, -1, -1, -1), features.expand(2, -1, -1, -1), confidence.expand(2, -1, -1, -1)
    )

    assert torch.allclose(both[:1], nonlocal_means(one, luma, features, confidence), atol=1e-6)
    assert torch.allclose(both[1:], nonlocal_means(other, luma, features, confidence), atol=1e-6)
