"""Measures luma differences frame by frame."""

from dataclasses import dataclass
from math import inf, log10
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import Luma
from bwpipe.verify.verdict import Limits

BLOCK = 16


class Sample(NamedTuple):
    """A sample that differs: its position and its value before and after."""

    frame: int
    x: int
    y: int
    before: int
    after: int


class Block(NamedTuple):
    """A block of 16x16 samples: its top left corner, and how much brighter it is, in 8-bit code values."""

    frame: int
    x: int
    y: int
    brighter: float


@dataclass(slots=True)
class LumaTally:
    """Accumulated luma differences between input and output frames.

    Attributes:
        depth: Bits per sample.
        limits: Tolerated differences.
        frames: Number of frames compared.
        changed: Number of frames that differ at all.
        total: Sum of the absolute differences of all samples, in code values.
        samples: Number of samples compared.
        most: Largest absolute difference, in code values.
        psnr: Lowest PSNR of any frame, in dB; infinite if all are equal.
        worst: The frame with that PSNR.
        first: The first sample that differs.
        block: The block whose mean differs most.
        off_blocks: Number of frames with a block beyond the limit.
        off_psnr: Number of frames below the PSNR limit.
    """

    depth: int
    limits: Limits
    frames: int = 0
    changed: int = 0
    total: int = 0
    samples: int = 0
    most: int = 0
    psnr: float = inf
    worst: int = 0
    first: Sample | None = None
    block: Block | None = None
    off_blocks: int = 0
    off_psnr: int = 0

    def add(self, number: int, before: Luma, after: Luma) -> None:
        """Compare the luma (H, W) of a frame before and after, of the same shape and dtype."""
        self.frames += 1
        self.samples += before.size
        difference = cv2.absdiff(before, after)
        most = int(difference.max())
        if not most:
            return
        self.changed += 1
        self.most = max(self.most, most)
        self.total += int(difference.sum(dtype=np.uint64))
        if self.first is None:
            y, x = (int(i) for i in np.unravel_index(int((difference != 0).argmax()), difference.shape))
            self.first = Sample(number, x, y, int(before[y, x]), int(after[y, x]))
        error = float(cv2.norm(before, after, cv2.NORM_L2SQR)) / before.size
        psnr = 10 * log10(((1 << self.depth) - 1) ** 2 / error)
        self.off_psnr += psnr < self.limits.psnr
        if psnr < self.psnr:
            self.psnr, self.worst = psnr, number
        means = block_means(before, after) / (1 << self.depth - 8)
        y, x = (int(i) for i in np.unravel_index(int(np.abs(means).argmax()), means.shape))
        brighter = float(means[y, x])
        self.off_blocks += abs(brighter) > self.limits.block
        if self.block is None or abs(brighter) > abs(self.block.brighter):
            self.block = Block(number, x * BLOCK, y * BLOCK, brighter)

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON-compatible data."""
        return {
            "frames": self.frames,
            "changed": self.changed,
            "mean": self.total / max(self.samples, 1),
            "max": self.most,
            "psnr": None if self.psnr == inf else round(self.psnr, 3),
            "worst_frame": self.worst if self.changed else None,
            "worst_block": self.block._asdict() if self.block else None,
            "first": self.first._asdict() if self.first else None,
            "depth": self.depth,
        }

    def violations(self, *, lossless: bool, still: bool = False) -> list[str]:
        """What exceeds the limits, a sentence each: any difference if `lossless`; `still` words it for a single image."""
        if lossless or self.limits.exact:
            if not self.first:
                return []
            at = self.first
            where = "" if still else f" of {self.changed} frames"
            frame = "" if still else f" in frame {at.frame}"
            return [f"the luma{where} differs: first{frame} at ({at.x}, {at.y}), {at.after} instead of {at.before}"]
        found = []
        block = self.block
        if self.off_blocks and block:
            word = "brighter" if block.brighter > 0 else "darker"
            where = "" if still else f" in {self.off_blocks} frames; worst in frame {block.frame}"
            found.append(
                f"16x16 blocks of luma are off by more than {self.limits.block:g}{where}: "
                f"the one at ({block.x}, {block.y}) is {abs(block.brighter):.2f} {word}"
            )
        if self.off_psnr:
            where = "" if still else f" of {self.off_psnr} frames"
            frame = "" if still else f" in frame {self.worst}"
            found.append(f"the luma{where} has a PSNR below {self.limits.psnr:g} dB: {self.psnr:.2f} dB{frame}")
        return found


def block_means(before: Luma, after: Luma) -> NDArray[np.float32]:
    """Mean of after - before over each block of 16x16 samples, fewer at the right and bottom edges."""
    height, width = before.shape
    down, across = -(-height // BLOCK), -(-width // BLOCK)
    difference = cv2.subtract(after, before, dtype=cv2.CV_32F)
    padded = cv2.copyMakeBorder(
        difference, 0, down * BLOCK - height, 0, across * BLOCK - width, cv2.BORDER_CONSTANT, value=(0.0, 0.0, 0.0, 0.0)
    )
    means = cv2.resize(padded, (across, down), interpolation=cv2.INTER_AREA).astype(np.float32)
    means[-1] *= BLOCK / (height - (down - 1) * BLOCK)
    means[:, -1] *= BLOCK / (width - (across - 1) * BLOCK)
    return means
