"""The definition: NumPy, float64, one query at a time, direct differences, nothing skipped.

Written to be read. With c_i = |x - alpha x_i|^2 and S = sigma^2 + alpha^2 delta^2 the logits
l_i = log_w_i - c_i / (2 S) are taken relative to the top row, and every output made of the off-weights leaves the top
row out of its sum: nothing is ever formed as 1 - w_max or as a difference of second moments. Where rounding c_i in
float64 would decide the answer (a tie between far points at small S), differences of c_i are recomputed exactly, and so
is the c_i of the top row, which log_norm has to itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _random
from .._arrays import blocks, widen
from . import Float, Int, Moments, State
from .exact_sums import exact_sums, two_product, two_sum

__all__ = ["nearest", "normals", "posterior", "prepare", "roundoff", "run_steps"]

# Largest exponent that still gives a float64 above 0; rows further down carry no weight.
UNDERFLOW = 745.0
# What rounding a logit may cost the noise prediction: a quarter of what is promised.
TOLERATED = 1e-10 / 4
# Roundings by which the logits of two rows may be off beside each other: those of sums that are not added in order.
SLACK = 16.0
# How often differences are formed anew from a nearer row: each time what they may be off by shrinks by 2^40 or more.
ROUNDS = 64
# Bytes of rows whose squares are added exactly at a time: twenty-four floats for each number, which stay in cache.
_CACHED = 1 << 16
_CLOSE = 1e-12  # squared distances that differ by less, relatively, may be equal


@dataclass(frozen=True)
class Data:
    rows: npt.NDArray[Any]
    log_w: Float
    moments: Moments
    scale: tuple[float, float] | None
    bandwidth: float

    def values(self, select: Any) -> Float:
        return widen(self.rows[select], self.scale)


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
    return Data(rows, log_w, moments, scale, bandwidth)


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
    active = np.flatnonzero(data.log_w > -np.inf)
    for m in range(len(x)):
        answer = query(x[m], data, float(alpha[m]), float(sigma[m]), None if u is None else u[m], out, active)
        for name, array in out.items():
            array[m] = answer[name]


def query(
    x: Float, data: Data, alpha: float, sigma: float, u: Float | None, out: dict[str, Any], active: Int,
    *, alone: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """The answer to one query over the ``active`` rows, of weight > 0; not ``alone``: they are a part of a whole."""
    s2 = sigma**2 + (alpha * data.bandwidth) ** 2
    c = _squared_distances(x, data, alpha, active)
    logits, lowest = _relative_logits(x, data, alpha, s2, c, active, alone)
    at = int(np.argmax(logits))
    top = int(active[at])
    off = active != top
    others, logits = active[off], logits[off] - logits[active == top]
    answer: dict[str, Any] = {"index": top, "dropped": 0.0, "work": 1.0, "top_index": (), "top_weight": ()}
    log_others = _logsumexp(logits)
    odds = math.exp(log_others)
    log_total = math.log1p(odds)  # entropy needs its digits when the other rows weigh next to nothing
    p_top, p = 1.0 / (1.0 + odds), np.exp(logits) / (1.0 + odds)
    runner_up = logits.max(initial=-np.inf)
    answer["gap"] = 0.0 if s2 == 0 and runner_up > -np.inf else 0.0 - runner_up
    answer["log_rest"] = log_others - log_total
    answer["log_norm"] = -np.inf if s2 == 0 else float(data.log_w[top]) - lowest(at) + log_total
    answer["ess"] = 1.0 / (p_top**2 + np.sum(p * p))
    finite = logits > -np.inf
    answer["entropy"] = log_total - float(p[finite] @ logits[finite])
    if k := out["top_index"].shape[1] if "top_index" in out else 0:
        weight = np.zeros(len(data.log_w))
        weight[others], weight[top] = p, p_top
        # By logit: rows whose weight underflows still have an order.
        full = np.full(len(data.log_w), -np.inf)
        full[others], full[top] = logits, 0.0
        order = np.argsort(-full, kind="stable")[:k]
        answer["top_index"], answer["top_weight"] = order, weight[order]
    if not out.keys() & {"mean", "variance", "scatter", "jvp"}:
        return answer
    x_top = data.values([top])[0]
    keep = p > 0
    kept, p = others[keep], p[keep]
    pieces = blocks(np.broadcast_to(x, (len(kept), len(x))))
    shift = np.zeros_like(x)  # mean - x_top
    for piece in pieces:
        shift += p[piece] @ (data.values(kept[piece]) - x_top)
    answer["mean"], answer["mean_low"] = two_sum(x_top, shift)
    variance, jvp = p_top * float(shift @ shift), np.zeros_like(x)
    if u is not None:
        jvp += p_top * float(shift @ u) * shift
    if out.keys() & {"variance", "scatter", "jvp"}:
        for piece in pieces:
            spread = data.values(kept[piece]) - x_top - shift
            variance += float(p[piece] @ np.einsum("ij,ij->i", spread, spread))
            if u is not None:
                jvp += (p[piece] * (spread @ u)) @ spread
    answer["variance"] = answer["scatter"] = variance
    answer["jvp"] = jvp
    return answer


def _logsumexp(logits: Float) -> float:
    highest = logits.max(initial=-np.inf)
    if highest == -np.inf:
        return -np.inf
    return float(highest) + math.log(float(np.sum(np.exp(logits - highest))))


def _squared_distances(x: Float, data: Data, alpha: float, rows: Int) -> Float:
    c = np.empty(len(rows))
    for block in blocks(np.broadcast_to(x, (len(rows), len(x)))):
        difference = x - alpha * data.values(block if len(rows) == len(data.log_w) else rows[block])
        c[block] = np.einsum("ij,ij->i", difference, difference)
    return c


def _relative_logits(
    x: Float, data: Data, alpha: float, s2: float, c: Float, active: Int, alone: bool
) -> tuple[Float, Any]:
    """Logits of the ``active`` rows, whose c these are, up to one constant; and which of them -> its c / (2 S)."""
    log_w = data.log_w[active]
    if alpha == 0:
        constant = float(x @ x) / (2 * s2) if s2 > 0 else 0.0
        return log_w, lambda at: constant
    nearest = int(np.argmin(c))
    difference = c - c[nearest]
    if s2 == 0:
        near = np.flatnonzero(difference <= as_near(x, c[nearest]))
        tell_apart(x, alpha, s2, difference, near, lambda some: data.values(active[some]))
        tied = difference == difference[near].min()
        return np.where(tied, log_w, -np.inf), lambda at: math.inf
    logits = log_w - difference / (2 * s2)
    if len(active) > 1:
        runner_up, top = np.argpartition(logits, -2)[-2:]
        lead = logits[top] - logits[runner_up]
        nats = math.log(len(active)) + float(log_w.max() - log_w[top])
        error, of_lead = map(float, logit_rounding(x, c[[top, runner_up]], s2, nats))  # whose products may be infinite
        most = math.sqrt(max(c[[top, runner_up]]) / s2 + 2 * nats)  # about as far as rows that count can be
        harmful = error * most > TOLERATED and lead <= UNDERFLOW + 2**7 * error
        if alone:  # rows of another part can be as far as that
            harmful = harmful and error * deviation(data, active, logits, error, alpha, s2) > TOLERATED
        if harmful or of_lead > TOLERATED * max(1.0, 1e-3 * lead):
            near = np.flatnonzero(logits >= logits[runner_up] - UNDERFLOW - 2**7 * of_lead)
            tell_apart(x, alpha, s2, difference, near, lambda some: data.values(active[some]))
            logits = log_w - difference / (2 * s2)
    return logits, lambda at: math.fsum(_square_terms(x, alpha, data.values([active[at]])[0])) / (2 * s2)


def deviation(data: Data, rows: Int, logits: Float, error: float, alpha: float, s2: float) -> float:
    """How far ``rows`` are from the heaviest of them, root mean square by weight, in units of sqrt(S) / alpha; at most
    that, when logits are off by up to ``error``: what an error of logits costs of the noise prediction, each unit."""
    lead = logits - logits.max()
    slack = SLACK * error
    p = np.exp(np.minimum(lead + slack, 0.0)) / max(1.0, float(np.exp(lead - slack).sum()))
    top = data.values([rows[np.argmax(logits)]])[0]
    pieces = blocks(np.broadcast_to(top, (len(rows), len(top))))
    second = sum(float(p[some] @ np.square(data.values(rows[some]) - top).sum(axis=1)) for some in pieces)
    return alpha * math.sqrt(second / s2)


def logit_rounding(x: Float, c: Any, s2: Any, nats: Any = 0.0) -> Any:
    """What float64 leaves in a logit at the squared distance c of queries x: a rounding of c, and one of alpha x_i.

    With ``nats``, log N and by how much the heaviest weight of a row exceeds that of the row at c, which has the
    largest logit: of all rows in the mean by weight, which are at c + 2 S nats at most. So far logits are, in that
    mean, below the largest: the entropy is at most log N.
    """
    size = np.linalg.norm(x, axis=-1)
    away = np.sqrt(c + 2 * s2 * nats) + 2.0**-53 * size  # a query that is a row but for rounding may seem to be it
    return 2.0**-53 * away * (away + 2 * size) / (2 * s2)


def as_near(x: Float, c: Any) -> Any:
    """How much farther, in squared distances, a row may seem to be that is as near to queries x as the one at c."""
    return _CLOSE * c + 2 * SLACK * logit_rounding(x, c, 0.5)


def tell_apart(x: Float, alpha: float, s2: float, difference: Float, near: Int, values: Callable[[Any], Float]) -> None:
    """Of squared distances less the least of them, ``difference`` (n,), put those ``near`` as they are, rounded once:
    from a row within a nat of the nearest of these. The one that is nearest in float64 may be so far from that that it
    leaves no digits to the weights. ``values`` gives rows by their positions."""
    first = int(np.argmin(difference))
    for _ in range(ROUNDS):
        base = values([first])[0]
        for piece in blocks(np.broadcast_to(x, (len(near), len(x)))):
            difference[near[piece]] = exact_differences(x, alpha, values(near[piece]), base)
        first = int(near[np.argmin(difference[near])])
        if not abs(difference[first]) > 2 * s2:
            break
        difference -= difference[first]


def exact_differences(x: Float, alpha: float, rows: Float, first: Float) -> Float:
    """|x - alpha row|^2 - |x - alpha first|^2 of (n, d), rounded once: squares as sums of floats, added exactly."""
    differences = np.zeros(len(rows))
    others = np.flatnonzero((rows != first).any(axis=1))  # where distances tie it is often because rows are equal
    base = -_square_terms(x, alpha, first)[:, None]
    for block in blocks(np.broadcast_to(x, (len(others), len(x))), _CACHED):
        terms = _square_terms(x, alpha, rows[others[block]]).T
        differences[others[block]] = exact_sums(np.concatenate([terms, np.broadcast_to(base, terms.shape)]))
    return differences


def _square_terms(x: Float, alpha: float, rows: Float) -> Float:
    """Floats (..., 12 d) whose exact sum is |x - alpha row|^2."""
    product, product_low = two_product(np.float64(alpha), rows)
    high, low = two_sum(x, -product)
    low, rest = two_sum(low, -product_low)
    parts = high, low, rest
    terms = [two_product(a if a is b else 2 * a, b) for k, a in enumerate(parts) for b in parts[k:]]
    return np.concatenate([half for term in terms for half in term], axis=-1)


def run_steps(state: State, data: Data, table: Any, first: int, last: int, **options: Any) -> None:
    run_rows(posterior, normals, state, data, table, first, last, **options)


def run_rows(
    posterior: Any,
    normals: Any,
    state: State,
    data: Any,
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
    """``run_steps`` as a loop over the ``posterior`` and ``normals`` of any backend."""
    n, d = state.cur.shape
    out: dict[str, Any] = {
        "mean": np.empty((n, d)), "index": np.empty(n, np.int64), "dropped": np.empty(n), "work": np.empty(n)
    }  # fmt: skip
    xi = np.empty((n, d)) if np.any(table.S[first:last] > 0) else None
    for r in range(first, last):
        alpha, sigma = float(table.alpha[r]), float(table.sigma[r])
        posterior(state.cur, data, np.full(n, alpha), np.full(n, sigma), cut=np.full(n, cut), out=out, threads=threads)
        state.observe(r, out)
        used = smoothed(out["mean"], state.cur, alpha, sigma, data.bandwidth)
        if error is not None:
            used += error[r]
        if xi is not None and table.S[r] > 0:
            normals(key, first_sample, r, xi, threads=threads)
        advance(state, table, r, used, None if error is None else error[r], xi if table.S[r] > 0 else None)


def smoothed(mean: Float, x: Float, alpha: Any, sigma: Any, bandwidth: float) -> Float:
    """The denoiser of the smoothed data, (sigma^2/S) mean + (alpha delta^2/S) x, as a new array."""
    s2 = sigma**2 + (alpha * bandwidth) ** 2
    denoiser: Float = (sigma**2 / s2) * mean
    if bandwidth > 0:
        denoiser += (alpha * bandwidth**2 / s2) * x
    return denoiser


def advance(state: State, table: Any, r: int, used: Float, error: Float | None, xi: Float | None) -> None:
    """Row r of the table, given the D to use, the error in it (None: no error) and the normals (None: not needed)."""
    a, b, c, s = (float(column[r]) for column in (table.A, table.B, table.C, table.S))
    out = a * state.base + b * used + c * state.previous
    if xi is not None:
        out += s * xi
    if state.terms is not None and state.previous_error is not None:
        now = 0.0 * used if error is None else error
        if table.commit[r]:
            state.terms *= a
            state.terms[0] += b * (used - now) + c * (state.previous - state.previous_error)
            state.terms[1] += b * now + c * state.previous_error
            if xi is not None:
                state.terms[2] += s * xi
        state.previous_error[:] = now
    state.cur[:] = out
    state.previous[:] = used
    if table.commit[r]:
        state.base[:] = out


def roundoff(stored: np.dtype[Any]) -> float:
    return 2.0**-53


def nearest(x: Float, data: Data, *, alpha: float, out: dict[str, Any], threads: int) -> None:
    k = out["index"].shape[1]
    for m in range(len(x)):
        c = _squared_distances(x[m], data, alpha, np.arange(len(data.log_w)))
        order = np.argsort(c, kind="stable")[:k]
        out["index"][m], out["squared_distance"][m] = order, c[order]


def normals(key: int, first_sample: int, row: int, out: Float, *, threads: int) -> None:
    out[:] = _random.normals(key, first_sample, row, n=len(out), d=out.shape[1])
