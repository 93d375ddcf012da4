"""The two times of a diffusion on a finite set: when its principal direction shows, and when one row is left."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays, _random
from ._cells import points, reached
from ._results import Record, axes
from ._training import TrainingSet
from .field import Field, check_field
from .schedules import VELinear

__all__ = ["CollapseTime", "SpeciationTime", "collapse_time", "speciation_time"]

Float = npt.NDArray[np.float64]

# Up to this dimension the covariance is formed.
_DENSE = 4096


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
    eigenvalue = _largest_eigenvalue(check_field(field)._set) + field.bandwidth**2
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
    start = _random.normals(0, 0, 1, 0, data.d)[0]
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
    rows, log_pi = points(check_field(field)._set)
    pi, log_w = np.exp(log_pi[rows]), field._set.log_w[field._set.log_w > -np.inf]
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
