"""The times of a diffusion on a finite set: its principal direction shows, one row is left, rows tell apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _arrays, _random
from .._results import Record, axes
from .._training_set import TrainingSet, points
from ..field import Field, oracle_of
from ..schedules import Schedule, VELinear
from ._cells import pairs, points_of

__all__ = ["CollapseTime", "Dominance", "SpeciationTime", "collapse_time", "dominance", "speciation_time"]

Float = npt.NDArray[np.float64]

# Up to this dimension the covariance is formed.
_DENSE = 4096


def reached(schedule: Schedule, lam: float) -> float:
    """The time at which log(alpha/sigma) is ``lam``: 0 or 1 when the schedule starts above it or ends below it."""
    return float(schedule.time_at(np.clip(lam, schedule.lam(0.0), schedule.lam(1.0))))


@dataclass(frozen=True, repr=False, eq=False)
class SpeciationTime(Record):
    """What :func:`speciation_time` returns.

    Attributes
    ----------
    time, rho : float
        Where rho^2 Lambda_1 = 1.
    eigenvalue : float
        Lambda_1, the largest eigenvalue of the covariance of the data.
    times, signal : (101,)
        rho^2 Lambda_1 over time, the curve that reaches 1.
    """

    time: float
    rho: float
    eigenvalue: float
    times: Float
    signal: Float

    def plot(self, ax: Any = None) -> Any:
        """The curve and the time on matplotlib axes; returns the axes."""
        ax = _plot(ax, self.times, self.signal, self.time, 1.0, "signal over noise, first principal direction")
        ax.set_yscale("log")
        return ax


def speciation_time(field: Field) -> SpeciationTime:
    """When the first principal direction of the data stands out of the noise: rho^2 Lambda_1 = 1, rho = alpha / sigma.

    Biroli, Bonnaire, de Bortoli and Mezard (2024). With a bandwidth, Lambda_1 is that of the smoothed data.

    Notes
    -----
    N d^2 flops up to d = 4096, some thirty passes over the rows above.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> field = itf.Field(np.array([[-2.0, 0.0], [2.0, 0.0]]))
    >>> itf.theory.speciation_time(field).rho
    0.5
    """
    eigenvalue = _largest_eigenvalue(oracle_of(field).training_set) + field.bandwidth**2
    rho = 1.0 / math.sqrt(eigenvalue) if eigenvalue > 0 else math.inf
    times = np.linspace(0.0, 1.0, 101)
    with np.errstate(over="ignore", invalid="ignore"):
        signal = np.exp(2.0 * field.schedule.lam(times)) * eigenvalue
    return SpeciationTime(reached(field.schedule, math.log(rho)), rho, eigenvalue, times, signal)


def _largest_eigenvalue(data: TrainingSet) -> float:
    w, mean = np.exp(data.log_w), data.moments.mean
    if data.moments.radius == 0:
        return 0.0

    def apply(u: Float) -> Float:
        result = np.zeros_like(u)
        for block in _arrays.blocks(data.rows):
            rows = data.read(block) - mean
            result += (rows.T * w[block]) @ (rows @ u)
        return result

    if data.d <= _DENSE:
        return float(np.linalg.eigvalsh(apply(np.eye(data.d)))[-1])
    from scipy.sparse.linalg import LinearOperator, eigsh

    operator = LinearOperator((data.d, data.d), matvec=apply, dtype=np.float64)
    start = _random.normals(0, 0, 0, n=1, d=data.d)[0]
    return float(eigsh(operator, k=1, v0=start, return_eigenvectors=False, tol=1e-10)[0])


@dataclass(frozen=True, repr=False, eq=False)
class CollapseTime(Record):
    """What :func:`collapse_time` returns.

    Attributes
    ----------
    time, rho : float
        Where the mean entropy falls below ``level`` of the entropy of the weights.
    stderr : float
        Standard error of ``time`` from the finite number of forward samples.
    threshold : float
        That entropy in nats: ``level`` times the entropy of the weights.
    times, rhos, entropy, entropy_stderr : (P,)
        The curve the time was read off: mean entropy of the posterior, in nats.
    """

    time: float
    rho: float
    stderr: float
    threshold: float
    times: Float
    rhos: Float
    entropy: Float
    entropy_stderr: Float

    def plot(self, ax: Any = None) -> Any:
        """The curve and the time on matplotlib axes; returns the axes."""
        return _plot(ax, self.times, self.entropy, self.time, self.threshold, "mean posterior entropy (nats)")


def collapse_time(
    field: Field, n: int = 256, *, level: float = 0.05, rng: _random.RandomSource = None
) -> CollapseTime:  # fmt: skip
    """When one row is left: the smallest rho = alpha / sigma with E H(w(t, x_t)) <= level H(pi).

    H is the entropy of the posterior w over points (equal rows are one), pi their weights. E H falls with rho, because
    dE H / d rho = -rho E tr C (Guo, Shamai and Verdu 2005); it is estimated from the same n forward samples at all rho.

    Parameters
    ----------
    field : Field
        With a bandwidth the posterior is that of the training rows given the smoothed, noisy point.
    n : int
        Forward samples.
    level : float in (0, 1)
    rng : None, int, SeedSequence, Generator or NoiseKey

    Raises
    ------
    ValueError
        An argument is out of range, or the bandwidth is so large that the posterior never collapses.

    Notes
    -----
    Some 20 posteriors of n queries.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> field = itf.Field(np.random.default_rng(0).normal(size=(200, 5)))
    >>> 0.5 < itf.theory.collapse_time(field, 200, rng=0).time < 0.9
    True
    """
    from scipy.optimize import brentq

    n, level = _arrays.count(n, "n", 2), _arrays.number(level, "level")
    if not 0 < level < 1:
        msg = f"level must lie in (0, 1), a share of the entropy of the weights; got {level}."
        raise ValueError(msg)
    data = oracle_of(field).training_set
    rows, log_pi = points(data)
    pi, log_w = np.exp(log_pi[rows]), data.log_w[data.log_w > -np.inf]
    whole = -float(pi @ log_pi[rows])
    # The entropy within a point is the same number whatever x is: what equal rows add to the entropy over rows.
    within = -float(np.exp(log_w) @ log_w) - whole
    if len(rows) == 1:
        start, empty = reached(field.schedule, -math.inf), np.empty(0)
        return CollapseTime(start, 0.0, 0.0, 0.0, empty, empty, empty, empty)
    source = _random.noise_key(rng)
    # The entropy lost is at most rho^2 R^2 / 2: at this rho the mean is still above the level.
    low = 0.5 * math.log((1.0 - level) * whole) - math.log(field.R)
    # Only rho counts, not the schedule: x = x_i + sigma z.
    proxy = field.with_schedule(VELinear(sigma_max=1e3 * math.exp(-low)))
    curve: dict[float, tuple[float, float, float]] = {}

    def excess(lam: float) -> float:
        t = proxy.schedule.time_at(lam)
        x, _ = proxy.draw(n, t, source)
        post = proxy.posterior(np.asarray(x), t)
        s2 = math.exp(-2.0 * lam)
        slope = -s2 / (s2 + field.bandwidth**2) ** 2 * float(np.mean(post.variance))
        entropy = post.entropy
        curve[lam] = (float(entropy.mean()) - within, float(entropy.std(ddof=1)) / math.sqrt(n), slope)
        return curve[lam][0] - level * whole

    while excess(low) <= 0:  # by chance, with few samples
        low -= 0.5
    high = low + 1.0
    while excess(high) > 0:
        low, high = high, high + 1.0
        if high + math.log(field.R) > 25.0:
            msg = (
                f"field does not collapse: at alpha/sigma = {math.exp(low):.3g} its posterior is still spread over "
                f"rows that differ by rounding only or lie within the bandwidth {field.bandwidth:g} of each other."
            )
            raise ValueError(msg)
    lam = float(brentq(excess, low, high, xtol=1e-4))
    excess(lam)
    _, stderr, slope = curve[lam]
    shift = stderr / -slope if slope < 0 else math.inf
    early, late = (reached(field.schedule, lam + sign * shift) for sign in (-1, 1))
    at = np.array(sorted(curve))
    entropy, errors, _ = np.array([curve[v] for v in sorted(curve)]).T
    return CollapseTime(
        reached(field.schedule, lam), math.exp(lam), (late - early) / 2, level * whole,
        np.array([reached(field.schedule, v) for v in at]), np.exp(at), entropy, errors,
    )  # fmt: skip


def _plot(ax: Any, times: Float, values: Float, at: float, level: float, label: str) -> Any:
    ax = axes(ax)
    ax.plot(times, values)
    ax.axhline(level, linewidth=0.8, color="0.5")
    ax.axvline(at, linewidth=0.8, color="0.5")
    ax.set(xlabel="t (0 noise, 1 data)", ylabel=label)
    return ax


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

    data = points_of(field, "dominance")
    tol = _arrays.number(tol, "tol")
    if not 0 < tol < 1:
        msg = f"tol must be a probability in (0, 1); got {tol}."
        raise ValueError(msg)
    always = Dominance(0.0, reached(field.schedule, -math.inf), tol)
    if field.R == 0:
        return always
    amount, distance, log_ratio = _pools(data)

    def excess(log_rho: float) -> float:
        far = math.exp(log_rho) * distance
        wrong = np.exp(-0.5 * log_ratio) * ndtr(-0.5 * far + log_ratio / far)
        wrong += np.exp(0.5 * log_ratio) * ndtr(-0.5 * far - log_ratio / far)
        return float(amount @ wrong) - tol

    low = -math.log(2.0 * data.moments.reach) - 20.0
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
        for block, squared, _ in pairs(data, index, first=int(index[0])):
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
