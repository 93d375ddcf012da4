"""A run of a table of steps that can be watched: one walk over its rows, fused in compiled code where nothing has to be
formed in Python."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _random, _shape
from ._attribution import Attribution
from ._oracle import Oracle
from ._schedule import Coefficients, Schedule
from ._shape import Form
from ._step_table import StepTable
from .backends import State
from .backends.reference import advance, smoothed
from .model import Predictor
from .perturb import Perturbation, Visit

__all__ = ["Run"]

Float = npt.NDArray[np.float64]


@dataclass
class Run:
    """n samples on their way through the rows of a table.

    D is that of the model, else of the oracle. The error of a model is its difference to the oracle, if there is one;
    ``error`` is added to either.

    Attributes
    ----------
    steps : StepTable
    state : State
        Where the samples stand.
    source : NoiseKey
    form : Form
        Of what models and functions of the caller's are given.
    oracle : Oracle or None
    model : Predictor or None
    error : None, (R, n, d) float64 array, callable or Perturbation
    attribution : Attribution or None
    """

    steps: StepTable
    state: State
    source: _random.NoiseKey
    form: Form
    oracle: Oracle | None = None
    model: Predictor | None = None
    error: Any = None
    attribution: Attribution | None = None
    _posterior: dict[str, Any] = field(default_factory=dict, repr=False)

    def rows(self, stops: Iterable[int] | None = None) -> Iterator[int]:
        """Run, and yield how many rows are done at each of ``stops``, which increase; default: after every row."""
        walk = self._fused if self._is_fused else self._stepped
        if self.model is not None:
            self._agree()
        done = 0
        for stop in range(1, len(self.steps) + 1) if stops is None else stops:
            walk(done, stop)
            done = stop
            yield done

    @property
    def latest_error(self) -> Float:
        """The error in the D of the latest row, (n, d); of a run that keeps its terms."""
        assert self.state.previous_error is not None
        return self.state.previous_error

    @property
    def _is_fused(self) -> bool:
        """Whether compiled code does all of it."""
        given = self.error is None or isinstance(self.error, np.ndarray)
        return self.oracle is not None and self.model is None and self.attribution is None and given

    def _fused(self, first: int, last: int) -> None:
        assert self.oracle is not None
        key = self._key("steps") if np.any(self.steps.S > 0) else None
        self.oracle.training_set.run_steps(
            self.state, self.steps, first, last,
            key=key, first_sample=self.source.first_sample, error=self.error, cut=self.oracle.cut,
        )  # fmt: skip

    def _stepped(self, first: int, last: int) -> None:
        """Rows made of one evaluation of the oracle (when there is one) and NumPy."""
        steps, state = self.steps, self.state
        for r in range(first, last):
            exact = None if self.oracle is None else self._evaluate(self.oracle, r)
            # A model need not know D, nor an error make sense, where the row does not use it.
            unused = steps.B[r] == 0 and (r + 1 == len(steps) or steps.C[r + 1] == 0)
            error = None if unused or self.error is None else self._perturb(r)
            if self.model is not None and not unused:
                used = self._predict(self.model, r)
            else:
                used = np.zeros_like(state.cur) if exact is None else exact
            if error is not None:
                used = used + error
            if self.model is not None and exact is not None:
                error = used - exact
            xi = self._normals("steps", r) if steps.S[r] > 0 else None
            advance(state, steps, r, used, error, xi)

    def _evaluate(self, oracle: Oracle, r: int) -> Float:
        """The oracle's D at the current states."""
        x, n = self.state.cur, len(self.state.cur)
        if not self._posterior:
            self._posterior = {
                "mean": np.empty_like(x), "index": np.empty(n, np.int64),
                "log_norm": np.empty(n), "dropped": np.empty(n), "work": np.empty(n),
            }  # fmt: skip
        alpha, sigma = float(self.steps.alpha[r]), float(self.steps.sigma[r])
        oracle.training_set.posterior(x, np.full(n, alpha), np.full(n, sigma), oracle.cut, self._posterior)
        self.state.observe(r, self._posterior)
        if self.attribution is not None:
            self.attribution.add(r, x, self._posterior["mean"])
        return smoothed(self._posterior["mean"], x, alpha, sigma, oracle.bandwidth)

    def _predict(self, model: Predictor, r: int) -> Float:
        t = float(self.steps.times[r])
        prediction = model.predict(self.state.cur, t, self.form)
        return model.to_denoiser(prediction, self.state.cur, t, model.schedule(t))

    def _perturb(self, r: int) -> Float:
        t, error = float(self.steps.times[r]), self.error
        if isinstance(error, np.ndarray):
            given: Float = error[r]
            return given
        x = self.state.cur.copy()  # the caller's own, to keep and to change
        n = len(x)
        if isinstance(error, Perturbation):
            density = None if self.oracle is None else self._log_density(self.oracle, r)
            normals = functools.partial(self._normals, "perturb", r)
            return error.at(Visit(x, t, density, normals, functools.partial(self._coefficients, t)))
        answer = error(x.reshape(n, *self.form.shape), t, r)
        return _shape.answers(answer, self.form, n, "the value of error(x, t, r)", "the function")

    def _log_density(self, oracle: Oracle, r: int) -> Float:
        s2 = self.steps.sigma[r] ** 2 + (self.steps.alpha[r] * oracle.bandwidth) ** 2
        density: Float = oracle.training_set.log_density(self._posterior["log_norm"], s2)
        return density

    def _key(self, purpose: str) -> int:
        return _random.subkey(self.source.key, purpose)

    def _normals(self, purpose: str, r: int) -> Float:
        key, (n, d) = self._key(purpose), self.state.cur.shape
        if self.oracle is not None:
            return self.oracle.training_set.normals(key, self.source.first_sample, r, n=n)
        return _random.normals(key, self.source.first_sample, r, n=n, d=d)

    def _coefficients(self, t: float) -> Coefficients:
        self._agree()
        return self._schedule(t)

    @property
    def _schedule(self) -> Schedule:
        source = self.model or self.oracle
        assert source is not None
        return source.schedule

    def _agree(self) -> None:
        """ValueError unless the table is one of the schedule that D belongs to."""
        schedule, steps = self._schedule, self.steps
        c = schedule(steps.times[:-1])
        for name in ("alpha", "sigma"):
            mine, table = np.asarray(getattr(c, name)), getattr(steps, name)[:-1]
            off = np.flatnonzero(np.abs(mine - table) > 1e-12 * np.maximum(np.abs(mine), np.abs(table)) + 1e-15)
            if len(off):
                k = int(off[0])
                msg = (
                    f"steps must be a table of the schedule {schedule!r}: {name} at t = {steps.times[k]:g} is "
                    f"{table[k]:g} in the table and {mine[k]:g} in the schedule. Build the table from that schedule."
                )
                raise ValueError(msg)
