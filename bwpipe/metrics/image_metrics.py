"""Figures of one picture; formulas as in scikit-image."""

import numpy as np
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

from bwpipe.color import from_rgb
from bwpipe.errors import MediaError
from bwpipe.scoring.colourfulness import colourfulness
from bwpipe.scoring.names import MOST_PSNR

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
    return from_rgb(rgb)[1].astype(np.float32)


def _ciede2000(guess: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """Of RGB (H, W, 3) in 0..1."""
    rows = max(1, _BAND // truth.shape[1])
    total = 0.0
    for top in range(0, len(truth), rows):
        band = slice(top, top + rows)
        away = deltaE_ciede2000(rgb2lab(guess[band]), rgb2lab(truth[band]))  # type: ignore[no-untyped-call]
        total += float(away.sum(dtype=np.float64))
    return total / truth[..., 0].size
