"""Sums of floats, each rounded once, many at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import Float

__all__ = ["exact_sums", "less_product", "two_product", "two_sum"]

_PASSES = 6  # two to four will do, but for sums next to the middle of two floats whose digits are far apart


def exact_sums(terms: Float) -> Float:
    """Of the columns of ``terms`` (n, K): the bits of :func:`math.fsum` of each.

    Again and again the terms are added in float64 and replaced by their sum and what was lost of each addition, which
    changes no exact sum (Rump, Ogita and Oishi 2008), until what is left cannot change how the sum is rounded.
    """
    sums = np.empty(terms.shape[1])
    todo = np.arange(len(sums))
    for _ in range(_PASSES):
        terms = _distilled(terms)
        size, more = np.abs(terms[1:]).sum(axis=0), terms[1:].sum(axis=0)
        # One term that is left is known exactly; of n each addition is off by 2^-53 of no more than their size.
        off = np.where(np.count_nonzero(terms[1:], axis=0) > 1, len(terms) * 2.0**-52 * size, 0.0)
        low, high = terms[0] + (more - off), terms[0] + (more + off)
        settled = low == high
        sums[todo[settled]] = high[settled]
        if settled.all():
            return sums
        todo, terms = todo[~settled], terms[:, ~settled]
        terms[1:] = _distilled(terms[1:])  # what is left, by itself: half of a last place may be the sum of several
    sums[todo] = [math.fsum(column) for column in terms.T]
    return sums


def _distilled(terms: Float) -> Float:
    """As many numbers of the same sums: first what it is in float64, added in halves, then what was lost."""
    lost = []
    while len(terms) > 1:
        half = len(terms) // 2
        total, rest = two_sum(terms[:half], terms[half : 2 * half])
        lost.append(rest)
        terms = np.concatenate([total, terms[2 * half :]])
    return np.concatenate([terms, *lost])


def two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """a + b = total + remainder exactly (Knuth)."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def two_product(a: Any, b: Any) -> tuple[Any, Any]:
    """a b = product + remainder exactly (Dekker 1971)."""
    product = a * b
    a_high, b_high = 134217729.0 * a, 134217729.0 * b
    a_high, b_high = a_high - (a_high - a), b_high - (b_high - b)
    a_low, b_low = a - a_high, b - b_high
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def less_product(x: Any, a: Any, b: Any) -> Any:
    """x - a b without what rounding the product would leave: far from the origin that is more than all else."""
    product, remainder = two_product(a, b)
    return x - product - remainder
