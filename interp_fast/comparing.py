"""How far a model is from the oracle: over time, in any unit, on any points, beside simpler fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from . import _arrays, _random
from ._doubt import doubt, suspect
from ._oracle import Oracle, Point
from ._results import Record, axes
from ._run import Run
from ._schedule import Schedule
from ._step_table import StepTable, check_steps
from ._typing import Kind
from .backends import State
from .field import Field, oracle_of
from .losses import draws, grid, mean, optimal_loss, stratified
from .metrics import read_points, warn_of_units
from .model import Predictor
from .steps import ddim

__all__ = ["Comparison", "compare", "of_rows", "tallied"]

Float = npt.NDArray[np.float64]
Answer = Callable[[Float, float], Float]  # (x (m, d), t) -> (m, d)
Visits = Iterable[Iterator[tuple[Float, Float | None]]]  # for each time blocks of x, with the D of their rows

_KINDS = ("denoiser", "velocity", "noise", "score")
_PLACES = ("train", "holdout", "model", "oracle")
_LEVELS = (0.05, 0.15, 0.5, 0.85, 0.95)
_STEPS = 50


@dataclass(frozen=True, repr=False, eq=False)
class Comparison(Record):
    """How near a field f is to the oracle f* at K times; what :func:`compare` returns.

    Sums run over coordinates, means over x_t. ``_stderr`` are standard errors.

    Attributes
    ----------
    kind : str
        What is compared: denoiser, velocity, noise or score.
    at : str
        Where: x_t of training rows ("train") or of held-out rows ("holdout"), or the states of a run of the "model" or
        the "oracle".
    times : (K,)
    mse, mse_stderr : (K,)
        E|f - f*|^2.
    r2, r2_stderr : (K,)
        1 - mse / E|f* - E f*|^2: the explained share of the variance; -inf or nan where f* does not vary.
    cosine, cosine_stderr : (K,)
        E cos(f, f*); two vectors that are 0 count as 1, one as 0. The standard error is at least 1 / n where cosines
        differ: late, queries between rows are rare, and answers there may have any direction.
    loss, optimal, excess : (K,) or None
        E|f - target|^2 on the rows that x_t was made of, that of f*, and their difference; None on runs. On training
        rows ``optimal`` is the lowest possible loss and ``excess`` is ``mse``; on held-out rows ``excess`` may be
        negative: the oracle of one set is not the best field of another.
    loss_stderr, optimal_stderr, excess_stderr : (K,) or None
    levels : (L,)
    quantiles : dict
        "cosine" and "mse" -> (K, L), over x_t.
    baselines : dict
        Name -> the Comparison of that field, on the same x_t.
    doubt : str or None
        What looks wrong with how the model is asked, its range of values or direction of time: its loss near the data
        end is then that of noise, or more.
    """

    kind: str
    at: str
    times: Float
    mse: Float
    mse_stderr: Float
    r2: Float
    r2_stderr: Float
    cosine: Float
    cosine_stderr: Float
    loss: Float | None
    loss_stderr: Float | None
    optimal: Float | None
    optimal_stderr: Float | None
    excess: Float | None
    excess_stderr: Float | None
    levels: Float
    quantiles: dict[str, Float]
    baselines: dict[str, Comparison]
    doubt: str | None = None

    def plot(self, ax: Any = None) -> Any:
        """The explained share of the variance over time, of the model and of each baseline; returns the axes."""
        ax = axes(ax)
        for name, found in {"model": self, **self.baselines}.items():
            ax.errorbar(found.times, found.r2, 2 * found.r2_stderr, marker=".", capsize=2, label=name)
        ax.axhline(1.0, color="0.7", linewidth=0.8)
        shown = np.concatenate([found.r2 for found in (self, *self.baselines.values())])
        low = float(np.min(shown[np.isfinite(shown)], initial=0.0))
        ax.set(xlabel="t (0 noise, 1 data)", ylabel=f"explained share of the {self.kind} ($r^2$)")
        ax.set_ylim(max(low, -1.0) - 0.05, 1.05)
        ax.legend()
        return ax


def compare(
    model: Predictor | Field,
    field: Field,
    times: Any,
    n: int,
    *,
    kind: Kind = "velocity",
    at: Literal["train", "holdout", "model", "oracle"] = "train",
    steps: StepTable | None = None,
    holdout: Any = None,
    baselines: Mapping[str, Predictor | Field] | None = None,
    rng: _random.RandomSource = None,
) -> Comparison:
    """How far a model is from the oracle, over time.

    Parameters
    ----------
    model : Model or Field
        Its schedule is used.
    field : Field
        The oracle.
    times : int, increasing (K,) array, or None
        As in :func:`optimal_loss`. On runs None: where the table evaluates.
    n : int
        Points at each time, or trajectories.
    kind : {"velocity", "denoiser", "noise", "score"}
    at : {"train", "holdout", "model", "oracle"}
        Which x_t: of training rows, of held-out rows, or the states that the model or the oracle visits on a run of
        ``steps``.
    steps : StepTable, optional
        Of runs. Default: ``itf.ddim(model.schedule, 50)``.
    holdout : (h, d) or (h, *event) array, optional
        Rows that were not trained on.
    baselines : dict, optional
        Name -> Field or Model to compare on the same points, e.g. ``{"linear": itf.Gaussian(field)}``.
    rng : None, int, SeedSequence, Generator or NoiseKey

    Returns
    -------
    Comparison

    Warns
    -----
    UserWarning
        The model looks as if it were made for another range of values, or for times that run the other way.

    Raises
    ------
    TypeError, ValueError
        With the name of the argument; also where ``kind`` is not defined or not determined by what the model predicts.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> field = itf.Field(np.random.default_rng(0).standard_normal((50, 3)))
    >>> model = itf.Model(lambda x, t: field.velocity(x, t) + 0.1, field.schedule)
    >>> near = itf.compare(model, field, [0.2, 0.8], 100, baselines={"linear": itf.Gaussian(field)}, rng=0)
    >>> near.mse.round(6), near.r2 > near.baselines["linear"].r2  # a linear field is nearer early, not late
    (array([0.03, 0.03]), array([False,  True]))
    """
    for name, value, known in (("kind", kind, _KINDS), ("at", at, _PLACES)):
        if value not in known:
            msg = f"{name} must be one of {', '.join(known)}; got {value!r}."
            raise ValueError(msg)
    n = _arrays.count(n, "n", 2)
    schedule = _check(model, "model").schedule
    oracle = replace(oracle_of(field), schedule=schedule)
    fields = {"": model} | _checked(baselines)
    source = _random.noise_key(rng)
    visits: Visits
    if at in ("model", "oracle"):
        if times is not None:
            msg = f"times must be None on a run: it is compared where its table evaluates; got {times!r}."
            raise ValueError(msg)
        table = ddim(schedule, _STEPS) if steps is None else check_steps(steps)
        t = table.times[:-1]
        moved = model if at == "model" else field
        state = State.start(oracle.start(n, table.sigma[0], source))
        walker = replace(oracle_of(moved), schedule=schedule) if isinstance(moved, Field) else None
        run = Run(table, state, source, oracle.form, walker, None if isinstance(moved, Field) else moved)
        visits = _of_run(run, oracle)
    else:
        if times is None:
            msg = "times must be given unless at is 'model' or 'oracle': a number, an array, or an int K for k / K."
            raise ValueError(msg)
        if steps is not None:
            msg = f"steps belongs to at='model' and at='oracle'; got at={at!r}. Leave it out."
            raise ValueError(msg)
        t = grid(times)
        draw = of_rows if at == "train" else partial(_of_held, _held(holdout, oracle))
        visits = (draw(oracle, float(v), n, source, k) for k, v in enumerate(t))
    tallies = tallied(fields, oracle, kind, t, n, visits)
    best = None
    if at == "train":
        key = _random.NoiseKey(_random.subkey(source.key, "optimum"), source.first_sample)
        best = optimal_loss(field.with_schedule(schedule), t, n, kind=kind, rng=key)
    found = {name: tally.result(kind, at, t, best) for name, tally in tallies.items()}
    words = doubt(model, oracle, n, source) if suspect(found[""].mse, t, oracle, kind) else None
    if words is not None:
        _arrays.warn(words)
    return replace(found.pop(""), baselines=found, doubt=words)


def tallied(
    fields: Mapping[str, Predictor | Field], oracle: Oracle, kind: Kind, times: Float, n: int, visits: Visits
) -> dict[str, Tally]:
    """The numbers of fields at n points each of K times, which ``visits`` gives."""
    schedule, rounding = oracle.schedule, float(np.finfo(oracle.form.dtype).eps)
    answers = {name: _answer(given, name, kind, schedule, oracle) for name, given in fields.items()}
    exact, tallies = _exact(oracle, kind), {name: Tally(len(times), n) for name in answers}
    for k, (time, blocks) in enumerate(zip(times.tolist(), visits, strict=True)):
        for x, target in blocks:
            wanted = exact(x, time)
            goal = None if target is None else _of_denoiser(kind, x, target, schedule, time)
            for name, answer in answers.items():
                tallies[name].add(answer(x, time), wanted, goal)
        for tally in tallies.values():
            tally.close(k, rounding)
    return tallies


class Tally:
    """The numbers of one field at K times, gathered block by block."""

    def __init__(self, times: int, n: int) -> None:
        self.rows: dict[str, Float] = {
            name: np.full(times, np.nan)
            for name in ("mse", "r2", "cosine", "loss", "optimal", "excess")
            for name in (name, f"{name}_stderr")
        }
        self.quantiles = {name: np.empty((times, len(_LEVELS))) for name in ("cosine", "mse")}
        self._n = n
        self._begin()

    def _begin(self) -> None:
        names = ("error", "cosine", "away", "loss", "optimal", "excess")
        self._parts: dict[str, list[Float]] = {name: [] for name in names}
        self._origin: Float | None = None
        self._shift: Any = 0.0

    def add(self, got: Float, wanted: Float, goal: Float | None) -> None:
        """A block of answers (m, d), those of the oracle, and what a network is trained to answer."""
        if self._origin is None:
            self._origin = wanted.mean(axis=0)
        away = wanted - self._origin
        self._shift = self._shift + away.sum(axis=0)
        size, of_oracle = np.linalg.norm(got, axis=1), np.linalg.norm(wanted, axis=1)
        both = size * of_oracle
        cosine = np.divide(np.einsum("ij,ij->i", got, wanted), both, out=np.zeros(len(got)), where=both > 0)
        cosine[(size == 0) & (of_oracle == 0)] = 1.0
        error = got - wanted
        parts = {"error": _square(error), "cosine": np.clip(cosine, -1.0, 1.0), "away": _square(away)}
        if goal is not None:
            parts |= {"loss": _square(got - goal), "optimal": _square(wanted - goal)}
            # Their difference, which rounding would hide in it where both are large.
            parts["excess"] = np.einsum("ij,ij->i", error, got + wanted - 2 * goal)
        for name, values in parts.items():
            self._parts[name].append(values)

    def close(self, k: int, rounding: float) -> None:
        """The numbers at time k. Standard errors count what answers of this ``rounding`` leave open."""
        values = {name: np.concatenate(part) for name, part in self._parts.items() if part}
        error, away = values["error"], values["away"] - _square(self._shift[None] / self._n)[0]
        size = np.sqrt(away.mean() + _square(self._origin[None])[0]) if self._origin is not None else 0.0
        mse, stderr = mean(error)
        self._put(k, "mse", mse, np.hypot(stderr, 2 * np.sqrt(mse) * rounding * size + (rounding * size) ** 2))
        total = away.mean()
        with np.errstate(divide="ignore", invalid="ignore"):
            r2 = 1 - np.divide(mse, total)
            spread = mean(error - (1 - r2) * away)[1] / total if total > 0 else np.nan
        # The mean of f* is that of the draws: the variance about it is known to a share 1 / n at best.
        self._put(k, "r2", r2, np.hypot(np.hypot(spread, (1 - r2) / self._n), rounding))
        # Late, answers are small and of any direction at rare queries between rows: at least as if one at a right angle
        # had been missed, unless all cosines are the same.
        cosine, stderr = mean(values["cosine"])
        if np.ptp(values["cosine"]) > rounding:
            stderr = max(stderr, 1 / self._n)
        self._put(k, "cosine", cosine, np.hypot(stderr, rounding))
        for name, of in (("mse", error), ("cosine", values["cosine"])):
            self.quantiles[name][k] = np.quantile(of, _LEVELS)
        if "loss" in values:
            for name in ("loss", "optimal", "excess"):
                self._put(k, name, *mean(values[name]))
        self._begin()

    def _put(self, k: int, name: str, value: float, stderr: float) -> None:
        self.rows[name][k], self.rows[f"{name}_stderr"][k] = value, stderr

    def result(self, kind: str, at: str, times: Float, best: Any) -> Comparison:
        rows: dict[str, Any] = dict(self.rows)
        if best is not None:  # the same draws for f and f* leave less to chance than two losses
            gain, gain_stderr = rows["excess"], rows["excess_stderr"]
            rows |= {"loss": best.loss + gain, "loss_stderr": np.hypot(best.stderr, gain_stderr)}
            rows |= {"optimal": best.loss, "optimal_stderr": best.stderr}
            rows |= {"excess": rows["mse"], "excess_stderr": rows["mse_stderr"]}
        elif at != "holdout":
            rows |= {name: None for base in ("loss", "optimal", "excess") for name in (base, f"{base}_stderr")}
        return Comparison(
            kind=kind, at=at, times=times, levels=np.array(_LEVELS), quantiles=self.quantiles, baselines={}, **rows
        )  # fmt: skip


def _square(a: Float) -> Float:
    square: Float = np.einsum("ij,ij->i", a, a)
    return square


# The points, in blocks of x (m, d) as models get it, with the D that belongs to the row it was made of


def of_rows(
    oracle: Oracle, t: float, n: int, source: _random.NoiseKey, stream: int
) -> Iterator[tuple[Float, Float | None]]:
    """n draws of x_t of training rows, with the row each was made of."""
    for _, x, index, point in draws(oracle, t, n, source, stream):
        x = _given(x, oracle)
        # Given x and its row a smoothed row is normal: its mean stands for it.
        yield x, oracle.smooth(point, x, oracle.training_set.values(index))


def _of_held(
    held: Float, oracle: Oracle, t: float, n: int, source: _random.NoiseKey, stream: int
) -> Iterator[tuple[Float, Float | None]]:
    key = _random.subkey(source.key, "queries")
    c = oracle.schedule(t)
    chosen = (stratified(key, source.first_sample, 2 * stream + 1, n=n) * len(held)).astype(np.int64)
    for block in _arrays.blocks(np.broadcast_to(np.float64(0), (n, oracle.d))):
        rows = held[chosen[block]]
        z = oracle.training_set.normals(key, source.first_sample + block.start, 2 * stream, n=len(rows))
        yield _given(c.alpha * rows + c.sigma * z, oracle), rows


def _of_run(run: Run, oracle: Oracle) -> Iterator[Iterator[tuple[Float, Float | None]]]:
    """The states at which each row of the table evaluates."""
    rows = run.rows()
    for _ in range(len(run.steps)):
        yield iter([(_given(run.state.cur, oracle), None)])
        next(rows)


def _given(x: Float, oracle: Oracle) -> Float:
    given: Float = _arrays.rounded(x, oracle.form.dtype, "x").astype(np.float64)
    return given


# The fields


def _exact(oracle: Oracle, kind: str) -> Answer:
    def answer(x: Float, t: float) -> Float:
        point = oracle.point(t, len(x))
        mean = oracle.evaluate(point, x, "mean")["mean"]
        return oracle.smooth(point, x, mean) if kind == "denoiser" else _of_mean(kind, x, mean, point)

    return answer


def _of_mean(kind: str, x: Float, mean: Float, point: Point) -> Float:
    """In place of the mean."""
    point.forbid(point.s2 == 0, f"{kind} does not exist where sigma = 0")
    value: Float = getattr(point, kind)(x, mean)
    return value


def _of_denoiser(kind: str, x: Float, denoiser: Float, schedule: Schedule, t: float) -> Float:
    return denoiser if kind == "denoiser" else _of_mean(kind, x, denoiser.copy(), Point.of(schedule, 0.0, t, len(x)))


def _answer(given: Predictor | Field, name: str, kind: str, schedule: Schedule, oracle: Oracle) -> Answer:
    if isinstance(given, Field):
        return _exact(replace(oracle_of(given), schedule=schedule), kind)
    form = oracle.form

    def answer(x: Float, t: float) -> Float:
        c, own = schedule(t), given.schedule(t)
        if max(abs(own.alpha - c.alpha), abs(own.sigma - c.sigma)) > 1e-12 * (c.alpha + c.sigma):
            msg = f"baselines[{name!r}] must have the schedule of the model, {schedule!r}; got {given.schedule!r}."
            raise ValueError(msg)
        prediction = given.predict(x, t, form)
        if given.predicts == kind:
            return prediction
        return _of_denoiser(kind, x, given.to_denoiser(prediction, x, t, c), schedule, t)

    return answer


def _checked(baselines: Any) -> dict[str, Predictor | Field]:
    if baselines is None:
        return {}
    if not isinstance(baselines, Mapping):
        msg = f"baselines must be a dict from names to fields or models; got {type(baselines).__name__}."
        raise TypeError(msg)
    for name, given in baselines.items():
        if not isinstance(name, str) or not name:
            msg = f"baselines must have names that are strings, not empty; got {name!r}."
            raise TypeError(msg)
        _check(given, f"baselines[{name!r}]")
    return dict(baselines)


def _check(given: Any, name: str) -> Predictor | Field:
    if not isinstance(given, (Predictor, Field)):
        msg = (
            f"{name} must be a Model or a Field; got {type(given).__name__}. Wrap a network as itf.Model(fn, schedule)."
        )
        raise TypeError(msg)
    return given


def _held(holdout: Any, oracle: Oracle) -> Float:
    if holdout is None:
        msg = "holdout must be given with at='holdout': rows (h, d) that were not trained on."
        raise ValueError(msg)
    data = oracle.training_set
    stored, scale, _ = read_points(holdout, "holdout", data)
    warn_of_units("holdout", stored, scale, data)
    return _arrays.widen(stored[:], scale)
