"""Sums of floats that are rounded once, against those of Python and of fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import interp_fast as itf
from interp_fast.backends.exact_sums import exact_sums
from interp_fast.backends.reference import exact_differences


def cancelling(rng, n, k):
    """Terms of very different sizes of which next to nothing is left."""
    terms = rng.standard_normal((n, k)) * 2.0 ** rng.integers(-60, 60, (n, k))
    terms[1::2] = -terms[: len(terms[1::2]) * 2 : 2]
    terms[-1] += 2.0 ** rng.integers(-200, 20, k)
    return terms


def halfway(rng, n, k):
    """Sums in the middle of two floats, or next to it: one and half of its last place, and 2^-300 or nothing."""
    terms = np.zeros((n, k))
    terms[0], terms[n // 2], terms[-1] = rng.integers(2**52, 2**53, k), 0.5, rng.choice([-1, 0, 1], k) * 2.0**-300
    return terms * rng.choice([-1, 1], k)


def tiny(rng, n, k):
    return rng.integers(-3, 4, (n, k)) * 5e-324


def huge(rng, n, k):
    return rng.standard_normal((n, k)) * 1e300


def negative_zeros(rng, n, k):
    return np.full((n, k), -0.0)


@pytest.mark.parametrize("kind", [cancelling, halfway, tiny, huge, negative_zeros])
@pytest.mark.parametrize("n", [3, 4, 17, 56, 3001])
def test_bits_of_sums(kind, n):
    terms = kind(np.random.default_rng(n), n, 200)
    want = np.array([math.fsum(column) for column in terms.T])
    assert exact_sums(terms).tobytes() == want.tobytes()


@pytest.mark.parametrize(("n", "k"), [(1, 3), (8, 0), (8, 1)])
def test_few_terms_and_few_sums(n, k):
    terms = np.random.default_rng(0).standard_normal((n, k))
    assert exact_sums(terms).tolist() == [math.fsum(column) for column in terms.T]


@pytest.mark.parametrize("d", [1, 7, 30])
def test_differences_of_squared_distances(d):
    """Of rows far from the origin, of copies, and of rows but for one last bit copies."""
    rng = np.random.default_rng(d)
    rows = 1e6 + rng.standard_normal((60, d))
    rows[20:40] = rows[0]
    rows[30:40, 0] = np.nextafter(rows[0, 0], 0)
    x, alpha = 0.7 * rows[1] + rng.standard_normal(d), 0.7

    def squared(row):
        return sum((Fraction(a) - Fraction(alpha) * Fraction(b)) ** 2 for a, b in zip(x, row, strict=True))

    want = [float(squared(row) - squared(rows[0])) for row in rows]
    np.testing.assert_array_equal(exact_differences(x, alpha, rows, rows[0]), want)


def test_rows_that_tie_are_not_told_apart_one_by_one(monkeypatch):
    """The reference took seconds for each query where tens of thousands of rows count far from the origin."""
    rows = 1e8 + np.random.default_rng(0).standard_normal((3000, 5))
    called, add = [], math.fsum
    monkeypatch.setattr(math, "fsum", lambda terms: called.append(1) or add(terms))
    post = itf.Field(rows, itf.VELinear(10.0), backend="reference").posterior(rows[:4], 0.8)
    assert (post.ess > 100).all()
    assert len(called) <= 2 * len(post.ess)
