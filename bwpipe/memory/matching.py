"""Matches a frame with remembered ones by the network's features, luma and place, and reads their colours."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.pixels.resize import squash

Array = NDArray[np.float32]

BLOCK = 4
"""Cells of the chroma grid along a side of a cell of the feature grid: colours are matched as blocks of that size."""
_TEMPERATURE = np.float32(0.05)
"""Of the softmax inside a remembered frame."""
_NEGLIGIBLE = np.float32(-30)
"""Least exponent in a softmax: with numbers that are too small to be normalised a processor takes many times as long."""
_LUMA, _PLACE = 2.0, 2.0
"""Weights of the squared difference of luma (of its range) and of place (of the short side), against the cosine of features."""
_ADMITTED, _SURE = 0.5, 0.7
"""Match at which a remembered frame, or a cell of it, begins to count, and that from which it counts fully."""
_FADED, _FULL = 0.35, 0.7
"""Best match of a cell at which it keeps its own colour, and that from which it takes the memory's."""
_MOST_GAIN = 2.0
"""Largest factor that restores the length which chroma loses when different hues are averaged."""
_MIN_CONFIDENCE = np.float32(0.05)
_SIDE, _ALONE = 64, 2**18
"""Rows of a block of a matrix product, and multiplications in it: OpenBLAS computes up to that many in the calling thread."""


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """A frame on the feature grid of h x w = N cells, prepared for matching.

    Attributes:
        size: (h, w).
        query: (N, C + 5) and
        key: (N, C + 5): the product of a query and a key is their score: the cosine of the features, less the weighted squares
            of the differences of luma and of place.
        colours: (N, 2 * BLOCK * BLOCK) the chroma of each cell, Cb first.
        confidence: (N,) 0..1.
        values: (N, 2 BLOCK BLOCK + 3) what is read of it, each times the confidence: the colours, their mean length, the
            confidence, and 1.
    """

    size: tuple[int, int]
    query: Array
    key: Array
    colours: Array
    confidence: Array
    values: Array


def cells(features: Array, luma: Array, chroma: Array, confidence: Array) -> Cells:
    """Prepare a frame.

    Args:
        features: (C, h, w).
        luma: (H, W) 0..1, on any grid.
        chroma: (2, h', w') on any grid.
        confidence: (h'', w'') 0..1, on any grid.
    """
    channels, height, width = features.shape
    unit = features.reshape(channels, -1).T
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), np.float32(1e-6))
    level = squash(luma, height, width).ravel()
    down, across = np.mgrid[:height, :width].reshape(2, -1).astype(np.float32) / np.float32(min(height, width))
    one = np.ones_like(level)
    apart = -_LUMA * level * level - _PLACE * (down * down + across * across)
    linear = [2 * _LUMA * level, 2 * _PLACE * down, 2 * _PLACE * across]
    query = np.column_stack([unit, *linear, one, apart]).astype(np.float32)
    key = np.asfortranarray(np.column_stack([unit, level, down, across, apart, one]), np.float32)  # a factor by columns
    planes = np.stack([squash(plane, height * BLOCK, width * BLOCK) for plane in chroma])
    sure = squash(confidence, height, width).ravel()
    colours = to_blocks(planes)
    values = np.column_stack([colours, lengths(colours).mean(axis=1), sure, one]) * np.maximum(sure, _MIN_CONFIDENCE)[:, None]
    return Cells((height, width), query, key, colours, sure, values)


def product(one: Array, other: Array) -> Array:
    """The product of two matrices, in blocks, in an order that depends on nothing but their shapes.

    OpenBLAS, which numpy uses, divides a larger product among as many threads as there are cores: they would wait for each
    other, and for the cores that other stages need, and the sums would depend on their number.
    """
    (height, inner), width = one.shape, other.shape[1]
    across = min(width, max(_ALONE // (_SIDE * min(inner, _SIDE)), _SIDE))
    along = _ALONE // (_SIDE * across)
    result = np.empty((height, width), np.float32)
    for top in range(0, height, _SIDE):
        for left in range(0, width, across):
            block = result[top : top + _SIDE, left : left + across]
            np.matmul(one[top : top + _SIDE, :along], other[:along, left : left + across], out=block)
            for at in range(along, inner, along):
                block += one[top : top + _SIDE, at : at + along] @ other[at : at + along, left : left + across]
    return result


def cosines(vectors: Array, vector: Array) -> Array:
    """The cosine (n,) of each of some unit vectors (n, C) with one (C,), computed by one thread, like `product`."""
    return np.asarray(np.einsum("ij,j->i", vectors, vector))


def to_blocks(chroma: Array) -> Array:
    """Chroma (2, BLOCK h, BLOCK w) as the colours of cells (h w, 2 BLOCK BLOCK)."""
    height, width = (side // BLOCK for side in chroma.shape[1:])
    blocks = chroma.reshape(2, height, BLOCK, width, BLOCK).transpose(1, 3, 0, 2, 4)
    return np.ascontiguousarray(blocks.reshape(height * width, -1))


def from_blocks(colours: Array, size: tuple[int, int]) -> Array:
    """The inverse of `to_blocks`, for a grid (h, w) of cells."""
    height, width = size
    blocks = colours.reshape(height, width, 2, BLOCK, BLOCK).transpose(2, 0, 3, 1, 4)
    return np.ascontiguousarray(blocks.reshape(2, height * BLOCK, width * BLOCK))


def lengths(colours: Array) -> Array:
    """The length of each chroma in the colours of cells: (N, BLOCK BLOCK) of (N, 2 BLOCK BLOCK)."""
    cb, cr = np.split(colours, 2, axis=1)
    return np.asarray(np.sqrt(cb * cb + cr * cr))


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What one remembered frame says about another.

    Attributes:
        match: (N,) the best score of each cell, up to 1.
        colours: (N, 2 BLOCK BLOCK) the colours of what matches.
        length: (N,) the mean length of these.
        confidence: (N,) their confidence.
    """

    match: Array
    colours: Array
    length: Array
    confidence: Array


def read(frame: Cells, memory: Cells) -> Reading:
    """Read the colours of a remembered frame at the cells of another, wherever in it they match best."""
    scores = product(_shifted(frame, shift(frame, memory)), memory.key.T)
    match, mean = softmax_mean(scores, memory.values, _TEMPERATURE)
    return Reading(match, mean[:, :-3], mean[:, -3], mean[:, -2])


def softmax_mean(scores: Array, values: Array, temperature: np.float32) -> tuple[Array, Array]:
    """The best score (N,) of each row of scores (N, M), which are overwritten, and the mean (N, V) of values by their softmax.

    Args:
        scores: (N, M).
        values: (M, V), each row times its weight, which is the last of it.
        temperature: Of the softmax.
    """
    best = scores.max(axis=1)
    scores -= best[:, None]
    scores /= temperature
    np.maximum(scores, _NEGLIGIBLE, out=scores)
    cv2.exp(scores, scores)
    mean = product(scores, values)
    mean /= mean[:, -1:]
    return np.asarray(best), mean


def _shifted(frame: Cells, shift: tuple[float, float]) -> Array:
    """The queries of a frame for places that lie (down, across) from its own, of the short side."""
    query = frame.query.copy()
    down, across = (query[:, at] + np.float32(2 * _PLACE * each) for at, each in zip((-4, -3), shift, strict=True))
    old = query[:, -4] ** 2 + query[:, -3] ** 2
    query[:, -4], query[:, -3] = down, across
    query[:, -1] -= (down * down + across * across - old) / np.float32(4 * _PLACE)
    return query


def shift(frame: Cells, memory: Cells) -> tuple[float, float]:
    """Where the scene of one frame lies in another, (down, across) of the short side: the median over cells that match well."""
    height, width = frame.size
    some = (np.arange(0, height, 2)[:, None] * width + np.arange(0, width, 2)).ravel()
    channels = frame.query.shape[1] - 5
    scores = product(frame.query[some, :channels], memory.key[:, :channels].T)
    best = scores.argmax(axis=1)
    sure = scores[np.arange(len(best)), best] > _SURE
    if np.count_nonzero(sure) < len(best) / 8:
        return 0.0, 0.0
    there, here = memory.key[best[sure], channels + 1 : channels + 3], frame.key[some[sure], channels + 1 : channels + 3]
    down, across = np.median(there - here, axis=0)
    return float(down), float(across)


def recall(frame: Cells, memories: Sequence[Cells], weights: Sequence[float]) -> tuple[Array, Array]:
    """What the remembered frames say of a frame together.

    Each is read by itself, and their colours are averaged: pooled in one softmax, look-alikes would vote for themselves.

    Args:
        frame: The frame.
        memories: The remembered frames.
        weights: The weight of each, 0..1.

    Returns:
        The colours (N, 2 BLOCK BLOCK), and how far each cell should take them (N,), 0..1.
    """
    total = np.zeros(len(frame.key), np.float32)
    colours: Array = np.zeros_like(frame.colours)
    usual, strength = np.zeros_like(total), np.zeros_like(total)
    for memory, weight in zip(memories, weights, strict=True):
        found = read(frame, memory)
        admitted = weight * _ramp(float(found.match.mean()), _ADMITTED, _SURE)
        if admitted == 0:
            continue
        share = np.float32(admitted) * _ramps(found.match, _ADMITTED, _SURE) * np.exp(found.match)
        share *= np.maximum(found.confidence, _MIN_CONFIDENCE)
        total += share
        colours += share[:, None] * found.colours
        usual += share * found.length
        np.maximum(strength, np.float32(admitted) * _ramps(found.match, _FADED, _FULL), out=strength)
    known = np.maximum(total, np.finfo(np.float32).tiny)
    colours /= known[:, None]
    usual /= known
    lost = usual / np.maximum(lengths(colours).mean(axis=1), np.float32(1e-4))
    gain = np.clip(lost, 1, np.float32(_MOST_GAIN))
    strength[total == 0] = 0
    return np.asarray(colours * gain[:, None], np.float32), strength


def drawn(frame: Cells, memories: Sequence[Cells], weights: Sequence[float]) -> Array:
    """The colours of a frame, drawn towards what is remembered: (N, 2 BLOCK BLOCK)."""
    colours, strength = recall(frame, memories, weights)
    return np.asarray(frame.colours + strength[:, None] * (colours - frame.colours), np.float32)


def _ramp(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (value - low) / (high - low)))


def _ramps(values: Array, low: float, high: float) -> Array:
    return np.asarray(np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1), np.float32)
