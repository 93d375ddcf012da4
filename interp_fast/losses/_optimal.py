"""The lowest loss that any model can reach at each time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _arrays, _random
from .._oracle import Oracle, Point
from .._progress import reporter
from .._results import Record, axes
from .._typing import Kind
from ..field import Field, oracle_of
from ._draws import Stream, bernstein, draws, mean
from ._pairs import pairs_of

__all__ = ["OptimalLoss", "grid", "optimal_loss"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

_KINDS = ("denoiser", "velocity", "noise", "score")
# One query in 8 tries draws at pairs, unless their bound exceeds 8 R^2, where plain ones are better. They have to
# promise half the variance of plain ones, and no single pilot counts for more than a factor e^5.
_PILOT, _HOPELESS, _DOUBT, _CLEAR = 8, 8.0, 0.5, 5.0
# Elsewhere one query in 16 finds out where the others are needed, if there are several times; a quarter of all goes to
# all times alike.
_FEW, _EQUAL = 16, 0.25
_SURE = 2.0**-40  # a relative variance that is rounding
_TINY = float(np.nextafter(0, 1))


@dataclass(frozen=True, repr=False, eq=False)
class OptimalLoss(Record):
    """The lowest loss that any function of (x, t) can reach; see :func:`optimal_loss`.

    Attributes
    ----------
    times, loss, stderr : (K,)
        L*(t) and its standard error, which is 0 only where L* is known exactly.
    interval : (K, 2)
        Holds L*(t), each with at least the ``confidence`` asked for, whatever the draws have not seen.
    limit : (K,)
        Upper limit that is proved without draws; at least the smallest float unless L* = 0 is proved.
    method : (K,) str
        "plain": draws of x_t; "pairs": draws at the boundaries between rows; "exact": no draws.
    queries : (K,) int64
        Queries spent.
    kind : str
    """

    times: Float
    loss: Float
    stderr: Float
    interval: Float
    limit: Float
    method: npt.NDArray[np.str_]
    queries: Int
    kind: str

    def plot(self, ax: Any = None) -> Any:
        """L*(t) with two standard errors, its interval as a band; returns the axes. Needs matplotlib."""
        ax = axes(ax)
        bars = ax.errorbar(self.times, self.loss, 2 * self.stderr, marker=".", capsize=2)
        ax.fill_between(self.times, *self.interval.T, alpha=0.2, color=bars[0].get_color(), linewidth=0)
        ax.set(xlabel="t (0 noise, 1 data)", ylabel=f"lowest {self.kind} loss")
        return ax


def optimal_loss(
    field: Field,
    times: Any,
    n: int,
    *,
    kind: Kind = "denoiser",
    confidence: float = 0.95,
    rng: _random.RandomSource = None,
    progress: bool | Callable[[int, int], None] | None = None,
) -> OptimalLoss:
    """The irreducible loss L*(t) = E|D(x_t, t) - x_I|^2, below which no model can come.

    For x_t = alpha x_I + sigma z, L*(t) = E tr C(x_t, t), the mean posterior variance. A model's loss is L* plus its
    squared distance to the oracle, E|D_model - D|^2. In the parametrization a network was trained in,

        velocity: kappa^2 L*,   noise: (alpha / sigma)^2 L*,   score: (alpha / sigma^2)^2 L*,

    kappa = alpha_dot - alpha sigma_dot / sigma; the loss sums over coordinates.

    Parameters
    ----------
    field : Field
        With a bandwidth: the loss on the smoothed data.
    times : int, (K,) array or float
        In [0, 1]; an int K stands for k / K, k = 0 ... K - 1.
    n : int
        Queries per time, at least 2: about K n in all, spent where they are needed for equal relative errors; no time
        gets fewer than about n / 5.
    kind : {"denoiser", "velocity", "noise", "score"}
        The regression target.
    confidence : float in (0, 1)
        Of ``interval``, at each time.
    rng : None, int, SeedSequence, Generator or NoiseKey
    progress : bool or callable, optional
        True: a line on stderr; a callable gets (times done, times), and before, when the distances of all pairs are
        not known yet, (points done, points).

    Returns
    -------
    OptimalLoss
        Exact, with stderr 0, where alpha = 0 (the variance of the data), where sigma = 0 (nothing is left to guess) and
        where all rows are equal.

    Raises
    ------
    ValueError
        ``kind`` is not "denoiser" and a time has sigma = 0, or the velocity is infinite at a time.

    Notes
    -----
    Early, the average is over tr C at draws of x_t, two in each of n / 2 strata of rows. Late, the loss is carried by
    rare queries near the boundary between a row and a near neighbour, which such draws miss, and their standard error
    with them. There

        L* = sum over pairs of rows G_jk E[w_j(x) + w_k(x)],

    G_jk the integral of the pair alone and x drawn at its boundary: an average of numbers in [0, limit], which has no
    heavy tail (the module ``_pairs`` has formulas and proofs). A pilot of n / 8 draws at pairs tells both variances;
    below one noise level draws at pairs are taken, above it plain ones. ``stderr`` of draws at pairs is at least
    (largest value) / n, as if that had been missed once: pairs that no draw fell on leave no trace in a variance.
    ``interval`` is the empirical Bernstein bound, cut by ``limit``, the smaller one of R^2 and the sum of the bounds of
    all G_jk.

    Costs some 4 N d flops a query, and once N^2 d flops for the distances of all pairs, which the field keeps (0.7 kB a
    row). In up to 8 dimensions a tree finds what is needed of them. Rows in files or on a cluster are read for that if
    half a GiB holds them, their coordinates in float32 and those distances. Larger ones, and more than 2^20 rows of
    more than 8 dimensions, have plain draws alone, with a standard error of at least reach^2 / n: below that they are
    blind.

    References
    ----------
    D. Guo, S. Shamai, S. Verdu, "Mutual information and minimum mean-square error in Gaussian channels", IEEE Trans.
    Inf. Theory 51 (2005): with rho = alpha / sigma, the integral of L* rho d rho over all rho is the entropy of the
    weights, log N when they are equal.

    A. Maurer, M. Pontil, "Empirical Bernstein bounds and sample variance penalization", COLT (2009).

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> field = itf.Field(np.array([[-1.0], [1.0]]))
    >>> best = itf.optimal_loss(field, [0.0, 0.5, 1.0], 1000, rng=0)
    >>> bool(best.loss[0] == 1 and best.loss[2] == 0 and abs(best.loss[1] - 0.4496) < 4 * best.stderr[1])
    True
    """
    oracle = oracle_of(field)
    if kind not in _KINDS:
        msg = f"kind must be one of {', '.join(_KINDS)}; got {kind!r}."
        raise ValueError(msg)
    n = _arrays.count(n, "n", 2)
    if not 0 < _arrays.number(confidence, "confidence") < 1:
        msg = f"confidence must lie in (0, 1); got {confidence}."
        raise ValueError(msg)
    t = grid(times)
    point = oracle.point(t, len(t))
    factor = _factor(point, kind)
    exact = (point.alpha == 0) | (point.sigma == 0) | (field.R == 0)
    loss = np.where(point.alpha == 0, field.R**2, 0.0)
    stderr, queries, method = np.zeros(len(t)), np.zeros(len(t), np.int64), np.full(len(t), "exact")
    limit, interval = loss.copy(), np.stack([loss, loss], axis=1)
    source = _random.noise_key(rng)
    report = reporter(progress, "optimal loss: time")
    if not exact.all():
        pairs_of(oracle.training_set, reporter(progress, "optimal loss: point"))
    levels = [_Level(oracle, float(t[k]), int(k), source) for k in np.flatnonzero(~exact)]
    _choose(levels, n)
    for done, (level, some) in enumerate(zip(levels, _allocate(levels, n), strict=True), 1):
        k = level.stream
        loss[k], stderr[k], interval[k] = level.estimate(some, confidence)
        limit[k], method[k], queries[k] = level.limit, level.method, level.queries
        if report is not None:
            report(done, len(levels))
    own = oracle.own(point)
    scale, shift = factor * own**2, factor * (field.d * field.bandwidth**2 * own)

    def above(values: Float) -> Float:
        """What is not exactly 0 is no smaller than the smallest float."""
        return np.where(exact, values, np.maximum(values, _TINY))

    return OptimalLoss(
        times=t,
        loss=scale * loss + shift,
        stderr=above(scale * stderr),
        interval=np.stack([scale * interval[:, 0] + shift, above(scale * interval[:, 1] + shift)], axis=1),
        limit=above(scale * limit + shift),
        method=method,
        queries=queries,
        kind=kind,
    )


def grid(times: Any) -> Float:
    """Times of a loss curve: an int K stands for k / K, k = 0 ... K - 1."""
    if isinstance(times, (int, np.integer)) and not isinstance(times, bool):
        count = _arrays.count(times, "times", 1)
        return np.arange(count) / count
    t = np.atleast_1d(_arrays.times(times, None, "times")[0])
    if t.ndim > 1 or t.size == 0:
        msg = f"times must be a number or a vector of at least one time; got an array of shape {t.shape}."
        raise ValueError(msg)
    return t


def _factor(p: Point, kind: str) -> Float:
    """What the loss of D is multiplied by to give that of another target."""
    if kind == "denoiser":
        return np.ones_like(p.t)
    p.forbid(p.sigma == 0, f"{kind} loss is singular")
    if kind == "velocity":
        p.forbid(~np.isfinite(p.alpha_dot), "velocity is infinite")
        factor: Float = p.alpha_dot - p.alpha * p.sigma_dot / p.sigma
    else:
        factor = p.alpha / p.sigma if kind == "noise" else p.alpha / p.sigma**2
    return factor**2


class _Level:
    """The draws at one time, and what a pilot has told of them. Losses are those of the rows without bandwidth."""

    def __init__(self, oracle: Oracle, t: float, stream: int, source: _random.NoiseKey) -> None:
        self.oracle, self.t, self.stream, self.source = oracle, t, stream, source
        point = oracle.point(t, 1)
        self.alpha = float(point.alpha[0])
        self.s = math.sqrt(float(point.s2[0])) / self.alpha
        self.pairs = pairs_of(oracle.training_set)
        self.bound = None if self.pairs is None else self.pairs.bound(self.s)
        self.log_limit = math.inf if self.bound is None else self.bound.log_limit
        self.limit = min(math.exp(min(self.log_limit, 700.0)), oracle.training_set.moments.radius**2)
        self.method, self.queries = "pairs" if self.vanishes else "plain", 0
        self.variance = {"plain": 1.0, "pairs": 1.0}  # of one draw, relative to the loss squared

    @property
    def vanishes(self) -> bool:
        """Whether the loss is too small for a float."""
        return self.limit < _TINY

    def plain(self, n: int, stream: int) -> Float:
        """tr C at n draws of x_t, (n,)."""
        self.queries += n
        variance = np.empty(n)
        for block, x, _, point in draws(self.oracle, self.t, n, self.source, 2 * self.stream + stream):
            variance[block] = self.oracle.average(point, x, "scatter")["scatter"]
        return variance

    def at_pairs(self, n: int, stream: int, *also: str) -> tuple[Float, dict[str, Float]]:
        """n values in [0, U] of mean L*, and more outputs of the posterior at their queries."""
        assert self.pairs is not None
        assert self.bound is not None
        self.queries += n
        q = self.pairs.draw(self.bound, self.alpha, Stream(self.source, n, 2 * self.stream + stream))
        out = self.oracle.average(self.oracle.point(self.t, n), q.x, "log_norm", *also)
        return q.scale * np.exp(np.minimum(q.log_pair - out["log_norm"], 0)), out

    def pilot(self, n: int) -> None:
        """The variances of both kinds of draws, from n at pairs, which see the rare queries that plain ones miss."""
        values, out = self.at_pairs(n, 0, "scatter")
        if (loss := values.mean()) > 0:
            with np.errstate(over="ignore"):  # where plain draws see nothing at all
                beside = np.minimum(out["scatter"] / loss, 1e200)
            square = float(np.mean(values / loss * beside))
            self.variance = {"plain": max(square - 1, _SURE), "pairs": max(float(np.var(values / loss)), _SURE)}

    def estimate(self, n: int, confidence: float) -> tuple[float, float, tuple[float, float]]:
        """Loss, standard error and interval, from draws that nothing else has been made of."""
        if self.vanishes:
            return 0.0, 0.0, (0.0, self.limit)
        if self.method == "pairs":
            values, most = self.at_pairs(n, 1)[0], math.exp(self.log_limit)
            unseen = float(values.max()) / n
        else:
            values, most = self.plain(n, 1), self.oracle.training_set.moments.reach**2
            unseen = most / n if self.pairs is None else 0.0
        loss, stderr = mean(values)
        low, high = bernstein(values, most, confidence)
        limit = self.limit  # which the float32 average of equal variances may exceed, too
        return min(loss, limit), math.hypot(stderr, unseen), (min(low, limit), min(high, limit))


def _choose(levels: list[_Level], n: int) -> None:
    """Draws at pairs below one noise level, plain ones above it: where the variances of all pilots together say."""
    pilot = n // _PILOT if n >= 8 * _PILOT else min(n // 2, 8)
    radius = levels[0].oracle.training_set.moments.radius if levels else 1.0
    hopeless = math.log(_HOPELESS) + 2 * math.log(radius) if radius > 0 else -math.inf  # its square may be no number
    tried = [v for v in levels if v.log_limit < hopeless and not v.vanishes]
    tried.sort(key=lambda v: v.s)
    gains = []
    for level in tried:
        level.pilot(pilot)
        gains.append(math.log(_DOUBT * level.variance["plain"] / level.variance["pairs"]))
    total = np.cumsum(np.clip(gains, -_CLEAR, _CLEAR))
    if tried and total.max() > 0:
        for level in tried[: int(total.argmax()) + 1]:
            level.method = "pairs"


def _allocate(levels: list[_Level], n: int) -> list[int]:
    """Queries of each level, so many that all spend n on average: most where the relative variance is large."""
    if len(levels) == 1:
        return [max(2, n - levels[0].queries)]
    for level in levels:
        if level.queries == 0 and not level.vanishes:
            values = level.plain(max(2, n // _FEW), 0)
            loss, stderr = mean(values)
            level.variance["plain"] = len(values) * (stderr / max(loss, _TINY)) ** 2
    need = np.array([0.0 if v.vanishes else v.variance[v.method] for v in levels])
    share = need / need.sum() if need.any() else np.full(len(levels), 1 / max(1, len(levels)))
    left = n * len(levels) - sum(v.queries for v in levels)
    return [max(2, int(left * (_EQUAL / len(levels) + (1 - _EQUAL) * part))) for part in share.tolist()]
