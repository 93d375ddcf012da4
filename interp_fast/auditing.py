"""What the loss of a model above its lower limit means for memorization."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from . import _arrays, _random
from ._montecarlo import draws, mean
from ._results import Record, axes
from ._trajectory import Trajectory
from .backends import State
from .field import Field, check_field
from .losses import posterior, smoothing
from .metrics import wilson
from .model import Model
from .sampling import Terms
from .steps import StepTable, check_steps, ddim

__all__ = ["Audit", "audit", "fate"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

# Limits that enter a verdict are one-sided; a loss below its limit is reported at this level over all times together.
_CONFIDENCE, _FALSE_ALARM = 0.95, 0.01
_Z = NormalDist().inv_cdf(_CONFIDENCE)
_ROUNDING = 1e-6  # an error of the model smaller than this share of R is rounding


@dataclass(frozen=True, repr=False, eq=False)
class Audit(Record):
    """What :func:`audit` returns. K: the times at which the solver evaluates the model.

    Attributes
    ----------
    times, loss, optimal, excess, excess_stderr : (K,)
        The model's loss E|D_model - x_I|^2, the lowest possible L*, the excess E|D_model - D|^2 and its standard error.
    below : (K,) bool
        Where ``loss`` is significantly below ``optimal``, which no function of (x, t) can be.
    concentrability : (K,)
        Mean squared error on the model's own trajectories over ``excess``: the price of their leaving the interpolant.
    bound : float
        R_up, a bound on the root mean square distance of samples to the row they were drawn to.
    radius : float or (n,)
        Distance up to which a sample counts as memorized; by default one for each sample.
    level : float
    memorized, memorized_interval : float, (float, float)
        Share of samples within the radius of a row, and its 90 % interval.
    memorized_bound : float
        What ``bound`` alone says this share is at least: 1 - (bound / radius)^2 for one radius, never below 0.
    displaced, displaced_interval : float, (float, float)
        Share of samples that the model's error alone keeps off every row, and its 90 % interval.
    terms : Terms
        Selection, estimation and noise, (n, d) each, relative to the nearest row.
    verdict : {"overfitting", "underfitting", "undetermined"}
    """

    times: Float
    loss: Float
    optimal: Float
    excess: Float
    excess_stderr: Float
    below: npt.NDArray[np.bool_]
    concentrability: Float
    bound: float
    radius: float | Float
    level: float
    memorized: float
    memorized_interval: tuple[float, float]
    memorized_bound: float
    displaced: float
    displaced_interval: tuple[float, float]
    terms: Terms
    verdict: str

    def plot(self, ax: Any = None) -> Any:
        """The loss, its lower limit and the excess over time; returns the axes. Needs matplotlib."""
        ax = axes(ax)
        ax.plot(self.times, self.loss, label="loss")
        ax.plot(self.times, self.optimal, label="lowest possible")
        ax.errorbar(self.times, self.excess, 2 * self.excess_stderr, marker=".", label="excess")
        ax.set(xlabel="t (0 noise, 1 data)", ylabel="loss of the denoiser", yscale="log", title=self.verdict)
        ax.legend()
        return ax


def audit(
    model: Model,
    field: Field,
    times: Any,
    n: int,
    *,
    solver: Callable[..., StepTable] = ddim,
    radius: float | None = None,
    level: float = 0.9,
    rng: _random.RandomSource = None,
) -> Audit:
    """Whether a model is accurate enough to memorize its training set, or too inaccurate to.

    With e = D_model - D at the states a solver visits, each sample is, exactly,

        x - alpha x_* = T_sel + T_est + T_noise       (see :class:`Terms`; T_est is linear in e),

    and the mean of |e|^2 over x_t is what the loss has above its lower limit. Memorized means |x - alpha x_*| <= radius
    for the nearest row x_*. The verdict is

    * "overfitting" when at least a share ``level`` of samples is memorized: by the bound

          R_up = |T_sel| + sum_r |W_r| sqrt(M_r) E_r + sqrt(d) std(T_noise) <= radius sqrt(1 - level)

      (root mean squares; W_r the solver's weight of an error, E_r^2 the excess loss, M_r >= 1 the concentrability) and
      Markov's inequality, or by the share of n samples;
    * "underfitting" when at least a share ``level`` is kept off every row by the error alone: beyond the radius of the
      nearest, and |T_est| > radius + |T_sel| + |T_noise| about the row nearest to x - T_est;
    * "undetermined" otherwise: read the terms.

    Upper limits of T_sel, E_r, M_r E_r^2 and lower limits of shares enter (one-sided, 95 % each). It is a statistical
    statement: the identity is exact, the means over x_t and over trajectories are estimates from n draws each.

    Parameters
    ----------
    model : Model
        The model under study. Its schedule is used.
    field : Field
        The oracle of its training set.
    times : int or increasing (K + 1,) array
        Passed to ``solver``.
    n : int
        Queries at each time, and trajectories. Shares cannot be shown to reach 0.9 by fewer than 25.
    solver : callable, default ``itf.ddim``
        ``solver(schedule, times)`` -> StepTable.
    radius : float, optional
        Default: a third of the distance from the nearest row to its own nearest different row.
    level : float, default 0.9
    rng : None, int, SeedSequence, Generator or NoiseKey

    Returns
    -------
    Audit

    Warns
    -----
    UserWarning
        The loss is significantly below its lower limit at some time (1 % false alarms in all): the model has seen what
        it should predict, or is evaluated on other inputs than it is given.

    Raises
    ------
    TypeError, ValueError
        With the name of the argument; also when the model's prediction does not determine D at a time of the solver.

    Notes
    -----
    Model and oracle see the same queries, so the excess is the mean of |D_model - D|^2 itself and not the difference of
    two losses. Costs 2 n evaluations of the model and of the oracle for each row of the solver's table.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> X = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    >>> field = itf.Field(X)
    >>> model = itf.Model(lambda x, t: field.denoiser(x, t) + 0.1, field.schedule, predicts="denoiser")
    >>> rep = itf.audit(model, field, 20, 200, rng=0)
    >>> rep.verdict, rep.memorized, bool(np.allclose(rep.excess, 0.02))
    ('overfitting', 1.0, True)
    """
    if not isinstance(model, Model):
        msg = f"model must be a Model; got {type(model).__name__}. Wrap a network as itf.Model(fn, schedule)."
        raise TypeError(msg)
    check_field(field)
    n = _arrays.count(n, "n", 2)
    radius = None if radius is None else _arrays.number(radius, "radius", least=0.0)
    if not 0 < _arrays.number(level, "level") < 1:
        msg = f"level must lie in (0, 1); got {level}."
        raise ValueError(msg)
    if not callable(solver):
        msg = f"solver must be a function such as itf.ddim; got {solver!r}."
        raise TypeError(msg)
    steps = check_steps(solver(model.schedule, times), "the value of solver(schedule, times)")
    oracle, source = field.with_schedule(model.schedule), _random.noise_key(rng)

    used = np.flatnonzero((steps.B != 0) | (np.append(steps.C[1:], 0.0) != 0))
    at, when = np.unique(steps.times[used], return_inverse=True)
    compared = [_compare(model, oracle, float(t), n, source, k) for k, t in enumerate(at)]
    (loss, _), (optimal, _), (excess, excess_stderr), (gain, gain_stderr) = (
        np.array([mean(values[q]) for values in compared]).T for q in range(4)
    )
    below = gain < -NormalDist().inv_cdf(1 - _FALSE_ALARM / max(1, len(at))) * gain_stderr
    below &= excess > (_ROUNDING * oracle.R) ** 2
    if below.any():
        msg = (
            f"the loss at t = {at[below][0]:g} is below its lower limit, {loss[below][0]:g} < {optimal[below][0]:g}: "
            f"the model has seen what it should predict, or is evaluated on other inputs than it is given."
        )
        warnings.warn(msg, stacklevel=2)

    final, sums, visited = _run(model, oracle, steps, n, source)
    ratio = np.divide(visited[used].mean(axis=1), excess[when], out=np.ones(len(used)), where=excess[when] > 0)
    concentrability = np.zeros(len(at))
    np.maximum.at(concentrability, when, ratio)
    # M E^2 from above: on the model's own states, and never below that on the interpolant's.
    squared = np.maximum(_upper(visited[used]), (excess + _Z * excess_stderr)[when])

    alpha = float(steps.alpha[-1])
    terms, distance, reach, displaced = fate(oracle, final, sums, alpha, radius)
    bound = (
        math.sqrt(_upper(np.sum(terms.selection**2, axis=1)))
        + float(np.abs(steps.error_weights()[used]) @ np.sqrt(squared))
        + math.sqrt(field.d) * float(steps.noise_std()[-1])
    )
    memorized, kept_off = float(np.mean(distance <= reach)), float(np.mean(displaced))
    intervals = [wilson(share, n, 2 * _CONFIDENCE - 1) for share in (memorized, kept_off)]
    # Radii differ between samples: P(distance > radius) <= P(distance > r) + P(radius < r), for the best r.
    with np.errstate(divide="ignore"):
        missed = float(np.min((bound / np.sort(reach)) ** 2 + np.arange(n) / n))
    proved = max(0.0, 1.0 - missed)
    verdict = "undetermined"
    if proved >= level or intervals[0][0] >= level:
        verdict = "overfitting"
    elif intervals[1][0] >= level:
        verdict = "underfitting"
    return Audit(
        times=at,
        loss=loss,
        optimal=optimal,
        excess=excess,
        excess_stderr=excess_stderr,
        below=below,
        concentrability=concentrability,
        bound=bound,
        radius=reach if radius is None else radius,
        level=level,
        memorized=memorized,
        memorized_interval=intervals[0],
        memorized_bound=proved,
        displaced=kept_off,
        displaced_interval=intervals[1],
        terms=terms,
        verdict=verdict,
    )


def _compare(model: Model, oracle: Field, t: float, n: int, source: _random.NoiseKey, stream: int) -> Float:
    """For n draws (4, n): the model's loss, tr C, |D_model - D|^2, and the model's loss less that of D itself."""
    out = np.empty((4, n))
    s, c = oracle._set, model.schedule(t)
    for block, x, index, point in draws(oracle, t, n, source, stream):
        x = x.astype(s.type).astype(np.float64)  # what the model gets
        predicted = model.to_denoiser(model.predict(x, t, s.type, s.kind), x, t, c)
        found = posterior(oracle, point, x, "mean", "scatter")
        exact = oracle._denoise(point, x, found["mean"])
        # Given x and its row a smoothed row is normal: its mean stands for it, its variance is the spread.
        target = oracle._denoise(point, x, s.values(index))
        own, spread = smoothing(oracle, point)
        out[0, block] = np.sum((predicted - target) ** 2, axis=1) + spread
        out[1, block] = own**2 * found["scatter"] + spread
        out[2, block] = np.sum((predicted - exact) ** 2, axis=1)
        out[3, block] = np.sum((predicted - exact) * (predicted + exact - 2 * target), axis=1)
    return out


def _run(model: Model, oracle: Field, steps: StepTable, n: int, source: _random.NoiseKey) -> tuple[Float, Float, Float]:
    """n trajectories of the model: final states, sums of the three terms, squared error at every visit (R, n)."""
    s = oracle._set
    start = s.normals(n, _random.subkey(source.key, "start"), source.first_sample) * steps.sigma[0]
    state = State.start(start, terms=True)
    trajectory = Trajectory(
        model, steps, state, source, oracle=oracle, error=None, attribution=None, tol=oracle.tol, dtype=s.type,
        kind=s.kind,
    )  # fmt: skip
    sums, error = cast(Float, state.terms), cast(Float, state.previous_error)
    visited = np.empty((len(steps), n))
    for r in range(len(steps)):
        trajectory.run(r, r + 1)
        visited[r] = np.sum(error**2, axis=1)
    return state.base, sums, visited


def fate(
    oracle: Field, x: Float, sums: Float, alpha: float, radius: float | None
) -> tuple[Terms, Float, Float, npt.NDArray[np.bool_]]:
    """Terms about the nearest row, distance to it, its radius, and whether the error alone keeps the sample off.

    ``sums`` are the three terms about the origin, (3, n, d): alpha x_* not yet taken from the first.
    """
    selected, estimation, noise = sums
    (index, squared), (aimed, _) = (oracle._set.nearest(v, alpha=alpha) for v in (x, x - estimation))
    selection, off = (selected - alpha * oracle._set.values(rows[:, 0]) for rows in (index, aimed))
    reach, reach_aimed = (_radii(oracle, rows[:, 0], alpha, radius) for rows in (index, aimed))
    distance = np.sqrt(squared[:, 0])
    pull, push, jitter = (np.linalg.norm(v, axis=1) for v in (off, estimation, noise))
    terms = Terms(selection, estimation, noise, selection + estimation + noise)
    return terms, distance, reach, (distance > reach) & (push > reach_aimed + pull + jitter)


def _radii(oracle: Field, index: Int, alpha: float, radius: float | None) -> Float:
    """``radius``, or a third of the distance from alpha x_i to the nearest different row (inf when there is none)."""
    if radius is not None:
        return np.full(len(index), radius)
    rows, where = np.unique(index, return_inverse=True)
    separation, todo, k = np.full(len(rows), np.inf), np.arange(len(rows)), 1
    while len(todo) and k < oracle.N:
        k = min(4 * k, oracle.N)
        squared = oracle._set.nearest(oracle._set.values(rows[todo]), k)[1]
        apart = np.where(squared > 0, squared, np.inf).min(axis=1)
        separation[todo] = np.sqrt(apart)
        todo = todo[np.isinf(apart)]
    return alpha * separation[where] / 3


def _upper(values: Float) -> Any:
    """Upper confidence limits of the means along the last axis."""
    return values.mean(axis=-1) + _Z * values.std(axis=-1, ddof=1) / math.sqrt(values.shape[-1])
