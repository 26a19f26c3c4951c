"""Recognition of duplicate photographs."""

from io import BytesIO

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bwpipe.data.near_duplicates import DuplicateIndex

Pixels = NDArray[np.uint8]
SIDE = 100


def photo(seed: int, *, contrast: float = 1, brightness: float = 128) -> Pixels:
    """A smooth image (S, S, 3) with grain."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.random((5, 5, 3)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    plane = brightness + contrast * (255 * coarse - 128 + rng.normal(0, 6, coarse.shape))
    return np.asarray(np.rint(plane).clip(0, 255), np.uint8)


def encoded(rgb: Pixels, quality: int, side: int) -> Pixels:
    """An image that was resized to `side`, compressed, read and resized back."""
    file = BytesIO()
    Image.fromarray(cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA)).save(file, "JPEG", quality=quality)
    return np.asarray(cv2.resize(np.asarray(Image.open(file)), (SIDE, SIDE)), np.uint8)


@pytest.mark.parametrize(("quality", "side"), [(95, SIDE), (40, SIDE), (75, SIDE // 2)])
def test_a_photograph_is_recognised_again(quality: int, side: int) -> None:
    seen = DuplicateIndex()

    assert not any(seen.seen_before(photo(seed)) for seed in range(60))
    assert all(seen.seen_before(encoded(photo(seed), quality, side)) for seed in range(60))


@pytest.mark.parametrize(("contrast", "brightness"), [(0.03, 128), (0.05, 6), (0.05, 250), (0.01, 40)])
def test_flat_and_dark_images_are_not_mistaken_for_each_other(contrast: float, brightness: float) -> None:
    seen = DuplicateIndex()

    assert not any(seen.seen_before(photo(seed, contrast=contrast, brightness=brightness)) for seed in range(60))


def test_a_flat_image_is_recognised_only_if_it_is_identical() -> None:
    seen = DuplicateIndex()
    plain = np.full((SIDE, SIDE, 3), 90, np.uint8)

    assert [seen.seen_before(np.asarray(plain + step, np.uint8)) for step in (0, 0, 1, 0)] == [False, True, False, True]


def test_a_photograph_in_other_colours_is_not_a_duplicate() -> None:
    seen = DuplicateIndex()

    assert not seen.seen_before(photo(0))
    assert not seen.seen_before(photo(0)[..., ::-1])


@pytest.mark.parametrize("brightness", [93, 95, 97])
def test_bucket_boundaries_do_not_matter(brightness: int) -> None:
    first = np.clip(photo(1, contrast=0.4, brightness=brightness), 1, 254)
    seen = DuplicateIndex()

    assert not seen.seen_before(first)
    assert seen.seen_before(first + 1)
    assert seen.seen_before(first - 1)


@pytest.mark.parametrize("side", [1, 5, 12, 13])
def test_small_images_are_recognised_too(side: int) -> None:
    seen = DuplicateIndex()
    rgb = photo(3)[:side, :side]

    assert [seen.seen_before(rgb), seen.seen_before(rgb)] == [False, True]
