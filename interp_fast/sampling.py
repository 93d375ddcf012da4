"""Whole trajectories: run a table of steps on the oracle or on a model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from . import _arrays, _random, _shape
from ._attribution import Attribution
from ._oracle import Oracle
from ._progress import reporter
from ._results import Record, axes
from ._run import Run
from ._shape import Form
from ._step_table import StepTable, check_steps
from .backends import State
from .field import Field, oracle_of
from .model import Predictor
from .perturb import Perturbation

__all__ = ["Samples", "Terms", "sample"]

Float = npt.NDArray[np.float64]

# Progress is reported about this often; a cut at another row changes no bit.
_REPORTS = 50


@dataclass(frozen=True, repr=False, eq=False)
class Terms(Record):
    """Where the deviation of each sample from a training row comes from, exactly.

    Over the committed rows of the table, with x_* the row ``index`` of the training set, D the oracle's denoiser at the
    states visited, e the error added to it and c the curvature defect of the table, each term T <- A T + input::

        selection   starts at x_0 - alpha_0 x_*    input  B (D - x_*) + C (D_previous - x_*) + c x_*
        estimation  starts at 0                    input  B e + C e_previous
        noise       starts at 0                    input  S xi

    Attributes
    ----------
    selection, estimation, noise : (n, *event) float64
    total : (n, *event) float64
        Their sum: x - alpha x_* of the state before it is rounded.
    """

    selection: Any
    estimation: Any
    noise: Any
    total: Any

    def plot(self, ax: Any = None) -> Any:
        """How large each term is: the share of samples up to a norm; returns the axes. Needs matplotlib."""
        ax = axes(ax)
        for name in ("selection", "estimation", "noise"):
            term = np.asarray(getattr(self, name))
            norms = np.sort(np.linalg.norm(term.reshape(len(term), -1), axis=1))
            ax.plot(norms, np.arange(1, len(norms) + 1) / len(norms), label=name)
        ax.set(xlabel="norm of the term", ylabel="share of samples")
        ax.legend()
        return ax


@dataclass(frozen=True, repr=False, eq=False)
class Samples(Record):
    """What :func:`sample` returns.

    Attributes
    ----------
    x : (n, *event)
        The samples.
    index : (n,) int64 or None
        The training row i with alpha x_i nearest to each sample, alpha that of the last point; the lowest at ties.
        With a Model: the row of ``oracle``, else None.
    path : (n, P, *event) or None
        Committed states, the first and the last always among them; ``path_times`` (P,) are their times.
    terms : Terms or None
        Selection, estimation and noise, relative to row ``index``.
    attribution : (n, N) scipy.sparse.csr_array or None
        omega with x = Phi x_0 + omega X + estimation + noise, Phi the product of A over the committed rows. Each row
        of the table leaves out at most 2**-53 alpha of it; ``attribution_dropped`` (n,) is the sum that was left out.
    commit_time : (n,) or None
        Time of the first evaluation from which the argmax of the posterior stays to the end.
    certificate : (n,) or None
        Largest certified |D used - dense D at the same state| / R over the rows; 0 for dense work.
    stats : dict
        backend, isa, threads, evaluations, work (fraction of dense), key (of the noise, see NoiseKey), seconds.
    """

    x: Any
    index: Any
    path: Any
    path_times: Any
    terms: Terms | None
    attribution: Any
    attribution_dropped: Any
    commit_time: Any
    certificate: Any
    stats: dict[str, Any]

    def plot(self, ax: Any = None) -> Any:
        """First two coordinates of the samples, with the paths that were kept; returns the axes. Needs matplotlib."""
        ax, n = axes(ax), len(self.x)
        x = np.asarray(self.x).reshape(n, -1)
        pair = [0, min(1, x.shape[1] - 1)]
        if self.path is not None:
            for path in np.asarray(self.path).reshape(n, -1, x.shape[1]):
                ax.plot(*path[:, pair].T, color="0.7", linewidth=0.8)
        ax.plot(*x[:, pair].T, ".")
        ax.set(xlabel=f"coordinate {pair[0]}", ylabel=f"coordinate {pair[1]}")
        return ax


def sample(
    field: Field | Predictor,
    steps: StepTable,
    n: int | None = None,
    *,
    x0: Any = None,
    rng: _random.RandomSource = None,
    error: Any = None,
    oracle: Field | None = None,
    keep: Literal["final", "path"] | int = "final",
    terms: bool = False,
    attribution: bool = False,
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
    x0 : (n, *event) or (n, d) array, optional
        Starting points at ``steps.times[0]``, whose shape all results have. Default: n draws of N(0, sigma[0]^2), exact
        where alpha[0] = 0. To start in the middle with the law kept exactly pass ``field.draw(n, steps.times[0])[0]``.
    rng : None, int, SeedSequence, Generator or NoiseKey
        Noise is a function of (key, sample, row, coordinate): it does not depend on threads, batches or backends. All
        but a NoiseKey are sources of a key, which ``stats`` names: 7 and NoiseKey(7) are different streams, and a run
        begun with rng=7 goes on with NoiseKey(stats["key"], first_sample=n).
    error : array (R, n, *event), callable or ``itf.perturb`` kind, optional
        Added to D before it is used: an array has one error per row of the table, a callable returns
        error(x, t, r) -> e, of the shape of the states x of row r. Arrays run in compiled code.
    oracle : Field, optional
        When ``field`` is a Model: the Field it is compared with. Evaluated at every state visited; the error is then
        D_model - D_oracle (+ ``error``), and index, terms, attribution, commit_time and certificate are the oracle's.
    keep : "final", "path" or int
        "path" keeps every committed state, an int every so many of them.
    terms : bool
        Split the deviation from row ``index`` into selection, estimation and noise.
    attribution : bool
        Weights of the training rows in each sample (bandwidth 0 only). D is then evaluated in float64, densely, on rows
        of the table that still count at the end.
    progress : bool or callable, optional
        True: a line on stderr; a callable gets (rows done, rows).
    tol : float, optional
        As in :class:`Field`; default the field's own.
    out : (n, *event) array, optional
        Filled with the samples and returned as ``x``; of the result type.

    Returns
    -------
    Samples

    Warns
    -----
    UserWarning
        ``x0`` cannot hold draws of x_t, by orders of magnitude: it has another unit or range of values.

    Raises
    ------
    TypeError, ValueError
        With the name of the argument.
    KeyboardInterrupt
        Ctrl-C, within a second. With ``keep="path"`` or an int, ``path`` and ``path_times`` of the exception are what
        had been kept.

    Notes
    -----
    Costs at most 4 N d flops per row and sample, beside 4 d for noise. Attribution keeps 12 bytes for every weight
    above rounding: few when the posterior has concentrated, N per sample when early steps still count in the result.

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
    if not isinstance(field, (Field, Predictor)):
        msg = (
            f"field must be a Field or a Model; got {type(field).__name__}. Wrap a network as itf.Model(fn, schedule)."
        )
        raise TypeError(msg)
    check_steps(steps)
    model = field if isinstance(field, Predictor) else None
    truth = _check_oracle(field, oracle, terms=terms, attribution=attribution)
    source = _random.noise_key(rng)
    start, form = _start(truth, model, steps, n, x0, source)
    if truth is not None:
        _check_view(truth, len(start), terms=terms, attribution=attribution)
    if error is not None and not callable(error) and not isinstance(error, Perturbation):
        others = ", a callable or an itf.perturb kind"
        given = _shape.errors(error, len(steps), len(start), form.shape, "error", others)
        error = np.require(given, np.float64, ["C", "A"])
    kept = _kept(steps, keep)
    x = _result(out, (len(start), *form.shape), form.dtype)
    state = State.start(start, terms=terms)
    path = np.empty((len(start), len(kept), start.shape[1]), form.dtype) if keep != "final" else None
    if path is not None and kept[0] == 0:
        path[:, 0] = _arrays.rounded(start, form.dtype, "the path")
    if truth is not None and tol is not None:
        truth = replace(truth, tol=_arrays.number(tol, "tol", least=0.0))
    shares = Attribution(truth.training_set, steps, len(start)) if attribution and truth is not None else None
    report = reporter(progress, "sampling: row")
    run = Run(steps, state, source, form, truth, model, error, shares)
    held = kept[:1]
    try:
        for done in run.rows(_stops(steps, kept if path is not None else (), report is not None)):
            if path is not None and done in kept:
                path[:, kept.index(done)] = _arrays.rounded(state.base, form.dtype, "the path")
                held = kept[: kept.index(done) + 1]
            if report is not None:
                report(done, len(steps))
    except KeyboardInterrupt as interrupt:
        if path is not None:
            vars(interrupt).update(path=form.points(path[:, : len(held)]), path_times=form.kind(steps.times[held]))
            interrupt.add_note(f"{held[-1]} of {len(steps)} rows are in what was kept: .path, .path_times")
        raise
    x[...] = _arrays.rounded(state.base, form.dtype, "the samples").reshape(x.shape)
    seen = {} if truth is None else _seen(truth, state, steps, form)
    stats = {"backend": None, "isa": None, "threads": None, "evaluations": len(steps), "work": None, "key": source.key}
    return Samples(
        x=form.kind(x) if out is None else out,
        index=seen.get("index"),
        path=None if path is None else form.points(path),
        path_times=None if path is None else form.kind(steps.times[kept]),
        terms=seen.get("terms"),
        attribution=None if shares is None else _renumbered(shares.omega, truth),
        attribution_dropped=None if shares is None else form.kind(shares.dropped),
        commit_time=seen.get("commit_time"),
        certificate=seen.get("certificate"),
        stats=stats | seen.get("stats", {}) | {"seconds": time.perf_counter() - began},
    )


def _renumbered(omega: Any, oracle: Oracle | None) -> Any:
    """Columns by the numbers that rows are handed out with."""
    assert oracle is not None
    numbers = oracle.training_set.numbers
    if numbers is None:
        return omega
    from scipy import sparse

    return sparse.csr_array(
        (omega.data, numbers[omega.indices], omega.indptr), (omega.shape[0], oracle.training_set.called)
    )


def _seen(oracle: Oracle, state: State, steps: StepTable, form: Form) -> dict[str, Any]:
    """What the oracle of a run that has ended knows of its samples."""
    data, alpha = oracle.training_set, float(steps.alpha[-1])
    index: npt.NDArray[np.int64] = data.nearest(state.base, alpha=alpha)[0][:, 0]
    terms = None
    if state.terms is not None:  # kept with 0 in place of the row
        selection, estimation, noise = state.terms[0] - alpha * data.values(index), state.terms[1], state.terms[2]
        terms = Terms(*map(form.points, (selection, estimation, noise, selection + estimation + noise)))
    return {
        "index": form.each(data.number(index)),
        "terms": terms,
        "commit_time": form.each(steps.times[state.since]),
        "certificate": form.each(data.certificate(state.dropped)),
        "stats": {
            "backend": data.name,
            "isa": data.isa,
            "threads": data.threads,
            "work": float(state.work.mean() / len(steps)),
        },
    }


def _check_oracle(field: Field | Predictor, oracle: Field | None, *, terms: bool, attribution: bool) -> Oracle | None:
    """The Field that stands for the truth in this run, if there is one."""
    if isinstance(field, Field):
        if oracle is not None:
            msg = "oracle belongs to a run of a Model; a Field is its own oracle. Leave it out."
            raise ValueError(msg)
        oracle = field
    elif oracle is not None and not isinstance(oracle, Field):
        msg = f"oracle must be a Field; got {type(oracle).__name__}."
        raise TypeError(msg)
    if oracle is None and (terms or attribution):
        msg = f"{'terms' if terms else 'attribution'}=True needs oracle=, the Field that the Model is compared with."
        raise ValueError(msg)
    if attribution and oracle is not None and oracle.bandwidth > 0:
        msg = f"attribution needs a field of bandwidth 0; got {oracle.bandwidth:g}. Smoothed rows have no weights."
        raise ValueError(msg)
    return None if oracle is None else oracle_of(oracle, views=True)


def _check_view(oracle: Oracle, n: int, *, terms: bool, attribution: bool) -> None:
    """ValueError for what is not known of a field whose queries see different rows, or another number of them."""
    data = oracle.training_set
    data.check_queries(n, "the samples")
    if attribution and data.view:
        msg = f"attribution=True needs a Field, or one of a class or a subset; got a {data.view}."
        raise ValueError(msg)
    if terms and data.view == "guided field":
        msg = "terms=True needs a field whose D is a mean of rows; got a guided field."
        raise ValueError(msg)


def _start(
    oracle: Oracle | None, model: Predictor | None, steps: StepTable, n: int | None, x0: Any, source: _random.NoiseKey
) -> tuple[Float, Form]:
    """Starting points (n, d) float64, and the form of the results."""
    event = oracle.event if oracle else model.event if model else None
    if x0 is None:
        if event is None:
            msg = "x0 must be given for a Model, which has no dimension of its own: pass (n, d) points, or oracle=."
            raise ValueError(msg)
        if n is None and oracle is not None:
            n = oracle.training_set.length
        if n is None:
            msg = "n must be given when x0 is not: how many samples?"
            raise ValueError(msg)
        n = _arrays.count(n, "n", 1)
        if oracle is not None:
            return oracle.start(n, steps.sigma[0], source), oracle.form
        key = _random.subkey(source.key, "start")
        z = _random.normals(key, source.first_sample, 0, n=n, d=math.prod(event))
        return steps.sigma[0] * z, Form(np.dtype(np.float64), lambda a: a, event)
    start, form = _shape.queries(x0, event, "x0", several=True, device=oracle.training_set.device if oracle else None)
    if n is not None and _arrays.count(n, "n", 1) != len(start):
        msg = f"n must be len(x0) = {len(start)} or left out; got {n}."
        raise ValueError(msg)
    if oracle is not None:
        levels = np.full(len(start), steps.alpha[0]), np.full(len(start), steps.sigma[0])
        oracle.warn_of_scale(oracle.still(*levels), start, "x0")
    return start, form if model or oracle is None else form._replace(dtype=oracle.form.dtype)


def _result(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if out is None:
        return np.empty(shape, dtype)
    if not hasattr(out, "__dlpack__"):
        msg = f"out must be an array; got {type(out).__name__}."
        raise TypeError(msg)
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
    rows = len(steps)
    stops = {int(k) for k in kept if k > 0} | {rows}
    if reporting:
        stops |= set(range(0, rows, max(1, rows // _REPORTS))) - {0}
    return sorted(stops)
