"""The copying score C_T: k-means cells, and the Mann-Whitney statistic in each."""

from __future__ import annotations

import math
import warnings

import numpy as np
import numpy.typing as npt

from .. import _random
from .._training_set import TrainingSet
from ._points import Points, training_set

__all__ = ["copying_score"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

_MOST_ROWS = 5_000  # that place the centres of cells: k-means repeats its passes
_LLOYD_ROUNDS = 30


def copying_score(
    data: Points, cells: int, x: Points, d1: Float, held: Points, held_d1: Float, source: _random.NoiseKey
) -> float | None:
    """C_T: mean over cells of the Mann-Whitney z, weighted by shares of data; None when no cell holds both kinds."""
    if cells == 1:
        return _mann_whitney(d1, held_d1)
    centers = training_set(_centers(data, cells, source), like=data.set)
    share = np.bincount(_cell_of(data, centers), minlength=centers.n)
    cell_of_x, cell_of_held = _cell_of(x, centers), _cell_of(held, centers)
    total = weight = 0.0
    for c in range(centers.n):
        near, control = d1[cell_of_x == c], held_d1[cell_of_held == c]
        if len(near) and len(control):
            total += share[c] * _mann_whitney(near, control)
            weight += share[c]
    return total / weight if weight > 0 else None


def _cell_of(points: Points, centers: TrainingSet) -> Int:
    return np.concatenate([centers.nearest(points.read(block))[0][:, 0] for block in points.blocks()])


def _subset(n: int, source: _random.NoiseKey) -> Int:
    """At most _MOST_ROWS of the numbers below n, chosen at random; ascending."""
    if n <= _MOST_ROWS:
        return np.arange(n)
    u = _random.uniforms(_random.subkey(source.key, "subset"), 0, 2, n=n)
    return np.sort(np.argpartition(u, _MOST_ROWS)[:_MOST_ROWS])


def _centers(data: Points, cells: int, source: _random.NoiseKey) -> Float:
    """Centres of k-means cells: at most ``cells``, one for each different row."""
    from scipy.cluster.vq import kmeans2

    points = data.values(_subset(data.n, source))
    cells = min(cells, len(np.unique(points, axis=0)))
    seed = np.random.default_rng(_random.subkey(source.key, "subset"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a cell that has become empty keeps its centre
        centers: Float = kmeans2(points, cells, iter=_LLOYD_ROUNDS, minit="++", seed=seed)[0]
    return centers


def _mann_whitney(a: Float, b: Float) -> float:
    """Standardized number of pairs with a > b (ties count half); 0 when all values are equal."""
    m, n = len(a), len(b)
    b = np.sort(b)
    pairs = 0.5 * float(np.sum(np.searchsorted(b, a, "left") + np.searchsorted(b, a, "right")))
    tied = np.unique(np.concatenate([a, b]), return_counts=True)[1].astype(np.float64)
    variance = m * n / 12 * (m + n + 1 - float(np.sum(tied**3 - tied)) / ((m + n) * (m + n - 1)))
    return (pairs - m * n / 2) / math.sqrt(variance) if variance > 0 else 0.0
