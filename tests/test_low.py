"""Few dimensions, which some kernels treat apart: every number of them, at all times, against the oracle."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import scipy.special
from support.measure import Errors, measure

import interp_fast as itf
from interp_fast.field import oracle_of


@pytest.mark.parametrize("ratio", [30.0, 1.0, 0.1, 1e-3])
@pytest.mark.parametrize("d", [1, 2, 3, 5, 8, 9])
def test_every_number_of_dimensions(engine, dtype, d, ratio):
    """Off centre, with copies of rows far apart, weights over many decades and some of 0; one query lies far away."""
    rng = np.random.default_rng(d)
    rows = (5 + rng.standard_normal((601, d))).astype(dtype)
    rows[400:] = rows[:201]
    weights = 10.0 ** rng.uniform(-6, 0, 601)
    weights[::7] = 0
    t = 1 / (1 + ratio)
    x = t * rows[[1, 50, 450, 600]] + (1 - t) * rng.standard_normal((4, d))
    x[3] += 40 * (1 - t)
    flow = itf.Field(rows, weights=weights, backend=engine.backend)
    ref = oracle.posterior(rows, x, t, 1 - t, weights)
    centre, radius = oracle.radius(rows, weights)
    tight = 5e-6 if dtype == "float32" else 1e-10
    error = np.linalg.norm(flow.denoiser(x, t) - ref.mean, axis=1)
    assert (error <= tight * np.maximum(np.linalg.norm(ref.mean, axis=1), radius)).all()
    noise = (x - t * ref.mean) / (1 - t)
    error = np.linalg.norm(flow.noise(x, t) - noise, axis=1)
    assert (error <= (1e-4 if dtype == "float32" else 1e-10) * np.maximum(np.linalg.norm(noise, axis=1), 1)).all()
    out = {"mean": np.empty_like(x), "index": np.empty(4, np.int64), "log_norm": np.empty(4)}
    oracle_of(flow).training_set.posterior(x, np.full(4, t), np.full(4, 1 - t), np.inf, out)
    np.testing.assert_array_equal(out["index"], ref.index)
    np.testing.assert_allclose(out["log_norm"], ref.log_norm, rtol=1e-6, atol=1e-3 if dtype == "float32" else 1e-9)


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("d", [2, 8])
def test_noise_as_fine_as_float32(engine, d, offset):
    """Rows an ulp apart in different blocks, queries at and between them, noise of 0.1 ... 3 ulp."""
    rng = np.random.default_rng(d)
    rows = (rng.standard_normal((9000, d)) + offset).astype(np.float32)
    first = rng.integers(0, 3000, 20)
    second = first + rng.integers(3000, 6000, 20)
    rows[second] = rows[first]
    rows[second, 0] = np.nextafter(rows[first, 0], np.float32(1e9))
    flow = itf.Field(rows, backend=engine.backend)
    for ulps in (0.1, 0.5, 3.0):
        sigma = ulps * float(np.spacing(np.float32(max(offset, 1))))
        t = 1 / (1 + sigma)
        at = rows[first].astype(float)
        x = t * np.concatenate([at, (at + rows[second]) / 2])
        x += (1 - t) * rng.standard_normal(x.shape)
        ref = oracle.posterior(rows, x, t, 1 - t)
        noise = (x - t * ref.mean) / (1 - t)
        error = np.linalg.norm(flow.noise(x, t) - noise, axis=1)
        assert (error <= 1e-4 * np.maximum(np.linalg.norm(noise, axis=1), 1)).all(), ulps
        np.testing.assert_allclose(flow.denoiser(x, t), ref.mean, atol=5e-6 * flow.R + 2e-7 * offset)


def test_trajectories_end_on_rows(engine):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((3000, 2)).astype(np.float32)
    out = itf.sample(itf.Field(rows, backend=engine.backend), itf.ddim(itf.Linear(), 30), 64, rng=1)
    nearest = ((out.x[:, None, :] - rows[None]) ** 2).sum(-1).argmin(1)
    np.testing.assert_array_equal(out.index, nearest)


@pytest.mark.long
@pytest.mark.parametrize("ratio", [3.0, 0.05, 1e-3, 1e-4])
@pytest.mark.parametrize("d", [1, 2, 8])
def test_every_output_among_many_rows(engine, dtype, d, ratio):
    """More rows than are decoded at a time; the best ones in different parts of them, among near copies and ties."""
    rng = np.random.default_rng(d)
    n = 7003 if engine.backend == "reference" else 70003  # which decodes no blocks and takes minutes
    rows = np.round(rng.standard_normal((n, d)) * 64).astype(dtype) / 64 + 3
    rows[6 * n // 7 :] += (1e-3 * rng.standard_normal((n - 6 * n // 7, d))).astype(dtype)
    weights = 10.0 ** rng.uniform(-3, 0, len(rows))
    t = 1 / (1 + ratio)
    x = t * rows[[5, n - 13, min(65536, n - 1), n // 2]].astype(float) + (1 - t) * rng.standard_normal((4, d))
    x[0] = t * rows[5]
    x[1] += 20 * (1 - t)
    errors = Errors(f"d {d}, sigma/alpha {ratio}, {dtype}, {engine}")
    flow = itf.Field(rows, weights=weights, backend=engine.backend)
    measure(errors, rows, weights, flow, x, t, result=dtype)
    errors.close()


@pytest.mark.parametrize("d", [1, 2, 5, 8])
def test_a_row_at_the_query_after_many_others(engine, dtype, d):
    """The best score seen had the digits of what it was counted from, and no row was found that reached it."""
    rng = np.random.default_rng(d)
    rows = 8 * rng.choice([-1.0, 1.0], (70_000, d))
    rows[::2] = rng.choice([-1.0, 1.0], (35_000, d)) * rng.uniform(2.3, 2.4, (35_000, 1)) / np.sqrt(d)
    rows = rows.astype(dtype)
    rows[69_000] = 1e-9  # the others of weight have logits of about -3
    data, x, half = oracle_of(itf.Field(rows, backend=engine.backend)).training_set, np.zeros((1, d)), np.full(1, 0.5)
    ref = oracle.posterior(rows, x, 0.5, 0.5)
    for names in (("mean", "index", "dropped", "work"), ("index",), ("log_norm", "index")):
        blanks = {"mean": np.empty((1, d)), "index": np.empty(1, np.int64)}
        out = {name: blanks.get(name, np.empty(1)) for name in names}
        data.posterior(x, half, half, 30.0, out)
        assert out["index"][0] == 69_000, names
        if "mean" in out:
            np.testing.assert_allclose(out["mean"], ref.mean, atol=2e-5)
        if "log_norm" in out:
            np.testing.assert_allclose(out["log_norm"], ref.log_norm, atol=1e-3)


def test_more_ties_than_are_kept(engine):
    """Rows on a circle about the query: all of them are the best, and the lowest are given."""
    angle = np.arange(4) * np.pi / 2
    corner = np.stack([np.cos(angle), np.sin(angle)], axis=1).round()
    rows = np.concatenate([np.tile(corner, (600, 1)), 3 + corner]).astype(np.float32)
    post = itf.Field(rows, backend=engine.backend).posterior(np.zeros((1, 2)), 0.9, top=5)
    np.testing.assert_array_equal(post.top_index, [[0, 1, 2, 3, 4]])
    np.testing.assert_allclose(post.top_weight, 1 / 2400, rtol=1e-5)
    np.testing.assert_allclose([post.gap, post.ess], [[0.0], [2400.0]], rtol=1e-5)


@pytest.mark.parametrize("t", [1e-308, 1e-200, 1e-40])
def test_signals_too_weak_for_a_number(engine, dtype, t):
    """What squared differences count for was 0 in float32, the score of the heaviest row divided by it no number."""
    rng = np.random.default_rng(1)
    rows, weights = rng.standard_normal((2000, 3)).astype(dtype), 10.0 ** rng.uniform(-20, 0, 2000)
    x = np.concatenate([rng.standard_normal((4, 3)), np.zeros((1, 3))])
    post = itf.Field(rows, itf.SqrtVP(), weights=weights, backend=engine.backend).posterior(x, t, top=3)
    order = np.argsort(-weights)
    np.testing.assert_array_equal(post.top_index, np.tile(order[:3], (5, 1)))
    np.testing.assert_array_equal(post.index, order[0])
    np.testing.assert_allclose(post.gap, np.log(weights[order[0]] / weights[order[1]]), rtol=1e-4)
    np.testing.assert_allclose(post.ess, weights.sum() ** 2 / (weights**2).sum(), rtol=1e-4)


def test_weights_of_far_queries(engine, dtype):
    """The top row's weight was taken from a squared distance that has no digits left for what rows differ by."""
    rng = np.random.default_rng(0)
    rows = (1e5 * rng.standard_normal((16, 3))).astype(dtype)
    x, t = 6e8 * rng.standard_normal((40, 3)), 1e-17
    schedule = itf.Trigonometric()
    c = schedule(t)
    ref = oracle.posterior(rows, x, float(c.alpha), float(c.sigma))
    post = itf.Field(rows, schedule, backend=engine.backend).posterior(x, t, top=3)
    for name in ("log_rest", "gap", "entropy", "ess"):
        np.testing.assert_allclose(getattr(post, name), getattr(ref, name), rtol=1e-4, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(post.top_weight, -np.sort(-np.exp(ref.log_weight), axis=1)[:, :3], rtol=1e-4)


def test_means_of_far_queries(engine):
    """What rounding a logit costs of the noise prediction is nothing there, and of the mean it was all."""
    rng = np.random.default_rng(1)
    rows = (1.8e3 * rng.standard_normal((85, 3))).astype(np.float32)
    x, t, schedule = 6e9 * rng.standard_normal((20, 3)), 1e-17, itf.Trigonometric()
    ref = oracle.posterior(rows, x, float(schedule(t).alpha), 1.0)
    flow = itf.Field(rows, schedule, backend=engine.backend)
    error = np.linalg.norm(flow.denoiser(x, t) - ref.mean, axis=1)
    assert (error <= 5e-6 * np.maximum(np.linalg.norm(ref.mean, axis=1), flow.R)).all()


@pytest.mark.parametrize("d", [1, 8])
@pytest.mark.parametrize("n", [700, 100_000])
def test_equal_rows_one_by_one(engine, n, d):
    """What float32 sums of equal terms lose, they lose every time: means were off by 1.6e-5 R."""
    if engine.backend == "reference" and n > 10_000:
        n = 5_000
    rows = np.zeros((n, d), np.uint8)
    rows[n // 2, d // 2] = 255
    radius = 255 * np.sqrt(n - 1) / n
    rng = np.random.default_rng(d)
    for ratio in (0.06, 0.2, 1.0):
        t = ratio / (1 + ratio)
        x = (1 - t) * radius * rng.standard_normal((60, d)) * np.tile([1, 3, 6, 8], 15)[:, None] / np.sqrt(d)
        logit = (2 * t * 255 * x[:, d // 2] - (t * 255) ** 2) / (2 * (1 - t) ** 2)
        mean = 255 * scipy.special.expit(logit - np.log(n - 1))
        got = itf.Field(rows, scale=(1.0, 0.0), backend=engine.backend).denoiser(x, t)
        np.testing.assert_allclose(got[:, d // 2], mean, rtol=1e-6, atol=5e-6 * radius)
        np.testing.assert_allclose(np.delete(got, d // 2, axis=1), 0, atol=5e-6 * radius)
