"""Ties of far rows in numba: queries whose logits rounding would spoil, and the rows that count there.

Distances in float64 tell a logit to some roundings of its whole exponent. Where that is not enough, the few rows that
count are handed to the reference, which tells them apart exactly.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._accuracy import PROMISES
from .._arrays import result_type
from . import Float, Int, reference

__all__ = ["answer", "doubtful", "tolerated"]


def tolerated(data: reference.Data) -> float:
    """What rounding a logit may cost: as in the reference, and of float32 results a quarter of what they promise."""
    return reference.TOLERATED if result_type(data.rows.dtype) == np.float64 else 1e-4 / 4


def doubtful(
    x: Float, s2: Float, score: Float, next_score: Float, lead: Float, nats: Float, reach: Float, off: bool, most: float
) -> tuple[Int, Float]:
    """Queries with more than one row that counts and logits that may be off by too much; slack of squared distances.

    ``score`` and ``next_score`` are those of the top row and the runner-up, whose logit is ``lead`` <= 0; rows count
    down to ``reach`` below the top, and the runner-up always does where off-weights are wanted. ``nats``: see
    :func:`reference.logit_rounding`.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        error, of_lead = (reference.logit_rounding(x, c, s2, nats) for c in (score, next_score))
        deviation = np.sqrt(score / s2 + 2 * nats)  # at most, more or less
        harmful = (error * deviation > most) & (lead >= -reach - 2**7 * error)
        harmful |= off & (of_lead > most * np.maximum(1.0, -1e-3 * lead))
        close = reference.as_near(x, score)
        some = np.where(s2 > 0, harmful, np.abs(next_score - score) <= close)
        slack = np.where(s2 > 0, 2**9 * s2 * (of_lead if off else error), close)
    return np.flatnonzero(some & (next_score < math.inf)), slack


def answer(
    x: Float, data: reference.Data, rows: Int, c: Float, alpha: Float, sigma: Float, u: Float | None, off: bool,
    out: dict[str, Any],
) -> None:  # fmt: skip
    """Fills the outputs of one query, arrays of length 1, from the rows that count; those are at the distances c.

    Unless they lie so close to each other that the roundings of their logits do no harm.
    """
    s2 = float(sigma[0]) ** 2 + (float(alpha[0]) * data.bandwidth) ** 2
    some = reference.Data(data.rows[rows], data.log_w[rows], data.moments, data.scale, data.bandwidth)
    if s2 > 0 and not _matters(some, x[0], c, float(alpha[0]), s2, off, tolerated(data)):
        return
    own = {name: np.empty_like(array) for name, array in out.items() if name not in ("dropped", "work")}
    if k := out["top_index"].shape[1] if "top_index" in out else 0:
        own |= {name: np.empty((1, min(k, len(rows))), own[name].dtype) for name in ("top_index", "top_weight")}
    reference.posterior(x, some, alpha, sigma, u=u, cut=sigma, out=own, threads=1)
    if "index" in own:
        own["index"] = rows[own["index"]]
    if k > 0:
        own["top_index"], own["top_weight"] = _filled(rows[own["top_index"][0]], own["top_weight"][0], out, s2 == 0)
    for name, array in own.items():
        out[name][:] = array


def _matters(data: reference.Data, x: Float, c: Float, alpha: float, s2: float, off: bool, most: float) -> bool:
    """Whether the rounding of logits, of rows at the squared distances c, costs more of an answer than ``most``, in
    units of the noise prediction, or of the mean than is promised."""
    logits = data.log_w - (c - c.min()) / (2 * s2)
    at = np.argmax(logits)
    nats = math.log(len(c)) + float(data.log_w.max() - data.log_w[at])
    error = float(reference.logit_rounding(x, c[at], s2, nats))
    if off and len(c) > 1:
        runner_up, top = np.argpartition(logits, -2)[-2:]
        lead = float(logits[top] - logits[runner_up])
        if float(reference.logit_rounding(x, c[runner_up], s2, nats)) > most * max(1.0, 1e-3 * lead):
            return True
    deviation = reference.deviation(data, np.arange(len(c)), logits, error, alpha, s2)
    of_mean = error * deviation * math.sqrt(s2) / alpha  # what far queries may lose more by than noise predictions
    promised = PROMISES[result_type(data.rows.dtype).name].denoiser * data.moments.radius
    return bool(error * deviation > most or of_mean > promised / 4)


def _filled(index: Int, weight: Float, out: dict[str, Any], limit: bool) -> tuple[Int, Float]:
    """The list of the heaviest rows filled up: with what the sweep has found, or, at S = 0, with the lowest rows."""
    k = out["top_index"].shape[1]
    others, light = out["top_index"][0], out["top_weight"][0]
    if limit:
        others, light = np.arange(k), np.zeros(k)
        index, weight = index[weight > 0], weight[weight > 0]
    left = ~np.isin(others, index)
    return np.concatenate([index, others[left]])[:k], np.concatenate([weight, light[left]])[:k]
