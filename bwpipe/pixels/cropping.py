"""What is shown of a picture or a frame whose container says that rows and columns at its edges are not to be shown."""

from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import Media
from bwpipe.pixels.orientation import stored, upright

P = TypeVar("P", bound=np.generic)


def shown_size(media: Media) -> tuple[int, int]:
    """Height and width of what is shown of the luma plane, turned upright."""
    top, bottom, left, right = media.cropping
    height, width = media.height - top - bottom, media.width - left - right
    return (width, height) if media.orientation >= 5 else (height, width)


def cropped(plane: NDArray[P], media: Media) -> NDArray[P]:
    """What is shown of a plane (..., h, w) as stored, on any grid: a view."""
    height, width = plane.shape[-2:]
    top, bottom, left, right = media.cropping
    rows = slice(round(top / media.height * height), round((1 - bottom / media.height) * height))
    columns = slice(round(left / media.width * width), round((1 - right / media.width) * width))
    return plane[..., rows, columns]


def uncropped(
    planes: NDArray[P], media: Media, size: tuple[int, int], mode: Literal["constant", "edge"] = "constant"
) -> NDArray[P]:
    """Upright planes (..., h, w) of what is shown, with something where there is more that is not.

    Args:
        planes: The planes, on any grid.
        media: The file of which they show something.
        size: Height and width that the image has in its file. If they are those of all that is stored, it is taken for that:
            FFmpeg crops from version 7.1 on only.
        mode: What is where nothing is shown: zeros, or what is at the edges.
    """
    if not any(media.cropping) or size == media.upright_size:
        return planes
    seen = stored(planes, media.orientation)
    top, bottom, left, right = media.cropping
    down = seen.shape[-2] / (media.height - top - bottom)
    across = seen.shape[-1] / (media.width - left - right)
    edges = (round(top * down), round(bottom * down)), (round(left * across), round(right * across))
    return upright(np.pad(seen, [(0, 0)] * (seen.ndim - 2) + [*edges], mode), media.orientation)
