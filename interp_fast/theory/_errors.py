"""What errors of a denoiser do to a run: sums of them, how they grow, and where a model makes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _arrays, _random, _shape
from .._results import Record, axes
from .._run import Run
from .._step_table import StepTable, check_steps
from .._training_set import TrainingSet
from ..backends import State
from ..field import Field, check_field, oracle_of
from ..model import Predictor
from ._cells import cells, nearest_points, points_of, shrinkage, without_noise

__all__ = [
    "Amplification",
    "Concentrability",
    "EstimationBound",
    "amplification",
    "concentrability",
    "estimation_bound",
]

Float = npt.NDArray[np.float64]


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

    def plot(self, ax: Any = None) -> Any:
        """How much an error at each row of the table counts at the end, |W_r|; returns the axes. Needs matplotlib."""
        ax = axes(ax)
        ax.plot(np.arange(len(self.weights)), np.abs(self.weights), ".-")
        ax.set(xlabel="row of the table", ylabel="$|W_r|$")
        return ax


def estimation_bound(field: Field, steps: StepTable, errors: Any) -> EstimationBound:
    """How far errors of the denoiser move the endpoint, at most and at least.

    The estimation term of a run is sum_r W_r e_r exactly. In the root mean square, sum_r |W_r| sqrt(M_r) E_r bounds it,
    E_r the rms error on exact draws of x_t and M_r the :func:`concentrability`.

    Parameters
    ----------
    field : Field
    steps : StepTable
    errors : (R, n, *event) or (R, n, d) array
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
    array = _shape.errors(errors, len(check_steps(steps)), None, field.event, "errors")
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
    data = points_of(field, "amplification")
    q = shrinkage(q)
    wide, _ = _shape.queries(x, field.event, device=field.device)
    path, rows, n = without_noise(steps), len(steps), len(wide)
    scale = steps.alpha[:-1] / steps.sigma[:-1] ** 2
    state, cut = State.start(wide), data.cut(field.tol)
    local = np.empty((rows, n))
    for r in range(rows):
        local[r] = scale[r] * _largest_spread(data, state.cur, float(steps.alpha[r]), float(steps.sigma[r]))
        data.run_steps(state, path, r, r + 1, key=None, first_sample=0, error=None, cut=cut)
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


def _largest_spread(data: TrainingSet, x: Float, alpha: float, sigma: float) -> Float:
    """Largest eigenvalue of the posterior covariance at each x, by power iteration."""
    n = len(x)
    u = _random.normals(0, 0, 0, n=n, d=data.d)
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
    model: Predictor | Callable[[Float, float], Any],
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
        A model, whose error is D_model - D_oracle, or the error itself as e(x, t), of the shape of x (n, *event).
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
    if not isinstance(model, Predictor) and not callable(model):
        msg = f"model must be a Model or a function e(x, t); got {model!r}."
        raise TypeError(msg)
    n = _arrays.count(n, "n", 2)
    source, oracle = _random.noise_key(rng), oracle_of(field)
    form = oracle.form
    flat = form._replace(shape=(oracle.d,))
    found = np.zeros((2, len(check_steps(steps)), n))

    def error(x: Float, t: float) -> Float:
        if not isinstance(model, Predictor):
            given = model(x.reshape(n, *form.shape), t)
            return _shape.answers(given, form, n, "the value of e(x, t)", "the function")
        p = oracle.point(t, n)
        exact: Float = oracle.smooth(p, x, oracle.evaluate(p, x, "mean")["mean"])
        return model.to_denoiser(model.predict(x, t, form), x, t, model.schedule(t)) - exact

    state = State.start(oracle.start(n, steps.sigma[0], source), terms=True)
    run = Run(steps, state, source, flat, oracle, error=lambda x, t, r: error(x, t))
    for done in run.rows():
        found[0, done - 1] = np.einsum("ij,ij->i", *[run.latest_error] * 2)
    for r, t in enumerate(steps.times[:-1].tolist()):
        key = _random.NoiseKey((_random.subkey(source.key, "queries") + r) % 2**64, source.first_sample)
        e = error(oracle.draw(oracle.point(t, n), n, key)[0], t)
        found[1, r] = np.einsum("ij,ij->i", e, e)
    generated, drawn = found.mean(axis=2)
    spread = found.std(axis=2, ddof=1) / math.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = generated / drawn
        stderr = np.hypot(spread[0] / drawn, ratio * spread[1] / drawn)
    return Concentrability(steps.times[:-1], ratio, stderr, generated, drawn)
