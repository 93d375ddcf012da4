"""The copying score C_T: k-means cells, and the Mann-Whitney statistic in each."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from .. import _arrays, _random
from .._training_set import TrainingSet
from ._points import training_set

__all__ = ["centers", "copying_score", "mann_whitney", "subset"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

# Rows used where a cost would grow with the square of the data (precision and recall) or repeat passes (k-means).
_MOST_ROWS = 5_000
_LLOYD_ROUNDS = 30


def subset(n: int, source: _random.NoiseKey, stream: int) -> Int:
    """At most _MOST_ROWS of the numbers below n, chosen at random; ascending."""
    if n <= _MOST_ROWS:
        return np.arange(n)
    u = _random.uniforms(_random.subkey(source.key, "subset"), 0, n, row=stream)
    return np.sort(np.argpartition(u, _MOST_ROWS)[:_MOST_ROWS])


def centers(training: TrainingSet, cells: int, source: _random.NoiseKey) -> Float:
    """Centres of k-means cells (at most ``cells``, one for each different row): k-means++ (Arthur 2007), then Lloyd."""
    points = training.values(subset(training.n, source, 2))
    u = _random.uniforms(_random.subkey(source.key, "subset"), 0, cells, row=3)
    centers = points[[int(u[0] * len(points))]]
    squared = np.full(len(points), np.inf)
    for i in range(1, cells):
        difference = points - centers[-1]
        squared = np.minimum(squared, np.einsum("ij,ij->i", difference, difference))
        cumulative = np.cumsum(squared)
        if cumulative[-1] == 0:
            break
        centers = np.vstack([centers, points[np.searchsorted(cumulative, u[i] * cumulative[-1], side="right")]])
    label = np.full(len(points), -1)
    for _ in range(_LLOYD_ROUNDS):
        before, label = label, training_set(centers).nearest(points)[0][:, 0]
        if np.array_equal(before, label):
            break
        centers = np.stack([points[label == c].mean(axis=0) if (label == c).any() else centers[c]
                            for c in range(len(centers))])  # fmt: skip
    return centers


def copying_score(
    training: TrainingSet, centers: Float, x: Float, d1: Float, held: Float, held_d1: Float
) -> float | None:
    """C_T: mean over cells of the Mann-Whitney z, weighted by shares of data; None when no cell holds both kinds."""
    cells = training_set(centers)
    share = np.zeros(len(centers))
    for block in _arrays.blocks(training.rows):
        label = cells.nearest(training.read(block))[0][:, 0]
        share += np.bincount(label, minlength=len(centers))
    cell_of_x, cell_of_held = cells.nearest(x)[0][:, 0], cells.nearest(held)[0][:, 0]
    total = weight = 0.0
    for c in range(len(centers)):
        near, control = d1[cell_of_x == c], held_d1[cell_of_held == c]
        if len(near) and len(control):
            total += share[c] * mann_whitney(near, control)
            weight += share[c]
    return total / weight if weight > 0 else None


def mann_whitney(a: Float, b: Float) -> float:
    """Standardized number of pairs with a > b (ties count half); 0 when all values are equal."""
    m, n = len(a), len(b)
    b = np.sort(b)
    pairs = 0.5 * float(np.sum(np.searchsorted(b, a, "left") + np.searchsorted(b, a, "right")))
    tied = np.unique(np.concatenate([a, b]), return_counts=True)[1].astype(np.float64)
    variance = m * n / 12 * (m + n + 1 - float(np.sum(tied**3 - tied)) / ((m + n) * (m + n - 1)))
    return (pairs - m * n / 2) / math.sqrt(variance) if variance > 0 else 0.0
