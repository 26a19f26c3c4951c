"""Figures of one picture; formulas as in scikit-image."""

import numpy as np
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

from bwpipe.errors import MediaError
from bwpipe.metrics.descriptions import MOST_PSNR
from bwpipe.pixels.ycbcr import rgb_to_ycbcr

RGB = NDArray[np.uint8]

WINDOW = 11
"""Pixels of the window of SSIM."""
_BAND = 1 << 16
"""Pixels whose colour difference is computed at a time: what is computed on the way is ten times as much."""


def figures(guess: RGB, truth: RGB) -> dict[str, float]:
    """Compare a guess (H, W, 3) with the truth (H, W, 3): those of `names.FIGURES` that a single picture has.

    Raises MediaError where a side is shorter than `WINDOW`.
    """
    if min(truth.shape[:2]) < WINDOW:
        raise MediaError(f"is smaller than {WINDOW} pixels, the window of SSIM, so it is not scored")
    x, y = (np.asarray(rgb, np.float32) / np.float32(255) for rgb in (guess, truth))
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
        "colourfulness": colourfulness(guess),
        "colourfulness_truth": colourfulness(truth),
        "chroma_error": float(255 * np.sqrt(np.mean(np.sum((chroma_of(guess) - chroma_of(truth)) ** 2, axis=0)))),
    }


def chroma_of(rgb: RGB) -> NDArray[np.float32]:
    """The chroma (2, H, W), full range -0.5..0.5, of RGB (H, W, 3)."""
    return rgb_to_ycbcr(rgb)[1].astype(np.float32)


def _ciede2000(guess: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """Of RGB (H, W, 3) in 0..1."""
    rows = max(1, _BAND // truth.shape[1])
    total = 0.0
    for top in range(0, len(truth), rows):
        band = slice(top, top + rows)
        away = deltaE_ciede2000(rgb2lab(guess[band]), rgb2lab(truth[band]))  # type: ignore[no-untyped-call]
        total += float(away.sum(dtype=np.float64))
    return total / truth[..., 0].size


def colourfulness(rgb: NDArray[np.uint8]) -> float:
    """How colourful a picture (H, W, 3) uint8 looks: 0 is grey, 15 slightly, 33 moderately, 82 highly, 109 extremely colourful.

    It is M^(3) of Hasler and Suesstrunk, "Measuring colourfulness in natural images" (2003): from the standard deviations and
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
"""Hues by the ratio of red, green and blue in the middle of each; a pixel has the one whose angle in (Cb, Cr) is nearest."""
COLOURED = 0.02
"""The length of (Cb, Cr), full range -0.5..0.5, from which on a pixel counts as coloured."""


def _middles() -> NDArray[np.float32]:
    """(Q, 2) the direction of each hue in (Cb, Cr)."""
    row = np.array([list(NAMES.values())], np.uint8) * np.uint8(127)  # as bright as 8 bits hold
    chroma = rgb_to_ycbcr(row)[1][:, 0].T.astype(np.float32)
    return np.asarray(chroma / np.linalg.norm(chroma, axis=1, keepdims=True))


_MIDDLES = _middles()


def hues(chroma: NDArray[np.float32]) -> NDArray[np.float64]:
    """How much of each hue is in a picture.

    Args:
        chroma: (2, h, w), full range -0.5..0.5.

    Returns:
        (Q,) for each of `NAMES`, the length of chroma of its pixels, divided by the number of all pixels.
    """
    planes = chroma.reshape(2, -1)
    length = np.hypot(*planes)
    coloured = length > COLOURED
    places = (_MIDDLES @ planes[:, coloured]).argmax(axis=0)
    return np.asarray(np.bincount(places, length[coloured], len(NAMES)) / length.size)
