"""Shrunk Voronoi cells around training rows, and the pairs of rows they are made of.

Everything is in terms of y = x / alpha and rho = alpha / sigma, of which the posterior is a function. Rows that are
equal are one point with the sum of their weights; rows of weight 0 are not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _arrays
from .._step_table import StepTable, check_steps
from .._training_set import TrainingSet
from ..field import Field, oracle_of

__all__ = ["SPARE", "STARTED", "Cells", "cells", "nearest_points", "points_of", "pairs", "shrinkage", "without_noise"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

# What a certificate keeps in hand for rounding.
SPARE = 1e-6
# At a smaller alpha nothing is trapped, and y = x / alpha may overflow.
STARTED = 2.0**-300
_PAIRS = 1 << 21  # pairs formed at a time
# Below this share of reach^2 a squared distance is formed from the difference of the rows instead of from products.
_CLOSE = 1e-3


def points_of(field: Field, name: str) -> TrainingSet:
    """The training set of a field whose target is a set of points, else ValueError."""
    data = oracle_of(field).training_set
    if data.bandwidth > 0:
        msg = f"{name} needs a field of bandwidth 0, whose target is a set of points; got bandwidth {data.bandwidth:g}."
        raise ValueError(msg)
    return data


def without_noise(steps: StepTable) -> StepTable:
    """The same table with nothing drawn in its rows."""
    return replace(steps, S=np.zeros(len(check_steps(steps))))


def shrinkage(q: float) -> float:
    """Q as a float in (0, 1/2)."""
    value = _arrays.number(q, "q")
    if not 0 < value < 0.5:
        msg = f"q must lie in (0, 1/2), the part of the Voronoi cell given up; got {q}."
        raise ValueError(msg)
    return value


def pairs(data: TrainingSet, index: Int, toward: Float | None = None, first: int = 0) -> Iterator[Any]:
    """Blocks (rows, |x_j - x_i|^2, upper bound on (x_j - x_i).toward_i) for all rows j >= first and i in ``index``.

    The arrays are (B, M). Squared distances have a relative error of 1e-9 and are exactly 0 for equal rows.
    """
    toward = np.zeros((len(index), 0)) if toward is None else toward
    center, reach, d = data.moments.center, data.moments.reach, data.d
    anchors = data.values(index) - center
    part = slice(0, toward.shape[1])  # nothing when there is no direction
    lengths, offset = np.einsum("ij,ij->i", anchors, anchors), np.einsum("ij,ij->i", anchors[:, part], toward)
    slack = d * 2.0**-52 * np.linalg.norm(toward, axis=1)  # rounding of a product with a vector of length 1
    size = max(1, _PAIRS // max(d, len(index)))
    for start in range(first, data.n, size):
        block = slice(start, min(start + size, data.n))
        rows = data.read(block)
        rows -= center
        squared = np.einsum("ij,ij->i", rows, rows)[:, None] + lengths - 2.0 * (rows @ anchors.T)
        along = rows[:, part] @ toward.T - offset + slack * (2.0 * reach)
        j, m = np.nonzero(squared <= _CLOSE * reach**2)
        for some in range(0, len(j), size):
            jj, mm = j[some : some + size], m[some : some + size]
            # From the rows as given: equal rows give exactly 0.
            difference = data.values(block.start + jj) - data.values(index[mm])
            squared[jj, mm] = np.einsum("ij,ij->i", difference, difference)
            along[jj, mm] = np.einsum("ij,ij->i", difference[:, part], toward[mm]) + slack[mm] * np.sqrt(
                squared[jj, mm]
            )
        yield block, squared, along


@dataclass(frozen=True)
class Cells:
    """Shrunk Voronoi cells around M rows, and the posterior inside.

    Attributes
    ----------
    index : (M,)
        Lowest number of the rows equal to the one asked for.
    inside : (M,) bool
        Whether (y - x_i).(x_j - x_i) <= q |x_j - x_i|^2 for all j, with SPARE in hand.
    nearest : (M,)
        Distance to the nearest other point; inf when there is none.
    leakage, slope : (M, R)
        In the cell, at the R values of rho: bounds sum_j (pi_j / pi_i) D_ij^p exp(-rho^2 D_ij^2 (1/2 - q)) on
        |D - x_i| (p = 1) and on the largest eigenvalue of the posterior covariance (p = 2).
    """

    index: Int
    inside: npt.NDArray[np.bool_]
    nearest: Float
    leakage: Float
    slope: Float


def cells(data: TrainingSet, index: Int, y: Float, rho: Float, q: float) -> Cells:
    """The cells of rows ``index`` (M,), tested at y (M, d) and with bounds at ``rho`` (M, R). 4 N d flops for each."""
    m, size = len(index), 256
    if m > size:
        parts = [
            cells(data, index[i : i + size], y[i : i + size], rho[i : i + size], q) for i in range(0, m, size)
        ]  # fmt: skip
        return Cells(*(np.concatenate([getattr(p, name) for p in parts]) for name in Cells.__dataclass_fields__))
    inside, nearest, own = np.ones(m, bool), np.full(m, np.inf), np.zeros(m)
    lowest = np.full(m, data.n)
    sums = np.zeros((2, m, rho.shape[1]))
    for block, squared, along in pairs(data, index, y - data.values(index)):
        w = np.exp(data.log_w[block])[:, None]
        equal, other = (squared == 0) & (w > 0), (squared > 0) & (w > 0)
        own += np.where(equal, w, 0.0).sum(axis=0)
        j = np.where(equal.any(axis=0), block.start + equal.argmax(axis=0), data.n)
        np.minimum(lowest, j, out=lowest)
        inside &= (~other | (along <= q * (1.0 - SPARE) * squared)).all(axis=0)
        distance = np.sqrt(np.where(other, squared, np.inf))
        np.minimum(nearest, distance.min(axis=0), out=nearest)
        for k in range(rho.shape[1]):
            with np.errstate(invalid="ignore", over="ignore"):
                part = w * np.exp(-(0.5 - q) * (rho[:, k] * distance) ** 2) * distance
                sums[0, :, k] += np.where(other, part, 0.0).sum(axis=0)
                sums[1, :, k] += np.where(other, part * distance, 0.0).sum(axis=0)
    leakage, slope = sums * ((1.0 + SPARE) / own[:, None])
    return Cells(lowest, inside, nearest, leakage, slope)


def nearest_points(data: TrainingSet, x: Float, alpha: Float) -> Int:
    """The row of non-zero weight whose alpha x_i is nearest to each x: the limit of the posterior as sigma -> 0."""
    out = {"index": np.empty(len(x), np.int64)}
    data.posterior(x, alpha, np.zeros(len(x)), np.inf, out)
    return out["index"]
