"""Rotation of planes upright and back."""

from io import BytesIO

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image, ImageOps

from bwpipe.pixels.orientation import stored, upright

ALL = range(1, 9)
PLANE = np.arange(12, dtype=np.uint8).reshape(3, 4)


def rotated_by_pillow(plane: np.ndarray, orientation: int) -> np.ndarray:
    exif = Image.Exif()
    exif[274] = orientation
    file = BytesIO()
    Image.fromarray(plane).save(file, "PNG", exif=exif)
    return np.asarray(ImageOps.exif_transpose(Image.open(file)))


@pytest.mark.parametrize("orientation", ALL)
def test_upright_matches_pillow(orientation: int) -> None:
    assert_array_equal(upright(PLANE, orientation), rotated_by_pillow(PLANE, orientation))


@pytest.mark.parametrize("orientation", ALL)
def test_stored_undoes_upright(orientation: int) -> None:
    assert_array_equal(stored(upright(PLANE, orientation), orientation), PLANE)


@pytest.mark.parametrize("orientation", ALL)
def test_each_plane_of_chroma_is_rotated(orientation: int) -> None:
    chroma = np.stack([PLANE, PLANE + 100])

    rotated = upright(chroma, orientation)

    assert_array_equal(rotated[1], upright(PLANE, orientation) + 100)
    assert_array_equal(stored(rotated, orientation), chroma)


@pytest.mark.parametrize("orientation", ALL)
def test_nothing_is_copied(orientation: int) -> None:
    assert np.shares_memory(upright(PLANE, orientation), PLANE)
    assert np.shares_memory(stored(PLANE, orientation), PLANE)
