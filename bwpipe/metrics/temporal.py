"""Temporal consistency of a video's chroma: metrics of consecutive frames."""

from collections import deque
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import FlowField
from bwpipe.motion.drift import GAPS, Drift, DriftMeter
from bwpipe.motion.optical_flow import consistency_mask, warp

SHORT = 256
"""Short side, in pixels, of the grid on which videos are compared."""
LAGS = (1, 2, 4)
"""Distances, in frames, at which chroma distributions are compared."""
STILL = 0.01
"""Mean change of luma, in code values, below which a ratio to it is meaningless."""
_CODES = 256


class FlowPair(NamedTuple):
    """Optical flow between a frame and the previous frame of the same shot.

    Attributes:
        back: (h, w, 2) the flow to the previous frame.
        consistent: (h, w) where forward and backward flow agree.
        luma: The mean change of luma along the flow there, in code values.
    """

    back: FlowField
    consistent: NDArray[np.bool_]
    luma: float


def flow_pair(before: NDArray[np.uint8], here: NDArray[np.uint8]) -> FlowPair | None:
    """Compute the flow between two frames' full-range luma (h, w); None if forward and backward flow agree nowhere.

    Farnebaeck 2003, "Two-Frame Motion Estimation Based on Polynomial Expansion", as in OpenCV: a different method from that of
    `steady`, so that the stage is not measured by its own flow.
    """
    back, there = _flow(here, before), _flow(before, here)
    consistent = consistency_mask(back, there)
    if not consistent.any():
        return None
    difference = np.abs(warp(before, back) - here)
    return FlowPair(back, consistent, float(difference[consistent].mean(dtype=np.float64)))


def _flow(here: NDArray[np.uint8], there: NDArray[np.uint8]) -> FlowField:
    start: Any = np.zeros((*here.shape, 2), np.float32)
    return np.asarray(cv2.calcOpticalFlowFarneback(here, there, start, 0.5, 4, 15, 3, 5, 1.1, 0), np.float32)


class Steadiness:
    """Accumulates changes of a video's chroma, in bounded memory."""

    def __init__(self) -> None:
        self._previous: NDArray[np.float32] | None = None
        self._recent: deque[NDArray[np.float64]] = deque(maxlen=max(LAGS))
        self._steps = 0
        self._luma = self._chroma = self._length = 0.0
        self._frames = 0
        self._divergences = dict.fromkeys(LAGS, (0.0, 0))
        self._meter = DriftMeter()
        self._drift = dict.fromkeys(GAPS, Drift())

    def add(
        self,
        chroma: NDArray[np.float32],
        flow: FlowPair | None,
        *,
        begins: bool,
        luma: NDArray[np.uint8] | None = None,
    ) -> None:
        """Add the next frame.

        Args:
            chroma: (h, w, 2) Cb and Cr in code values, 0 for none.
            flow: The flow to the previous frame; None if there is none.
            begins: Whether a shot begins with the frame: nothing is compared across cuts.
            luma: (h, w) full range, by which drift is measured where nothing moves; None not to measure it.
        """
        if begins:
            self._end_shot()
            self._recent.clear()
        elif flow is not None and self._previous is not None:
            difference = (chroma - warp(self._previous, flow.back))[flow.consistent]
            self._chroma += float(np.hypot(difference[:, 0], difference[:, 1]).mean(dtype=np.float64))
            self._luma += flow.luma
            self._steps += 1
        if luma is not None:
            for gap, drift in self._meter.add(luma, chroma / np.float32(255), flow.back if flow else None).items():
                self._drift[gap] = self._drift[gap].plus(drift)
        shares = _distribution(chroma)
        for lag in LAGS:
            if len(self._recent) >= lag:
                total, count = self._divergences[lag]
                self._divergences[lag] = total + _divergence(self._recent[-lag], shares), count + 1
        self._recent.append(shares)
        self._previous = chroma
        self._length += float(np.hypot(chroma[..., 0], chroma[..., 1]).mean(dtype=np.float64))
        self._frames += 1

    def _end_shot(self) -> None:
        self._drift["half"] = self._drift["half"].plus(self._meter.begin())

    @property
    def strength(self) -> float:
        """The mean length of chroma, in code values."""
        return self._length / max(self._frames, 1)

    def figures(self) -> dict[str, float]:
        """Those of `descriptions.FILM_FIGURES` that are defined: none for a single frame, no flicker if luma is static.

        Ask after the last frame: the last shot ends here.
        """
        self._end_shot()
        values = {}
        if self._steps and self._luma > STILL * self._steps:
            values["flicker"] = self._chroma / self._luma
        if self._steps:
            values["chroma_change"] = self._chroma / self._steps
        means = [total / count for total, count in self._divergences.values() if count]
        if means:
            values["cdc"] = float(np.mean(means))
        shares = {f"drift_{gap}": drift.share for gap, drift in self._drift.items()}
        return values | {name: share for name, share in shares.items() if share is not None}


def _distribution(chroma: NDArray[np.float32]) -> NDArray[np.float64]:
    """The distribution of code values of Cb and of Cr, (2, 256)."""
    codes = np.rint(chroma + _CODES // 2).clip(0, _CODES - 1).astype(np.uint8)
    counts = [np.bincount(codes[..., plane].ravel(), minlength=_CODES) for plane in range(2)]
    return np.stack(counts) / codes[..., 0].size


def _divergence(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Jensen-Shannon divergence, in nats, 0..0.69, of distributions (2, Q); the mean over both rows."""
    middle = (one + other) / 2
    return float(np.mean([_kl_divergence(one, middle) + _kl_divergence(other, middle)])) / 2


def _kl_divergence(shares: NDArray[np.float64], middle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kullback-Leibler divergence of each row."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(shares > 0, shares * np.log(shares / middle), 0.0)
    return np.asarray(terms.sum(axis=1))
