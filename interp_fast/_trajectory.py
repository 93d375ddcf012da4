"""The loop over rows for everything the compiled loop does not do: models, errors that depend on the state,
attribution."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays, _random
from ._attribution import Attribution
from ._schedule import Coefficients
from ._step_table import StepTable
from .backends import State
from .backends.reference import advance, smoothed
from .field import Field
from .model import Model
from .perturb import Perturbation, Visit

__all__ = ["Trajectory"]

Float = npt.NDArray[np.float64]


class Trajectory:
    """A run whose rows are made of one evaluation of the oracle (when there is one) and NumPy.

    D is that of ``field``. The error of a model is its difference to the oracle; ``error`` is added to either.
    """

    def __init__(
        self,
        field: Field | Model,
        steps: StepTable,
        state: State,
        source: _random.NoiseKey,
        *,
        oracle: Field | None,
        error: Any,
        attribution: Attribution | None,
        tol: float | None,
        dtype: np.dtype[Any],
        kind: Callable[[Any], Any],
    ) -> None:
        self._steps, self._state, self._first_sample = steps, state, source.first_sample
        self._oracle, self._error, self._attribution = oracle, error, attribution
        self._model, self._schedule = field if isinstance(field, Model) else None, field.schedule
        self._dtype, self._kind = dtype, kind
        self._key, self._error_key = (_random.subkey(source.key, purpose) for purpose in ("steps", "perturb"))
        n = len(state.cur)
        self._out: dict[str, Any] = {
            "mean": np.empty_like(state.cur), "index": np.empty(n, np.int64),
            "log_norm": np.empty(n), "dropped": np.empty(n), "work": np.empty(n),
        }  # fmt: skip
        self._cut = 0.0 if oracle is None else oracle._set.cut(tol)
        if self._model is not None:
            self._agree()

    def run(self, first: int, last: int) -> None:
        """Rows first <= r < last of the table."""
        steps, state = self._steps, self._state
        for r in range(first, last):
            exact = None if self._oracle is None else self._evaluate(self._oracle, r)
            # A model need not know D, nor an error make sense, where the row does not use it.
            unused = steps.B[r] == 0 and (r + 1 == len(steps) or steps.C[r + 1] == 0)
            error = None if unused or self._error is None else self._perturb(r)
            if self._model is not None and not unused:
                used = self._predict(self._model, r)
            else:
                used = np.zeros_like(state.cur) if exact is None else exact
            if error is not None:
                used = used + error
            if self._model is not None and exact is not None:
                error = used - exact
            xi = self._normals(self._key, r) if steps.S[r] > 0 else None
            advance(state, steps, r, used, error, xi)

    def _evaluate(self, oracle: Field, r: int) -> Float:
        """The oracle's D at the current states."""
        x, out, n = self._state.cur, self._out, len(self._state.cur)
        alpha, sigma = float(self._steps.alpha[r]), float(self._steps.sigma[r])
        oracle._set.posterior(x, np.full(n, alpha), np.full(n, sigma), self._cut, out)
        self._state.observe(r, out)
        if self._attribution is not None:
            self._attribution.add(r, x, out["mean"])
        return smoothed(out["mean"], x, alpha, sigma, oracle.bandwidth)

    def _predict(self, model: Model, r: int) -> Float:
        t = float(self._steps.times[r])
        prediction = model.predict(self._state.cur, t, self._dtype, self._kind)
        return model.to_denoiser(prediction, self._state.cur, t, model.schedule(t))

    def _perturb(self, r: int) -> Float:
        t, error = float(self._steps.times[r]), self._error
        if isinstance(error, np.ndarray):
            given: Float = error[r]
            return given
        x = self._state.cur.copy()  # the caller's own, to keep and to change
        if isinstance(error, Perturbation):
            density = None if self._oracle is None else self._log_density(self._oracle, r)
            normals = functools.partial(self._normals, self._error_key, r)
            return error.at(Visit(x, t, density, normals, functools.partial(self._coefficients, t)))
        answer, _ = _arrays.as_array(error(x, t, r), "the value of error(x, t, r)")
        if answer.shape != x.shape or answer.dtype.kind != "f":
            msg = f"error(x, t, r) must return a float array of shape {x.shape}; got {answer.dtype} {answer.shape}."
            raise ValueError(msg)
        wide: Float = answer.astype(np.float64)
        _arrays.check_finite(wide, "error(x, t, r)")
        return wide

    def _log_density(self, oracle: Field, r: int) -> Float:
        s2 = self._steps.sigma[r] ** 2 + (self._steps.alpha[r] * oracle.bandwidth) ** 2
        return oracle._set.log_density(self._out["log_norm"], s2)

    def _normals(self, key: int, r: int) -> Float:
        n, d = self._state.cur.shape
        if self._oracle is not None:
            return self._oracle._set.normals(n, key, self._first_sample, r)
        return _random.normals(key, self._first_sample, n, r, d)

    def _coefficients(self, t: float) -> Coefficients:
        self._agree()
        return self._schedule(t)

    def _agree(self) -> None:
        """ValueError unless the table is one of the field's schedule."""
        c, steps = self._schedule(self._steps.times[:-1]), self._steps
        for name in ("alpha", "sigma"):
            mine, table = np.asarray(getattr(c, name)), getattr(steps, name)[:-1]
            off = np.flatnonzero(np.abs(mine - table) > 1e-12 * np.maximum(np.abs(mine), np.abs(table)) + 1e-15)
            if len(off):
                k = int(off[0])
                msg = (
                    f"steps must be a table of the schedule {self._schedule!r}: {name} at t = {steps.times[k]:g} is "
                    f"{table[k]:g} in the table and {mine[k]:g} in the schedule. Build the table from that schedule."
                )
                raise ValueError(msg)
