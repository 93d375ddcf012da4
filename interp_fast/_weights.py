"""Posterior weights of all rows in float64, whatever the backend; and what is made of them that no kernel gives."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from . import _arrays
from ._training_set import TrainingSet
from .backends.reference import logit_rounding, tell_apart

__all__ = ["third_moment", "weights"]

Float = npt.NDArray[np.float64]

# Logits from the product form are used where its rounding stays below this many nats.
_LOGIT_ERROR = 1e-12
# Those from direct differences are where theirs does: a quarter of what is promised of second moments.
_TIE_ERROR = 2.5e-10
# Rows this many nats below the second are below rounding in any sum of off-weights: e^-80 times 1e18 rows.
_WINDOW = 80.0
_BLOCK = 1 << 23  # weights formed at a time
# Posteriors of a smaller variance, in units of the squared reach of the rows, are taken by direct differences.
_NARROW = 1e-6


def weights(data: TrainingSet, x: Float, alpha: Float, s: Float) -> Float:
    """Posterior weights (m, N) of queries (m, d) at the levels alpha and s, (m,) each and > 0.

    Logits come from products of centred rows; where their rounding would show, those of the rows that can matter are
    formed again from differences of the rows as given, exactly where even that rounding decides between them.
    """
    moments = data.moments
    rest = x - alpha[:, None] * moments.center
    logits = np.empty((len(x), data.n))
    for block in _arrays.blocks(data.rows):
        rows = data.read(block)
        rows -= moments.center
        squares = np.einsum("ij,ij->i", rows, rows)
        logits[:, block] = (rest @ rows.T - 0.5 * alpha[:, None] * squares) * (alpha / s**2)[:, None]
    logits += data.log_w
    size = np.linalg.norm(rest, axis=1) + alpha * moments.reach
    error = 2.0**-50 * size * (size + alpha * np.linalg.norm(moments.center)) / s**2  # the centre leaves roundings too
    for m in np.flatnonzero(error > _LOGIT_ERROR):
        second = np.partition(logits[m], -2)[-2] if data.n > 1 else logits[m, 0]
        near = np.flatnonzero(logits[m] >= second - _WINDOW - 2 * error[m])
        squares = np.empty(len(near))
        for piece in _arrays.blocks(np.broadcast_to(x[m], (len(near), data.d))):
            difference = x[m] - alpha[m] * data.values(near[piece])
            squares[piece] = np.einsum("ij,ij->i", difference, difference)
        nats = math.log(data.n) + data.log_w.max() - data.log_w[near[np.argmin(squares)]]
        if len(near) > 1 and logit_rounding(x[m], squares.min(), s[m] ** 2, nats) > _TIE_ERROR:
            squares -= squares.min()
            rows = data.values(near)
            tell_apart(x[m], float(alpha[m]), float(s[m]) ** 2, squares, np.arange(len(near)), rows.__getitem__)
        logits[m] = -np.inf
        logits[m, near] = data.log_w[near] - squares / (2 * s[m] ** 2)
    logits -= logits.max(axis=1, keepdims=True)
    w = np.exp(logits, out=logits)
    w /= w.sum(axis=1, keepdims=True)
    return w


def third_moment(data: TrainingSet, x: Float, alpha: Float, s: Float, g: Float) -> Float:
    """sum_i w_i |e_i|^2 (e_i . g), e_i = x_i - sum_j w_j x_j, of queries and directions (M, d): (M,)."""
    third = np.empty(len(x))
    size = max(1, _BLOCK // data.n)
    for first in range(0, len(x), size):
        block = slice(first, first + size)
        w = weights(data, x[block], alpha[block], s[block])
        third[block], variance = _by_products(data, w, g[block])
        for m in np.flatnonzero(variance < _NARROW * data.moments.reach**2):
            third[first + m] = _by_differences(data, w[m], g[first + m])
    return third


def _by_products(data: TrainingSet, w: Float, g: Float) -> tuple[Float, Float]:
    """The third moments and the variances, from products of centred rows."""
    center = data.moments.center
    mean = sum(w[:, b] @ (data.read(b) - center) for b in _arrays.blocks(data.rows))
    own, along = np.einsum("ij,ij->i", mean, mean), np.einsum("ij,ij->i", mean, g)
    third, variance = np.zeros((2, len(w)))
    for block in _arrays.blocks(data.rows):
        rows = data.read(block) - center
        squares = np.einsum("ij,ij->i", rows, rows) - 2 * mean @ rows.T + own[:, None]
        squares *= w[:, block]
        variance += squares.sum(axis=1)
        third += np.einsum("ij,ij->i", squares, g @ rows.T - along[:, None])
    return third, variance


def _by_differences(data: TrainingSet, w: Float, g: Float) -> float:
    """The third moment of one query, from differences to its heaviest row."""
    used = np.flatnonzero(w)
    top = data.values(np.array([np.argmax(w)]))[0]
    pieces = _arrays.blocks(np.broadcast_to(top, (len(used), data.d)))
    shift = sum(w[used[p]] @ (data.values(used[p]) - top) for p in pieces)
    third = 0.0
    for piece in pieces:
        e = data.values(used[piece]) - top - shift
        third += float((w[used[piece]] * np.einsum("ij,ij->i", e, e)) @ (e @ g))
    return third
