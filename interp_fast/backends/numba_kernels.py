"""The kernel contract in numba; the arithmetic is that of ``numba_sweep`` and ``numba_noise``.

Work is cut by shape alone, into (tile of queries) x (slab of rows) with slabs merged in order, and handed to threads
that live as long as the call: no bit of a result depends on their number, and no pool is left to fork or to share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays import widen
from . import Float, Int, Moments, State, reference
from . import numba_sweep as sweep
from . import numba_ties as ties
from .numba_noise import fill_normals, jit

__all__ = ["nearest", "normals", "posterior", "prepare", "roundoff", "run_steps"]

_TILE = 64  # queries that share a widened block
_SLAB = 512  # rows of a slab, at least
_TASKS = 32  # tiles x slabs aimed at
_SMALL = 2**18  # multiply-adds not worth a thread
_CALL = 2**27  # multiply-adds of one compiled call, more or less: Python hears Ctrl-C between them
_GROUP_NUMBERS, _STATE_NUMBERS = 2**20, 2**22  # float64 numbers: queries of a group, one array of its states


@dataclass(frozen=True)
class Data:
    given: reference.Data
    rows: npt.NDArray[Any]
    table: Float | None  # the values of stored integers (bytes, or the bits of halves); None for floats
    log_w: Float
    bandwidth: float


def prepare(
    rows: npt.NDArray[Any],
    log_w: Float,
    *,
    moments: Moments,
    scale: tuple[float, float] | None,
    bandwidth: float,
    low_memory: bool,
    threads: int,
) -> Data:
    given = reference.prepare(
        rows, log_w, moments=moments, scale=scale, bandwidth=bandwidth, low_memory=low_memory, threads=threads
    )
    table = None
    if rows.dtype.itemsize < 4:
        stored = np.arange(256**rows.dtype.itemsize).astype(f"u{rows.dtype.itemsize}")
        with np.errstate(invalid="ignore"):  # bits that no finite half has
            table = widen(stored.view(rows.dtype), scale)
        rows = rows.view(stored.dtype)
    return Data(given, _frozen(rows), table, _frozen(log_w), bandwidth)


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A read-only view: one type, and so one compilation, for owned and for mapped arrays."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


def posterior(
    x: Float,
    data: Data,
    alpha: Float,
    sigma: Float,
    *,
    u: Float | None = None,
    cut: Float,
    out: dict[str, Any],
    threads: int,
) -> None:
    for some in _groups(*x.shape):
        part = {name: array[some] for name, array in out.items()}
        direction = u[some] if u is not None and "jvp" in out else None
        _posterior(x[some], data, alpha[some], sigma[some], direction, cut[some], part, threads)


def _posterior(
    x: Float, data: Data, alpha: Float, sigma: Float, u: Float | None, cut: Float, out: dict[str, Any], threads: int
) -> None:
    s2 = sigma**2 + (alpha * data.bandwidth) ** 2
    with np.errstate(divide="ignore", over="ignore"):
        h = 0.5 / s2
    wanted = out.keys()
    k = out["top_index"].shape[1] if "top_index" in wanted else 0
    off = bool(wanted & {"gap", "log_rest", "ess", "entropy", "variance", "jvp"})
    shared = u is None and not alpha.any()  # one posterior, the weights, for all queries: evaluate one and broadcast
    one = slice(0, 1 if shared else len(x))
    states = _states(
        x[one], data, data.log_w, alpha[one], h[one], threads, u=u, cut=cut[one], k=k,
        vectors=bool(wanted & {"mean", "variance", "scatter", "jvp"}), spread=bool(wanted & {"variance", "scatter"}),
        off=off,
    )  # fmt: skip
    scalars = states.scalars.T
    top, score, log_w, next_score, next_log_w, rest, rest2, heat, spread, along, dropped, live = scalars
    lead = _leads(next_score, next_log_w, score, log_w, h[one])  # of the runner-up, <= 0
    ratio = np.exp(lead)
    total = 1.0 + ratio * rest  # 1 / w_max
    scale = ratio / total
    answer: dict[str, Any] = {"index": top, "ess": total**2 / (1.0 + ratio**2 * rest2)}
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        distance = np.einsum("ij,ij->i", x, x) if shared else score
        answer["log_norm"] = np.where(s2 > 0, log_w - distance / (2 * s2) + np.log1p(ratio * rest), -np.inf)
        answer["gap"] = np.where(s2 > 0, -lead, np.where(next_score == score, 0.0, np.inf))
        answer["log_rest"] = np.log(rest) + lead - np.log1p(ratio * rest)
        answer["entropy"] = np.log1p(ratio * rest) + np.where(ratio > 0, scale * (heat - lead * rest), 0.0)
    answer["dropped"] = np.minimum(dropped / total, 1.0)
    answer["work"] = (1.0 + live / len(data.rows)) / (2.0 * len(x) if shared else 2.0)
    shift = states.shift
    shift *= scale[:, None]  # mean - x_top
    if wanted & {"variance", "scatter"}:
        answer["variance"] = answer["scatter"] = np.maximum(scale * spread - np.einsum("ij,ij->i", shift, shift), 0.0)
    if "jvp" in wanted:
        answer["jvp"] = scale[:, None] * states.pull - (scale * along)[:, None] * shift
    if "mean" in wanted:
        answer["mean"] = np.add(states.top, shift, out=shift)
    if "top_index" in wanted:
        near = _leads(states.near_score, states.near_log_w, score[:, None], log_w[:, None], h[one, None])
        answer["top_weight"] = np.exp(near) / total[:, None]
        answer["top_index"] = index = states.near_index
        for m in np.flatnonzero(s2[one] == 0):  # all but the nearest weigh 0: the lowest rows, not the next nearest
            tied = index[m, near[m] > -np.inf]
            index[m, len(tied) :] = np.setdiff1d(np.arange(k), tied)[: k - len(tied)]
    for name, array in out.items():
        array[...] = answer[name]
    if shared:
        return
    reach = np.minimum(cut, reference.UNDERFLOW)
    if off:  # a copy of the top row says nothing about the variance, and cuts nothing
        reach = np.where(next_score == score, reference.UNDERFLOW, reach)
    some, slack = ties.doubtful(x, s2, score, next_score, lead, reach, off, ties.tolerated(data.given))
    if len(some) > 0:
        c, weight = (next_score, next_log_w) if off else (score, log_w)
        _settle(some, x, data, alpha, sigma, s2, u, (c, weight, reach, slack), off, out, threads)


def _settle(
    some: Int, x: Float, data: Data, alpha: Float, sigma: Float, s2: Float, u: Float | None, limits: tuple[Float, ...],
    off: bool, out: dict[str, Any], threads: int,
) -> None:  # fmt: skip
    """Answers queries anew from the rows within their limits."""
    n = len(data.rows)
    starts = range(0, n, min(-(-n // (_TASKS * sweep.LANES)) * sweep.LANES, _rows_of_call(_TILE, x.shape[1])))
    for tile in _slices(len(some), _TILE):
        queries = some[tile]
        numbers = (x[queries], alpha[queries], 2.0 * s2[queries], *(limit[queries] for limit in limits))
        found: dict[int, tuple[Int, Int, Float]] = {}

        def find(first: int, numbers: Any = numbers, found: Any = found) -> None:
            last = min(first + starts.step, n)
            found[first] = ties.near_rows(data.rows, data.table, data.log_w, first, last, *numbers)

        _share(find, [(first,) for first in starts], threads if len(queries) * n * x.shape[1] > _SMALL else 1)
        query, row, c = (np.concatenate(parts) for parts in zip(*(found[first] for first in starts), strict=True))
        for i, m in enumerate(queries):
            one, mine = slice(m, m + 1), query == i
            part = {name: array[one] for name, array in out.items()}
            direction = None if u is None else u[one]
            ties.answer(x[one], data.given, row[mine], c[mine], alpha[one], sigma[one], direction, off, part)


def _leads(score: Float, log_w: Float, score0: Float, log_w0: Float, h: Float) -> Float:
    """Logits of rows minus those of others; infinite scores and h are limits, as in the sweep."""
    with np.errstate(invalid="ignore", over="ignore"):
        return log_w - log_w0 - np.where(score == score0, 0.0, (score - score0) * h)


def _states(
    x: Float, data: Data, log_w: Float, alpha: Float, h: Float, threads: int, *, u: Float | None = None,
    cut: Float | None = None, k: int = 0, vectors: bool = False, spread: bool = False, off: bool = False,
) -> sweep.States:  # fmt: skip
    """The states of the queries x after all rows."""
    (m, d), n = x.shape, len(data.rows)
    slabs = max(1, min(-(-_TASKS // -(-m // _TILE)), n // _SLAB, _STATE_NUMBERS // (m * d)))
    rows = -(-n // (slabs * sweep.LANES)) * sweep.LANES
    starts = range(0, n, rows)
    directions = np.zeros((m, 0)) if u is None else u
    x, alpha, directions = (np.require(a, requirements=("C", "W")) for a in (x, alpha, directions))
    cuts = np.full(m, sweep.DENSE) if cut is None else np.minimum(cut, sweep.DENSE)
    states = sweep.empty_states(len(starts) * m, d if vectors else 0, directions.shape[1], k)

    def run(slab: int, some: slice) -> Iterator[None]:
        part = sweep.States(*(array[slab * m + some.start : slab * m + some.stop] for array in states))
        end = min(starts[slab] + rows, n)
        step = _rows_of_call(some.stop - some.start, d)
        for first in range(starts[slab], end, step):
            sweep.add_slab(
                data.rows, data.table, log_w, first, min(first + step, end), x[some], alpha[some], directions[some],
                h[some], cuts[some], off, spread, part,
            )  # fmt: skip
            yield

    tasks = [(slab, some) for slab in range(len(starts)) for some in _slices(m, _TILE)]
    _share(run, tasks, threads if m * n * d > _SMALL else 1)
    sweep.merge_slabs(states, directions, h)
    return sweep.States(*(array[:m] for array in states))


def _rows_of_call(queries: int, d: int) -> int:
    """Rows for one compiled call: whole blocks, in which the states go on from call to call without a difference."""
    return max(1, _CALL // (queries * d * sweep.LANES)) * sweep.LANES


def _slices(n: int, size: int) -> list[slice]:
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]


def _groups(m: int, d: int) -> list[slice]:
    """Queries whose states are kept at the same time."""
    return _slices(m, max(1, min(_GROUP_NUMBERS // d, _TASKS * _TILE)))


def _share(task: Callable[..., Iterator[None] | None], items: list[tuple[Any, ...]], threads: int) -> None:
    """Call ``task`` on independent items; the compiled functions run without the GIL.

    Long tasks yield between their compiled calls, where they can be abandoned.
    """
    stopped = False

    def work(item: tuple[Any, ...]) -> None:
        for _ in task(*item) or ():
            if stopped:
                return

    if min(threads, len(items)) <= 1:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(min(threads, len(items))) as pool:
        try:
            for done in [pool.submit(work, item) for item in items]:
                done.result()
        except BaseException:  # Ctrl-C above all
            stopped = True
            pool.shutdown(cancel_futures=True)
            raise


def run_steps(
    state: State,
    data: Data,
    table: Any,
    first: int,
    last: int,
    *,
    key: int | None,
    first_sample: int,
    error: Float | None,
    cut: float,
    threads: int,
) -> None:
    n, d = state.cur.shape
    mean = np.empty((n, d))
    out = {"mean": mean, "index": np.empty(n, np.int64), "dropped": np.empty(n), "work": np.empty(n)}

    def advance(r: int, numbers: tuple[float, ...], some: slice) -> None:
        _advance(
            state.base[some], state.cur[some], state.previous[some], mean[some],
            None if error is None else error[r, some], None if state.terms is None else state.terms[:, some],
            None if state.previous_error is None else state.previous_error[some], numbers, bool(table.commit[r]),
            np.uint64(key or 0), np.uint64(first_sample + some.start), np.uint64(r),
        )  # fmt: skip

    for r in range(first, last):
        alpha, sigma = float(table.alpha[r]), float(table.sigma[r])
        posterior(state.cur, data, np.full(n, alpha), np.full(n, sigma), cut=np.full(n, cut), out=out, threads=threads)
        state.observe(r, out)
        s2 = sigma**2 + (alpha * data.bandwidth) ** 2
        coefficients = tuple(float(column[r]) for column in (table.A, table.B, table.C, table.S))
        numbers = (*coefficients, sigma**2 / s2, alpha * data.bandwidth**2 / s2)
        _share(advance, [(r, numbers, some) for some in _slices(n, _TILE)], threads if n * d > _SMALL else 1)


@jit()
def _advance(
    base: Any, cur: Any, previous: Any, mean: Any, error: Any, terms: Any, previous_error: Any, numbers: Any,
    commit: Any, key: Any, first_sample: Any, row: Any,
) -> None:  # fmt: skip
    """One row of a table on some samples; numbers: A, B, C, S, and D = share mean + pull cur; error, terms: or None."""
    a, b, c, s, share, pull = numbers
    xi = np.zeros(cur.shape)
    if s > 0.0:
        fill_normals(key, first_sample, row, xi)
    for i in range(cur.shape[0]):
        for k in range(cur.shape[1]):
            denoiser = share * mean[i, k] + pull * cur[i, k]
            now = 0.0 if error is None else error[i, k]
            noise = s * xi[i, k]
            cur[i, k] = a * base[i, k] + b * (denoiser + now) + c * previous[i, k] + noise
            if terms is not None:
                if commit:
                    old = previous_error[i, k]
                    terms[0, i, k] = a * terms[0, i, k] + b * denoiser + c * (previous[i, k] - old)
                    terms[1, i, k] = a * terms[1, i, k] + b * now + c * old
                    terms[2, i, k] = a * terms[2, i, k] + noise
                previous_error[i, k] = now
            previous[i, k] = denoiser + now
            if commit:
                base[i, k] = cur[i, k]


def roundoff(stored: np.dtype[Any]) -> float:
    return 2.0**-53


def nearest(x: Float, data: Data, *, alpha: float, out: dict[str, Any], threads: int) -> None:
    k = out["index"].shape[1]
    equal = _frozen(np.zeros(len(data.rows)))  # with equal weights and h = 1 the order is that of the scores
    for some in _groups(*x.shape):
        ones = np.ones(len(x[some]))
        states = _states(x[some], data, equal, alpha * ones, ones, threads, k=k)
        out["index"][some], out["squared_distance"][some] = states.near_index, states.near_score


def normals(key: int, first_sample: int, row: int, out: Float, *, threads: int) -> None:
    def fill(some: slice) -> None:
        fill_normals(np.uint64(key), np.uint64(first_sample + some.start), np.uint64(row), out[some])

    _share(fill, [(some,) for some in _slices(len(out), _TILE)], threads if out.size > _SMALL else 1)
