"""Answers of queries from some of the rows, in numba: direct float64 differences, right at every sigma.

With c_i = |x - alpha x_i|^2 and h = 1 / (2 S), a logit is only ever used as the difference of two,
(log_w_i - log_w_j) - (c_i - c_j) h: nothing is lost where c h is huge, and S = 0 is h = inf. Sums are over the other
rows, about the top row and in units of the runner-up's weight: with p_i = exp(l_i - l_next) <= 1, sum p_i, sum p_i (x_i
- x_top), and so on. So no output made of the off-weights is a difference of near equals, none underflows before the
answer does, and the mean is exact next to a row. Where that row is an outlier among many that count, they are formed
again about the mean that they gave, x_top included.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from . import Float, Int
from .numba_noise import jit
from .numba_products import Team, value

__all__ = ["DENSE", "States", "leads", "states"]

_FASTMATH = {"nsz", "contract", "reassoc"}  # infinities keep their meaning: neither "nnan" nor "ninf"
DENSE = 651.0  # nats: rows further below vanish beside the others
_PIECE = 64  # columns summed before they are added to a distance
_CACHE = 2**15  # numbers of rows that queries go over together
_CALL = 2**27  # multiply-adds of one compiled call, more or less: Python hears Ctrl-C between them
# Spread over variance beyond which the digits of vectors went into the distance from their point: at four deviations
# two bits of a mean, four of a variance.
_FAR = 16.0

# Columns of the scalars of a state. The row number is exact in float64.
(
    _INDEX,  # the top row
    _SCORE,  # its c_i
    _LOG_W,
    _NEXT_SCORE,  # the runner-up's, inf when there is none
    _NEXT_LOG_W,  # -inf when there is none
    _REST,  # sum p
    _REST2,  # sum p^2
    _HEAT,  # sum p (l_next - l)
    _SPREAD,  # sum p |x - point|^2
    _ALONG,  # sum p (x - point) . u
    _DROPPED,  # mass left out, in units of the top row's weight
    _LIVE,  # rows in these sums
) = range(12)


class States(NamedTuple):
    """What became known of queries; columns of what is not wanted have length 0."""

    scalars: Any  # the columns above
    point: Any  # what vectors are about: the top row itself, widened, or the mean
    shift: Any  # sum p (x - point)
    pull: Any  # sum p ((x - point) . u) (x - point)
    near: Any  # the k best, best first: where they stand among the rows that were given; -1: there is none


@jit()
def _lead(score: Any, log_w: Any, score0: Any, log_w0: Any, h: Any) -> Any:
    """Logit of a row minus that of another; infinite h or score0 is the limit, and a row of weight 0 is below all."""
    if not log_w > -math.inf:
        return -math.inf
    if not log_w0 > -math.inf:
        return math.inf
    apart = 0.0 if score == score0 else (score - score0) * h
    return (log_w - log_w0) - apart


def leads(score: Float, log_w: Float, score0: Float, log_w0: Float, h: Float) -> Float:
    """The same for arrays."""
    with np.errstate(invalid="ignore", over="ignore"):
        return log_w - log_w0 - np.where(score == score0, 0.0, (score - score0) * h)


@jit(fastmath=_FASTMATH)
def _distance(row: Any, table: Any, x: Any, a: Any, k0: Any, k1: Any) -> Any:
    total = 0.0
    for k in range(k0, k1):
        z = x[k] - a * np.float64(value(row, table, k))
        total += z * z
    return total


@jit()
def _add_distances(rows: Any, table: Any, ids: Any, at: Any, ends: Any, last: Any, x: Any, alpha: Any, c: Any) -> None:
    """c of the entries from ``at`` on whose rows are below ``last``; queries go over the rows together."""
    step, d = max(1, _CACHE // x.shape[1]), x.shape[1]
    for stop in range(step, last + step, step):
        limit = min(stop, last)
        for q in range(len(x)):
            j = at[q]
            while j < ends[q] and ids[j] < limit:
                row, total = rows[ids[j]], 0.0
                for k in range(0, d, _PIECE):
                    total += _distance(row, table, x[q], alpha[q], k, min(k + _PIECE, d))
                c[j] = total
                j += 1
            at[q] = j


@jit()
def _summarize(
    ids: Any, starts: Any, c: Any, log_w: Any, h: Any, cut: Any, off: Any, p: Any, near: Any, scalars: Any
) -> None:
    """The top row, the runner-up, weights p of the others and the sums that need nothing else."""
    for q in range(len(h)):
        score1, log_w1, top, score2, log_w2 = math.inf, -math.inf, -1, math.inf, -math.inf
        for j in range(starts[q], starts[q + 1]):
            lw = log_w[ids[j]]
            if not lw > -math.inf:
                continue
            if top < 0 or _lead(c[j], lw, score1, log_w1, h[q]) > 0.0:
                score2, log_w2, score1, log_w1, top = score1, log_w1, c[j], lw, j
            elif log_w2 == -math.inf or _lead(c[j], lw, score2, log_w2, h[q]) > 0.0:
                score2, log_w2 = c[j], lw
        gap = max(0.0, _lead(score1, log_w1, score2, log_w2, h[q])) if log_w2 > -math.inf else math.inf
        floor = -cut[q] if off else gap - cut[q]
        if off and score2 == score1:  # a copy of the top row says nothing about the variance, and cuts nothing
            floor = -DENSE
        rest = rest2 = heat = mass = 0.0
        live = 0
        for j in range(starts[q], starts[q + 1]):
            lead = _lead(c[j], log_w[ids[j]], score2, log_w2, h[q]) if log_w2 > -math.inf else -math.inf
            p[j] = 0.0
            if j == top:
                live += 1
            elif lead >= floor:
                p[j] = math.exp(lead)
                live += 1
                rest += p[j]
                rest2 += p[j] * p[j]
                heat -= p[j] * max(lead, -DENSE)
            elif lead - gap > -DENSE:
                mass += math.exp(lead - gap)
            for i in range(near.shape[1]):  # the list of the best: the rows come in order
                b = near[q, i]
                if b < 0 or _lead(c[j], log_w[ids[j]], c[b], log_w[ids[b]], h[q]) > 0.0:
                    for o in range(near.shape[1] - 1, i, -1):
                        near[q, o] = near[q, o - 1]
                    near[q, i] = j
                    break
        head = scalars[q]
        head[_INDEX], head[_SCORE], head[_LOG_W] = ids[top], score1, log_w1
        head[_NEXT_SCORE], head[_NEXT_LOG_W] = score2, log_w2
        head[_REST], head[_REST2], head[_HEAT], head[_DROPPED], head[_LIVE] = rest, rest2, heat, mass, live


@jit(fastmath=_FASTMATH)
def _add_row(row: Any, table: Any, p: Any, u: Any, point: Any, shift: Any, pull: Any) -> Any:
    """A row of weight p into the vectors of a query; its |x - point|^2 and (x - point) . u."""
    square = along = 0.0
    for k in range(len(shift)):
        z = np.float64(value(row, table, k)) - point[k]
        shift[k] += p * z
        square += z * z
    for k in range(len(pull)):
        along += (np.float64(value(row, table, k)) - point[k]) * u[k]
    for k in range(len(pull)):
        pull[k] += p * along * (np.float64(value(row, table, k)) - point[k])
    return square, along


@jit()
def _add_vectors(rows: Any, table: Any, ids: Any, at: Any, ends: Any, last: Any, p: Any, u: Any, states: Any) -> None:
    """The entries from ``at`` on whose rows are below ``last`` into the vectors."""
    step = max(1, _CACHE // states.point.shape[1])
    for stop in range(step, last + step, step):
        limit = min(stop, last)
        for q in range(len(ends)):
            j = at[q]
            while j < ends[q] and ids[j] < limit:
                if p[j] > 0.0:
                    square, along = _add_row(
                        rows[ids[j]], table, p[j], u[q], states.point[q], states.shift[q], states.pull[q]
                    )
                    states.scalars[q, _SPREAD] += p[j] * square
                    states.scalars[q, _ALONG] += p[j] * along
                j += 1
            at[q] = j


@jit()
def _fill_top(rows: Any, table: Any, states: Any) -> None:
    for q in range(len(states.point)):
        row = rows[np.int64(states.scalars[q, _INDEX])]
        for k in range(states.point.shape[1]):
            states.point[q, k] = value(row, table, k)


@jit()
def _move_to_mean(ids: Any, starts: Any, p: Any, h: Any, states: Any) -> Any:
    """For queries whose vectors lost digits, start anew about the mean; the others have no more entries to add."""
    at = starts[1:].copy()
    for q in range(len(h)):
        head, point, shift = states.scalars[q], states.point[q], states.shift[q]
        ratio = math.exp(_lead(head[_NEXT_SCORE], head[_NEXT_LOG_W], head[_SCORE], head[_LOG_W], h[q]))
        scale = ratio / (1.0 + ratio * head[_REST])
        spread, variance = scale * head[_SPREAD], scale * head[_SPREAD]
        for k in range(len(shift)):
            variance -= (scale * shift[k]) ** 2
        if spread <= _FAR * variance or ratio == 0.0:
            continue
        at[q] = starts[q]
        p[starts[q] + np.searchsorted(ids[starts[q] : starts[q + 1]], np.int64(head[_INDEX]))] = 1.0 / ratio
        for k in range(len(shift)):
            point[k] += scale * shift[k]
            shift[k] = 0.0
        for k in range(states.pull.shape[1]):
            states.pull[q, k] = 0.0
        head[_SPREAD] = head[_ALONG] = 0.0
    return at


def states(
    x: Float, data: Any, log_w: Float, alpha: Float, h: Float, cut: Float, off: bool, ids: Int, starts: Int, team: Team,
    *, u: Float | None = None, k: int = 0, vectors: bool = False,
) -> tuple[States, Float]:  # fmt: skip
    """The states of queries after the rows ids[starts[q]] ..., in order, of each; and the c of all."""
    m, d = x.shape
    wide = d if vectors else 0
    direction = np.zeros((m, 0)) if u is None else u
    found = States(
        np.zeros((m, _LIVE + 1)), np.zeros((m, wide)), np.zeros((m, wide)), np.zeros((m, direction.shape[1])),
        np.full((m, k), -1),
    )  # fmt: skip
    log_w = log_w.view()
    log_w.flags.writeable = False  # of one type, and so of one compilation
    c, p, cut = np.empty(len(ids)), np.empty(len(ids)), np.minimum(cut, DENSE)

    def add(some: slice, at: Int, lasts: list[int], own: States) -> None:
        for last in lasts:
            if team.stopped:
                return
            ends = starts[some.start + 1 : some.stop + 1]
            _add_vectors(data.rows, data.table, ids, at, ends, last, p, direction[some], own)

    def answer(some: slice) -> None:
        own = States(*(array[some] for array in found))
        ends, bounds = starts[some.start + 1 : some.stop + 1], starts[some.start : some.stop + 1]
        calls = 1 + int(bounds[-1] - bounds[0]) * d // _CALL
        lasts = [len(data.rows) * (i + 1) // calls for i in range(calls)]
        at = starts[some].copy()
        for last in lasts:
            if team.stopped:
                return
            _add_distances(data.rows, data.table, ids, at, ends, last, x[some], alpha[some], c)
        _summarize(ids, bounds, c, log_w, h[some], cut[some], off, p, own.near, own.scalars)
        if vectors:
            _fill_top(data.rows, data.table, own)
            add(some, starts[some].copy(), lasts, own)
            add(some, _move_to_mean(ids, bounds, p, h[some], own), lasts, own)

    team.share(answer, m, len(ids) * d / max(m, 1), 16)
    return found, c
