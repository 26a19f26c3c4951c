"""Metrics of a single image; formulas as in scikit-image."""

import numpy as np
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

from bwpipe.errors import MediaError
from bwpipe.metrics.descriptions import MOST_PSNR
from bwpipe.pixels.ycbcr import rgb_to_ycbcr

RGB = NDArray[np.uint8]

WINDOW = 11
"""Side of the SSIM window, in pixels."""
_BAND = 1 << 16
"""Pixels whose colour difference is computed at a time: intermediate results take ten times their memory."""


def figures(prediction: RGB, reference: RGB) -> dict[str, float]:
    """Compare a prediction (H, W, 3) with its reference (H, W, 3): those of `descriptions.FIGURES` that are per image.

    Raises MediaError if a side is shorter than `WINDOW`.
    """
    if min(reference.shape[:2]) < WINDOW:
        raise MediaError(f"is smaller than {WINDOW} pixels, the SSIM window, so it is not scored")
    x, y = (np.asarray(rgb, np.float32) / np.float32(255) for rgb in (prediction, reference))
    mse = float(np.mean((x - y) ** 2, dtype=np.float64))
    return {
        "rgb_mse": mse,
        "psnr": min(MOST_PSNR, -10 * np.log10(mse)) if mse else MOST_PSNR,
        "ssim": float(
            structural_similarity(  # type: ignore[no-untyped-call]
                x, y, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0
            )
        ),
        "ciede2000": _ciede2000(x, y),
        "colourfulness": colourfulness(prediction),
        "colourfulness_truth": colourfulness(reference),
        "chroma_error": float(255 * np.sqrt(np.mean(np.sum((chroma_of(prediction) - chroma_of(reference)) ** 2, axis=0)))),
    }


def chroma_of(rgb: RGB) -> NDArray[np.float32]:
    """The chroma (2, H, W), full range -0.5..0.5, of RGB (H, W, 3)."""
    return rgb_to_ycbcr(rgb)[1].astype(np.float32)


def _ciede2000(prediction: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Mean CIEDE2000 of RGB (H, W, 3) in 0..1."""
    rows = max(1, _BAND // reference.shape[1])
    total = 0.0
    for top in range(0, len(reference), rows):
        band = slice(top, top + rows)
        difference = deltaE_ciede2000(rgb2lab(prediction[band]), rgb2lab(reference[band]))  # type: ignore[no-untyped-call]
        total += float(difference.sum(dtype=np.float64))
    return total / reference[..., 0].size


def colourfulness(rgb: NDArray[np.uint8]) -> float:
    """Colourfulness of an image (H, W, 3) uint8: 0 is grey, 15 slightly, 33 moderately, 82 highly, 109 extremely colourful.

    This is M^(3) of Hasler and Suesstrunk, "Measuring colourfulness in natural images" (2003): from the standard deviations and
    the means of the differences red - green and yellow - blue, in code values.
    """
    red, green, blue = (rgb[..., channel].astype(np.float32) for channel in range(3))
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    deviation = np.hypot(red_green.std(), yellow_blue.std())
    mean = np.hypot(red_green.mean(), yellow_blue.mean())
    return float(deviation + 0.3 * mean)


NAMES = {
    "red": (2, 0, 0),
    "orange": (2, 1, 0),
    "yellow": (2, 2, 0),
    "green": (0, 2, 0),
    "cyan": (0, 2, 2),
    "azure": (0, 1, 2),
    "blue": (0, 0, 2),
    "purple": (2, 0, 2),
}
"""Hues by the ratio of red, green and blue at the centre of each; a pixel has the hue with the nearest angle in (Cb, Cr)."""
COLOURED = 0.02
"""The length of (Cb, Cr), full range -0.5..0.5, above which a pixel counts as coloured."""


def _hue_directions() -> NDArray[np.float32]:
    """(Q, 2) unit vectors of the hues in (Cb, Cr)."""
    row = np.array([list(NAMES.values())], np.uint8) * np.uint8(127)  # scaled to the range of 8 bits
    chroma = rgb_to_ycbcr(row)[1][:, 0].T.astype(np.float32)
    return np.asarray(chroma / np.linalg.norm(chroma, axis=1, keepdims=True))


_HUE_DIRECTIONS = _hue_directions()


def hues(chroma: NDArray[np.float32]) -> NDArray[np.float64]:
    """The amount of each hue in an image.

    Args:
        chroma: (2, h, w), full range -0.5..0.5.

    Returns:
        (Q,) for each of `NAMES`, the summed chroma length of its pixels, divided by the number of all pixels.
    """
    planes = chroma.reshape(2, -1)
    length = np.hypot(*planes)
    coloured = length > COLOURED
    hue_of_pixel = (_HUE_DIRECTIONS @ planes[:, coloured]).argmax(axis=0)
    return np.asarray(np.bincount(hue_of_pixel, length[coloured], len(NAMES)) / length.size)
