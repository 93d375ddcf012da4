"""The posterior of a tile of queries over a slab of rows, in numba: direct float64 differences, right at every sigma.

With c_i = |x - alpha x_i|^2 and h = 1 / (2 S), a logit is only ever used as the difference of two,
(log_w_i - log_w_j) - (c_i - c_j) h: nothing is lost where c h is huge, and S = 0 is h = inf.

The state of a query is its top row, the logit of the runner-up, and sums over the other rows, about the top row and in
units of the runner-up's weight: with p_i = exp(l_i - l_next) <= 1, sum p_i, sum p_i (x_i - x_top), and so on. So no
output made of the off-weights is a difference of near equals, none underflows before the answer does, and the mean is
exact next to a row. A new top row or runner-up moves the sums (``_move_top``, ``_rescale``); states of disjoint rows
merge. Variance and jvp lose at most the factor 1 / w_max <= N to cancellation.

Loop order: blocks of ``LANES`` rows are widened and transposed once per tile, block[k, lane], and both products
(distances, then weighted sums) run over the lanes of a block in cache. The second is left out where no row of the block
reaches the cut. Per query and row: 2 d multiply-adds, one exp, d multiply-adds.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .numba_noise import jit

__all__ = ["CHUNK", "DENSE", "LANES", "States", "add_distances", "add_slab", "empty_states", "load", "merge_slabs"]

# Infinities keep their meaning: neither "nnan" nor "ninf". Sums are reordered only where they run over lanes.
_FMA, _FASTMATH = {"contract"}, {"nsz", "contract", "reassoc"}

LANES = 64  # rows of a block
DENSE = 651.0  # nats: the cut below which _exp gives 0
_NEGLIGIBLE = 650.0  # exp(-650) vanishes beside 1, and its products with differences of rows are no slow subnormals
CHUNK = 4096  # columns widened at once
_PIECE = 32  # columns summed before they are added to a score

# Columns of the scalars of a state. The two row numbers are exact in float64.
(
    _INDEX,  # the top row, -1 when there is none yet
    _SCORE,  # its c_i
    _LOG_W,
    _NEXT_SCORE,  # the runner-up's, inf when there is none
    _NEXT_LOG_W,  # -inf when there is none
    _REST,  # sum p
    _REST2,  # sum p^2
    _HEAT,  # sum p (l_next - l)
    _SPREAD,  # sum p |x - x_top|^2
    _ALONG,  # sum p (x - x_top) . u
    _DROPPED,  # mass left out, in units of the top row's weight
    _LIVE,  # rows in the second product
) = range(12)


# ---------------------------------------------------------------------------------------------------------------------
# Blocks of rows


@jit()
def _value(row: Any, table: Any, k: Any) -> Any:
    if table is None:
        return np.float64(row[k])
    return table[row[k]]


@jit()
def load(rows: Any, table: Any, first: Any, last: Any, k0: Any, k1: Any, block: Any) -> None:
    """Rows ``first`` .. ``last`` as block[k - k0, lane]; lanes past the end repeat the last row."""
    end = last - 1
    for lane in range(0, LANES, 8):
        i = first + lane
        a, b = rows[min(i, end), k0:k1], rows[min(i + 1, end), k0:k1]
        c, d = rows[min(i + 2, end), k0:k1], rows[min(i + 3, end), k0:k1]
        e, f = rows[min(i + 4, end), k0:k1], rows[min(i + 5, end), k0:k1]
        g, h = rows[min(i + 6, end), k0:k1], rows[min(i + 7, end), k0:k1]
        for k in range(k1 - k0):
            o = block[k * LANES + lane : k * LANES + lane + 8]
            o[0], o[1], o[2], o[3] = _value(a, table, k), _value(b, table, k), _value(c, table, k), _value(d, table, k)
            o[4], o[5], o[6], o[7] = _value(e, table, k), _value(f, table, k), _value(g, table, k), _value(h, table, k)


@jit(fastmath=_FMA)
def add_distances(block: Any, k0: Any, k1: Any, x: Any, alpha: Any, ids: Any, out: Any) -> None:
    """out[j, lane] += |x_q - alpha_q row|^2 over columns k0 .. k1, for the queries q = ids[j]; summed in two levels."""
    part = np.empty(LANES)
    for start in range(k0, k1, _PIECE):
        end = min(start + _PIECE, k1)
        eights = end - (end - start) % 8
        for j, q in enumerate(ids):
            a, o = alpha[q], out[j * LANES : (j + 1) * LANES]
            part[:] = 0.0
            for k in range(start, eights, 8):
                z, xq = block[(k - k0) * LANES : (k - k0 + 8) * LANES], x[q, k : k + 8]
                for b in range(LANES):
                    s = part[b]
                    for i in range(8):
                        s += (xq[i] - a * z[i * LANES + b]) ** 2
                    part[b] = s
            for k in range(eights, end):
                z, xqk = block[(k - k0) * LANES : (k - k0 + 1) * LANES], x[q, k]
                for b in range(LANES):
                    part[b] += (xqk - a * z[b]) ** 2
            for b in range(LANES):
                o[b] += part[b]


@jit(fastmath=_FMA)
def _add_projections(block: Any, k0: Any, k1: Any, u: Any, ref: Any, ids: Any, out: Any) -> None:
    """out[j, lane] += u_q . (row - ref_q) over columns k0 .. k1."""
    for k in range(k0, k1):
        z = block[(k - k0) * LANES : (k - k0 + 1) * LANES]
        for j, q in enumerate(ids):
            uqk, rqk, o = u[q, k], ref[q, k], out[j * LANES : (j + 1) * LANES]
            for b in range(LANES):
                o[b] += uqk * (z[b] - rqk)


@jit(fastmath=_FASTMATH)
def _add_shifts(block: Any, k0: Any, k1: Any, p: Any, ref: Any, ids: Any, out: Any) -> None:
    """out_q[k] += sum over lanes of p[j, lane] (row[k] - ref_q[k]) for columns k0 .. k1."""
    eights = k1 - (k1 - k0) % 8
    for k in range(k0, eights, 8):
        z = block[(k - k0) * LANES : (k - k0 + 8) * LANES]
        for j, q in enumerate(ids):
            w, r, o = p[j * LANES : (j + 1) * LANES], ref[q, k : k + 8], out[q, k : k + 8]
            r0, r1, r2, r3, r4, r5, r6, r7 = r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]
            s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
            for b in range(LANES):
                s0 += w[b] * (z[b] - r0)
                s1 += w[b] * (z[LANES + b] - r1)
                s2 += w[b] * (z[2 * LANES + b] - r2)
                s3 += w[b] * (z[3 * LANES + b] - r3)
                s4 += w[b] * (z[4 * LANES + b] - r4)
                s5 += w[b] * (z[5 * LANES + b] - r5)
                s6 += w[b] * (z[6 * LANES + b] - r6)
                s7 += w[b] * (z[7 * LANES + b] - r7)
            o[0] += s0
            o[1] += s1
            o[2] += s2
            o[3] += s3
            o[4] += s4
            o[5] += s5
            o[6] += s6
            o[7] += s7
    for k in range(eights, k1):
        z = block[(k - k0) * LANES : (k - k0 + 1) * LANES]
        for j, q in enumerate(ids):
            w, rqk, s = p[j * LANES : (j + 1) * LANES], ref[q, k], 0.0
            for b in range(LANES):
                s += w[b] * (z[b] - rqk)
            out[q, k] += s


# ---------------------------------------------------------------------------------------------------------------------
# The state of a query


class States(NamedTuple):
    """States of many queries, or one of them; columns of what is not wanted have length 0."""

    scalars: Any  # the columns above
    top: Any  # the top row itself, widened
    shift: Any  # sum p (x - x_top)
    pull: Any  # sum p ((x - x_top) . u) (x - x_top)
    near_score: Any  # the k best rows, best first
    near_log_w: Any
    near_index: Any


def empty_states(m: int, d: int, u: int, k: int) -> States:
    """m states before the first row, with d columns of ``top`` and ``shift``, u of ``pull``, lists of k rows."""
    states = States(
        np.zeros((m, _LIVE + 1)), np.zeros((m, d)), np.zeros((m, d)), np.zeros((m, u)),
        np.full((m, k), np.inf), np.full((m, k), -np.inf), np.full((m, k), -1),
    )  # fmt: skip
    states.scalars[:, :_REST] = -1.0, np.inf, -np.inf, np.inf, -np.inf
    return states


@jit()
def _state(states: Any, i: Any) -> Any:
    return States(
        states.scalars[i], states.top[i], states.shift[i], states.pull[i],
        states.near_score[i], states.near_log_w[i], states.near_index[i],
    )  # fmt: skip


@jit()
def _lead(score: Any, log_w: Any, score0: Any, log_w0: Any, h: Any) -> Any:
    """Logit of a row minus that of another; infinite h or score0 is the limit, and a row of weight 0 is below all."""
    apart = 0.0 if score == score0 else (score - score0) * h
    return (log_w - log_w0) - apart if log_w > -math.inf else -math.inf


@jit(fastmath=_FMA)
def _exp(x: Any) -> Any:
    """exp(x) for x <= 0, 0 below -650: without a branch or a call, so that a loop over it is vectorised."""
    y = max(x, -_NEGLIGIBLE)
    shifted = y * 1.4426950408889634 + 6755399441055744.0  # the nearest integer n in the low bits
    n = shifted - 6755399441055744.0
    r = (y - n * 0.6931471803691238) - n * 1.9082149292705877e-10
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    power = np.int64((np.float64(shifted).view(np.int64) + 1023) << 52).view(np.float64)
    return p * power if x >= -_NEGLIGIBLE else 0.0


@jit()
def _list(state: Any, score: Any, log_w: Any, index: Any, h: Any) -> None:
    """Put a row into the list of the best; rows come in index order, free places hold index -1."""
    scores, log_ws, indices = state.near_score, state.near_log_w, state.near_index
    j = len(indices)
    while j > 0 and (indices[j - 1] < 0 or _lead(score, log_w, scores[j - 1], log_ws[j - 1], h) > 0.0):
        if j < len(indices):
            scores[j], log_ws[j], indices[j] = scores[j - 1], log_ws[j - 1], indices[j - 1]
        j -= 1
    if j < len(indices):
        scores[j], log_ws[j], indices[j] = score, log_w, index


@jit()
def _rescale(state: Any, score: Any, log_w: Any, h: Any) -> None:
    """Change the runner-up to a row that is not below the old one."""
    head = state.scalars
    gain = _lead(score, log_w, head[_NEXT_SCORE], head[_NEXT_LOG_W], h)
    head[_NEXT_SCORE], head[_NEXT_LOG_W] = score, log_w
    if gain in (0.0, -math.inf):
        return
    s = _exp(-gain)
    head[_HEAT] = (head[_HEAT] + gain * head[_REST]) * s if s > 0.0 else 0.0
    head[_REST] *= s
    head[_REST2] *= s * s
    head[_SPREAD] *= s
    head[_ALONG] *= s
    for k in range(len(state.shift)):
        state.shift[k] *= s
    for k in range(len(state.pull)):
        state.pull[k] *= s


@jit()
def _move_top(state: Any, row: Any, score: Any, log_w: Any, index: Any, u: Any, h: Any) -> None:
    """Change the top row: the old one joins the rest as its runner-up, and the sums are now about the new one."""
    head, top, shift, pull = state.scalars, state.top, state.shift, state.pull
    if head[_INDEX] >= 0:
        head[_DROPPED] *= _exp(-max(0.0, _lead(score, log_w, head[_SCORE], head[_LOG_W], h)))
        _rescale(state, head[_SCORE], head[_LOG_W], h)
        head[_REST] += 1.0
        head[_REST2] += 1.0
        rest, square, cross, along = head[_REST], 0.0, 0.0, 0.0
        for k in range(len(top)):
            move = top[k] - row[k]
            square += move * move
            cross += move * shift[k]
        for k in range(len(pull)):
            along += (top[k] - row[k]) * u[k]
        for k in range(len(pull)):
            pull[k] += along * shift[k] + (head[_ALONG] + rest * along) * (top[k] - row[k])
        for k in range(len(top)):
            shift[k] += rest * (top[k] - row[k])
        head[_SPREAD] += 2.0 * cross + rest * square
        head[_ALONG] += rest * along
    for k in range(len(top)):
        top[k] = row[k]
    head[_SCORE], head[_LOG_W], head[_INDEX] = score, log_w, index


@jit()
def _fill_leads(c: Any, log_w: Any, score: Any, log_w0: Any, h: Any, lead: Any) -> None:
    for b in range(len(log_w)):
        lead[b] = _lead(c[b], log_w[b], score, log_w0, h)


@jit(fastmath=_FASTMATH)
def _mass(lead: Any, gap: Any, count: Any) -> Any:
    total = 0.0
    for b in range(count):
        total += _exp(lead[b] - gap)
    return total


@jit()
def _scan(head: Any, c: Any, log_w: Any, h: Any, cut: Any, off: Any, lead: Any) -> Any:
    """Does a block matter, its lane that is the new top row or -1, and the runner-up it leaves: score, log_w.

    Fills the leads of the block over that runner-up.
    """
    score1, log_w1, score2, log_w2 = head[_SCORE], head[_LOG_W], head[_NEXT_SCORE], head[_NEXT_LOG_W]
    gap = max(0.0, _lead(score1, log_w1, score2, log_w2, h))
    floor = -cut if off else gap - cut
    if off and score2 == score1:  # a copy of the top row says nothing about the variance, and cuts nothing
        floor = -DENSE
    _fill_leads(c, log_w, score2, log_w2, h, lead)
    above, alive, lane = 0, 0, -1
    for b in range(len(log_w)):
        above += lead[b] > 0.0
        alive += lead[b] >= floor
    if above > 0:
        for b in range(len(log_w)):
            if _lead(c[b], log_w[b], score2, log_w2, h) > 0.0:
                if _lead(c[b], log_w[b], score1, log_w1, h) > 0.0:
                    score2, log_w2 = score1, log_w1
                    score1, log_w1, lane = c[b], log_w[b], b
                else:
                    score2, log_w2 = c[b], log_w[b]
        _fill_leads(c, log_w, score2, log_w2, h, lead)
    elif alive == 0:
        head[_DROPPED] += _mass(lead, gap, len(log_w))
        return False, lane, score2, log_w2
    head[_LIVE] += len(log_w)
    return True, lane, score2, log_w2


@jit(fastmath=_FASTMATH)
def _weigh(head: Any, lead: Any, count: Any, lane: Any) -> None:
    """Leads to weights p, in place, 0 for the top row and past the end; and the sums that need nothing else."""
    if lane >= 0:
        lead[lane] = -math.inf
    lead[count:] = -math.inf
    rest = rest2 = heat = 0.0
    for b in range(LANES):
        p = _exp(lead[b])
        rest += p
        rest2 += p * p
        heat -= p * max(lead[b], -_NEGLIGIBLE)
        lead[b] = p
    head[_REST] += rest
    head[_REST2] += rest2
    head[_HEAT] += heat


@jit()
def _merge(a: Any, b: Any, u: Any, h: Any) -> None:
    """Add the state of later rows b to the state a of earlier ones."""
    for j in range(len(b.near_index)):
        if b.near_index[j] >= 0:
            _list(a, b.near_score[j], b.near_log_w[j], b.near_index[j], h)
    one, two = a.scalars, b.scalars
    if two[_INDEX] >= 0:
        if _lead(two[_SCORE], two[_LOG_W], one[_SCORE], one[_LOG_W], h) > 0.0:
            _move_top(a, b.top, two[_SCORE], two[_LOG_W], int(two[_INDEX]), u, h)
        else:
            _move_top(b, a.top, one[_SCORE], one[_LOG_W], int(one[_INDEX]), u, h)
        if _lead(two[_NEXT_SCORE], two[_NEXT_LOG_W], one[_NEXT_SCORE], one[_NEXT_LOG_W], h) > 0.0:
            _rescale(a, two[_NEXT_SCORE], two[_NEXT_LOG_W], h)
        else:
            _rescale(b, one[_NEXT_SCORE], one[_NEXT_LOG_W], h)
        one[_REST] += two[_REST]
        one[_REST2] += two[_REST2]
        one[_HEAT] += two[_HEAT]
        one[_SPREAD] += two[_SPREAD]
        one[_ALONG] += two[_ALONG]
        for k in range(len(a.shift)):
            a.shift[k] += b.shift[k]
        for k in range(len(a.pull)):
            a.pull[k] += b.pull[k]
    one[_DROPPED] += two[_DROPPED]
    one[_LIVE] += two[_LIVE]


# ---------------------------------------------------------------------------------------------------------------------
# The sweep over the rows


@jit()
def add_slab(
    rows: Any, table: Any, log_w: Any, first: Any, last: Any, x: Any, alpha: Any, u: Any, h: Any, cut: Any, off: Any,
    spread: Any, states: Any,
) -> None:  # fmt: skip
    """Rows ``first`` .. ``last`` into the states of a tile of queries."""
    n, d, wide = len(x), x.shape[1], min(x.shape[1], CHUNK)
    vectors, pulls = states.shift.shape[1] > 0, states.pull.shape[1] > 0
    block = np.empty(wide * LANES)
    c, p, t = np.empty(n * LANES), np.empty(n * LANES), np.empty(n * LANES)
    row, ones = np.empty(states.top.shape[1]), np.ones(n)
    everyone, kept = np.arange(n), np.empty(n, np.int64)
    for i in range(first, last, LANES):
        end = min(i + LANES, last)
        c[:] = 0.0
        for k0 in range(0, d, wide):
            k1 = min(k0 + wide, d)
            load(rows, table, i, end, k0, k1, block)
            add_distances(block, k0, k1, x, alpha, everyone, c)
        living = 0
        for q in range(n):
            state, cq, lw = _state(states, q), c[q * LANES : (q + 1) * LANES], log_w[i:end]
            if len(state.near_index) > 0:
                for b in range(end - i):
                    _list(state, cq[b] if lw[b] > -math.inf else math.inf, lw[b], i + b, h[q])
            lead = p[living * LANES : (living + 1) * LANES]
            alive, lane, score, log_w0 = _scan(state.scalars, cq, lw, h[q], cut[q], off, lead)
            if not alive:
                continue
            if lane >= 0:
                stored = rows[i + lane]
                for k in range(len(row)):
                    row[k] = _value(stored, table, k)
                _move_top(state, row, cq[lane], lw[lane], i + lane, u[q], h[q])
            _rescale(state, score, log_w0, h[q])
            _weigh(state.scalars, lead, end - i, lane)
            kept[living] = q
            living += 1
        if not vectors or living == 0:
            continue
        if spread or pulls:
            c[:] = 0.0
            t[:] = 0.0
        for k0 in range(0, d, wide):
            k1 = min(k0 + wide, d)
            if wide < d:
                load(rows, table, i, end, k0, k1, block)
            _add_shifts(block, k0, k1, p, states.top, kept[:living], states.shift)
            if spread:
                add_distances(block, k0, k1, states.top, ones, kept[:living], c)
            if pulls:
                _add_projections(block, k0, k1, u, states.top, kept[:living], t)
        if spread or pulls:
            for j in range(living):
                square = along = 0.0
                for b in range(j * LANES, (j + 1) * LANES):
                    t[b] *= p[b]
                    square += p[b] * c[b]
                    along += t[b]
                states.scalars[kept[j], _SPREAD] += square
                states.scalars[kept[j], _ALONG] += along
        if pulls:
            for k0 in range(0, d, wide):
                k1 = min(k0 + wide, d)
                if wide < d:
                    load(rows, table, i, end, k0, k1, block)
                _add_shifts(block, k0, k1, t, states.top, kept[:living], states.pull)


@jit()
def merge_slabs(states: Any, u: Any, h: Any) -> None:
    """The states of all slabs into those of slab 0, in order."""
    m = len(h)
    for i in range(m, len(states.scalars)):
        _merge(_state(states, i % m), _state(states, i), u[i % m], h[i % m])
