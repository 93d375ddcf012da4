"""The posterior of a few hundred queries in numba: what way each of them takes.

Every query climbs these stages until one answers it::

    sums      over all rows, in the type of the results, where the error model says that this is enough
    lists     of the rows that count, which products in that type tell; those are measured in float64
    sums      in float64, of rows of smaller types
    all rows  measured in float64

The error model is that of the compiled core (``csrc/accuracy.cpp``): errors of logits reach the mean through the
deviation of the rows, and where many rows share the weight they average.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays import blocks
from . import Float, Int, reference
from . import numba_refine as refine
from . import numba_ties as ties
from .numba_products import Queries, Sums, Team, pack, roundoff, scan

__all__ = ["Data", "Posterior", "nearest"]

Mask = npt.NDArray[np.bool_]

_SMALL = 2**15  # multiply-adds that products take longer for than differences
_PAIRS = 2**20  # (query, row) measured at the same time
_FEW = 4  # queries are answered from lists of up to one in so many rows
_MOST_LISTED = 64  # heaviest rows that are asked for
_AVERAGING = 0.25  # largest weight next to which errors of logits count as averaging out
_CLOSE = 2.0**-20  # of the reach: farther apart, float32 roundings of two rows have little in common
_BLOCK = 2**22  # bytes of float64 rows, of which there are a few copies at a time
_AT_ONCE = 2**16  # rows, of what would take several numbers for each of them
_GOLDEN = 0.6180339887498949
# Roundings of |mean|^2 that its difference to the second moment is off by, where few rows are most of all: less breaks
# the promise of a scatter, more sends more of them to float64.
_BESIDE_ONE = 64
_CHAIN = 64  # products of one sign that are summed with the error of any; longer chains lose with their root
# Rows of so few numbers in size, which round alike, and by how much more their logits are off: BLAS adds some hundred
# products one by one.
_FEW_NUMBERS, _ALIKE = 8, 8.0


@dataclass(frozen=True)
class Data:
    given: reference.Data
    rows: npt.NDArray[Any]
    table: Float | None  # the values of stored integers (bytes, or the bits of halves); None for floats
    log_w: Float
    center: Float  # what rows are counted from, exact in the type of the results
    reach: float  # of rows of positive weight from there, at most
    span: float  # of their log weights
    dtype: Any  # of the results

    @functools.cached_property
    def few_numbers(self) -> bool:
        """Most rows have few distinct ones in size: sums of products with queries along them round alike."""
        active = np.flatnonzero(self.log_w > -np.inf)
        sample = active[:: max(1, len(active) // 32)]
        columns = np.arange(0, len(self.center), max(1, len(self.center) // 256))
        few = 0
        for row in self.given.values(sample)[:, columns] - self.center[columns]:
            sizes = np.sort(np.abs(row[row != 0]))
            few += bool(len(sizes) > 32 and np.count_nonzero(np.diff(sizes) > 2.0**-17 * sizes[1:]) < _FEW_NUMBERS)
        return 2 * few > len(sample)

    @functools.cached_property
    def clump(self) -> int:
        """A bound on the rows any two of which are closer than 2^-20 of the reach; roundings treat those alike."""
        uneven = np.modf(_GOLDEN * np.arange(1, len(self.center) + 1))[0] - 0.5  # nothing in data is aligned with it
        aside = self.center + self.reach / np.linalg.norm(uneven) * uneven
        away = np.empty((2, len(self.rows)))
        for block in blocks(self.rows, _BLOCK):
            values = self.given.values(block)
            for one, point in zip(away, (self.center, aside), strict=True):
                one[block] = np.linalg.norm(values - point, axis=1)
        most = len(self.rows)
        for one in away:  # distances from a point differ by no more than two rows do
            one = one[self.log_w > -np.inf]
            one.sort()
            fullest = 0
            for first in range(0, len(one), _AT_ONCE):
                starts = one[first : first + _AT_ONCE]
                ends = np.searchsorted(one, starts + _CLOSE * self.reach, side="right")
                fullest = max(fullest, int((ends - np.arange(len(starts))).max()) - first)
            most = min(most, fullest)
        return most


@dataclass(frozen=True)
class Accuracy:
    """What sums have to reach for a result of the promised accuracy, with a margin."""

    logit: float  # rms error of a logit: small enough that first order is all that matters
    log_norm: float  # what those of logits may add to log_norm, rms
    per_radius: float  # error of the mean in units of the rms radius of the data
    per_deviation: float  # and in units of sqrt(S) / alpha, which is what the score sees
    weight: float  # error of a single weight
    rest: float  # 1 - the largest weight must exceed this where off-weights are summed ...
    off_weights: float  # ... whose relative error this is
    variance: float  # share of the largest squared norm that a variance, a difference of such, must exceed
    scatter: float  # error of the scatter in units of the squared rms radius


_FLOAT32 = Accuracy(2.0**-13, 1.5 * 2.0**-15, 2.0**-19, 2.0**-16, 5e-6, 2.0**-8, 1e-3, 2.0**-8, 2.0**-16)
_FLOAT64 = Accuracy(2.0**-32, 2.0**-34, 2.0**-35, 2.0**-36, 5e-11, 2.0**-16, 1e-9, 2.0**-16, 2.0**-36)
_FLOAT32_IN_FLOAT64 = Accuracy(2.0**-13, 1.5 * 2.0**-15, 2.0**-19, 2.0**-16, 5e-6, 2.0**-20, 1e-3, 2.0**-26, 2.0**-16)


def queries(
    x: Float, data: Data, alpha: Float, s2: Float, span: float, dtype: Any, reach: float | None = None
) -> tuple[Queries, Mask, Float]:
    """Queries as products need them; which of them have scores in the range of the arithmetic; and their norms."""
    reach = data.reach if reach is None else reach
    y = x - alpha[:, None] * data.center
    norm = np.sqrt(np.einsum("ij,ij->i", y, y))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        unit = np.where(s2 > 0, s2, np.maximum((norm + alpha * reach) ** 2, np.finfo(float).tiny))  # S = 0: any
        scale, pull = alpha / unit, alpha**2 / unit
        displaced = 2.0**-53 * alpha * np.linalg.norm(data.center)
        made = Queries(y * scale[:, None], norm * scale, pull, 2 * scale * displaced * reach, span)
        single = dtype == np.float32
        low, high, most = (1e-15, 1e15, 1e30) if single else (1e-120, 1e120, 1e240)
        sizes = (norm, made.size, pull, made.size * reach, pull * reach**2)
        fits = np.logical_and.reduce([size <= most for size in sizes]) & (reach == 0 or low <= reach <= high)
    return made, fits, norm


class Posterior:
    """One call for some queries."""

    def __init__(
        self, x: Float, data: Data, alpha: Float, sigma: Float, u: Float | None, cut: Float, out: dict[str, Any],
        team: Team,
    ) -> None:  # fmt: skip
        self.x, self.data, self.alpha, self.sigma, self.u, self.out, self.team = x, data, alpha, sigma, u, out, team
        self.s2 = sigma**2 + (alpha * data.given.bandwidth) ** 2
        with np.errstate(divide="ignore", over="ignore"):
            self.h = 0.5 / self.s2
        self.cut = np.minimum(cut, refine.DENSE)
        self.reach = np.minimum(cut, reference.UNDERFLOW)
        self.live = np.zeros(len(x))  # rows that sums were made of, where they were tried
        wanted = out.keys()
        self.k = out["top_index"].shape[1] if "top_index" in wanted else 0
        self.off = bool(wanted & {"gap", "log_rest", "ess", "entropy", "variance", "jvp"})
        self.vectors = bool(wanted & {"mean", "variance", "scatter", "jvp"})

    def fill(self) -> None:
        """Answer all of them."""
        (m, d), n = self.x.shape, len(self.data.rows)
        if self.u is None and not self.alpha.any():
            self._by_all_rows(np.arange(min(m, 1)))  # one posterior, the weights, for all queries
            for array in self.out.values():
                array[1:] = array[:1]
            if "log_norm" in self.out:
                self.out["log_norm"][:] = -np.einsum("ij,ij->i", self.x, self.x) * self.h
            if "work" in self.out:
                self.out["work"] /= max(m, 1)
            return
        todo = np.arange(m)
        if m * n * d > _SMALL:
            single = self.data.dtype == np.float32
            todo = self._by_sums(todo, self.data.dtype, _FLOAT32 if single else _FLOAT64)
            many = self.live[todo] > n // _FEW
            todo = np.sort(np.concatenate([self._by_lists(todo[~many], self.cut), todo[many]]))
            if single:
                todo = self._by_sums(todo, np.float64, _FLOAT32_IN_FLOAT64)
        self._by_all_rows(todo)

    def _by_sums(self, todo: Int, dtype: Any, accuracy: Accuracy) -> Int:
        """Answers queries for which sums are enough; the others."""
        if len(todo) == 0 or self.k > _MOST_LISTED:
            return todo
        data, out = self.data, self.out
        made, fits, norm = queries(self.x[todo], data, self.alpha[todo], self.s2[todo], data.span, dtype)
        u, reach = roundoff(dtype), data.reach
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            error = 0.5 * u * (np.maximum(made.size, 0.5 * made.pull * reach) * reach + data.span)
            tried = fits & (self.s2[todo] > 0) & (error + made.blur <= accuracy.logit)
        if not tried.any():
            return todo
        some = todo[tried]
        if len(some) < len(todo):
            made, _, norm = queries(self.x[some], data, self.alpha[some], self.s2[some], data.span, dtype)
        error, s2 = error[tried], self.s2[some]
        listing = bool(out.keys() & {"index", "gap", "top_index", "top_weight"})
        left = np.where((self.cut[some] < refine.DENSE) & (not self.off), self.cut[some], np.inf)
        direction, largest_u = None, np.ones(len(some))
        if self.u is not None and "jvp" in out:
            largest_u = np.maximum(np.abs(self.u[some]).max(axis=1), np.finfo(float).tiny)
            direction = self.u[some] / largest_u[:, None]
        sums, lists = scan(
            made, data, dtype, self.team, log_w=data.log_w - data.log_w.max(), cut=left,
            window=np.zeros(len(some)) if listing else None, keep=max(2, self.k), vectors=self.vectors, u=direction,
        )  # fmt: skip
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            answer, enough = _judge(sums, made, error, self.alpha[some], s2, data, accuracy, out, direction, dtype)
            constant = data.log_w.max() + sums.reference - norm**2 / (2 * s2)
            answer["log_norm"] = constant + np.log(sums.mass)
        if "jvp" in out:
            answer["jvp"] *= largest_u[:, None]
        if listing:
            enough &= lists.count >= 0
            lists.count[~enough] = 0
            ids, starts = pack(lists, np.zeros(len(some)))
            self._from_near(some, ids, starts, sums.mass, answer, enough)
        good = np.flatnonzero(enough)
        for name, array in out.items():
            array[some[good]] = answer[name][good]
        self.live[some] = sums.live
        return np.setdiff1d(todo, some[good], assume_unique=True)

    def _from_near(self, some: Int, ids: Int, starts: Int, mass: Float, answer: dict[str, Any], enough: Mask) -> None:
        """What short lists of the heaviest rows tell, ``mass`` in their units; ``enough`` loses the other queries."""
        good = np.flatnonzero(enough)
        starts = np.append(starts[good], starts[-1])
        found, c = self._measure(some[good], ids, starts, self.cut[some[good]], False, vectors=False)
        top, score, log_w, next_score, next_log_w = found.scalars.T[:5]
        x, s2, h = self.x[some[good]], self.s2[some[good]], self.h[some[good]]
        lead = refine.leads(next_score, next_log_w, score, log_w, h)
        index, gap = np.zeros(len(some), np.int64), np.zeros(len(some))
        index[good], gap[good] = top, -lead
        answer |= {"index": index, "gap": gap}
        if self.off:
            with np.errstate(invalid="ignore"):
                error = reference.logit_rounding(x, np.where(next_score < np.inf, next_score, score), s2)
            enough[good] &= error <= ties.tolerated(self.data.given) * np.maximum(1.0, -1e-3 * lead)
        if "top_index" in self.out:
            answer["top_index"] = np.zeros((len(some), self.k), np.int64)
            answer["top_weight"] = np.zeros((len(some), self.k))
            rows, listed = self._near_rows(found.near, ids), found.near >= 0
            answer["top_index"][good] = rows
            farther = np.where(listed, c[found.near] - score[:, None], 0.0)
            # Where distances do not tell a weight, equal rows have that of the heaviest.
            rough = reference.logit_rounding(x, score, s2) > ties.tolerated(self.data.given)
            for m in np.flatnonzero(rough):
                values = self.data.given.values(ids[starts[m] : starts[m + 1]])
                enough[good[m]] &= bool((values == values[0]).all())
            log_top = np.where(rough, -np.log(mass[good]), log_w - score * h - answer["log_norm"][good])
            logits = self.data.log_w[rows] - log_w[:, None] - farther * h[:, None] + log_top[:, None]
            answer["top_weight"][good] = np.where(listed, np.exp(np.minimum(logits, 0.0)), 0.0)

    def _near_rows(self, near: Int, ids: Int) -> Int:
        """The rows of the list of the heaviest, filled up with those of weight 0."""
        rows = np.where(near >= 0, ids[near], -1)
        if (near < 0).any():
            none = np.flatnonzero(self.data.log_w == -np.inf)
            for m in np.flatnonzero((near < 0).any(axis=1)):
                free = np.flatnonzero(near[m] < 0)
                rows[m, free] = none[: len(free)]
        return rows

    def _by_lists(self, todo: Int, window: Float) -> Int:
        """Answers queries of which few rows matter; the others."""
        keep = max(1 + self.off, self.k)
        if len(todo) == 0 or keep > _MOST_LISTED:
            return todo
        data, dtype, n = self.data, self.data.dtype, len(self.data.rows)
        limit = self.s2[todo] == 0
        made, fits, _ = queries(self.x[todo], data, self.alpha[todo], self.s2[todo], data.span, dtype)
        if not fits.all():
            rest = todo[~fits]
            return np.concatenate([self._by_lists(todo[fits], window), rest])
        if limit.any() and not limit.all():
            return np.concatenate([self._by_lists(todo[~limit], window), self._by_lists(todo[limit], window)])
        width = window[todo]
        log_w = data.log_w - data.log_w.max()
        if limit.all():  # the nearest, whatever they weigh
            width, log_w = np.zeros(len(todo)), np.where(log_w > -np.inf, 0.0, -np.inf)
        _, lists = scan(made, data, dtype, self.team, log_w=log_w, cut=None, window=width, keep=keep)
        lists.count[lists.count > max(256, n // _FEW)] = -1
        short = np.flatnonzero(lists.count >= 0)
        if len(short) == 0:
            return todo
        ids, starts = pack(lists, width)
        again = self._from_rows(todo[short], ids, np.append(starts[short], starts[-1]), window)
        rest = todo[lists.count < 0]
        if len(again) > 0:
            rest = np.concatenate([rest, self._by_lists(again, np.full_like(window, refine.DENSE))])
        return np.sort(rest)

    def _by_all_rows(self, todo: Int) -> None:
        n = len(self.data.rows)
        size = max(1, _PAIRS // n)
        for i in range(0, len(todo), size):
            some = todo[i : i + size]
            ids = np.tile(np.arange(n), len(some))
            self._from_rows(some, ids, np.arange(len(some) + 1) * n, np.full(len(self.x), refine.DENSE))

    def _measure(
        self, some: Int, ids: Int, starts: Int, cut: Float, off: bool, *, vectors: bool
    ) -> tuple[refine.States, Float]:
        u = self.u[some] if self.u is not None and vectors and "jvp" in self.out else None
        return refine.states(
            self.x[some], self.data, self.data.log_w, self.alpha[some], self.h[some], cut, off, ids, starts, self.team,
            u=u, k=self.k, vectors=vectors,
        )  # fmt: skip

    def _from_rows(self, some: Int, ids: Int, starts: Int, window: Float) -> Int:
        """Answers queries from the rows ids[starts[q]] ... of each, which hold all within the window.

        Not those of which the window is too small, because their two heaviest rows are copies: these are returned.
        """
        data, out, n = self.data, self.out, len(self.data.rows)
        found, c = self._measure(some, ids, starts, self.cut[some], self.off, vectors=self.vectors)
        x, s2, h, wanted = self.x[some], self.s2[some], self.h[some], out.keys()
        top, score, log_w, next_score, next_log_w, rest, rest2, heat, spread, along, dropped, live = found.scalars.T
        lead = refine.leads(next_score, next_log_w, score, log_w, h)  # of the runner-up, <= 0
        ratio = np.exp(lead)
        total = 1.0 + ratio * rest  # 1 / w_max
        scale = ratio / total
        answer: dict[str, Any] = {"index": top, "ess": total**2 / (1.0 + ratio**2 * rest2)}
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            answer["log_norm"] = np.where(s2 > 0, log_w - score / (2 * s2) + np.log1p(ratio * rest), -np.inf)
            answer["gap"] = np.where(s2 > 0, -lead, np.where(next_score == score, 0.0, np.inf))
            answer["log_rest"] = np.log(rest) + lead - np.log1p(ratio * rest)
            answer["entropy"] = np.log1p(ratio * rest) + np.where(ratio > 0, scale * (heat - lead * rest), 0.0)
        beyond = (n - np.diff(starts)) * np.exp(-np.where(window[some] < refine.DENSE, window[some], np.inf))
        answer["dropped"] = np.minimum((dropped + beyond) / total, 1.0)
        answer["work"] = (1.0 + live / n) / 2.0
        shift = found.shift * scale[:, None]  # mean - point
        answer["variance"] = np.maximum(scale * spread - np.einsum("ij,ij->i", shift, shift), 0.0)
        answer["scatter"] = answer["variance"]
        if "jvp" in wanted:
            answer["jvp"] = scale[:, None] * found.pull - (scale * along)[:, None] * shift
        if "mean" in wanted:
            answer["mean"] = found.point + shift
        if "top_index" in wanted:
            answer["top_index"], answer["top_weight"] = self._listed(found, ids, c, score, log_w, h, s2, total)
        copies = self.off & (next_score == score) & (window[some] < refine.DENSE) & (s2 > 0)
        good = ~copies
        for name, array in out.items():
            array[some[good]] = answer[name][good]
        reach = self.reach[some]
        if self.off:  # a copy of the top row says nothing about the variance, and cuts nothing
            reach = np.where(next_score == score, reference.UNDERFLOW, reach)
        nats = math.log(n) + data.log_w.max() - log_w
        tolerated = ties.tolerated(data.given)
        doubtful, slack = ties.doubtful(x, s2, score, next_score, lead, nats, reach, self.off, tolerated)
        above = (next_score, next_log_w) if self.off else (score, log_w)
        for q in doubtful[good[doubtful] & (self.alpha[some[doubtful]] > 0)]:
            own = starts[q] + np.flatnonzero(data.log_w[ids[starts[q] : starts[q + 1]]] > -np.inf)
            farther, heavier = c[own] - above[0][q], data.log_w[ids[own]] - above[1][q]
            counts = farther <= 2.0 * s2[q] * (heavier + reach[q]) + slack[q]
            one = slice(some[q], some[q] + 1)
            ties.answer(
                self.x[one], data.given, ids[own][counts], c[own][counts], self.alpha[one], self.sigma[one],
                None if self.u is None else self.u[one], self.off, {name: array[one] for name, array in out.items()},
            )  # fmt: skip
        again: Int = some[copies]
        return again

    def _listed(
        self, found: refine.States, ids: Int, c: Float, score: Float, log_w: Float, h: Float, s2: Float, total: Float
    ) -> tuple[Int, Float]:
        """The heaviest rows and their weights."""
        rows = self._near_rows(found.near, ids)
        near = refine.leads(c[found.near], self.data.log_w[rows], score[:, None], log_w[:, None], h[:, None])
        near = np.where((found.near >= 0) & (self.data.log_w[rows] > -np.inf), near, -np.inf)
        for m in np.flatnonzero(s2 == 0):  # all but the nearest weigh 0: the lowest rows, not the next nearest
            tied = rows[m, near[m] > -np.inf]
            rows[m, len(tied) :] = np.setdiff1d(np.arange(self.k), tied)[: self.k - len(tied)]
        return rows, np.exp(near) / total[:, None]


def nearest(x: Float, data: Data, alpha: float, index: Int, squared: Float, team: Team) -> None:
    """The rows nearest to some queries, whatever they weigh; see the kernel contract."""
    (m, d), n, k = x.shape, len(data.rows), index.shape[1]
    equal, a, none = np.zeros(n), np.full(m, alpha), np.zeros(m)

    def measure(some: Int, ids: Int, starts: Int) -> None:
        one = np.ones(len(some))  # with equal weights and h = 1 the order is that of the distances
        found, c = refine.states(x[some], data, equal, a[some], one, one, False, ids, starts, team, k=k)
        index[some], squared[some] = ids[found.near], c[found.near]

    todo = np.arange(m)
    made, fits, _ = queries(x, data, a, none, 0.0, data.dtype, _reach(data))
    if m * n * d > _SMALL and k <= _MOST_LISTED and fits.all():
        _, lists = scan(made, data, data.dtype, team, log_w=equal, cut=None, window=none, keep=k)
        ids, starts = pack(lists, none)
        todo = np.flatnonzero(lists.count < 0)
        short = np.flatnonzero(lists.count >= 0)
        measure(short, ids, np.append(starts[short], starts[-1]))
    size = max(1, _PAIRS // n)
    for i in range(0, len(todo), size):
        some = todo[i : i + size]
        measure(some, np.tile(np.arange(n), len(some)), np.arange(len(some) + 1) * n)


def _reach(data: Data) -> float:
    """Of all rows, also those of weight 0, from the centre, at most."""
    if (data.log_w > -np.inf).all():
        return data.reach
    largest = max(float(np.abs(data.given.values(block)).max()) for block in blocks(data.rows))
    return float(np.sqrt(data.rows.shape[1]) * largest + np.linalg.norm(data.center))


def _judge(
    sums: Sums, made: Queries, error: Float, alpha: Float, s2: Float, data: Data, accuracy: Accuracy,
    out: dict[str, Any], direction: Float | None, dtype: Any,
) -> tuple[dict[str, Any], Mask]:  # fmt: skip
    """Answers from sums, and for which queries they are accurate enough."""
    wanted, u = out.keys(), roundoff(dtype)
    radius, reach = data.given.moments.radius, data.reach
    mass = sums.mass
    largest, second = 1.0 / mass, 2.0 * sums.second / mass
    shift = sums.shift / mass[:, None]
    variance = np.maximum(second - np.einsum("ij,ij->i", shift, shift), 0.0) if shift.size else second
    others = mass - 1.0
    answer: dict[str, Any] = {
        "ess": mass**2 / sums.squares,
        "log_rest": np.log(others) - np.log(mass),
        "entropy": np.log(mass) + sums.heat / mass,
        "dropped": np.minimum(sums.dropped / mass, 1.0),
        "work": (1.0 + sums.live / len(data.rows)) / 2.0,
        "variance": variance,
        "scatter": variance,
    }
    if "mean" in wanted:
        answer["mean"] = shift + data.center
    if direction is not None:
        answer["jvp"] = sums.along / mass[:, None] - np.einsum("ij,ij->i", shift, direction)[:, None] * shift
    # Along a chain of products of one sign errors grow: by as much as the rows that count are parallel to y.
    along = np.einsum("ij,ij->i", made.scaled, shift) if shift.size else made.size * np.sqrt(second)
    parallel = np.minimum(1.0, np.where(along != 0, along**2 / (made.size**2 * second), 0.0))
    error = error * np.sqrt(1.0 + max(0.0, made.scaled.shape[1] / _CHAIN - 1.0) * parallel)
    # Those of rows in a clump are the same.
    together = np.minimum(1.0, largest * (data.clump if dtype == np.float32 else 1))
    if dtype == np.float32 and data.few_numbers:  # along rows all are
        error, together = error * (1.0 + (_ALIKE - 1.0) * parallel), np.maximum(together, parallel)
    off = np.where(together > _AVERAGING, 4.0, 1.0) * error * np.sqrt(together * variance)
    off = off + made.blur / max(reach, np.finfo(float).tiny) * variance + 4 * u * np.sqrt(second)
    enough = np.isfinite(mass) & (mass > 0) & (error <= accuracy.logit)
    if "log_norm" in wanted:
        enough &= error * np.sqrt(together) <= accuracy.log_norm
    if wanted & {"mean", "jvp", "variance"}:
        enough &= off <= np.minimum(accuracy.per_radius * radius, accuracy.per_deviation * np.sqrt(s2) / alpha)
    if "scatter" in wanted:
        enough &= off * 2 * reach <= accuracy.scatter * radius**2
        enough &= _BESIDE_ONE * u * (second - variance) <= accuracy.scatter * radius**2
    if wanted & {"log_rest", "entropy", "variance", "jvp"}:
        enough &= (1.0 - largest) >= np.maximum(accuracy.rest, 8.0 * error / accuracy.off_weights)
    if wanted & {"variance", "jvp"}:
        enough &= variance >= accuracy.variance * reach**2
    if "top_weight" in wanted:
        enough &= 2.0 * error * largest <= accuracy.weight
    return answer, enough
