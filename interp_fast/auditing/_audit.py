"""What the loss of a model above its lower limit means for memorization."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from html import escape
from statistics import NormalDist
from typing import Any, Never, cast

import numpy as np
import numpy.typing as npt

from .. import _arrays, _random
from .._doubt import doubt, suspect
from .._progress import reporter
from .._results import Record, axes
from .._run import Run
from .._step_table import StepTable, check_steps
from ..backends import State
from ..comparing import of_rows, tallied
from ..field import Field, oracle_of
from ..losses import grid, optimal_loss
from ..metrics import read_points, warn_of_units
from ..model import Predictor
from ..sampling import Terms
from ..steps import ddim
from . import _verdict
from ._fate import fate, within

__all__ = ["Audit", "audit"]

Float = npt.NDArray[np.float64]

# A loss below its limit is reported at this level over all times together.
_FALSE_ALARM = 0.01
_Z = NormalDist().inv_cdf(_verdict.CONFIDENCE)
_ROUNDING = 1e-6  # an error of the model smaller than this share of R is rounding
_STEPS = 50


@dataclass(frozen=True, repr=False, eq=False)
class Audit(Record):
    """What :func:`audit` returns. K: the times of the losses; E: those at which an error of the model reaches the end.

    ``print`` says in sentences what was found, then shows the numbers.

    Attributes
    ----------
    memorizes : bool or None
        True with "overfitting", False with "underfitting", None with "undetermined".
    verdict : {"overfitting", "underfitting", "undetermined"}
        "underfitting" says that the memorizing optimum is not reached, and nothing about the quality of samples.
    memorized, memorized_interval : float, (float, float)
        Share of samples within the radius of a row, and its 90 % interval.
    memorized_bound : float
        What ``bound`` alone says this share is at least: 1 - (bound / radius)^2 for one radius, never below 0.
    displaced, displaced_interval : float, (float, float)
        Share of samples that the model's error alone keeps off every row, and its 90 % interval.
    holdout_within, holdout_within_interval : float, (float, float), or None
        Share of held-out rows within the radius of a row, and its 90 % interval: ``memorized`` of data never seen.
    radius : float or (n,)
        Distance up to which a sample counts as memorized; by default one for each sample, that of its nearest row (inf
        where no other row differs: then only samples equal to a row, up to rounding, are memorized).
    level : float
    times, loss, optimal, optimal_stderr, excess, excess_stderr : (K,)
        The model's loss E|D_model - x_I|^2, the lowest possible L* with its standard error, the excess E|D_model - D|^2
        with its own. ``loss`` is ``optimal`` plus the mean of what the model loses more than D on the same draws.
    optimal_interval : (K, 2)
        Holds L*, each with 95 % confidence; see :func:`optimal_loss`.
    below : (K,) bool
        Where ``loss`` is significantly below ``optimal``, which no function of (x, t) can be.
    bound : float
        R_up, a bound on the root mean square distance of samples to the row they were drawn to.
    bound_times, concentrability : (E,)
        Times of the rows of ``steps`` whose errors reach the end (of ddim only the last); the mean squared error on the
        model's own trajectories over that on the interpolant: the price of their leaving it.
    samples_needed : int or None
        Of an undetermined audit: how many samples would decide, should the shares stay what they are; None where no
        number would.
    deciding_radii : (float, float) or None
        Of an undetermined audit: any radius below the first makes these samples show that the model does not memorize,
        any from the second on that it does (0 and inf where there is none).
    terms : Terms
        Selection, estimation and noise, (n, *event) each, relative to the nearest row.
    R : float
        Root mean square distance of the rows from their mean, the scale of ``excess``.
    doubt : str or None
        What looks wrong with how the model is asked, its range of values or direction of time: its loss near the data
        end is then that of noise, or more.
    """

    memorizes: bool | None
    verdict: str
    memorized: float
    memorized_interval: tuple[float, float]
    memorized_bound: float
    displaced: float
    displaced_interval: tuple[float, float]
    holdout_within: float | None
    holdout_within_interval: tuple[float, float] | None
    radius: float | Float
    level: float
    times: Float
    loss: Float
    optimal: Float
    optimal_stderr: Float
    optimal_interval: Float
    excess: Float
    excess_stderr: Float
    below: npt.NDArray[np.bool_]
    bound: float
    bound_times: Float
    concentrability: Float
    samples_needed: int | None
    deciding_radii: tuple[float, float] | None
    terms: Terms
    R: float
    doubt: str | None

    @property
    def summary(self) -> str:
        """What was found, a sentence a line: memorizes, does not memorize or undetermined first."""
        return "\n".join(_verdict.sentences(self))

    def __repr__(self) -> str:
        return f"{self.summary}\n\n{super().__repr__()}"

    def _repr_html_(self) -> str:
        sentences = "".join(f"<p>{escape(line)}</p>" for line in self.summary.splitlines())
        return sentences + super()._repr_html_()

    def plot(self, ax: Any = None) -> Any:
        """The loss, its lower limit with an interval, and the excess over time; returns the axes (matplotlib)."""
        ax = axes(ax)
        ax.plot(self.times, self.loss, marker=".", label="loss")
        (line,) = ax.plot(self.times, self.optimal, marker=".", label="lowest possible")
        ax.fill_between(self.times, *self.optimal_interval.T, alpha=0.3, color=line.get_color())
        ax.errorbar(self.times, self.excess, 2 * self.excess_stderr, marker=".", label="excess")
        ax.set(xlabel="t (0 noise, 1 data)", ylabel="loss of the denoiser", title=_verdict.title(self))
        if max(self.loss.max(), self.optimal.max(), self.excess.max()) > 0:
            ax.set_yscale("log")
        ax.legend()
        return ax


def audit(
    model: Predictor,
    field: Field,
    times: Any,
    n: int,
    *,
    steps: StepTable | None = None,
    holdout: Any = None,
    radius: float | None = None,
    level: float = 0.9,
    rng: _random.RandomSource = None,
    progress: bool | Callable[[int, int], None] | None = None,
    **unknown: Never,
) -> Audit:
    """Whether a model memorizes its training set: what its loss has above the lowest possible, where its samples end.

    With e = D_model - D at the states a solver visits, each sample is, exactly,

        x - alpha x_* = T_sel + T_est + T_noise       (see :class:`Terms`; T_est is linear in e),

    and the mean of |e|^2 over x_t is what the loss has above its lower limit. Memorized means |x - alpha x_*| <= radius
    for the nearest row x_*. The model

    * memorizes ("overfitting") when at least a share ``level`` of samples is memorized: by the bound

          R_up = |T_sel| + sum_r |W_r| sqrt(M_r) E_r + sqrt(d) std(T_noise) <= radius sqrt(1 - level)

      (root mean squares; W_r the solver's weight of an error, E_r^2 the excess loss, M_r >= 1 the concentrability) and
      Markov's inequality, or by the share of n samples;
    * does not memorize ("underfitting", whatever its samples are worth) when at least a share ``level`` is kept off
      every row by the error alone: beyond the radius of the nearest, and |T_est| > radius + |T_sel| + |T_noise| about
      the row nearest to x - T_est;
    * is undetermined otherwise: the result says what would settle it.

    Upper limits of T_sel, E_r, M_r E_r^2 and lower limits of shares enter (one-sided, 95 % each). It is a statistical
    statement: the identity is exact, the means over x_t and over trajectories are estimates from n draws each.

    Parameters
    ----------
    model : Model
        The model under study. Its schedule is used.
    field : Field
        The oracle of its training set.
    times : int or increasing (K,) array
        Where losses are taken, in [0, 1]; K stands for 0, 1/K, ..., (K - 1)/K. The verdict does not depend on them.
    n : int
        Queries at each time, and trajectories. Shares cannot be shown to reach 0.9 by fewer than 25.
    steps : StepTable, optional
        The solver, whose table must end at t = 1. Default: ``itf.ddim(model.schedule, 50)``.
    holdout : (h, *event) array, optional
        Rows of the same kind that were not trained on: how near to a row is near for them?
    radius : float, optional
        In units of samples; 0 asks for equality up to rounding. Default: a third of the distance from the nearest row
        to its own nearest different row.
    level : float, default 0.9
    rng : None, int, SeedSequence, Generator or NoiseKey
    progress : bool or callable, optional
        True: a line on stderr; a callable gets (done, all), counted in rows of the table and times.

    Returns
    -------
    Audit

    Warns
    -----
    UserWarning
        The loss is significantly below its lower limit at some time (1 % false alarms in all): the model has seen what
        it should predict, or is evaluated on other inputs than it is given. Or it looks as if it were made for another
        range of values, or for times that run the other way (see ``doubt``).

    Raises
    ------
    TypeError, ValueError
        With the name of the argument; also when the model's prediction does not determine D at a time of ``times`` or
        of ``steps``.

    Notes
    -----
    Model and oracle see the same queries, so the excess is the mean of |D_model - D|^2 itself and not the difference of
    two losses.

    Costs n evaluations of the model and of the oracle for each row of ``steps`` and for each time: those in ``times``,
    and those of ``steps`` at which an error has a weight in the sample (the last of ``ddim``, all of ``euler`` on most
    schedules) unless they are among ``times``. The oracle is evaluated n times more for each of ``times`` (see
    :func:`optimal_loss`), and held-out rows are compared with all rows: 2 N d flops each.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> X = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    >>> field = itf.Field(X)
    >>> model = itf.Model(lambda x, t: field.denoiser(x, t) + 0.1, field.schedule, predicts="denoiser")
    >>> rep = itf.audit(model, field, [0.3, 0.6, 0.9], 200, rng=0)
    >>> rep.memorizes, rep.memorized, bool(np.allclose(rep.excess, 0.02))
    (True, 1.0, True)
    >>> print(rep.summary[:42])
    memorizes: 200 of 200 samples (100 %, 90 %
    """
    if unknown:
        hint = "; pass steps=, a table such as itf.ddim(model.schedule, 50)" if "solver" in unknown else ""
        msg = f"audit has no argument {next(iter(unknown))!r}{hint}."
        raise TypeError(msg)
    if not isinstance(model, Predictor):
        msg = f"model must be a Model; got {type(model).__name__}. Wrap a network as itf.Model(fn, schedule)."
        raise TypeError(msg)
    oracle = replace(oracle_of(field), schedule=model.schedule)
    data = oracle.training_set
    n = _arrays.count(n, "n", 2)
    radius = None if radius is None else _arrays.number(radius, "radius", least=0.0)
    if not 0 < _arrays.number(level, "level") < 1:
        msg = f"level must lie in (0, 1); got {level}."
        raise ValueError(msg)
    at = _times(times, model)
    steps = _solver(steps, model)
    held = None
    if holdout is not None:
        stored, scale, _ = read_points(holdout, "holdout", data)
        warn_of_units("holdout", stored, scale, data)
        held = _arrays.widen(stored[:], scale)
    source = _random.noise_key(rng)
    # What the bound needs is taken where an error reaches the end, the losses at the times asked for.
    weights = np.abs(steps.error_weights())
    used = np.flatnonzero(weights)
    points, place = np.unique(np.concatenate([at, steps.times[used]]), return_inverse=True)
    here, when = place[: len(at)], place[len(at) :]

    tell = reporter(progress, "audit: row")

    def report(done: int) -> None:
        if tell is not None:
            tell(done, len(steps) + len(points))

    state = State.start(oracle.start(n, steps.sigma[0], source), terms=True)
    run = Run(steps, state, source, oracle.form, oracle, model)
    visited = np.empty((len(steps), n))
    for done in run.rows():
        visited[done - 1] = np.sum(run.latest_error**2, axis=1)
        report(done)
    key = _random.NoiseKey(_random.subkey(source.key, "optimum"), source.first_sample)
    best = optimal_loss(field.with_schedule(model.schedule), at, n, rng=key)

    def visits() -> Iterator[Iterator[tuple[Float, Float | None]]]:
        for k, t in enumerate(points.tolist()):
            yield of_rows(oracle, t, n, source, k)
            report(len(steps) + k + 1)

    found = tallied({"": model}, oracle, "denoiser", points, n, visits())[""].rows
    excess, excess_stderr = found["mse"], found["mse_stderr"]
    # The same draws for the model and for D leave less to chance than two losses.
    gain, gain_stderr = found["excess"], found["excess_stderr"]
    loss = best.loss + gain[here]
    below = gain[here] < -NormalDist().inv_cdf(1 - _FALSE_ALARM / len(at)) * gain_stderr[here]
    below &= excess[here] > (_ROUNDING * field.R) ** 2
    if below.any():
        msg = (
            f"the loss at t = {at[below][0]:g} is below its lower limit, {loss[below][0]:g} < {best.loss[below][0]:g}: "
            f"the model has seen what it should predict, or is evaluated on other inputs than it is given."
        )
        _arrays.warn(msg)
    words = doubt(model, oracle, n, source) if suspect(excess, points, oracle) else None
    if words is not None:
        _arrays.warn(words)

    ratio = np.divide(visited[used].mean(axis=1), excess[when], out=np.ones(len(used)), where=excess[when] > 0)
    concentrability = np.zeros(len(points))
    np.maximum.at(concentrability, when, ratio)
    # M E^2 from above: on the model's own states, and never below that on the interpolant's.
    squared = np.maximum(_upper(visited[used]), (excess + _Z * excess_stderr)[when])

    alpha = float(steps.alpha[-1])
    end = fate(data, state.base, cast(Float, state.terms), alpha, radius)
    bound = (
        math.sqrt(_upper(np.sum(end.terms.selection**2, axis=1)))
        + float(weights[used] @ np.sqrt(squared))
        + math.sqrt(field.d) * float(steps.noise_std()[-1])
    )
    memorized, displaced = float(np.mean(end.distance <= end.limit)), float(np.mean(end.displaced))
    intervals = [_verdict.wilson(share, n, _verdict.TWO_SIDED) for share in (memorized, displaced)]
    # Radii differ between samples: P(distance > radius) <= P(distance > r) + P(radius < r), for the best r.
    limit = np.sort(end.limit)
    quotient = np.divide(bound, limit, out=np.full(n, math.inf if bound > 0 else 0.0), where=limit > 0)
    proved = max(0.0, 1.0 - float(np.min(quotient**2 + np.arange(n) / n)))
    verdict = "undetermined"
    if proved >= level or intervals[0][0] >= level:
        verdict = "overfitting"
    elif intervals[1][0] >= level:
        verdict = "underfitting"
    decided = verdict != "undetermined"
    held_share = held_interval = None
    if held is not None:
        held_share = within(data, held, alpha, radius)
        held_interval = _verdict.wilson(held_share, len(held), _verdict.TWO_SIDED)
    return Audit(
        memorizes=verdict == "overfitting" if decided else None,
        verdict=verdict,
        memorized=memorized,
        memorized_interval=intervals[0],
        memorized_bound=proved,
        displaced=displaced,
        displaced_interval=intervals[1],
        holdout_within=held_share,
        holdout_within_interval=held_interval,
        radius=end.reach if radius is None else radius,
        level=level,
        times=at,
        loss=loss,
        optimal=best.loss,
        optimal_stderr=best.stderr,
        optimal_interval=best.interval,
        excess=excess[here],
        excess_stderr=excess_stderr[here],
        below=below,
        bound=bound,
        bound_times=points[np.unique(when)],
        concentrability=concentrability[np.unique(when)],
        samples_needed=None if decided else _verdict.samples_needed(max(memorized, displaced), level),
        deciding_radii=None if decided else _verdict.deciding_radii(end.clear, end.distance, level),
        terms=Terms(*(oracle.form.points(getattr(end.terms, f.name)) for f in fields(Terms))),
        R=field.R,
        doubt=words,
    )


def _times(times: Any, model: Predictor) -> Float:
    """The times of the losses, (K,)."""
    at = grid(times)
    if (np.diff(at) <= 0).any():
        k = int(np.flatnonzero(np.diff(at) <= 0)[0])
        msg = f"times must increase; got {at[k]:g} before {at[k + 1]:g}. Pass np.unique(times)."
        raise ValueError(msg)
    _check_determined(model, at, "times", "Leave it out")
    return at


def _solver(steps: StepTable | None, model: Predictor) -> StepTable:
    """The table of the solver, which ends at t = 1 and asks for the model only where it determines D."""
    steps = ddim(model.schedule, _STEPS) if steps is None else check_steps(steps)
    if steps.times[-1] != 1:
        msg = (
            f"steps must end at t = 1, where samples are compared with training rows; got a table that ends at "
            f"{float(steps.times[-1])!r}. Only times, those of the losses, may end before."
        )
        raise ValueError(msg)
    used = (steps.B != 0) | (np.append(steps.C[1:], 0.0) != 0)
    remedy = "Pass a table such as itf.ddim(model.schedule, np.linspace(0.01, 1, 51))"
    _check_determined(model, steps.times[:-1][used], "steps", remedy)
    return steps


def _check_determined(model: Predictor, times: Float, name: str, remedy: str) -> None:
    """ValueError unless what the model predicts determines D at all of ``times``."""
    nothing = np.zeros((1, 1))
    for t in times.tolist():
        try:
            model.to_denoiser(nothing, nothing, t, model.schedule(t))
        except ValueError:
            msg = (
                f"{name} must avoid t = {t!r}: there a {model.predicts} does not determine the denoiser. {remedy}, or "
                f"let the model predict the denoiser."
            )
            raise ValueError(msg) from None


def _upper(values: Float) -> Any:
    """Upper confidence limits of the means along the last axis."""
    return values.mean(axis=-1) + _Z * values.std(axis=-1, ddof=1) / math.sqrt(values.shape[-1])
