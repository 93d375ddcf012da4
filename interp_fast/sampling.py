"""Whole trajectories: run a table of steps on the oracle or on a model."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays, _random
from ._results import Record
from .backends import State
from .backends.reference import advance
from .field import Field
from .model import Model
from .steps import StepTable

__all__ = ["Samples", "sample"]

Float = npt.NDArray[np.float64]

# Progress is reported about this often; a cut at another row changes no bit.
_REPORTS = 50


@dataclass(frozen=True, repr=False, eq=False)
class Samples(Record):
    """What :func:`sample` returns.

    Attributes
    ----------
    x : (n, d)
        The samples.
    index : (n,) int64 or None
        The training row i with alpha x_i nearest to each sample, alpha that of the last point; the lowest at ties.
    path : (n, P, d) or None
        Committed states, the first and the last always among them; ``path_times`` (P,) are their times.
    commit_time : (n,) or None
        Time of the first evaluation from which the argmax of the posterior stays to the end.
    certificate : (n,) or None
        Largest certified |D used - dense D at the same state| / R over the rows; 0 for dense work.
    stats : dict
        backend, isa, threads, evaluations, work (fraction of dense), seconds.
    """

    x: npt.NDArray[Any]
    index: npt.NDArray[np.int64] | None
    path: npt.NDArray[Any] | None
    path_times: Float | None
    commit_time: Float | None
    certificate: Float | None
    stats: dict[str, Any]


def sample(
    field: Field | Model,
    steps: StepTable,
    n: int | None = None,
    *,
    x0: Any = None,
    rng: _random.RandomSource = None,
    keep: str | int = "final",
    progress: bool | Callable[[int, int], None] | None = None,
    tol: float | None = None,
    out: npt.NDArray[Any] | None = None,
) -> Samples:
    """Samples of the interpolant by a table of steps, from noise at t = 0 to data at t = 1.

    Row r evaluates D at the latest output and sets x_out = A x_base + B D + C D_previous + S xi (see
    :class:`StepTable`). The state is float64 from start to end, whatever the type of the data, and is rounded once.

    Parameters
    ----------
    field : Field or Model
        The oracle, whose runs are fused in compiled code, or a model under study, which is called once per row.
    steps : StepTable
        From :func:`euler`, :func:`heun`, :func:`ddpm`, ... A model's schedule must agree with it.
    n : int, optional
        How many samples; default ``len(x0)``.
    x0 : (n, d) array, optional
        Starting points at ``steps.times[0]``. Default: n draws of N(0, sigma[0]^2), exact where alpha[0] = 0. To start
        in the middle with the law kept exactly pass ``field.draw(n, steps.times[0])[0]``.
    rng : None, int, SeedSequence, Generator or NoiseKey
        Noise is a function of (key, sample, row, coordinate): it does not depend on threads, batches or backends.
    keep : "final", "path" or int
        "path" keeps every committed state, an int every so many of them.
    progress : bool or callable, optional
        True: a line on stderr; a callable gets (rows done, rows).
    tol : float, optional
        As in :class:`Field`; default the field's own.
    out : (n, d) array, optional
        Filled with the samples and returned as ``x``; of the result type.

    Returns
    -------
    Samples

    Raises
    ------
    TypeError, ValueError
        With the name of the argument.

    Notes
    -----
    Costs at most 4 N d flops per row and sample, beside 4 d for noise.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> X = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    >>> field = itf.Field(X)
    >>> out = itf.sample(field, itf.euler(field.schedule, 32), 5, rng=0)
    >>> bool(np.abs(out.x - X[out.index]).max() < 1e-9)
    True
    """
    began = time.perf_counter()
    if not isinstance(field, (Field, Model)):
        msg = (
            f"field must be a Field or a Model; got {type(field).__name__}. Wrap a network as itf.Model(fn, schedule)."
        )
        raise TypeError(msg)
    if not isinstance(steps, StepTable):
        msg = f"steps must be a StepTable, e.g. itf.euler(field.schedule, 64); got {type(steps).__name__}."
        raise TypeError(msg)
    source = _random.noise_key(rng)
    start, dtype, kind = _start(field, steps, n, x0, source)
    kept = _kept(steps, keep)
    x = _result(out, start.shape, dtype)
    state = State.start(start)
    path = np.empty((len(start), len(kept), start.shape[1]), dtype) if keep != "final" else None
    if path is not None and kept[0] == 0:
        path[:, 0] = start
    run = (
        _fused(field, steps, state, source, tol)
        if isinstance(field, Field)
        else _stepped(field, steps, state, source, dtype, kind)
    )
    report = _reporter(progress, len(steps.A))
    done = 0
    for stop in _stops(steps, kept if path is not None else (), report is not None):
        run(done, stop)
        done = stop
        if path is not None and stop in kept:
            path[:, kept.index(stop)] = state.base
        if report is not None:
            report(stop, len(steps.A))
    x[:] = state.base
    oracle = field if isinstance(field, Field) else None
    stats = {
        "backend": oracle.backend if oracle else None,
        "isa": oracle.isa if oracle else None,
        "threads": oracle.threads if oracle else None,
        "evaluations": len(steps.A),
        "work": float(state.work.mean() / len(steps.A)) if oracle else None,
    }
    index = oracle._set.nearest(state.base, alpha=float(steps.alpha[-1]))[0][:, 0] if oracle else None
    return Samples(
        x=kind(x) if out is None else out,
        index=index,
        path=None if path is None else kind(path),
        path_times=None if path is None else steps.times[kept],
        commit_time=steps.times[state.since] if oracle else None,
        certificate=oracle._set.certificate(state.dropped) if oracle else None,
        stats=stats | {"seconds": time.perf_counter() - began},
    )


def _start(
    field: Field | Model, steps: StepTable, n: int | None, x0: Any, source: _random.NoiseKey
) -> tuple[Float, np.dtype[Any], Callable[[Any], Any]]:
    """Starting points (n, d) float64, the type of the results and the way back to the caller's kind of array."""
    oracle = field if isinstance(field, Field) else None
    if x0 is None:
        if oracle is None:
            msg = "x0 must be given for a Model, which has no dimension of its own: pass (n, d) starting points."
            raise ValueError(msg)
        if n is None:
            msg = "n must be given when x0 is not: how many samples?"
            raise ValueError(msg)
        n = _arrays.count(n, "n", 1)
        start = oracle._set.normals(n, _random.subkey(source.key, "start"), source.first_sample)
        start *= steps.sigma[0]
        return start, oracle._set.type, oracle._set.kind
    start, single, dtype, kind = _arrays.queries(x0, oracle.d if oracle else None, "x0")
    if single:
        msg = f"x0 must have shape (n, d); got {np.shape(x0)}. Pass x0[None]."
        raise ValueError(msg)
    if n is not None and _arrays.count(n, "n", 1) != len(start):
        msg = f"n must be len(x0) = {len(start)} or left out; got {n}."
        raise ValueError(msg)
    return start, oracle._set.type if oracle else dtype, kind


def _result(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if out is None:
        return np.empty(shape, dtype)
    array, _ = _arrays.as_array(out, "out")
    if array.shape != shape or array.dtype != dtype or not array.flags.writeable:
        msg = f"out must be a writeable {dtype} array of shape {shape}; got {array.dtype} {array.shape}."
        raise ValueError(msg)
    return array


def _kept(steps: StepTable, keep: str | int) -> list[int]:
    """Points of the table (0 ... R) whose committed states are kept."""
    committed = [0, *(np.flatnonzero(steps.commit) + 1).tolist()]
    if keep in ("final", "path"):
        return committed if keep == "path" else committed[-1:]
    if isinstance(keep, str):
        msg = f"keep must be 'final', 'path' or an int >= 1; got {keep!r}."
        raise ValueError(msg)
    chosen = committed[:: _arrays.count(keep, "keep", 1)]
    return chosen if chosen[-1] == committed[-1] else [*chosen, committed[-1]]


def _stops(steps: StepTable, kept: Any, reporting: bool) -> list[int]:
    """Rows at which the run pauses: where states are kept, and now and then to report."""
    rows = len(steps.A)
    stops = {int(k) for k in kept if k > 0} | {rows}
    if reporting:
        stops |= set(range(0, rows, max(1, rows // _REPORTS))) - {0}
    return sorted(stops)


def _fused(
    field: Field, steps: StepTable, state: State, source: _random.NoiseKey, tol: float | None
) -> Callable[[int, int], None]:
    key = _random.subkey(source.key, "steps") if np.any(steps.S > 0) else None
    cut = field._set.cut(field.tol if tol is None else _arrays.number(tol, "tol", least=0.0))
    return lambda first, last: field._set.run_steps(
        state, steps, first, last, key=key, first_sample=source.first_sample, error=None, cut=cut
    )


def _stepped(
    model: Model, steps: StepTable, state: State, source: _random.NoiseKey, dtype: np.dtype[Any],
    kind: Callable[[Any], Any],
) -> Callable[[int, int], None]:  # fmt: skip
    """A plain loop over rows for a model, whose D need not be known on rows that do not use it."""
    c = model.schedule(steps.times[:-1])
    for name in ("alpha", "sigma"):
        mine, table = np.asarray(getattr(c, name)), getattr(steps, name)[:-1]
        off = np.flatnonzero(np.abs(mine - table) > 1e-12 * np.maximum(np.abs(mine), np.abs(table)) + 1e-15)
        if len(off):
            k = int(off[0])
            msg = (
                f"steps must be a table of the model's schedule {model.schedule!r}: {name} at t = {steps.times[k]:g} "
                f"is {table[k]:g} in the table and {mine[k]:g} in the schedule. Build the table from model.schedule."
            )
            raise ValueError(msg)
    key = _random.subkey(source.key, "steps")
    n, d = state.cur.shape

    def run(first: int, last: int) -> None:
        for r in range(first, last):
            if steps.B[r] == 0 and (r + 1 == len(steps.A) or steps.C[r + 1] == 0):
                denoiser = np.zeros_like(state.cur)
            else:
                t = float(steps.times[r])
                at = model.schedule(t)
                denoiser = model.to_denoiser(model.predict(state.cur, t, dtype, kind), state.cur, t, at)
            xi = _random.normals(key, source.first_sample, n, r, d) if steps.S[r] > 0 else None
            advance(state, steps, r, denoiser, None, xi)

    return run


def _reporter(progress: Any, rows: int) -> Callable[[int, int], None] | None:
    if progress is None or progress is False:
        return None
    if callable(progress):
        return progress  # type: ignore[no-any-return]

    def line(done: int, total: int) -> None:
        sys.stderr.write(f"\rsampling: row {done} of {total}" + ("\n" if done == total else ""))
        sys.stderr.flush()

    return line
