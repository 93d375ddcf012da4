"""Rows far longer than the others bound the rounding of nobody else's scores, and are seen where they count.

Every output against the oracle on data with such rows, near them, between, and far from all.
"""

from __future__ import annotations

import functools

import numpy as np
import oracle
import problems
import pytest
from support.measure import Errors, measure, norm

import interp_fast as itf

LINEAR = itf.Linear()
D = 26  # enough for products of bytes
RATIOS = (10.0, 0.6, 0.1)


def long_rows(kind):
    """(rows, weights or None, numbers of long rows); rows that float32 holds exactly."""
    rng = np.random.default_rng(3)
    rows, weights = rng.standard_normal((200, D)), None
    along = rng.standard_normal(D)
    along *= 1e4 / norm(along)
    chosen = np.array([130]) if kind in ("one", "light") else np.arange(5, 200, 16)
    if kind == "tails":
        rows = rng.standard_t(1.5, rows.shape)
        size = norm(rows - rows.mean(0))
        chosen = np.flatnonzero(size > 6 * np.median(size))
    elif kind == "scattered":
        rows[chosen] *= 10.0 ** rng.uniform(1, 3, (len(chosen), 1))
    else:
        rows[chosen] = along  # one or, "repeated", thirteen times
    if kind == "light":
        weights = 10.0 ** rng.uniform(-30, 0, len(rows))
        weights[chosen] = 1.0
    if kind == "one":  # and one that does not exist
        weights = np.ones(len(rows))
        rows[60], weights[60] = 10 * along[::-1], 0.0
    return rows.astype(np.float32).astype(float), weights, chosen


KINDS = ("one", "repeated", "scattered", "tails", "light")


def queries(rows, chosen, alpha, sigma):
    """Draws of common rows and of long ones, points between these and their nearest rows, rows, and far from all."""
    rng = np.random.default_rng(8)
    common = np.setdiff1d(np.arange(len(rows)), chosen)
    near = problems.forward(rows[common], alpha, sigma, 4, 4)
    hot = problems.forward(rows[chosen], alpha, sigma, 2, 5)
    between = [alpha * (rows[chosen[-1]] + rows[i]) / 2 for i in (common[0], common[-1])]
    between += [
        alpha * (0.999 * rows[common[3]] + 0.001 * rows[chosen[0]]),
        alpha * (rows[common[4]] + rows[common[5]]) / 2,
    ]
    far = 3 * alpha * rows[chosen[0]] + rng.standard_normal(rows.shape[1])
    return np.concatenate([near, hot, between, [alpha * rows[common[1]], alpha * rows[chosen[0]], far]])


@pytest.mark.parametrize("kind", KINDS)
def test_accuracy_beside_long_rows(engine, dtype, kind):
    rows, weights, chosen = long_rows(kind)
    field = itf.Field(rows.astype(dtype), LINEAR, weights=weights, backend=engine.backend)
    for ratio in RATIOS[dtype == "float64" :]:
        t = 1 / (1 + ratio)
        c = LINEAR(t)
        x = queries(rows, chosen, float(c.alpha), float(c.sigma))
        errors = Errors(f"{kind}, sigma/alpha {ratio}, {dtype}, {engine}")
        measure(errors, rows, weights, field, x, t, result=dtype)
        if ratio == RATIOS[1]:  # few enough to read the rows as stored
            measure(errors, rows, weights, field, x[3:6], t, result=dtype)
        errors.close()


def test_rows_read_block_by_block_and_left_out(engine, dtype):
    """Without a copy of the rows, and without the long row, whose queries then see the others from afar."""
    rows, weights, chosen = long_rows("one")
    x = queries(rows, chosen, 0.5, 0.5)
    _, radius = oracle.radius(rows, weights)
    bound = (1e-6 if dtype == "float32" else 1e-12) * radius
    ref = oracle.posterior(rows, x, 0.5, 0.5, weights)
    options = {"weights": weights, "backend": engine.backend}
    bare = itf.Field(rows.astype(dtype), LINEAR, low_memory=True, **options)
    assert norm(bare.posterior(x, 0.5).mean - ref.mean).max() <= bound
    field = itf.Field(rows.astype(dtype), LINEAR, **options).without(np.repeat(chosen, len(x)))
    weights[chosen] = 0
    assert norm(field.denoiser(x, 0.5) - oracle.posterior(rows, x, 0.5, 0.5, weights).mean).max() <= bound


@functools.cache
def defined_losses(rows, times):
    """The lowest losses of rows, as bytes, at some times by the definition: what each engine is held to."""
    field = itf.Field(np.frombuffer(rows, np.float32).reshape(-1, D), LINEAR, backend="reference")
    return [itf.optimal_loss(field, t, 64, rng=2).loss for t in times]


def test_runs_and_losses_beside_a_long_row(engine):
    """Every state of a run follows from the one before it; losses of the same draws are those of the definition."""
    rows, _, _ = long_rows("tails")
    rows[130] *= 1e4 / norm(rows[130])
    rows = rows.astype(np.float32)
    field = itf.Field(rows, LINEAR, backend=engine.backend)
    table = itf.ddim(LINEAR, 5)
    x0 = np.random.default_rng(5).standard_normal((10, D))
    x0[-1] += 2e3 * rows[130] / norm(rows[130])  # on its way to the long row
    path = itf.sample(field, table, x0=x0, rng=1, keep="path").path
    _, radius = oracle.radius(rows)
    for r in range(len(table.A)):
        x = path[:, r]
        means = oracle.posterior(rows, x, table.alpha[r], table.sigma[r]).mean
        assert norm(table.A[r] * x + table.B[r] * means - path[:, r + 1]).max() <= 1e-6 * radius
    times = (0.2, 0.5)
    for t, defined in zip(times, defined_losses(rows.tobytes(), times), strict=True):
        np.testing.assert_allclose(itf.optimal_loss(field, t, 64, rng=2).loss, defined, rtol=1e-4)


@pytest.mark.parametrize("far", [1e6, 1e9, 1e12])
@pytest.mark.parametrize(("n", "d"), [(20, 17), (500, 64), (500, 3)])
def test_statistics_beside_a_row_that_is_out_of_sight(engine, n, d, far):
    """The score of a row that must never count overflowed, which left NaN for the entropy."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((n, d)).astype(np.float32)
    rows[5] *= np.float32(far)
    weights = np.where(np.arange(n) % 3 == 0, 0.0, 1.0)
    field = itf.Field(rows, LINEAR, weights=weights, backend=engine.backend)
    for t in (0.36, 0.6, 0.9):
        x = t * np.delete(rows, 5, axis=0)[:19].astype(float) + (1 - t) * rng.standard_normal((19, d))
        ref = oracle.posterior(rows, x, t, 1 - t, weights)
        for some in (slice(0, 1), slice(0, 19)):
            got = field.posterior(x[some], t)
            for name in ("entropy", "ess", "log_rest"):
                np.testing.assert_allclose(getattr(got, name), getattr(ref, name)[some], rtol=2e-3, atol=2e-3)


def test_means_of_many_rows_from_a_long_one(engine):
    """The heaviest of 200 000 rows that all count is so long that it makes most of R: no place to count them from."""
    rng = np.random.default_rng(6)
    rows = rng.standard_normal((200_000, 2))
    rows[77] = 1e4, 2e4
    rows[5000] = -3e3, 1e3
    radius = np.sqrt(((rows - rows.mean(0)) ** 2).sum(1).mean())
    sigma = 1e4 * radius
    x, u = sigma * np.array([[1.0, 1.0], [-2.0, 1.0]]), rng.standard_normal((2, 2))
    field = itf.Field(rows, LINEAR, backend=engine.backend).at(1.0, sigma)
    post, want = field.posterior(x), oracle.posterior(rows, x, 1.0, sigma, u=u)
    np.testing.assert_array_equal(post.index, [77, 5000])
    assert norm(post.mean - want.mean).max() <= 2e-11 * radius
    np.testing.assert_allclose(post.variance, want.variance, rtol=1e-10)


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("far", [3e10, 5e11])
@pytest.mark.parametrize("d", [2, 6, 40])
def test_means_where_a_light_row_makes_all_of_r(engine, d, far, kind):
    """All others are one point next to it, whose variance sums about the centre do not know: weights were anything."""
    rng = np.random.default_rng(600)
    rows = rng.standard_normal((600, d)).astype(kind)
    rows[300] = far
    weights = np.exp(np.where(rng.random(600) < 0.5, 0.0, -50.0) * rng.random(600))
    weights[300] = 1e-16
    x = 0.5 * rows[:60] + 1.2 * rng.standard_normal((60, d))
    field = itf.Field(rows, LINEAR, weights=weights, backend=engine.backend)
    want = oracle.posterior(rows, x, 0.35, 0.65, weights).mean
    for some in (slice(0, 1), slice(0, 60)):
        for mean in (field.denoiser(x[some], 0.35), field.posterior(x[some], 0.35).mean):
            assert norm(mean - want[some]).max() <= 1e-4 * np.sqrt(d)


@pytest.mark.parametrize("d", [1, 20])
@pytest.mark.filterwarnings("ignore:x cannot hold draws")
def test_means_where_a_row_without_a_weight_in_float32_makes_all_of_r(engine, d):
    """A weight of 1e-60 moves the mean by 1e40 R there; float32 knows none below 1e-45."""
    rows = np.zeros((2, d), np.float32)
    rows[1, 0] = 1e30
    weights = np.array([1.0, 1e-200])
    x = np.zeros((3, d))
    x[:, 0] = 1e30 * (0.5 + np.log(10) * np.array([100.0, 140.0, 170.0]))
    mean = itf.Field(rows, LINEAR, weights=weights, backend=engine.backend).at(1.0, 1e30).denoiser(x)
    np.testing.assert_allclose(mean[:, 0], [1e-70, 1e-30, 1.0], rtol=1e-4, atol=1e-44)


def test_effective_rows_beside_a_long_column(engine):
    """Alone: a first look with fewer digits may set the reference so high that no square of a weight is a number."""
    rng = np.random.default_rng(363)
    rows = rng.standard_normal((300, 3))
    rows[:, 1] *= 3e8
    rows, sigma = rows.astype(np.float32), 0.04
    x = 0.4 * rows[:200].astype(float) + sigma * rng.standard_normal((200, 3)) * 10 ** rng.uniform(0, 3, (200, 1))
    oracle_ = itf.Field(rows, LINEAR, backend=engine.backend)._oracle
    ess = oracle_.evaluate(oracle_.still(np.full(200, 0.4), np.full(200, sigma)), x, "ess")["ess"]
    want = oracle.posterior(rows.astype(float), x, 0.4, sigma).ess
    np.testing.assert_allclose(ess, want, rtol=2e-3)


def test_densities_beside_a_row_of_no_weight_that_float32_does_not_hold(engine):
    """In units of the others; times a weight of 0 it was NaN, which hid all rows but the heaviest (torch)."""
    rows = np.zeros((40, 3), np.float32)
    rows[:20, 0], rows[30] = 1e-41, 1.0
    weights = np.ones(40)
    weights[30] = 0
    x = np.array([[0.0, 0.0, 0.0], [0.3, 0.1, 0.0]])
    field = itf.Field(rows, LINEAR, weights=weights, backend=engine.backend)
    want = -(x**2).sum(axis=1) / 2 / 0.5**2 - 1.5 * np.log(2 * np.pi * 0.5**2)
    np.testing.assert_allclose(field.log_density(x, 0.5), want, rtol=1e-6)
