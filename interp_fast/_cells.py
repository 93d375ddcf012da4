"""When one training row has won: margins, shrunk Voronoi cells, and the noise level at which rows tell apart.

Everything is in terms of y = x / alpha and rho = alpha / sigma, of which the posterior is a function. Rows that are
equal are one point with the sum of their weights; rows of weight 0 are not there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays
from ._results import Record
from ._training import TrainingSet
from .field import Field, check_field
from .schedules import Schedule

__all__ = [
    "STARTED", "Dominance", "MarginCondition", "Trapping", "cells", "dominance", "margin_condition",
    "nearest_points", "needs_points", "points", "reached", "shrinkage",
    "trapping",
]  # fmt: skip

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

# What a certificate keeps in hand for rounding.
SPARE = 1e-6
# At a smaller alpha nothing is trapped, and y = x / alpha may overflow.
STARTED = 2.0**-300
_PAIRS = 1 << 21  # pairs formed at a time
# Below this share of reach^2 a squared distance is formed from the difference of the rows instead of from products.
_CLOSE = 1e-3


def needs_points(field: Field, name: str) -> None:
    """ValueError unless the target of the field is a set of points."""
    if check_field(field).bandwidth > 0:
        msg = (
            f"{name} needs a field of bandwidth 0, whose target is a set of points; got bandwidth {field.bandwidth:g}."
        )
        raise ValueError(msg)


def reached(schedule: Schedule, lam: float) -> float:
    """The time at which log(alpha/sigma) is ``lam``: 0 or 1 when the schedule starts above it or ends below it."""
    return float(schedule.time_at(np.clip(lam, schedule.lam(0.0), schedule.lam(1.0))))


def _pairs(data: TrainingSet, index: Int, toward: Float | None = None, first: int = 0) -> Iterator[Any]:
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
    for block, squared, along in _pairs(data, index, y - data.values(index)):
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


@dataclass(frozen=True, repr=False, eq=False)
class Trapping(Record):
    """What :func:`trapping` returns.

    Attributes
    ----------
    index : (M,) int64
        The nearest point, by its lowest row.
    trapped : (M,) bool
        The certificate holds: every later state of a run stays with this point.
    leakage : (M,)
        Bound on |D - x_index| at x, and at every later state of a trapped run; inf outside the cell.
    q : float
    """

    index: Any
    trapped: Any
    leakage: Any
    q: float


def shrinkage(q: float) -> float:
    """Q as a float in (0, 1/2)."""
    value = _arrays.number(q, "q")
    if not 0 < value < 0.5:
        msg = f"q must lie in (0, 1/2), the part of the Voronoi cell given up; got {q}."
        raise ValueError(msg)
    return value


def trapping(field: Field, x: Any, t: Any, q: float = 0.25, *, error: float = 0.0) -> Trapping:
    """Has the run through x at time t chosen its training row for good? A certificate, one-sided: False proves nothing.

    With y = x / alpha, rho = alpha / sigma, D_ij = |x_i - x_j| and i the nearest point, it holds when y lies in the
    Voronoi cell of x_i shrunk by 2q, (y - x_i).(x_j - x_i) <= q D_ij^2 for all j, and

        leakage + error <= q min_j D_ij,    leakage = sum_{j != i} (pi_j / pi_i) D_ij exp(-rho^2 D_ij^2 (1/2 - q)).

    Then under every deterministic table that is exact for constant D and has A, B, C >= 0 (``ddim``,
    ``exponential_heun``; ``euler`` and ``heun`` where alpha = t and h <= 1 - t) all later states stay in the cell, the
    heaviest row stays i, and |D - x_i| <= leakage: states are convex combinations of points of a convex set.

    Parameters
    ----------
    field : Field
        Of bandwidth 0. Equal rows are one point.
    x : (M, d) or (d,) array
    t : float or (M,)
    q : float in (0, 1/2)
        Small q: a small cell, soon certain of what it holds. Large q: a large cell, certain later.
    error : float
        A model whose denoiser is within ``error`` of the oracle's is trapped too.

    Raises
    ------
    ValueError
        The bandwidth is not 0, or an argument is out of range.

    Notes
    -----
    4 N d flops and N exponentials for each query. A relative 1e-6 is kept in hand for rounding.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> field = itf.Field(np.array([[0.0, 0.0], [4.0, 0.0]]))
    >>> itf.theory.trapping(field, np.array([[0.3, 0.2], [1.0, 0.0]]), 0.5).trapped
    array([ True, False])
    """
    needs_points(field, "trapping")
    q, error = shrinkage(q), _arrays.number(error, "error", least=0.0)
    wide, single, _, _ = _arrays.queries(x, field.d)
    times, _ = _arrays.times(t, len(wide))
    c = field.schedule(np.array(np.broadcast_to(times, len(wide))))
    index = nearest_points(field._set, wide, c.alpha)
    with np.errstate(divide="ignore"):
        rho = c.alpha / c.sigma
    started = c.alpha > STARTED
    y = wide / np.where(started, c.alpha, 1.0)[:, None]
    found = cells(field._set, index, y, rho[:, None], q)
    inside = found.inside & started
    leakage = np.where(inside, found.leakage[:, 0], np.inf)
    trapped = inside & (leakage + error <= q * found.nearest * (1.0 - SPARE))
    pick: Any = 0 if single else slice(None)
    return Trapping(found.index[pick], trapped[pick], leakage[pick], q)


@dataclass(frozen=True, repr=False, eq=False)
class MarginCondition(Record):
    """What :func:`margin_condition` returns.

    Attributes
    ----------
    holds : (M,) bool
    gap : (M,)
        Log of the heaviest weight over the runner-up's, in nats.
    required : float
        log(1 / sqrt(h)).
    margin : (M,)
        The gap in squared distance, 2 S gap with S = sigma^2 + alpha^2 bandwidth^2.
    leakage : (M,)
        Bound on the distance of the posterior mean from the heaviest row, 2 reach (N - 1) exp(-gap).
    """

    holds: Any
    gap: Any
    required: float
    margin: Any
    leakage: Any


def margin_condition(field: Field, x: Any, t: Any, h: float) -> MarginCondition:
    """Is the gap of the posterior at least log(1 / sqrt(h)), so that the runner-up's weight is at most sqrt(h)?

    The condition of Li, Lin and Yu (2026) for steps of size h, free of their schedule. Where it holds, D is within
    diam (N - 1) sqrt(h) of the heaviest row. It cannot hold at alpha = 0, where all weights are those of the data.

    Parameters
    ----------
    field : Field
        With a bandwidth the statement is about the posterior of the training rows.
    x : (M, d) or (d,) array
    t : float or (M,)
    h : float
        Step size in (0, 1].

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> field = itf.Field(np.array([[0.0, 0.0], [4.0, 0.0]]))
    >>> itf.theory.margin_condition(field, np.array([0.3, 0.2]), 0.6, h=0.01).holds
    np.True_
    """
    step = _arrays.number(h, "h", most=1.0)
    if step <= 0:
        msg = f"h must lie in (0, 1], the size of a step; got {h}."
        raise ValueError(msg)
    post = check_field(field).posterior(_arrays.as_array(x, "x")[0], t)
    c = field.schedule(np.asarray(t, np.float64))
    s2 = np.asarray(c.sigma) ** 2 + (np.asarray(c.alpha) * field.bandwidth) ** 2
    required = -0.5 * math.log(step)
    with np.errstate(invalid="ignore"):
        margin = np.where(s2 > 0, 2.0 * s2 * post.gap, np.nan)[()]
    leakage = 2.0 * field._set.moments.reach * (field.N - 1) * np.exp(-post.gap)
    return MarginCondition(post.gap >= required, post.gap, required, margin, leakage)


@dataclass(frozen=True, repr=False, eq=False)
class Dominance(Record):
    """What :func:`dominance` returns.

    Attributes
    ----------
    rho : float
        alpha / sigma from which the union bound is at most ``tol``.
    time : float
        The schedule's time there: 0 when it starts above rho, 1 when it ends below.
    tol : float
    """

    rho: float
    time: float
    tol: float


def dominance(field: Field, tol: float) -> Dominance:
    """From which time on does the heaviest row of x_t = alpha x_i + sigma z differ from i with probability <= tol?

    The smallest rho = alpha / sigma with sum_i pi_i sum_{j != i} P(l_j > l_i) <= tol, the union bound over pairs;
    P(l_j > l_i) = Phi(-rho D_ij / 2 + log(pi_j / pi_i) / (rho D_ij)) with Phi the normal distribution function and
    D_ij = |x_i - x_j|. Exact for two points.

    Parameters
    ----------
    field : Field
        Of bandwidth 0. Equal rows are one point.
    tol : float in (0, 1)
        A probability.

    Raises
    ------
    ValueError
        The bandwidth is not 0, or ``tol`` is out of range.

    Notes
    -----
    All pairs once: N^2 d flops (60000 rows of 784: a minute or two), and bounded memory. Pairs are pooled by distance
    to a relative 0.3 %, around the mean of each pool: rho is good to 1e-4 or better.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> field = itf.Field(np.array([[0.0, 0.0], [4.0, 0.0]]))
    >>> round(itf.theory.dominance(field, 0.05).rho, 6)  # 2 * 1.644854 / 4
    0.822427
    """
    from scipy.optimize import brentq
    from scipy.special import ndtr

    needs_points(field, "dominance")
    tol = _arrays.number(tol, "tol")
    if not 0 < tol < 1:
        msg = f"tol must be a probability in (0, 1); got {tol}."
        raise ValueError(msg)
    always = Dominance(0.0, reached(field.schedule, -math.inf), tol)
    if field.R == 0:
        return always
    amount, distance, log_ratio = _pools(field._set)

    def excess(log_rho: float) -> float:
        far = math.exp(log_rho) * distance
        wrong = np.exp(-0.5 * log_ratio) * ndtr(-0.5 * far + log_ratio / far)
        wrong += np.exp(0.5 * log_ratio) * ndtr(-0.5 * far - log_ratio / far)
        return float(amount @ wrong) - tol

    low = -math.log(2.0 * field._set.moments.reach) - 20.0
    if excess(low) <= 0:
        return always
    high = -math.log(distance.min()) + 5.0  # rho D = 148: P < 1e-1000
    log_rho = float(brentq(excess, low, high, xtol=1e-12))
    return Dominance(math.exp(log_rho), reached(field.schedule, log_rho), tol)


# Pools of pairs: this many per octave of squared distance, over so many octaves; and per nat of |log(pi_j / pi_i)|.
_PER_OCTAVE, _OCTAVES = 128, 80
_PER_NAT, _NATS = 2, 40


def _pools(data: TrainingSet) -> tuple[Float, Float, Float]:
    """All pairs of points, pooled: sqrt(pi_i pi_j) summed, mean distance and mean |log(pi_j / pi_i)| of each pool."""
    chosen, log_pi = points(data)
    root, level = np.exp(0.5 * log_pi), np.where(log_pi > -np.inf, log_pi, 0.0)  # a row that is no point weighs 0
    size, last = 1024, _PER_OCTAVE * _OCTAVES - 1
    ratios = np.ptp(log_pi[chosen]) > 0
    columns = _PER_NAT * _NATS + 1 if ratios else 1
    sums = np.zeros((3, (last + 1) * columns))
    top = 4.0 * data.moments.reach**2
    for first in range(0, len(chosen), size):
        index = chosen[first : first + size]
        for block, squared, _ in _pairs(data, index, first=int(index[0])):
            amount = root[block, None] * root[index]
            if block.start <= index[-1]:
                amount *= np.arange(block.start, block.stop)[:, None] > index
            nearness = np.log2(np.maximum(squared / top, 1e-30).astype(np.float32))
            pool = np.clip(-_PER_OCTAVE * nearness, 0, last).astype(np.int64)
            values = [np.sqrt(squared)]
            if ratios:
                values.append(np.abs(level[block, None] - level[index]))
                pool = pool * columns + np.minimum(_PER_NAT * values[1], columns - 1).astype(np.int64)
            for k, value in enumerate((1.0, *values)):
                sums[k] += np.bincount(pool.ravel(), (amount * value).ravel(), minlength=sums.shape[1])
    amount, distance, ratio = sums[:, sums[0] > 0]
    return amount, distance / amount, ratio / amount


def points(data: TrainingSet) -> tuple[Int, Float]:
    """Lowest rows of the distinct points, and the logarithm of the weight of each: (N,), -inf for all other rows."""
    first: dict[bytes, int] = {}
    weight = np.zeros(data.n)
    for block in _arrays.blocks(data.rows):
        values = data.read(block)
        values += 0.0  # -0 and 0 are equal
        for j in np.flatnonzero(data.log_w[block] > -np.inf):
            row = int(block.start + j)
            weight[first.setdefault(blake2b(values[j], digest_size=16).digest(), row)] += np.exp(data.log_w[row])
    with np.errstate(divide="ignore"):
        return np.array(sorted(first.values())), np.log(weight)
