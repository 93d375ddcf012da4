"""The kernel contract in numba and BLAS.

``numba_posterior`` decides what way a query takes: ``numba_products``, sums and lists from products, by BLAS, or
``numba_refine``, answers from rows in float64, with ``numba_ties``. ``numba_noise`` draws.

Work is cut by shape alone, and compiled calls are handed to threads that live as long as the call: no bit of a result
depends on their number, and no pool is left to fork or to share. BLAS has threads of its own.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays import result_type, widen
from . import Float, Moments, State, reference
from .numba_noise import fill_normals, jit
from .numba_posterior import Data, Posterior
from .numba_posterior import nearest as find_nearest
from .numba_products import Team, slices

__all__ = ["nearest", "normals", "posterior", "prepare", "roundoff", "run_steps"]

_QUERIES, _NUMBERS = 512, 2**20  # of a group, at most
_TILE = 64  # samples advanced at once


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
    dtype = result_type(given.rows.dtype)
    center = moments.center.astype(dtype).astype(np.float64)
    used = log_w[log_w > -np.inf]
    reach = moments.reach + float(np.linalg.norm(center - moments.center))
    return Data(given, _frozen(rows), table, _frozen(log_w), center, reach, float(np.ptp(used)), dtype)


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
    with Team(threads) as team:
        for some in _groups(*x.shape):
            part = {name: array[some] for name, array in out.items()}
            direction = u[some] if u is not None and "jvp" in out else None
            Posterior(x[some], data, alpha[some], sigma[some], direction, cut[some], part, team).fill()


def _groups(m: int, d: int) -> list[slice]:
    """Queries that go over the rows together."""
    return slices(m, max(8, min(_QUERIES, _NUMBERS // d)))


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
        s2 = sigma**2 + (alpha * data.given.bandwidth) ** 2
        coefficients = tuple(float(column[r]) for column in (table.A, table.B, table.C, table.S))
        numbers = (*coefficients, sigma**2 / s2, alpha * data.given.bandwidth**2 / s2)
        with Team(threads) as team:
            team.share(functools.partial(advance, r, numbers), n, 16.0 * d, _TILE)


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
    return 2.0**-53 if stored == np.float64 else 2.0**-24


def nearest(x: Float, data: Data, *, alpha: float, out: dict[str, Any], threads: int) -> None:
    with Team(threads) as team:
        for some in _groups(*x.shape):
            find_nearest(x[some], data, alpha, out["index"][some], out["squared_distance"][some], team)


def normals(key: int, first_sample: int, row: int, out: Float, *, threads: int) -> None:
    def fill(some: slice) -> None:
        fill_normals(np.uint64(key), np.uint64(first_sample + some.start), np.uint64(row), out[some])

    with Team(threads) as team:
        team.share(fill, len(out), 16.0 * out.shape[1], _TILE)
