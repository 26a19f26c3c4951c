"""Metrics of regions: whether one thing gets one colour, and whether neutral things stay neutral."""

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb

from bwpipe.pixels.resize import fit_short_side, squash
from bwpipe.pixels.ycbcr import rgb_to_ycbcr

SIDE = 128
"""Short side, in pixels, at which regions are compared; smaller images stay as they are."""
SCALE, SIGMA, SMALLEST = 100.0, 0.8, 64
"""Parameters of the segmentation: preference for large segments, blur in pixels, least number of pixels."""
ONE_COLOUR = 0.02
"""The standard deviation of (Cb, Cr), full range -0.5..0.5, up to which a segment of the reference has one colour."""
NEUTRAL, PAINTED = 0.03, 0.06
"""The length of (Cb, Cr) below which a pixel of the reference is neutral, and above which one of the prediction is not."""


def region_sums(prediction: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Sums over the regions of an image, which can be added over images; `region_figures` makes figures of them.

    The reference is segmented after Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image Segmentation" (2004), as in
    scikit-image, with fixed parameters.

    Args:
        prediction: RGB (H, W, 3).
        reference: RGB (H, W, 3).

    Returns:
        (6,) for the pixels in one-coloured segments, for all pixels and for neutral pixels: the number of pixels, and of the
        prediction the squared deviations of chroma from the segment's mean, the squared chroma, and the number painted.
    """
    size = fit_short_side(reference.shape[:2], SIDE)
    small = squash(reference, *size)
    chroma, target = (rgb_to_ycbcr(each)[1].reshape(2, -1).astype(np.float64) for each in (squash(prediction, *size), small))
    labels = felzenszwalb(small, scale=SCALE, sigma=SIGMA, min_size=SMALLEST)
    segments = np.unique(labels, return_inverse=True)[1].ravel()
    counts = np.bincount(segments)
    one_colour = _squared_deviations(target, segments, counts) <= ONE_COLOUR**2 * counts
    neutral = np.hypot(*target) < NEUTRAL
    return np.array(
        [
            counts[one_colour].sum(),
            _squared_deviations(chroma, segments, counts)[one_colour].sum(),
            chroma.shape[1],
            (chroma**2).sum(),
            neutral.sum(),
            (np.hypot(*chroma)[neutral] > PAINTED).sum(),
        ],
        np.float64,
    )


def region_figures(sums: NDArray[np.float64]) -> dict[str, float]:
    """The figures of sums (6,): 0 where there are no such regions, and for predictions in grey."""
    even, variance, pixels, squares, neutral, painted = sums.tolist()
    return {
        "unevenness": variance / even / (squares / pixels) if even and squares else 0.0,
        "neutral_painted": painted / neutral if neutral else 0.0,
    }


def _squared_deviations(
    chroma: NDArray[np.float64], segments: NDArray[np.intp], counts: NDArray[np.intp]
) -> NDArray[np.float64]:
    """The sum of squared deviations of chroma (2, N) from the mean of its segment, for each segment."""
    means = np.stack([np.bincount(segments, plane) / counts for plane in chroma])
    return np.asarray(np.bincount(segments, ((chroma - means[:, segments]) ** 2).sum(axis=0)), np.float64)
