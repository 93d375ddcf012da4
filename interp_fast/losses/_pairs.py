"""Pairs of points and what each contributes to the lowest loss: draws at the boundaries between rows.

With s^2 = S / alpha^2, p_j = N(x_j, s^2), a point's posterior w_j(x) = w_j p_j / sum_i w_i p_i, d = |x_j - x_k|,
delta = d / s and eta = log(w_j / w_k) / 2,

    L* = E tr C = sum_{j<k} d^2 ∫ w_j p_j w_k p_k / sum_i w_i p_i = sum_{j<k} G_jk E_b[w_j(x) + w_k(x)],            (1)
    G_jk = d^2 ∫ w_j p_j w_k p_k / (w_j p_j + w_k p_k)
         = d^2 sqrt(w_j w_k) / 2 exp(-delta^2 / 8) E sech(delta xi / 2 + eta),

b the density that the integrand of G_jk has: (1) averages numbers in [0, 1] that are 1 for two isolated rows, however
rare the queries at their boundary are among those of the interpolant. G_jk is at most

    M_jk = d^2 sqrt(w_j w_k) / 2 exp(-delta^2 / 8) / sqrt(1 + delta^2 / 2 pi),                                       (2)

for E sech(v + eta) of an even, unimodal law of v is largest at eta = 0, and E sech(u xi) <= 1 / sqrt(1 + 2 u^2 / pi):
sech(u xi) = E cos(u xi Y) with Y of density sech(pi y / 2) / 2, so the left side is E exp(-u^2 Y^2 / 2) and the right
one E exp(-u^2 Z^2 / 2) with Z ~ N(0, 2 / pi). Both densities are 1/2 at 0 and their ratio crosses 1 once, because
log cosh(x) / x^2 decreases; hence Y^2 is stochastically larger than Z^2. With unequal weights the integral of
min(w_j p_j, w_k p_k), two Gaussian tails between G and 2 G, may be smaller than (2).

So with B_j >= sum_k M_jk the loss is at most U = sum_j B_j / 2; and if j is drawn by B_j, k by the terms of B_j and x
by b, the numbers U (G_jk / term) (w_j(x) + w_k(x)) lie in [0, U] and have the mean L*.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._training_set import TrainingSet, points
from ._draws import Stream

__all__ = ["Draws", "Pairs", "bridge", "log_integral", "log_majorant", "pairs_of"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

PEAK = 2.457545  # (2) increases with delta up to here and decreases beyond
NEAR = 32  # nearest points of each that are known one by one; all others lie in bins of distance
_TREE_DIMENSIONS = 8  # up to so many a tree finds the nearest points, and one bin has the others
_MOST = 2**20  # points, beyond: N^2 distances are too many
_BESIDE = 700  # about so many bytes are kept of a point, beside its coordinates: see Pairs
_READ = 2**29  # rows that are not in memory are read into it if they and what is kept of them take no more bytes
_FLOPS = 2.0**43  # of all distances; with more, those of projections are taken, which are never larger
_LEAST = 16  # dimensions of a projection
_BLOCK = 512  # points whose products with as many others stay in cache


def log_majorant(distance: Any, log_w: Any, log_v: Any, s: float, even: bool) -> Float:
    """Logarithm of an upper bound of G for points of log weights ``log_w`` and ``log_v``; see the module."""
    from scipy.special import log_ndtr

    with np.errstate(divide="ignore"):
        delta, twice = np.asarray(distance / s), 2 * np.log(distance)
    u = delta * delta
    bound: Float = twice + (log_w + log_v) / 2 - math.log(2) - u / 8 - np.log1p(u / (2 * math.pi)) / 2
    if even:
        return bound
    with np.errstate(divide="ignore", invalid="ignore"):  # NaN where delta is 0: the other bound holds
        boundary = delta / 2 + (log_w - log_v) / delta
        tails = twice + np.logaddexp(log_w + log_ndtr(-boundary), log_v + log_ndtr(boundary - delta))
    least: Float = np.fmin(bound, tails)
    return least


def log_integral(distance: Float, log_w: Float, log_v: Float, s: float) -> Float:
    """log G by the trapezoidal rule, which converges geometrically; distances (n,) > 0."""
    out = np.empty(len(distance))
    for first in range(0, len(out), _BLOCK):
        some = slice(first, first + _BLOCK)
        delta, eta = distance[some, None] / s, (log_w[some, None] - log_v[some, None]) / 2
        # v = delta xi / 2 + eta: a normal of width delta / 2 about eta times sech v, which draws it towards 0. Steps
        # resolve both factors, and 480 of them reach their ends for |eta| up to 355, the range of float64.
        center, step = np.sign(eta) * np.maximum(np.abs(eta) - delta * delta / 4, 0), np.minimum(0.05 * delta, 0.4)
        v = center + step * np.arange(-480, 481)
        terms = -np.abs(v) - np.log1p(np.exp(-2 * np.abs(v))) - 2 * ((v - eta) / delta) ** 2
        top = terms.max(axis=1, keepdims=True)
        log_mean = top + np.log(np.exp(terms - top).sum(axis=1, keepdims=True) * step / delta)
        log_mean += math.log(4) - math.log(2 * math.pi) / 2  # dxi = 2 dv / delta, and sech = 2 / (e^v + e^-v)
        out[some] = (log_mean - delta * delta / 8)[:, 0]
    out += 2 * np.log(distance) + (log_w + log_v) / 2 - math.log(2)
    return out


def bridge(delta: Float, eta: Float, noise: Stream) -> Float:
    """Draws of the coordinate c from x_j towards x_k in units of s, by the density b along the pair.

    That is ~ 1 / (1 / (w_j phi(c)) + 1 / (w_k phi(c - delta))).
    By rejection from min(w_j phi(c), w_k phi(c - delta)), two Gaussian tails: at least half are accepted.
    """
    from scipy.special import expit, log_ndtr, ndtri_exp

    boundary = delta / 2 + 2 * eta / delta
    # Beyond it, on the side of k, j is the smaller one.
    beyond, before = 2 * eta + log_ndtr(-boundary), log_ndtr(boundary - delta)
    share = expit(beyond - before)
    c, left = np.empty(len(delta)), np.arange(len(delta))
    while left.size:
        side, depth, accept = (noise.uniforms()[left] for _ in range(3))
        far = side < share[left]
        b, e = boundary[left], delta[left]
        tail = ndtri_exp(np.log(depth) + np.where(far, log_ndtr(-b), log_ndtr(b - e)))  # below -b, or b - e
        c[left] = np.where(far, -tail, e + tail)
        left = left[accept >= expit(np.abs(e * (c[left] - b)))]
    return c


@dataclass(frozen=True)
class Draws:
    """Queries at the boundaries of pairs, for which mean(scale * (w_j + w_k)) estimates the loss.

    ``log_pair`` is log(w_j p_j + w_k p_k) up to the constant that log_norm leaves out, too.
    """

    x: Float
    scale: Float
    log_pair: Float


class _Bound:
    """B_j of all points at one s, as sums of terms: the nearest points one by one, all others bin by bin."""

    def __init__(self, pairs: Pairs, s: float) -> None:
        self.pairs, self.s = pairs, s
        near = log_majorant(pairs.distance, pairs.log_w[:, None], pairs.log_w[pairs.near], s, pairs.even)
        edge, bins = self._other(pairs.edge), self._other(pairs.floor)
        bins[: pairs.edge_bin.min() + 1] = -math.inf  # within the edges of all: nothing there may set the level
        self.level = max(float(a.max(initial=-math.inf)) for a in (near, edge, bins))
        if self.level == -math.inf:
            self.level = 0.0
        self.near, self.edge, self.bins = (np.exp(a - self.level) for a in (near, edge, bins))
        total = self.near.sum(axis=1)
        for first in range(0, len(total), 1 << 14):
            some = np.arange(first, min(first + (1 << 14), len(total)))
            total[some] += self.others(some)[0].sum(axis=1)
        self.cumulative = np.cumsum(total)

    def _other(self, distance: Float) -> Float:
        """log of (2) without the weights, at the worst distance from ``distance`` on."""
        return log_majorant(np.maximum(distance, PEAK * self.s), 0.0, 0.0, self.s, True)

    def others(self, j: Int) -> tuple[Float, npt.NDArray[np.bool_]]:
        """The terms of the bins of points ``j``, and which of them are from ``cap``: (len(j), bins)."""
        p = self.pairs
        value = np.broadcast_to(self.bins, p.mass[j].shape).copy()
        value[np.arange(len(j)), p.edge_bin[j]] = self.edge[j]
        terms = p.root[j, None] * p.mass[j] * value
        if p.even:
            return terms, np.zeros(terms.shape, bool)
        with np.errstate(over="ignore", invalid="ignore"):  # G <= d^2 min(w_j, w_k); NaN of a bin that holds no point
            most = p.cap[j] * np.exp(2 * np.log(p.ceiling) - self.level)
        return np.fmin(terms, most), most < terms

    @property
    def log_limit(self) -> float:
        """log U."""
        total = float(self.cumulative[-1])
        return self.level + math.log(total / 2) if total > 0 else -math.inf


class Pairs:
    """The distinct points of a training set, the nearest ones of each and the distances of all others in bins.

    One pass over all pairs serves every time: N^2 d flops up to some 10^5 rows (fewer where N^2 d exceeds 2^43: then
    distances of projections, which are lower bounds, have to do). Of each point 0.6 kB are kept in up to 8 dimensions,
    beyond 0.8 kB (1.6 of unequal weights) and its coordinates; and rows that had to be read in, of sets of about half a
    GiB at most: draws take theirs from all over the set, at every time anew. All of it stays with the training set.

    Attributes
    ----------
    rows : (P,)
        Lowest row number of each point. Equal rows are one point of their weights together: pairs of them contribute
        nothing, but would drown all others.
    log_w : (P,)
    near, distance : (P, m)
        Numbers of the nearest points and their exact distances.
    edge, edge_bin : (P,)
        No other point is nearer than ``edge``, and none is in a lower bin.
    floor : (bins,)
        Lower bounds on the distances in a bin.
    mass, cap : (P, bins)
        Sums of sqrt(w_k), and of min(w_j, w_k) unless all weights are equal, over the other points of a bin.
    """

    def __init__(self, data: TrainingSet, report: Callable[[int, int], None] | None = None) -> None:
        self.data = data
        self.rows, log_w = points(data)
        self.log_w = log_w[self.rows]
        self.even = bool(np.ptp(self.log_w) == 0)
        self.root = np.exp(self.log_w / 2)
        self.unit = data.moments.reach
        self.m = min(NEAR, len(self.rows) - 1)
        if data.d <= _TREE_DIMENSIONS:
            self._by_tree()
        else:
            self._by_products(report)

    def _coordinates(self, dtype: type, turn: Float | None) -> npt.NDArray[Any]:
        """The points about the centre in units of the reach, or their projections: (P, r)."""
        z: npt.NDArray[Any] = np.empty((len(self.rows), self.data.d if turn is None else turn.shape[1]), dtype)
        for first in range(0, len(z), _BLOCK):
            away = (self.data.values(self.rows[first : first + _BLOCK]) - self.data.moments.center) / self.unit
            z[first : first + _BLOCK] = away if turn is None else away @ turn
        return z

    def _by_tree(self) -> None:
        from scipy.spatial import cKDTree

        z = self._coordinates(np.float64, None)
        distance, near = cKDTree(z).query(z, self.m + 1, workers=self.data.threads)
        itself = near == np.arange(len(z))[:, None]
        order = np.argsort(itself, axis=1, kind="stable")[:, : self.m]
        self.near = np.take_along_axis(near, order, 1)
        self._measure()
        self.edge = np.take_along_axis(distance, order, 1).max(axis=1, initial=0.0) * self.unit * (1 - 2.0**-40)
        self.edge_bin, self.floor = np.zeros(len(z), np.int64), np.zeros(1)
        self.ceiling = np.full(1, 2 * self.unit)
        weight, slack = np.exp(self.log_w), 1 + 2.0**-40
        sums = self.root.sum() * slack - self.root - self.root[self.near].sum(axis=1)
        self.mass, self.cap = np.maximum(sums, 0)[:, None], np.empty((len(z), 0))
        if not self.even:
            order = np.argsort(weight)
            below, rank = np.cumsum(weight[order]), np.argsort(order)
            sums = (below[rank] + weight * (len(z) - 1 - rank)) * slack - weight
            sums -= np.minimum(weight[:, None], weight[self.near]).sum(axis=1)
            self.cap = np.maximum(sums, 0)[:, None]

    def _by_products(self, report: Callable[[int, int], None] | None) -> None:
        from . import _pair_kernels as kernels

        p, d = len(self.rows), self.data.d
        r = min(d, max(_LEAST, int(_FLOPS / p**2)))
        turn = self._directions(r) if r < d else None
        for dtype, roundoff in ((np.float32, 2.0**-24), (np.float64, 2.0**-53)):
            z = self._coordinates(dtype, turn)
            squares = np.einsum("ij,ij->i", z, z)
            error = 8 * (r + 8) * roundoff  # of a squared distance between points of length <= 1
            some = z[:: -(-p // 256)]
            sample = np.einsum("ij,ij->i", some, some)[:, None] + squares - 2 * (some @ z.T)
            lowest = float(np.partition(sample, self.m, axis=1)[:, self.m].min()) / 2
            if lowest > 16 * error:
                break
        lowest = max(lowest, 2.0**-100)
        self._z, self._squares, self.lowest = z, squares, int(np.float32(lowest).view(np.int32))
        self.near, near_square = np.full((p, self.m), -1), np.full((p, self.m), np.inf, np.float32)
        self.mass = np.zeros((p, kernels.BINS), np.float32 if self.even else np.float64)
        self.cap = np.zeros((p, 0 if self.even else kernels.BINS), self.mass.dtype)
        self._tally(near_square, report)
        farthest = near_square.max(axis=1)
        self.edge_bin = kernels.bin_of(farthest, self.lowest).astype(np.int64)
        self.edge = self._lower(farthest.astype(np.float64), error)
        floors = kernels.floors(self.lowest)
        self.floor = self._lower(floors, error)
        self.ceiling = np.full(kernels.BINS, 2 * self.unit)
        if turn is None:
            self.ceiling[:-1] = np.minimum(self.unit * np.sqrt(floors[1:] + error), 2 * self.unit)
        self._measure()

    def _lower(self, square: Float, error: float) -> Float:
        return np.sqrt(np.maximum(square * (1 - 2.0**-22) - error, 0)) * self.unit

    def _directions(self, r: int) -> Float:
        """Orthonormal (d, r): the first principal directions of some rows, or any where there are not so many."""
        some = self.data.values(self.rows[:: -(-len(self.rows) // max(2048, 2 * r))]) - self.data.moments.center
        values, vectors = np.linalg.eigh(some @ some.T)
        basis: Float = np.linalg.qr(some.T @ vectors[:, np.argsort(-values)[:r]])[0]
        return basis

    def _tally(self, near_square: npt.NDArray[np.float32], report: Callable[[int, int], None] | None) -> None:
        from ._pair_kernels import tally

        weight, z = np.exp(self.log_w), self._z
        blocks = [slice(a, min(a + _BLOCK, len(z))) for a in range(0, len(z), _BLOCK)]

        def take(products: Any, own: slice, others: slice) -> None:
            tally(
                np.ascontiguousarray(products), self._squares[own], self._squares[others], own.start, others.start,
                weight, self.root, self.lowest, self.near[own], near_square[own], self.mass[own], self.cap[own],
            )  # fmt: skip

        from concurrent.futures import ThreadPoolExecutor

        # Rows a power of two apart would be turned by reading one set of a cache again and again.
        held = np.empty((_BLOCK, _BLOCK + 16), z.dtype)
        with ThreadPoolExecutor(self.data.threads) as pool:
            for i, a in enumerate(blocks):
                for b in blocks[i:]:
                    products = np.matmul(z[a], z[b].T, out=held[: a.stop - a.start, : b.stop - b.start])
                    jobs = [(products, a, b)] if a == b else [(products, a, b), (products.T, b, a)]
                    for done in [pool.submit(take, *job) for job in jobs]:
                        done.result()
                if report is not None:
                    left = (len(blocks) - i - 1) / len(blocks)  # of the points; of the pairs its square
                    report(round(len(z) * (1 - left * left)), len(z))

    def _measure(self) -> None:
        """Distances of the nearest points from the rows as given."""
        self.distance = np.empty(self.near.shape)
        size = max(1, (1 << 20) // (self.data.d * max(1, self.m)))

        def measure(first: int) -> None:
            near = self.near[first : first + size]
            away = self.data.values(self.rows[near.ravel()]).reshape(*near.shape, -1)
            away -= self.data.values(self.rows[first : first + size])[:, None]
            away /= self.unit
            self.distance[first : first + size] = np.sqrt(np.einsum("ijk,ijk->ij", away, away)) * self.unit

        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(self.data.threads) as pool:
            list(pool.map(measure, range(0, len(self.near), size)))

    def bound(self, s: float) -> _Bound:
        return _Bound(self, s)

    def draw(self, bound: _Bound, alpha: float, noise: Stream) -> Draws:
        """Draws at boundaries: j by B_j, two in each of n / 2 strata, k by the terms of B_j, the query by b."""
        s, total = bound.s, bound.cumulative[-1]
        u = noise.stratified() * total
        j = np.minimum(np.searchsorted(bound.cumulative, u, side="right"), len(self.rows) - 1)
        k, log_term = self._partners(bound, j, noise.uniforms(), noise.uniforms())
        first = self.data.values(self.rows[j])
        toward = self.data.values(self.rows[np.maximum(k, 0)]) - first
        distance = np.linalg.norm(toward / self.unit, axis=1) * self.unit
        pair = (k >= 0) & (distance > 0)
        distance = np.where(pair, distance, s)
        toward /= distance[:, None]
        log_w, log_v, delta = self.log_w[j], self.log_w[k], distance / s
        # The later, the fewer pairs there are that are drawn, again and again.
        _, once, of = np.unique(j * (len(self.rows) + 1) + k + 1, return_index=True, return_inverse=True)
        log_g = log_integral(distance[once], log_w[once], log_v[once], s)[of]
        # No more than U, which rounding of the distances that the bins were filled by might exceed.
        scale = np.where(pair, np.exp(np.minimum(log_g - log_term, 0) + bound.log_limit), 0.0)
        z, c = noise.normals(self.data.d), bridge(delta, (log_w - log_v) / 2, noise)
        z -= np.einsum("ij,ij->i", z, toward)[:, None] * toward
        across = np.einsum("ij,ij->i", z, z)
        x = alpha * first + alpha * s * (z + c[:, None] * toward)
        log_pair = np.logaddexp(log_w - (across + c * c) / 2, log_v - (across + (c - delta) ** 2) / 2)
        return Draws(x, scale, log_pair)

    def _partners(self, bound: _Bound, j: Int, u: Float, v: Float) -> tuple[Int, Float]:
        """Another point k for each j, by the terms of B_j, and the logarithm of its term; k = -1: there is none."""
        others, capped = bound.others(j)
        terms = np.concatenate([bound.near[j], others], axis=1)
        cumulative = np.cumsum(terms, axis=1)
        column = np.minimum((cumulative <= (u * cumulative[:, -1])[:, None]).sum(axis=1), terms.shape[1] - 1)
        k, log_term = np.full(len(j), -1), np.zeros(len(j))
        listed = column < self.m
        k[listed] = self.near[j[listed], column[listed]]
        with np.errstate(divide="ignore"):
            log_term[listed] = np.log(bound.near[j[listed], column[listed]]) + bound.level
        binned, size = np.flatnonzero(~listed), max(1, (1 << 24) // len(self.rows))
        for first in range(0, len(binned), size):
            some = binned[first : first + size]
            products = self._z[j[some]] @ self._z.T if self.mass.shape[1] > 1 else [None] * len(some)
            for i, product in zip(some.tolist(), products, strict=True):
                b = int(column[i]) - self.m
                k[i], share = self._member(int(j[i]), b, bool(capped[i, b]), float(v[i]), product)
                # Drawn with the chance (term of the bin / 2U) share: its own term is that of the bin, times its share.
                log_term[i] = math.log(terms[i, column[i]]) + bound.level + (math.log(share) if share > 0 else 0.0)
        return k, log_term

    def _member(self, j: int, b: int, capped: bool, v: float, product: Any) -> tuple[int, float]:
        """A point of bin b of point j and the chance of drawing it there; (-1, 0) where there is none."""
        share = np.exp(np.minimum(self.log_w, self.log_w[j])) if capped else self.root
        if product is None:
            share = share.copy()
            share[self.near[j]] = share[j] = 0.0
            running = np.cumsum(share)
            k, total = int(np.searchsorted(running, v * running[-1], side="right")), float(running[-1])
            k = k if k < len(share) else -1
        else:
            from ._pair_kernels import pick

            k, total = pick(product, self._squares[j], self._squares, j, self.near[j], share, self.lowest, b, v)
        return (k, float(share[k] / total)) if k >= 0 else (-1, 0.0)


def pairs_of(data: TrainingSet, report: Callable[[int, int], None] | None = None) -> Pairs | None:
    """The pairs of a training set, made once; None where all N^2 distances are too many, or rows to be read."""
    if "pairs" not in data.memo:
        few = data.n <= _MOST or data.d <= _TREE_DIMENSIONS
        size = data.n * (data.d * (data.rows.dtype.itemsize + 4) + _BESIDE)
        few &= data.in_memory or size <= _READ
        data.memo["pairs"] = Pairs(data.held(), report) if few else None
    found: Pairs | None = data.memo["pairs"]
    return found
