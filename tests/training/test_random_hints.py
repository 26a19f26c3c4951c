"""Random hints for training."""

from typing import Any

import pytest
import torch
from torch import Generator, Tensor
from torch.testing import assert_close

from bwpipe.nn.ycbcr import rgb_to_ycbcr
from bwpipe.training.random_hints import KINDS, RandomHints, grid, neighbour, points, tint


def target(count: int = 64) -> Tensor:
    """RGB (count, 3, 48, 48) with a colour of its own in each quarter."""
    return torch.rand(count, 3, 2, 2, generator=Generator().manual_seed(1)).repeat_interleave(24, 2).repeat_interleave(24, 3)


def chroma_of(image: Tensor) -> Tensor:
    return rgb_to_ycbcr(image[None])[1][0]


def hints_of(rgb: Tensor, seed: int = 3, **options: Any) -> Tensor:
    return RandomHints.model_validate(options)(rgb, Generator().manual_seed(seed))


def test_about_as_many_images_get_hints_as_asked() -> None:
    assert not hints_of(target(), chance=0).any()
    assert hints_of(target(), chance=1)[:, 2].flatten(1).any(1).float().mean() > 0.9  # a grid may happen to be unknown
    assert 0.3 < hints_of(target(), chance=0.5)[:, 2].flatten(1).any(1).float().mean() < 0.7


def test_hints_depend_on_the_generator_alone() -> None:
    assert torch.equal(hints_of(target()), hints_of(target()))
    assert not torch.equal(hints_of(target()), hints_of(target(), seed=4))


@pytest.mark.parametrize("kind", KINDS)
def test_chroma_is_given_only_where_it_is_known(kind: Any) -> None:
    for seed in range(8):
        hints = kind(chroma_of(target(1)[0]), Generator().manual_seed(seed))

        assert hints.shape == (3, 48, 48)
        assert 0 <= hints[2].min() <= hints[2].max() <= 1
        assert not hints[:2, hints[2] == 0].any()


def test_points_have_the_targets_chroma_at_their_centres() -> None:
    chroma = chroma_of(target(1)[0])

    for seed in range(8):
        hints = points(chroma, Generator().manual_seed(seed))
        known = hints[2] > 0
        assert 0 < known.sum() <= 30 * 81
        assert (hints[:2] - chroma).norm(dim=0)[known].eq(0).float().mean() > 0.5  # a square may reach into other quarters


def test_a_tint_is_the_mean_chroma_everywhere() -> None:
    chroma = chroma_of(target(1)[0])

    hints = tint(chroma, Generator().manual_seed(0))

    assert_close(hints[:2], chroma.mean(dim=(1, 2), keepdim=True).expand(2, 48, 48))


def test_a_grid_has_the_targets_mean_chroma_in_its_cells() -> None:
    chroma = chroma_of(target(1)[0])

    hints = grid(chroma, Generator().manual_seed(0))

    known = hints[2] > 0
    assert known.any()
    assert_close(hints[:2][:, known], chroma[:, known])  # cells do not cross quarters


def test_a_neighbouring_frame_has_about_the_targets_chroma() -> None:
    chroma = chroma_of(target(1)[0])

    hints = neighbour(chroma, Generator().manual_seed(0))

    known = hints[2] > 0
    pair = torch.stack([hints[:2][:, known].flatten(), chroma[:, known].flatten()])
    assert torch.corrcoef(pair)[0, 1] > 0.8
