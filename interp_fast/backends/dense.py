"""Posteriors in float64 over rows in memory, whatever the backend: of parts that have to fit to others, and of queries
that do not see all rows.

Logits come from products of centred rows where their rounding is far below what is promised of the results. For all
other queries they tell which rows can matter, and the reference answers about these, with differences of distances that
are exact wherever rounding could decide between them and rows elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._arrays import blocks, result_type
from . import Float, Int, reference
from .exact_sums import less_product, two_sum
from .reference import Data

__all__ = ["posterior"]

_LOGITS = 1 << 23  # formed at a time
# Rows so many nats below the second (or the last that is listed) are looked at where they may add more than this share
# to the variance.
_WINDOW, _LEAST = 120.0, 2.0**-40
_NARROW = 1e-6  # posteriors of a smaller variance, in units of the squared reach, are summed about their heaviest row


def posterior(
    x: Float,
    data: Data,
    alpha: Float,
    sigma: Float,
    *,
    u: Float | None = None,
    out: dict[str, Any],
    hidden: Callable[[int], Int] | None = None,
) -> None:
    """The kernel contract's ``posterior`` without its cut, and where ``out`` has room for it ``mean_low`` (M, d), what
    rounding leaves of the mean; query m does not see the rows ``hidden(m)``."""
    size = max(1, _LOGITS // len(data.log_w))
    for first in range(0, len(x), size):
        some = slice(first, first + size)
        here = {name: array[some] for name, array in out.items()}
        logits, error = _logits(x[some], data, alpha[some], sigma[some])
        if hidden is not None:
            for m in range(len(logits)):
                logits[m, hidden(first + m)] = -np.inf
        done = _by_products(
            x[some], data, alpha[some], sigma[some], None if u is None else u[some], here, logits, error
        )
        k = max(2, out["top_index"].shape[1] if "top_index" in out else 0)
        for m in np.flatnonzero(~done).tolist():
            answer = reference.query(
                x[first + m], data, float(alpha[first + m]), float(sigma[first + m]),
                None if u is None else u[first + m], out, _near(data, logits[m], float(error[m]), k), alone=False,
            )  # fmt: skip
            for name, array in here.items():
                array[m] = answer[name]


def _logits(x: Float, data: Data, alpha: Float, sigma: Float) -> tuple[Float, Float]:
    """Logits (M, N) up to a constant of each query, and what they may be off by; at S = 0 of the nearness alone."""
    moments, s2 = data.moments, sigma**2 + (alpha * data.bandwidth) ** 2
    rest = less_product(x, alpha[:, None], moments.center)
    scale = np.where(s2 > 0, s2, 1.0)
    logits = np.empty((len(x), len(data.log_w)))
    for block in blocks(data.rows):
        rows = data.values(block) - moments.center
        squares = np.einsum("ij,ij->i", rows, rows)
        logits[:, block] = (rest @ rows.T - 0.5 * alpha[:, None] * squares) * (alpha / scale)[:, None]
    weighted = np.where((s2 > 0)[:, None], data.log_w, np.where(data.log_w > -np.inf, 0.0, -np.inf))
    logits += weighted
    unit = (8 + np.sqrt(x.shape[1])) * 2.0**-53
    size = np.linalg.norm(rest, axis=1) + alpha * moments.reach
    return logits, np.where(alpha > 0, unit * size**2 / scale, 0.0)


def _near(data: Data, logits: Float, error: float, k: int) -> Int:
    """The rows that can matter, or be among the k heaviest. Copies of the heaviest say nothing about the variance, and
    what is next to it little: the first row elsewhere may be all of it."""
    seen = logits > -np.inf
    k = min(k, int(seen.sum()))
    level, top = float(np.partition(logits, -k)[-k]), int(logits.argmax())
    while True:
        lowest = level - _WINDOW - 2 * error
        near: Int = np.flatnonzero(seen & (logits >= lowest))
        level = float(logits.max(where=seen & (logits < lowest), initial=-np.inf))
        left = len(logits) * np.exp(level - logits[top] + 2 * error) * (2 * data.moments.reach) ** 2
        if left == 0 or _spread_reaches(left / _LEAST, data, near, logits, top):
            return near


def _spread_reaches(wanted: float, data: Data, rows: Int, logits: Float, top: int) -> bool:
    """Whether one of the rows adds as much to the variance about row ``top``."""
    first = data.values([top])[0]
    for block in blocks(np.broadcast_to(first, (len(rows), len(first)))):
        square = ((data.values(rows[block]) - first) ** 2).sum(axis=1)
        if (np.exp(logits[rows[block]] - logits[top]) * square >= wanted).any():
            return True
    return False


def _by_products(
    x: Float, data: Data, alpha: Float, sigma: Float, u: Float | None, out: dict[str, Any], logits: Float, error: Float
) -> Any:
    """Answer those queries to which the products are good enough; which they are."""
    moments, s2 = data.moments, sigma**2 + (alpha * data.bandwidth) ** 2
    n, k = len(data.log_w), out["top_index"].shape[1] if "top_index" in out else 0
    tolerated = (reference.TOLERATED if result_type(data.rows.dtype) == np.float64 else 1e-4 / 4) / 8
    with np.errstate(divide="ignore", invalid="ignore"):
        most = (np.linalg.norm(x - alpha[:, None] * moments.center, axis=1) + alpha * moments.reach) / np.sqrt(s2)
        done = (s2 > 0) & (error * np.maximum(1.0, most) <= tolerated)
    if not done.any():
        return done
    some = np.flatnonzero(done)
    logits, error = logits[some], error[some]
    listed = min(n, max(2, k + 1))
    heaviest = np.argpartition(-logits, listed - 1, axis=1)[:, :listed] if listed < n else np.tile(
        np.arange(n), (len(some), 1)
    )  # fmt: skip
    heaviest = np.sort(heaviest, axis=1)
    lead = np.take_along_axis(logits, heaviest, axis=1)
    order = np.argsort(-lead, axis=1, kind="stable")
    heaviest, lead = np.take_along_axis(heaviest, order, axis=1), np.take_along_axis(lead, order, axis=1)
    with np.errstate(invalid="ignore"):
        steps = lead[:, :-1] - lead[:, 1:]
    clear = (error == 0) | ~(steps < 4 * error[:, None]).any(axis=1)  # equal rows have logits that differ by rounding
    if (error == 0).any():  # all that counts are the weights: the lowest rows come first
        for j in np.flatnonzero(error == 0):
            heaviest[j] = np.argsort(-logits[j], kind="stable")[:listed]
            lead[j] = logits[j, heaviest[j]]
    top = heaviest[:, 0]
    relative = logits - lead[:, :1]
    w = np.exp(relative)
    one = np.arange(len(some))
    w[one, top] = 0.0
    odds = w.sum(axis=1)
    total, log_total = 1.0 + odds, np.log1p(odds)  # whose digits an entropy of next to nothing needs
    with np.errstate(divide="ignore", invalid="ignore"):
        finite = np.where(relative > -np.inf, relative, 0.0)
        answer: dict[str, Any] = {
            "index": top,
            "gap": lead[:, 0] - lead[:, 1] if listed > 1 else np.full(len(some), np.inf),
            "log_rest": np.log(odds) - log_total,
            "entropy": log_total - np.einsum("ij,ij->i", w, finite) / total,
            "ess": total**2 / (1.0 + np.einsum("ij,ij->i", w, w)),
            "dropped": np.zeros(len(some)),
            "work": np.ones(len(some)),
            "top_index": heaviest[:, :k],
            "top_weight": np.exp(lead[:, :k] - lead[:, :1]) / total[:, None],
        }
    away = less_product(x[some], alpha[some, None], data.values(top))
    answer["log_norm"] = data.log_w[top] - np.einsum("ij,ij->i", away, away) / (2 * s2[some]) + log_total
    good = clear
    if out.keys() & {"mean", "variance", "scatter", "jvp"}:
        w[one, top] = 1.0
        w /= total[:, None]
        shift, second, along = np.zeros_like(x[some]), np.zeros(len(some)), np.zeros_like(x[some])
        for block in blocks(data.rows):
            rows = data.values(block) - moments.center
            shift += w[:, block] @ rows
            second += w[:, block] @ np.einsum("ij,ij->i", rows, rows)
            if u is not None:
                along += (w[:, block] * (u[some] @ rows.T)) @ rows
        variance = second - np.einsum("ij,ij->i", shift, shift)
        if out.keys() & {"variance", "scatter", "jvp"}:
            good = good & ((variance >= _NARROW * moments.reach**2) | (moments.reach == 0))
        answer["mean"], answer["mean_low"] = two_sum(moments.center, shift)
        answer["variance"] = answer["scatter"] = np.maximum(variance, 0.0)
        if u is not None:
            answer["jvp"] = along - np.einsum("ij,ij->i", u[some], shift)[:, None] * shift
    done[some] = good
    for name, array in out.items():
        array[some[good]] = answer[name][good]
    return done
