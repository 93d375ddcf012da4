"""Bounds, certificates and times of the oracle, and laws of tables of steps.

Notation: y = x / alpha, rho = alpha / sigma, D the denoiser, D_ij = |x_i - x_j|; A, B, C, S, Phi, W and c are columns
and derived numbers of a :class:`StepTable`. Bounds are in exact arithmetic, with a relative 1e-6 in hand for rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays, _random
from ._cells import (
    SPARE,
    STARTED,
    Dominance,
    MarginCondition,
    Trapping,
    cells,
    dominance,
    margin_condition,
    nearest_points,
    needs_points,
    shrinkage,
    trapping,
)
from ._phases import CollapseTime, SpeciationTime, collapse_time, speciation_time
from ._results import Record, axes
from .backends import State
from .field import Field, check_field
from .model import Model
from .sampling import sample
from .schedules import Schedule, check_schedule
from .steps import StepTable, check_steps

__all__ = [
    "Amplification",
    "CollapseTime",
    "Concentrability",
    "DiscretizationBound",
    "Dominance",
    "EndpointLaw",
    "EstimationBound",
    "MarginCondition",
    "SpeciationTime",
    "Trapping",
    "amplification",
    "collapse_time",
    "concentrability",
    "discretization_bound",
    "dominance",
    "endpoint_law",
    "estimation_bound",
    "margin_condition",
    "speciation_time",
    "trapping",
]


def __dir__() -> list[str]:
    return __all__


Float = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False, eq=False)
class EndpointLaw(Record):
    """What :func:`endpoint_law` returns.

    Attributes
    ----------
    p : float
        The exponent in sigma ~ (1 - t)^p as t -> 1; 0 when sigma(1) > 0.
    std : float
        Standard deviation of the endpoint, per coordinate.
    bias : float
        Mean of the endpoint minus alpha x_*, in units of x_*.
    factor : float
        Product of A over the committed rows: what is left of the start.
    """

    p: float
    std: float
    bias: float
    factor: float


def endpoint_law(schedule: Schedule, steps: StepTable) -> EndpointLaw:
    """Where a table lands when the whole run sees one training row, D = x_*: the Gaussian around alpha x_* (1 + bias).

    std = sqrt(factor^2 sigma_0^2 + V) with V <- A^2 V + S^2, bias = sum_r Phi_r c_r. With Euler and K uniform steps of
    size h: 0 on ``Linear``; sqrt(h / pi) to first order where sigma^2 = 1 - t (p = 1/2); in general
    factor = Gamma(K + 1 - p) / (Gamma(1 - p) Gamma(K + 1)) for sigma = (1 - t)^p.

    Examples
    --------
    >>> import interp_fast as itf
    >>> bridge = itf.LatentBridge(1.0)
    >>> round(itf.theory.endpoint_law(bridge, itf.euler(bridge, 100)).std, 4)  # sqrt(0.01 / pi) = 0.0564
    0.0563
    """
    check_schedule(schedule)
    factor = float(np.prod(check_steps(steps).A[steps.commit]))
    std = math.hypot(factor * float(steps.sigma[0]), float(steps.noise_std()[-1]))
    bias = float(steps.propagator() @ steps.curvature_defect())
    before = 2.0**-26  # near enough for the limit, far enough for schedules that know t only
    c = schedule(1.0 - before)
    p = 0.0 if schedule(1.0).sigma > 0 else -before * c.sigma_dot / c.sigma
    return EndpointLaw(float(p), std, bias, factor)


@dataclass(frozen=True, repr=False, eq=False)
class DiscretizationBound(Record):
    """What :func:`discretization_bound` returns.

    Attributes
    ----------
    bound : (M,)
        On |x_R - alpha_R x_index|; inf where not valid.
    valid : (M,) bool
        The run was trapped at some committed state, and the table keeps what is trapped.
    index : (M,) int64
        The point it is trapped at, by its lowest row; -1 where not valid.
    time : (M,)
        When; nan where not valid.
    q : float
    """

    bound: Any
    valid: Any
    index: Any
    time: Any
    q: float


def discretization_bound(field: Field, steps: StepTable, x: Any, q: float = 0.25) -> DiscretizationBound:
    """Bound on the distance of a deterministic run's endpoint from its training row.

    The oracle's run from x is followed to the first committed state m at which it is trapped (see :func:`trapping`) at
    some x_i; from there, with eps(rho) the leakage in the cell and Phi the products of A over later committed rows,

        |x_R - alpha_R x_i| <= |Phi_m| |x_m - alpha_m x_i|
                               + sum_{r >= m} |Phi_r| (|B_r| eps(rho_r) + |C_r| eps(rho_{r-1})).

    For Euler with sigma^2 = 1 - t the first term is at most sqrt(h / (pi (1 - t_m))) |x_m - alpha_m x_i|: the sqrt(h)
    law, with its constant and no assumption. On ``Linear`` it is 0.

    Parameters
    ----------
    field : Field
        Of bandwidth 0.
    steps : StepTable
        From the trapped state on, rows must be deterministic, exact for constant D, and have A >= 0 and B + C >= 0;
        where C < 0 (``multistep``) the leakage must be smaller by (B + C) / (|B| + |C|). Otherwise nothing is valid.
    x : (M, d) or (d,) array
        Starting points at ``steps.times[0]``.
    q : float in (0, 1/2)

    Notes
    -----
    Up to 8 N d flops for each query and row of the table.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> bridge = itf.LatentBridge(1.0)
    >>> field = itf.Field(np.array([[0.0, 0.0], [4.0, 0.0]]), bridge)
    >>> x0, steps = np.array([[0.5, 1.0]]), itf.euler(bridge, 50)
    >>> rep = itf.theory.discretization_bound(field, steps, x0)
    >>> out = itf.sample(field, steps, x0=x0)
    >>> bool(np.linalg.norm(out.x - [4.0, 0.0] * out.index) <= rep.bound[0] < 0.2)
    True
    """
    needs_points(field, "discretization_bound")
    q = shrinkage(q)
    wide, single, _, _ = _arrays.queries(x, field.d)
    data, rows, n = field._set, len(check_steps(steps)), len(wide)
    rho = np.divide(steps.alpha, steps.sigma, out=np.full(rows + 1, np.inf), where=steps.sigma > 0)
    strain = _strain(steps)
    bound, time, index = np.full(n, np.inf), np.full(n, np.nan), np.full(n, -1)
    state, cut = State.start(wide), data.cut(field.tol)
    phi = np.abs(steps.propagator())
    here = np.full(n, -1)  # whose cell the evaluated state lies in; -1: none, or not looked at
    for m in range(rows):
        lead = m - 1 if steps.C[m] != 0 else m
        above, here, open_ = here, np.full(n, -1), np.flatnonzero(index < 0)
        if (m == 0 or steps.commit[m - 1]) and steps.alpha[m] > STARTED and np.isfinite(strain[m]) and len(open_):
            at = state.base[open_]
            y = at / steps.alpha[m]
            nearest = nearest_points(data, at, np.full(len(at), steps.alpha[m]))
            found = cells(data, nearest, y, np.full((len(at), 1), rho[lead]), q)
            enters = found.inside & (strain[m] * found.leakage[:, 0] <= q * found.nearest * (1.0 - SPARE))
            if lead < m:
                enters &= above[open_] == found.index
            here[open_] = np.where(found.inside, found.index, -1)
            won = open_[enters]
            if len(won):
                index[won], time[won] = found.index[enters], steps.times[m]
                later = np.tile(rho[lead:rows], (len(won), 1))
                leakage = np.zeros((len(won), rows))
                leakage[:, lead:] = cells(data, found.index[enters], y[enters], later, q).leakage
                inputs = np.abs(steps.B) * leakage
                inputs[:, 1:] += np.abs(steps.C[1:]) * leakage[:, :-1]
                residual = np.linalg.norm(at[enters] - steps.alpha[m] * data.values(index[won]), axis=1)
                keep = abs(float(np.prod(steps.A[m:][steps.commit[m:]])))
                bound[won] = (keep * residual + inputs[:, m:] @ phi[m:]) * (1.0 + SPARE)
        if (index >= 0).all():
            break
        data.run_steps(state, steps, m, m + 1, key=0, first_sample=0, error=None, cut=cut)
    pick: Any = 0 if single else slice(None)
    return DiscretizationBound(bound[pick], (index >= 0)[pick], index[pick], time[pick], q)


def _strain(steps: StepTable) -> Float:
    """(R,) How far rows >= r can stretch the leakage, max (|B| + |C|) / (B + C); inf where one may leave the cell."""
    pull, size = steps.B + steps.C, np.abs(steps.B) + np.abs(steps.C)
    good = (steps.S == 0) & (steps.A >= 0) & (pull >= 0) & (np.abs(steps._defects()) <= 1e-12 * steps.alpha[1:])
    good &= (pull > 0) | (size == 0)
    stretch = np.where(good, np.divide(size, pull, out=np.ones_like(pull), where=pull > 0), np.inf)
    worst: Float = np.maximum.accumulate(stretch[::-1])[::-1]
    return worst


@dataclass(frozen=True, repr=False, eq=False)
class EstimationBound(Record):
    """What :func:`estimation_bound` returns.

    Attributes
    ----------
    upper : (n,)
        sum_r |W_r| |e_r|.
    lower : (n,)
        |sum_r W_r e_r|, the estimation term itself: theta times ``upper``.
    theta : (n,)
        How little the errors cancel: 1 when all point the same way, near 0 when they average out (1 without errors).
    weights : (R,)
        W_r of the table.
    """

    upper: Float
    lower: Float
    theta: Float
    weights: Float


def estimation_bound(field: Field, steps: StepTable, errors: Any) -> EstimationBound:
    """How far errors of the denoiser move the endpoint, at most and at least.

    The estimation term of a run is sum_r W_r e_r exactly. In the root mean square, sum_r |W_r| sqrt(M_r) E_r bounds it,
    E_r the rms error on exact draws of x_t and M_r the :func:`concentrability`.

    Parameters
    ----------
    field : Field
    steps : StepTable
    errors : (R, n, d) array
        D_model - D_oracle at the states that the rows visited.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> field = itf.Field(np.eye(2))
    >>> steps = itf.ddim(field.schedule, 10)
    >>> itf.theory.estimation_bound(field, steps, np.full((10, 1, 2), 0.3)).theta  # only the last error counts
    array([1.])
    """
    check_field(field)
    array, _ = _arrays.as_array(errors, "errors")
    if array.ndim != 3 or array.shape[::2] != (len(check_steps(steps)), field.d) or array.dtype.kind != "f":
        msg = (
            f"errors must be a float array of shape ({len(steps)}, n, {field.d}), one error for each row of the table "
            f"and sample; got {array.dtype} {array.shape}."
        )
        raise ValueError(msg)
    _arrays.check_finite(array, "errors")
    weights = steps.error_weights()
    upper, total = np.zeros(array.shape[1]), np.zeros(array.shape[1:])
    for w, e in zip(weights, array, strict=True):
        upper += abs(w) * np.linalg.norm(e.astype(np.float64), axis=1)
        total += w * e
    lower = np.linalg.norm(total, axis=1)
    return EstimationBound(upper, lower, np.divide(lower, upper, out=np.ones_like(upper), where=upper > 0), weights)


@dataclass(frozen=True, repr=False, eq=False)
class Amplification(Record):
    """What :func:`amplification` returns.

    Attributes
    ----------
    times : (R,)
        When the error is made.
    overall : (R,)
        Endpoint displacement for an error of norm 1 at that row, with the Lipschitz constant of D over all of space.
    path : (R, M)
        The same with the Lipschitz constants at the states of the oracle's run: to first order in the error.
    cell : (R, M)
        The same with the constant in the cell of the endpoint's row; valid as long as both runs are in it.
    """

    times: Float
    overall: Float
    path: Float
    cell: Float

    def plot(self, ax: Any = None) -> Any:
        """The three over time, medians over the runs; returns the axes. Needs matplotlib."""
        ax = axes(ax)
        for name, values in (("overall", self.overall), ("path", self.path), ("cell", self.cell)):
            ax.plot(self.times, np.median(np.atleast_2d(values.T), axis=0), marker=".", label=name)
        ax.set(xlabel="t (0 noise, 1 data)", ylabel="displacement per unit of error", yscale="log")
        ax.legend()
        return ax


def amplification(field: Field, steps: StepTable, x: Any, q: float = 0.25) -> Amplification:
    """How much an error of the denoiser at one row can move the endpoint, by Groenwall's inequality for the same noise.

    With L_r a Lipschitz constant of D and g_r = L_r |delta cur| + |e_r| the change of D, rows propagate
    |delta out| <= |A| |delta base| + |B| g_r + |C| g_{r-1}. Three choices of L, from valid everywhere and astronomic to
    local: (alpha / sigma^2) reach^2, since no posterior covariance exceeds reach^2; its value at the states of the run,
    by the largest eigenvalue of the posterior covariance; and the bound of the cell,
    (alpha / sigma^2) sum_{j != i} (pi_j / pi_i) D_ij^2 exp(-rho^2 D_ij^2 (1/2 - q)).

    Parameters
    ----------
    field : Field
        Of bandwidth 0.
    steps : StepTable
    x : (M, d) array
        Starting points at ``steps.times[0]``. Noise of the table is left out of the path.
    q : float in (0, 1/2)

    Notes
    -----
    About 50 N d flops for each query and row of the table.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> field = itf.Field(np.array([[0.0, 0.0], [4.0, 0.0]]))
    >>> itf.theory.amplification(field, itf.ddim(field.schedule, 4), np.array([[0.3, 0.2]])).overall
    array([68., 72., 24.,  1.])
    """
    needs_points(field, "amplification")
    q = shrinkage(q)
    wide, _, _, _ = _arrays.queries(x, field.d)
    data, rows, n = field._set, len(check_steps(steps)), len(wide)
    scale = steps.alpha[:-1] / steps.sigma[:-1] ** 2
    state, cut = State.start(wide), data.cut(field.tol)
    local = np.empty((rows, n))
    for r in range(rows):
        local[r] = scale[r] * _largest_spread(field, state.cur, float(steps.alpha[r]), float(steps.sigma[r]))
        data.run_steps(state, steps, r, r + 1, key=0, first_sample=0, error=None, cut=cut)
    end = np.full(n, steps.alpha[-1])
    rho = np.tile(steps.alpha[:-1] / steps.sigma[:-1], (n, 1))
    slope = cells(data, nearest_points(data, state.base, end), state.base / end[:, None], rho, q).slope
    overall = scale[:, None] * data.moments.reach**2
    return Amplification(
        steps.times[:-1], _growth(steps, overall)[:, 0], _growth(steps, local), _growth(steps, scale[:, None] * slope.T)
    )  # fmt: skip


def _growth(steps: StepTable, lipschitz: Float) -> Float:
    """(R, M) Endpoint displacement for an error of norm 1 at each row, given L (R, M)."""
    rows, m = lipschitz.shape
    base, cur, above = np.zeros((3, rows, m))  # first axis: the row at which the error is made
    for r in range(rows):
        change = np.multiply(lipschitz[r], cur, out=np.zeros_like(cur), where=cur > 0)
        change[r] += 1.0
        with np.errstate(over="ignore"):
            cur = abs(steps.A[r]) * base + abs(steps.B[r]) * change + abs(steps.C[r]) * above
        above = change
        if steps.commit[r]:
            base = cur
    return base


def _largest_spread(field: Field, x: Float, alpha: float, sigma: float) -> Float:
    """Largest eigenvalue of the posterior covariance at each x, by power iteration."""
    data, n = field._set, len(x)
    u = _random.normals(0, 0, n, 0, field.d)
    size = np.zeros(n)
    for _ in range(12):
        u /= np.maximum(np.linalg.norm(u, axis=1, keepdims=True), np.finfo(np.float64).tiny)
        out = {"jvp": np.empty_like(x)}
        data.posterior(x, np.full(n, alpha), np.full(n, sigma), np.inf, out, u)
        u = out["jvp"]
        size = np.linalg.norm(u, axis=1)
    return size


@dataclass(frozen=True, repr=False, eq=False)
class Concentrability(Record):
    """What :func:`concentrability` returns.

    Attributes
    ----------
    times : (R,)
    ratio, stderr : (R,)
        Mean squared error on generated states over that on exact draws; 1 for a run that follows the exact law.
    generated, drawn : (R,)
        The two mean squares of |D_model - D_oracle|.
    """

    times: Float
    ratio: Float
    stderr: Float
    generated: Float
    drawn: Float

    def plot(self, ax: Any = None) -> Any:
        """The ratio over time with two standard errors; returns the axes. Needs matplotlib."""
        ax = axes(ax)
        ax.errorbar(self.times, self.ratio, 2 * self.stderr, marker=".")
        ax.axhline(1.0, linewidth=0.8, color="0.5")
        ax.set(xlabel="t (0 noise, 1 data)", ylabel="mean squared error: own / exact states")
        return ax


def concentrability(
    model: Model | Callable[[Float, float], Any],
    field: Field,
    steps: StepTable,
    n: int,
    rng: _random.RandomSource = None,
) -> Concentrability:
    """Does the model err more where its own samples go than on x_t? M_r = E_generated |e|^2 / E_{x_t} |e|^2.

    A mean-square surrogate of the density ratio between the law of generated states and that of the interpolant.

    Parameters
    ----------
    model : Model or callable
        A model, whose error is D_model - D_oracle, or the error itself as e(x, t) -> (n, d).
    field : Field
        The oracle.
    steps : StepTable
        Of the field's schedule; generates with D_oracle + e.
    n : int
        Samples, and draws at every row.
    rng : None, int, SeedSequence, Generator or NoiseKey

    Notes
    -----
    2 n evaluations of the model and 3 n of the oracle for each row of the table.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> field = itf.Field(np.array([[0.0, 0.0], [4.0, 0.0]]))
    >>> model = itf.Model(lambda x, t: field.denoiser(x, t) + 0.1, field.schedule, predicts="denoiser")
    >>> itf.theory.concentrability(model, field, itf.ddim(field.schedule, 4), 50, rng=0).ratio.round(6)
    array([1., 1., 1., 1.])
    """
    if not isinstance(model, Model) and not callable(model):
        msg = f"model must be a Model or a function e(x, t); got {model!r}."
        raise TypeError(msg)
    n = _arrays.count(n, "n", 2)
    source, data = _random.noise_key(rng), check_field(field)._set
    found = np.zeros((2, len(check_steps(steps)), n))

    def error(x: Float, t: float) -> Float:
        if isinstance(model, Model):
            prediction = model.predict(x, t, data.type, data.kind)
            difference: Float = model.to_denoiser(prediction, x, t, model.schedule(t)) - field.denoiser(x, t)
            return difference
        return _arrays.reals(model(x, t), "the value of e(x, t)")

    def watch(x: Float, t: float, r: int) -> Float:
        e = error(x, t)
        found[0, r] = np.einsum("ij,ij->i", e, e)
        return e

    sample(field, steps, n, rng=source, error=watch)
    for r, t in enumerate(steps.times[:-1].tolist()):
        key = _random.NoiseKey((_random.subkey(source.key, "queries") + r) % 2**64, source.first_sample)
        x = np.asarray(field.draw(n, t, key)[0], np.float64)
        found[1, r] = np.einsum("ij,ij->i", *[error(x, t)] * 2)
    generated, drawn = found.mean(axis=2)
    spread = found.std(axis=2, ddof=1) / math.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = generated / drawn
        stderr = np.hypot(spread[0] / drawn, ratio * spread[1] / drawn)
    return Concentrability(steps.times[:-1], ratio, stderr, generated, drawn)
