"""All rows against many queries, in numba and BLAS: logits and weighted sums from products of centred rows.

Blocks of rows are centred and brought into one arithmetic T, float32 or float64; BLAS multiplies them with the queries,
compiled loops make weights of the scores, and BLAS multiplies these with the block while it is in cache. With y = x -
alpha centre and X = x_i - centre, a score is a logit up to a constant of its query,

    log_w_i + (alpha / S) y . X - (alpha^2 / S) |X|^2 / 2,

and its rounding is bounded (:attr:`Queries.slack`). So a pass may give two things: sums over all rows, as good as T is,
which whoever asks has to judge; and for each query a list of the rows that can be among its best or within a window of
them, which are then measured exactly.

Nothing but lists and sums is kept: a block and its scores take ``_NUMBERS`` numbers of T each, or what 16 rows take.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from . import Float
from .numba_noise import jit

__all__ = ["Lists", "Queries", "Sums", "Team", "pack", "roundoff", "scan", "slices", "value"]

_NUMBERS, _ROWS = 2**20, 4096  # of a block, of its scores, and its longest
_LISTED = 2**20  # rows listed, of all queries of a pass
_SPARSE = 16  # where fewer weights than one in so many count, they are not multiplied by BLAS
_SMALL = 2**16  # operations that are not worth a thread
_PIECE = 128  # weights and weighted rows summed in T before they are added up in float64: longer chains have a bias

# Reordering of sums, and no NaN: scores are finite, or -inf where a row weighs nothing.
_FAST = {"nsz", "contract", "reassoc", "nnan"}


def roundoff(dtype: Any) -> float:
    return float(np.finfo(dtype).eps) / 2


def slices(n: int, size: int) -> list[slice]:
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]


class Team:
    """Threads for the length of a call; the compiled functions run without the GIL, and no bit depends on how many."""

    def __init__(self, threads: int) -> None:
        self.stopped = False
        self._threads, self._pool = threads, None if threads == 1 else ThreadPoolExecutor(threads - 1)

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *reason: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def share(self, task: Callable[[slice], None], n: int, each: float, size: int | None = None) -> None:
        """``task`` on slices of n items that take so many operations each: as many as threads, or of the given size."""
        threads = self._threads if n * each > _SMALL else 1
        todo = deque(slices(n, size or -(-n // threads)))

        def work() -> None:
            while todo:
                try:
                    some = todo.popleft()
                except IndexError:
                    return
                task(some)

        helpers = [] if self._pool is None else [self._pool.submit(work) for _ in range(min(threads, len(todo)) - 1)]
        try:
            work()
        except BaseException:  # Ctrl-C above all: nobody goes on with what is left
            self.stopped = True
            todo.clear()
            raise
        finally:
            wait(helpers)
        for helper in helpers:
            helper.result()


@dataclass(frozen=True)
class Queries:
    """Queries of a pass; ``scaled`` is (alpha / S) y."""

    scaled: Float
    size: Float  # its norm
    pull: Float  # alpha^2 / S
    blur: Float  # what rounding the query adds to any score
    span: float  # of the log weights

    def slack(self, u: float, norm: float) -> Float:
        """Bound on what rounding does to scores of rows of at most this norm, with unit roundoff u."""
        steps = (self.scaled.shape[1] + 16) * u
        bound: Float = steps * norm * (self.size + self.pull * norm) + 4 * u * self.span + self.blur
        return bound


class Lists(NamedTuple):
    """Rows by query: ``count`` of them, in order, -1 where there were too many."""

    count: Any
    index: Any
    upper: Any  # a bound of the exact score
    best: Any  # lower bounds of the best, best first


class Sums(NamedTuple):
    """Sums over all rows of weights p relative to ``reference``, the best score."""

    reference: Any
    mass: Any  # sum p
    squares: Any  # sum p^2
    heat: Any  # sum p (reference - score)
    second: Any  # sum p |X|^2 / 2
    dropped: Any  # bound on the sum of p that is left out
    live: Any  # rows that are not
    shift: Any  # sum p X
    along: Any  # sum p (u . X) X


@jit()
def value(row: Any, table: Any, k: Any) -> Any:
    """A number of a row, which a table tells of one that is stored in one or two bytes."""
    if table is None:
        return row[k]
    return table[row[k]]


@jit(fastmath=_FAST)
def _center(row: Any, table: Any, center: Any, out: Any) -> Any:
    """A row about the centre; half its squared norm."""
    half = out.dtype.type(0)
    for k in range(len(out)):
        z = out.dtype.type(value(row, table, k) - center[k])
        out[k] = z
        half += z * z
    return 0.5 * np.float64(half)


@jit()
def _load(rows: Any, table: Any, first: Any, log_w: Any, center: Any, block: Any, half: Any) -> None:
    """Rows from ``first`` on; those of weight 0, which can be of any size, as 0."""
    for i in range(len(block)):
        if log_w[first + i] == -np.inf:
            block[i] = 0.0
            half[i] = 0.0
            continue
        half[i] = _center(rows[first + i], table, center, block[i])


@jit(fastmath=_FAST)
def _score(product: Any, half: Any, log_w: Any, pull: Any) -> None:
    """Products to scores, in place."""
    for b in range(len(product)):
        product[b] = product[b] - pull * half[b] + log_w[b]


@jit()
def _score_all(products: Any, half: Any, log_w: Any, pull: Any) -> None:
    for q in range(len(products)):
        _score(products[q], half, log_w, products.dtype.type(pull[q]))


@jit(fastmath={"contract"})
def _exp32(x: Any) -> Any:
    """exp(x) for -87 <= x <= 0 in float32, without a branch or a call, so that loops over it are vectorised."""
    shifted = x * np.float32(1.44269504) + np.float32(12582912.0)  # the nearest integer n in the low bits
    n = shifted - np.float32(12582912.0)
    r = (x - n * np.float32(0.693359375)) + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = (p * r) * r + r + np.float32(1.0)
    bits = np.int32((np.float32(shifted).view(np.int32) + 127) << 23)
    return p * bits.view(np.float32)


@jit(fastmath={"contract"})
def _exp64(x: Any) -> Any:
    """The same in float64 for -700 <= x <= 0."""
    shifted = x * 1.4426950408889634 + 6755399441055744.0
    n = shifted - 6755399441055744.0
    r = (x - n * 0.6931471803691238) - n * 1.9082149292705877e-10
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
    return p * np.int64((np.float64(shifted).view(np.int64) + 1023) << 52).view(np.float64)


@jit(fastmath=_FAST)
def _weigh(score: Any, half: Any, best: Any, floor: Any, double: Any) -> Any:
    """Scores to weights of the best, in place, 0 below the floor; sums of p, p^2, p (best - score), p half, 1."""
    zero, one = score.dtype.type(0), score.dtype.type(1)
    p_sum, p2_sum, heat_sum, half_sum, live = zero, zero, zero, zero, zero
    for b in range(len(score)):
        lead = score[b] - best
        above = max(lead, floor)
        e = _exp32(above) if double is None else _exp64(above)
        p = e if lead >= floor else zero
        score[b] = p
        p_sum += p
        p2_sum += p * p
        heat_sum -= p * above
        half_sum += p * half[b]
        live += one if lead >= floor else zero
    return p_sum, p2_sum, heat_sum, half_sum, live


@jit()
def _add(score: Any, half: Any, most: Any, floor: Any, cut: Any, q: Any, sums: Any, double: Any) -> Any:
    """A block of scores into the sums of query q; what the earlier vectors have to be multiplied with, rows alive."""
    best = max(most, sums.reference[q])
    scale = 1.0 if sums.reference[q] == best else math.exp(sums.reference[q] - best)
    if scale < 1.0:
        move = best - sums.reference[q] if scale > 0.0 else 0.0
        sums.heat[q] = (sums.heat[q] + move * sums.mass[q]) * scale
        sums.mass[q] *= scale
        sums.squares[q] *= scale * scale
        sums.second[q] *= scale
        sums.dropped[q] *= scale
        sums.reference[q] = best
    if best == -math.inf:
        score[:] = 0.0
        return scale, 0.0
    alive = 0.0
    for b in range(0, len(score), _PIECE):
        piece = score[b : b + _PIECE]
        p, p2, heat, second, live = _weigh(
            piece, half[b : b + _PIECE], score.dtype.type(best), score.dtype.type(floor), double
        )
        sums.mass[q] += p
        sums.squares[q] += p2
        sums.heat[q] += heat
        sums.second[q] += second
        alive += live
    sums.dropped[q] += (len(score) - alive) * math.exp(-cut)
    sums.live[q] += alive
    return scale, alive


@jit()
def _keep(lists: Any, q: Any, bar: Any) -> Any:
    """Leave out rows that cannot reach the bar; how many are left."""
    count = 0
    for j in range(lists.count[q]):
        if lists.upper[q, j] >= bar:
            lists.index[q, count], lists.upper[q, count] = lists.index[q, j], lists.upper[q, j]
            count += 1
    lists.count[q] = count
    return count


@jit()
def _list(score: Any, first: Any, most: Any, slack: Any, window: Any, q: Any, lists: Any) -> None:
    """Rows of a block that can matter into the list of query q."""
    best = lists.best[q]
    last = len(best) - 1
    if last == 0:
        best[0] = max(best[0], most - slack)
    if lists.count[q] < 0 or not most + slack >= best[last] - window:
        return
    for b in range(len(score)):
        s = np.float64(score[b])
        if not s + slack >= best[last] - window or s == -math.inf:
            continue
        j = last
        if s - slack > best[last]:
            while j > 0 and best[j - 1] < s - slack:
                best[j] = best[j - 1]
                j -= 1
            best[j] = s - slack
        count, room = lists.count[q], lists.index.shape[1]
        if count == room:
            count = _keep(lists, q, best[last] - window)
            if count > room - room // 4:
                lists.count[q] = -1
                return
        lists.index[q, count], lists.upper[q, count] = first + b, s + slack
        lists.count[q] = count + 1


@jit()
def pack(lists: Any, window: Any) -> Any:
    """The rows of all queries one after another, and where those of each start; none where there were too many."""
    starts = np.zeros(len(lists.count) + 1, np.int64)
    for q in range(len(lists.count)):
        count = _keep(lists, q, lists.best[q, lists.best.shape[1] - 1] - window[q]) if lists.count[q] > 0 else 0
        starts[q + 1] = starts[q] + count
    rows = np.empty(starts[-1], np.int64)
    for q in range(len(lists.count)):
        rows[starts[q] : starts[q + 1]] = lists.index[q, : starts[q + 1] - starts[q]]
    return rows, starts


@jit()
def _take(
    scores: Any, most: Any, half: Any, first: Any, slack: Any, window: Any, floor: Any, cut: Any, sums: Any, lists: Any,
    scale: Any, alive: Any, double: Any,
) -> None:  # fmt: skip
    """A block of scores, the largest of each query being ``most``, into the sums and lists."""
    for q in range(len(scores)):
        best = np.float64(most[q])
        if len(lists.count) > 0:
            _list(scores[q], first, best, slack[q], window[q], q, lists)
        if len(sums.mass) > 0:
            scale[q], alive[q] = _add(scores[q], half, best, floor[q], cut[q], q, sums, double)


@jit(fastmath=_FAST)
def _add_sparse(weights: Any, block: Any, scale: Any, shift: Any) -> None:
    """shift = scale shift + weights block, where most weights are 0."""
    for q in range(len(weights)):
        out = shift[q]
        out *= scale[q]
        for b in range(len(block)):
            p, row = np.float64(weights[q, b]), block[b]
            if p > 0.0:
                for k in range(len(out)):
                    out[k] += p * row[k]


@jit()
def _add_part(part: Any, shift: Any) -> None:
    """shift = shift + part."""
    for q in range(len(part)):
        for k in range(part.shape[1]):
            shift[q, k] += part[q, k]


def _of(arrays: Any, some: slice) -> Any:
    return type(arrays)(*(array[some] for array in arrays))


def scan(
    queries: Queries, data: Any, dtype: Any, team: Team, *, log_w: Float, cut: Float | None, window: Float | None,
    keep: int = 1, vectors: bool = False, u: Float | None = None,
) -> tuple[Sums, Lists]:  # fmt: skip
    """One pass over the rows: sums, leaving out rows ``cut`` below the best; lists of the ``keep`` best and those no
    more than ``window`` below the last of them; None: not wanted, and empty.

    ``data`` has ``rows``, ``table`` and ``center``.
    """
    (m, d), n = queries.scaled.shape, len(data.rows)
    double = None if dtype == np.float32 else True
    size = min(n, _ROWS, max(16, _NUMBERS // max(m, d)))
    y, center = queries.scaled.astype(dtype), data.center.astype(dtype)
    buffer, products = np.empty((size, d), dtype), np.empty(m * size, dtype)
    half, scale, alive = np.empty(size, dtype), np.empty(m), np.empty(m)
    wanted, room = (0, 0) if window is None else (m, min(n, max(1, _LISTED // m)))
    lists = Lists(
        np.zeros(wanted, np.int64), np.empty((wanted, room), np.int64), np.empty((wanted, room)),
        np.full((wanted, keep), -np.inf),
    )  # fmt: skip
    summed, wide = 0 if cut is None else m, d if vectors else 0
    zeros = np.zeros((7, summed))
    zeros[0] = -np.inf
    sums = Sums(*[*zeros, np.zeros((summed, wide)), np.zeros((summed, 0 if u is None else wide))])
    cuts, windows = np.zeros(m) if cut is None else cut, np.zeros(m) if window is None else window
    floor = -np.minimum(cuts, 87.0 if double is None else 700.0)
    part = np.empty((m, d), dtype) if cut is not None and vectors else None
    direction = None if u is None else u.astype(dtype)

    for first in range(0, n, size):
        b = min(size, n - first)
        block, scores = buffer[:b], products[: m * b].reshape(m, b)

        def load(some: slice, first: int = first, block: Any = block) -> None:
            _load(data.rows, data.table, first + some.start, log_w, center, block[some], half[some])

        team.share(load, b, d)
        norm = math.sqrt(2.0 * float(half[:b].max()))
        slack = queries.slack(roundoff(dtype), norm * (1.0 + 2.0**-10))
        weights = log_w[first : first + b].astype(dtype)

        def take(
            some: slice, first: int = first, scores: Any = scores, rows: Any = (half[:b], weights), slack: Any = slack
        ) -> None:
            own = scores[some]
            _score_all(own, rows[0], rows[1], queries.pull[some])
            _take(
                own, own.max(axis=1), rows[0], first, slack[some], windows[some], floor[some], cuts[some],
                _of(sums, some), _of(lists, some), scale[some], alive[some], double,
            )  # fmt: skip

        np.matmul(y, block.T, out=scores)
        team.share(take, m, 4.0 * b)
        if part is None or (not alive.any() and (scale == 1.0).all()):
            continue
        _multiply(team, scores, float(alive.sum()), block, scale, part, sums.shift)
        if direction is not None:
            scores *= direction @ block.T
            _multiply(team, scores, math.inf, block, scale, part, sums.along)
    return sums, lists


def _multiply(team: Team, weights: Any, alive: float, block: Any, scale: Float, part: Any, shift: Float) -> None:
    """shift = scale shift + weights block."""
    m, d = shift.shape
    if alive * _SPARSE < weights.size:
        team.share(lambda some: _add_sparse(weights[some], block, scale[some], shift[some]), m, len(block))
        return
    shift *= scale[:, None]
    for b in range(0, len(block), _PIECE):
        np.matmul(weights[:, b : b + _PIECE], block[b : b + _PIECE], out=part)
        team.share(lambda some: _add_part(part[some], shift[some]), m, d)
