"""Writes synthetic photographs that a small network can learn."""

from pathlib import Path

import cv2
import numpy as np


def write_photos(folder: Path, count: int, side: int = 40) -> Path:
    """Write learnable colour images: smooth, brown where they are dark and blue where they are light."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    brown, blue = np.array([20, 60, 110]), np.array([250, 200, 160])  # BGR
    for i in range(count):
        light = cv2.resize(rng.random((3, 3)), (side, side), interpolation=cv2.INTER_LINEAR)[..., None]
        cv2.imwrite(str(folder / f"{i:03}.png"), np.round(brown + light * (blue - brown)).astype(np.uint8))
    return folder
