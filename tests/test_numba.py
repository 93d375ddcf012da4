"""The ways of the numba backend, each by itself: sums from products, lists, float64 sums, and all rows one by one.

Small problems go straight to the last; here they are sent all the ways, and it is told which way they were answered.
"""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from support.kernel import PER_QUERY, blank, posterior, prepare

from interp_fast import backends
from interp_fast.backends import numba_posterior

KERNEL = backends.get("numba")[1]
RNG = np.random.default_rng(0)
NORMAL = RNG.standard_normal((300, 20))
Z = RNG.standard_normal((6, 20))


@pytest.fixture
def ways(monkeypatch):
    """Who answered how many queries: (way, T) -> number."""
    counts = {}
    monkeypatch.setattr(numba_posterior, "_SMALL", 0)

    def watch(name, of):
        whole = getattr(numba_posterior.Posterior, name)

        def counted(self, todo, *args):
            left = whole(self, todo, *args)
            key = of(args)
            counts[key] = counts.get(key, 0) + len(todo) - (0 if left is None else len(left))
            return left

        monkeypatch.setattr(numba_posterior.Posterior, name, counted)

    watch("_by_sums", lambda args: f"sums {np.dtype(args[0]).name}")
    watch("_by_lists", lambda args: "lists")
    watch("_by_all_rows", lambda args: "all rows")
    return counts


def ask(rows, x, alpha, sigma, *names, u=None, weights=None, k=0, **options):
    data = prepare(KERNEL, rows, weights)
    names = names or ("mean", "index", *PER_QUERY)
    return posterior(KERNEL, data, x, alpha, sigma, u=u, out=blank(*x.shape, k, names), **options)


def answered(counts):
    return {way for way, number in counts.items() if number > 0}


@pytest.mark.parametrize(
    ("sigma", "type_", "names", "want"),
    [
        (5.0, "float32", ("mean",), "sums float32"),
        (5.0, "float32", (), "sums float32"),
        (5.0, "float64", (), "sums float64"),
        (0.02, "float32", ("mean",), "lists"),
        (0.02, "float32", (), "lists"),
        (1e-4, "float64", (), "lists"),
    ],
)
def test_early_and_late(ways, sigma, type_, names, want):
    rows = NORMAL.astype(type_)
    x = rows[:6] + sigma * Z
    post = ask(rows, x, 1.0, sigma, *names, k=3 if not names else 0, cut=40.0)
    assert answered(ways) == {want}
    ref = oracle.posterior(rows, x, 1.0, sigma)
    rel = 1e-4 if type_ == "float32" else 1e-9
    np.testing.assert_allclose(post.mean, ref.mean, rtol=0, atol=rel / 20)
    if not names:
        np.testing.assert_array_equal(post.index, ref.index)
        for name in ("gap", "log_rest", "ess", "entropy", "variance", "log_norm"):
            np.testing.assert_allclose(getattr(post, name), getattr(ref, name), rtol=rel, atol=rel, err_msg=name)
        weight = -np.sort(-np.exp(ref.log_weight), axis=1)[:, :3]
        np.testing.assert_allclose(post.top_weight, weight, rtol=0, atol=rel / 10)


def test_cancellation_is_bounded(ways):
    """Far from the origin float32 sums serve as near it: rows are centred, not their products."""
    for shift in (0.0, 1e4):
        rows = (NORMAL + shift).astype(np.float32)
        x = rows[:6] + 3.0 * Z
        post = ask(rows, x, 1.0, 3.0, "mean", "log_norm")
        ref = oracle.posterior(rows, x, 1.0, 3.0)
        np.testing.assert_allclose(post.mean, ref.mean, rtol=0, atol=1e-5)
        np.testing.assert_allclose(post.log_norm, ref.log_norm, rtol=2e-7, atol=1e-3)
    assert answered(ways) == {"sums float32"}


def test_a_clump_is_summed_in_float64(ways):
    """Half the rows within 1e-2 of each other, the others far away: float32 does not tell the former apart."""
    normal = RNG.standard_normal((1200, 20))
    rows = np.where(np.arange(1200)[:, None] % 2, 1e-2 * normal, 30 * normal).astype(np.float32)
    x = rows[1:13:2] + 0.02 * Z
    post = ask(rows, x, 1.0, 0.02, "mean", "log_norm", "variance")
    assert answered(ways) == {"sums float64"}
    ref = oracle.posterior(rows, x, 1.0, 0.02)
    np.testing.assert_allclose(post.mean, ref.mean, rtol=0, atol=1e-6 * np.linalg.norm(rows, axis=1).max())
    np.testing.assert_allclose(post.variance, ref.variance, rtol=1e-3)


@pytest.mark.parametrize("size", [1e25, 1e-25])
def test_sizes_without_float32(ways, size):
    rows = (NORMAL * size).astype(np.float32)
    x = rows[:6] + 2.0 * size * Z
    post = ask(rows, x, 1.0, 2.0 * size, "mean", "gap")
    assert "sums float32" not in answered(ways)
    ref = oracle.posterior(rows.astype(float) / size, x / size, 1.0, 2.0)
    np.testing.assert_allclose(post.mean / size, ref.mean, rtol=0, atol=1e-5)
    np.testing.assert_allclose(post.gap, ref.gap, rtol=1e-3, atol=1e-3)


def test_rows_of_weight_zero_may_be_of_any_size(ways):
    rows, weights = NORMAL.astype(np.float32), np.ones(300)
    rows[::7], weights[::7] = 1e38, 0.0
    for sigma in (5.0, 0.02):
        x = rows[1:7] + sigma * Z
        post = ask(rows, x, 1.0, sigma, "mean", weights=weights, k=0)
        ref = oracle.posterior(rows[weights > 0], x, 1.0, sigma)
        np.testing.assert_allclose(post.mean, ref.mean, rtol=0, atol=1e-5)
    assert answered(ways) == {"sums float32", "lists"}
    found = {"index": np.empty((6, 2), np.int64), "squared_distance": np.empty((6, 2))}
    KERNEL.nearest(rows[1:7].astype(float), prepare(KERNEL, rows, weights), alpha=1.0, out=found, threads=1)
    np.testing.assert_array_equal(found["index"][:, 0], np.arange(1, 7))


def test_many_heaviest_rows_and_copies(ways):
    """More rows than lists hold; and copies, beside which off-weights are made of rows far below the cut."""
    rows = np.concatenate([NORMAL[:150], NORMAL[:150]]).astype(np.float32)
    x = rows[:6] + 0.05 * Z
    post = ask(rows, x, 1.0, 0.05, "gap", "variance", "top", k=100, cut=30.0)
    ref = oracle.posterior(rows, x, 1.0, 0.05)
    np.testing.assert_array_equal(post.gap, 0)
    assert answered(ways) == {"all rows"}
    ways.clear()
    post = ask(rows, x, 1.0, 0.05, "gap", "entropy", "ess", cut=30.0)
    np.testing.assert_allclose(post.ess, ref.ess, rtol=1e-6)
    assert answered(ways) == {"lists"}


def test_jvp_by_sums(ways):
    rows, u = NORMAL.astype(np.float32), 1e9 * RNG.standard_normal((6, 20))
    x = rows[:6] + 4.0 * Z
    post = ask(rows, x, 1.0, 4.0, "jvp", u=u)
    assert answered(ways) == {"sums float32"}
    ref = oracle.posterior(rows, x, 1.0, 4.0, u=u)
    bound = 1e-3 * ref.variance * np.linalg.norm(u, axis=1)
    assert np.all(np.linalg.norm(post.jvp - ref.product, axis=1) <= bound)
