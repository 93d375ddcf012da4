"""The lowest loss that any model can reach at each time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays, _random
from ._montecarlo import draws, mean
from ._results import Record, axes
from .field import Field, _forbid, _Point, check_field

__all__ = ["OptimalLoss", "optimal_loss", "posterior", "smoothing"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

_KINDS = ("denoiser", "velocity", "noise", "score")
# One query in 16 finds out where the others are needed; a quarter of those go to all times alike.
_PILOT, _EQUAL = 16, 0.25


@dataclass(frozen=True, repr=False, eq=False)
class OptimalLoss(Record):
    """The lowest loss that any function of (x, t) can reach; see :func:`optimal_loss`.

    Attributes
    ----------
    times, loss, stderr : (K,)
        L*(t) and its standard error; 0 where L* is known exactly.
    queries : (K,) int64
        Queries spent; 0 where L* is known exactly.
    kind : str
    """

    times: Float
    loss: Float
    stderr: Float
    queries: npt.NDArray[np.int64]
    kind: str

    def plot(self, ax: Any = None) -> Any:
        """L*(t) with a band of two standard errors; returns the axes. Needs matplotlib."""
        ax = axes(ax)
        (line,) = ax.plot(self.times, self.loss, marker=".")
        ax.fill_between(
            self.times, self.loss - 2 * self.stderr, self.loss + 2 * self.stderr, alpha=0.3, color=line.get_color()
        )
        ax.set(xlabel="t (0 noise, 1 data)", ylabel=f"lowest {self.kind} loss")
        return ax


def optimal_loss(
    field: Field, times: Any, n: int, *, kind: str = "denoiser", rng: _random.RandomSource = None
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
    times : (K,) array or float
        In [0, 1].
    n : int
        Queries per time, at least 2: about K n in all, spent where they are needed. With several times a pilot (n / 16
        each, used for nothing else) estimates how many each time needs for equal errors in units of max(L*, R^2 / 100),
        R^2 the variance of the data; no time gets fewer than (n - n / 16) / 4.
    kind : {"denoiser", "velocity", "noise", "score"}
        The regression target.
    rng : None, int, SeedSequence, Generator or NoiseKey

    Returns
    -------
    OptimalLoss
        Exact, with stderr 0, where alpha = 0 (the variance of the data) and where sigma = 0 (nothing is left to guess).

    Raises
    ------
    ValueError
        ``kind`` is not "denoiser" and a time has sigma = 0, or the velocity is infinite at a time.

    Notes
    -----
    The average is over tr C, given all rows, and not over |D - x_I|^2, which has the same mean and more variance. Rows
    are drawn from n / 2 strata of equal weight, two queries in each: no bias, and ``stderr`` is from the differences
    within strata. Once the posterior has concentrated, few queries carry the loss; stderr says so as long as some of
    them are seen. Queries at different times are independent, so errors average out in sums over t.

    Costs at most 4 N d flops per query.

    References
    ----------
    D. Guo, S. Shamai, S. Verdu, "Mutual information and minimum mean-square error in Gaussian channels", IEEE Trans.
    Inf. Theory 51 (2005): with rho = alpha / sigma, the integral of L* rho d rho over all rho is the entropy of the
    weights, log N when they are equal.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> field = itf.Field(np.array([[-1.0], [1.0]]))
    >>> best = itf.optimal_loss(field, [0.0, 0.5, 1.0], 1000, rng=0)
    >>> bool(best.loss[0] == 1 and best.loss[2] == 0 and abs(best.loss[1] - 0.4496) < 4 * best.stderr[1])
    True
    """
    check_field(field)
    if kind not in _KINDS:
        msg = f"kind must be one of {', '.join(_KINDS)}; got {kind!r}."
        raise ValueError(msg)
    n = _arrays.count(n, "n", 2)
    t = np.atleast_1d(_arrays.times(times, None, "times")[0])
    if t.ndim > 1 or t.size == 0:
        msg = f"times must be a number or a vector of at least one time; got an array of shape {t.shape}."
        raise ValueError(msg)
    point = field._point(t, False, len(t))
    factor = _factor(point, kind)
    loss, stderr, queries = np.zeros(len(t)), np.zeros(len(t)), np.zeros(len(t), np.int64)
    loss[point.alpha == 0] = field.R**2 + field.d * field.bandwidth**2
    unknown = np.flatnonzero((point.alpha > 0) & (point.sigma > 0))
    source = _random.noise_key(rng)
    queries[unknown] = n if len(unknown) < 2 else _allocate(field, t, unknown, n, source)
    for k in unknown.tolist():
        loss[k], stderr[k] = mean(_variances(field, t[k], int(queries[k]), source, len(t) + k))
    return OptimalLoss(times=t, loss=factor * loss, stderr=factor * stderr, queries=queries, kind=kind)


def _factor(p: _Point, kind: str) -> Float:
    """What the loss of D is multiplied by to give that of another target."""
    if kind == "denoiser":
        return np.ones_like(p.t)
    _forbid(p, p.sigma == 0, f"{kind} loss is singular")
    if kind == "velocity":
        _forbid(p, ~np.isfinite(p.alpha_dot), "velocity is infinite")
        return (p.alpha_dot - p.alpha * p.sigma_dot / p.sigma) ** 2
    return (p.alpha / p.sigma if kind == "noise" else p.alpha / p.sigma**2) ** 2


def _allocate(field: Field, t: Float, at: Int, n: int, source: _random.NoiseKey) -> Int:
    """Queries for each time ``t[at]``, n on average, from a pilot run that is not used again."""
    pilot = max(2, n // _PILOT)
    loss, stderr = np.array([mean(_variances(field, t[k], pilot, source, k)) for k in at.tolist()]).T
    need = (stderr / np.maximum(loss, np.maximum(field.R**2 / 100, np.finfo(float).tiny))) ** 2
    share = need / need.sum() if need.any() else np.full(len(at), 1 / len(at))
    return np.maximum(2, (n - pilot) * (_EQUAL + (1 - _EQUAL) * len(at) * share)).astype(np.int64)


def _variances(field: Field, t: float, n: int, source: _random.NoiseKey, stream: int) -> Float:
    """tr C at n draws, (n,)."""
    variance = np.empty(n)
    for block, x, _, point in draws(field, t, n, source, stream):
        own, spread = smoothing(field, point)
        variance[block] = own**2 * posterior(field, point, x, "scatter")["scatter"] + spread
    return variance


def posterior(field: Field, p: _Point, x: Float, *want: str) -> dict[str, Float]:
    """Outputs that go into averages: accurate to tol R or tol R^2, without the digits that single queries need."""
    out = {name: np.empty_like(x) if name == "mean" else np.empty(len(x)) for name in want}
    field._set.posterior(x, p.alpha, p.sigma, field._set.cut(field.tol), out)
    return out


def smoothing(field: Field, p: _Point) -> tuple[Float, Float]:
    """Rows smoothed by delta have the posterior covariance own^2 C + (spread / d) 1, own = sigma^2 / S."""
    own = p.sigma**2 / p.s2
    return own, field.d * field.bandwidth**2 * own
