"""How steady the chroma of a film is: figures of frames in a row."""

from collections import deque
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import FlowField
from bwpipe.motion.optical_flow import consistency_mask, warp

SHORT = 256
"""Pixels of the short side of the grid on which films are compared."""
LAGS = (1, 2, 4)
"""How many frames apart are those whose distributions are compared."""
STILL = 0.01
"""Code values: where luma changes by less from frame to frame, on average, a share of that says nothing."""
_CODES = 256


class FlowPair(NamedTuple):
    """How what is seen moved from the frame before to a frame of the same shot.

    Attributes:
        back: (h, w, 2) where each cell lies in the frame before.
        agreed: (h, w) where the ways there and back agree.
        luma: How much luma changes along it there, in code values.
    """

    back: FlowField
    agreed: NDArray[np.bool_]
    luma: float


def way(before: NDArray[np.uint8], here: NDArray[np.uint8]) -> FlowPair | None:
    """Find the motion between two frames' lumas (h, w), full range; None where the ways there and back agree nowhere.

    By Farnebaeck 2003, "Two-Frame Motion Estimation Based on Polynomial Expansion", as in OpenCV: another method than the one
    that `steady` goes by, so that it does not judge itself.
    """
    back, there = _flow(here, before), _flow(before, here)
    agreed = consistency_mask(back, there)
    if not agreed.any():
        return None
    apart = np.abs(warp(before, back) - here)
    return FlowPair(back, agreed, float(apart[agreed].mean(dtype=np.float64)))


def _flow(here: NDArray[np.uint8], there: NDArray[np.uint8]) -> FlowField:
    start: Any = np.zeros((*here.shape, 2), np.float32)
    return np.asarray(cv2.calcOpticalFlowFarneback(here, there, start, 0.5, 4, 15, 3, 5, 1.1, 0), np.float32)


class Steadiness:
    """Adds up how much the chroma of a film changes, in bounded memory."""

    def __init__(self) -> None:
        self._before: NDArray[np.float32] | None = None
        self._recent: deque[NDArray[np.float64]] = deque(maxlen=max(LAGS))
        self._steps = 0
        self._luma = self._chroma = self._length = 0.0
        self._frames = 0
        self._apart = dict.fromkeys(LAGS, (0.0, 0))

    def add(self, chroma: NDArray[np.float32], way: FlowPair | None, *, begins: bool) -> None:
        """Add the next frame.

        Args:
            chroma: (h, w, 2) Cb and Cr in code values, 0 for none.
            way: The motion from the frame before; None where there is none to be followed.
            begins: Whether a shot begins with the frame: nothing is compared over a cut.
        """
        if begins:
            self._recent.clear()
        elif way is not None and self._before is not None:
            apart = (chroma - warp(self._before, way.back))[way.agreed]
            self._chroma += float(np.hypot(apart[:, 0], apart[:, 1]).mean(dtype=np.float64))
            self._luma += way.luma
            self._steps += 1
        shares = _distribution(chroma)
        for lag in LAGS:
            if len(self._recent) >= lag:
                total, count = self._apart[lag]
                self._apart[lag] = total + _divergence(self._recent[-lag], shares), count + 1
        self._recent.append(shares)
        self._before = chroma
        self._length += float(np.hypot(chroma[..., 0], chroma[..., 1]).mean(dtype=np.float64))
        self._frames += 1

    @property
    def strength(self) -> float:
        """The mean length of chroma, in code values."""
        return self._length / max(self._frames, 1)

    def figures(self) -> dict[str, float]:
        """Those of `names.FILM_FIGURES` that are known: none of a single frame, no flicker where luma stands quite still."""
        made = {}
        if self._steps and self._luma > STILL * self._steps:
            made["flicker"] = self._chroma / self._luma
        if self._steps:
            made["chroma_change"] = self._chroma / self._steps
        means = [total / count for total, count in self._apart.values() if count]
        if means:
            made["cdc"] = float(np.mean(means))
        return made


def _distribution(chroma: NDArray[np.float32]) -> NDArray[np.float64]:
    """The share of each code value of Cb and of Cr, (2, 256)."""
    codes = np.rint(chroma + _CODES // 2).clip(0, _CODES - 1).astype(np.uint8)
    counts = [np.bincount(codes[..., plane].ravel(), minlength=_CODES) for plane in range(2)]
    return np.stack(counts) / codes[..., 0].size


def _divergence(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Jensen and Shannon's, in nats, 0..0.69, of distributions (2, Q); the mean of both."""
    middle = (one + other) / 2
    return float(np.mean([_relative(one, middle) + _relative(other, middle)])) / 2


def _relative(shares: NDArray[np.float64], middle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kullback and Leibler's divergence of each row."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(shares > 0, shares * np.log(shares / middle), 0.0)
    return np.asarray(terms.sum(axis=1))
