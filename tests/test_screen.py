"""Answers for many queries among rows that bytes cannot tell apart, cannot hold or must not read.

From these sizes on compiled kernels may look at bytes before they look at numbers; nothing here says that they do.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import oracle
import pytest
from support.kernel import INF, blank, posterior, prepare

import interp_fast as itf
from interp_fast import backends

SCALE = (2 / 255, -1.0)
M = 45


@pytest.fixture
def kernel(engine):
    return backends.get(engine.backend)[1]


def clumps(stored, d):
    """Rows as stored and their values: 30 clumps of 40, apart by less than a step of a byte up to a hundred steps."""
    rng = np.random.default_rng(3)
    rows = np.repeat(rng.uniform(-1, 1, (30, d)), 40, axis=0)
    rows += np.geomspace(1e-4, 0.3, 1200)[:, None] * rng.standard_normal((1200, d)) / np.sqrt(d)
    rows = rng.permutation(rows)
    if stored == "uint8":
        rows = np.clip(np.rint((rows - SCALE[1]) / SCALE[0]), 0, 255).astype(np.uint8)
        return rows, SCALE[0] * rows.astype(float) + SCALE[1]
    rows = rows.astype(ml_dtypes.bfloat16 if stored == "bfloat16" else stored)
    return rows, rows.astype(float)


def near(values, sigma):
    rng = np.random.default_rng(4)
    return values[rng.integers(0, len(values), M)] + sigma * rng.standard_normal((M, values.shape[1]))


@pytest.mark.parametrize("d", [24, 37, 130])
@pytest.mark.parametrize("stored", ["float32", "float64", "float16", "uint8"])
def test_nearest_rows(kernel, stored, d):
    rows, values = clumps(stored, d)
    x = near(values, 1e-3)
    squared = ((x[:, None].astype(oracle.LONG) - values) ** 2).sum(2)
    order = np.argsort(squared, axis=1, kind="stable")
    data = prepare(kernel, rows, scale=SCALE if stored == "uint8" else None)
    for k in (1, 2, 5):
        index, found = np.full((M, k), -7), np.full((M, k), np.nan)
        kernel.nearest(x, data, alpha=1.0, out={"index": index, "squared_distance": found}, threads=2)
        if stored != "uint8":  # whose values are rounded here
            np.testing.assert_array_equal(index, order[:, :k])
        want = np.take_along_axis(squared, order[:, :k], 1).astype(float)
        np.testing.assert_allclose(found, want, rtol=1e-11)


def test_queries_that_are_bytes(kernel, dtype):
    """Queries of whole steps about a centre of 0: bytes are wrong about the rows alone, by a third of a step."""
    rng = np.random.default_rng(8)
    x = rng.integers(-126, 127, (M, 64)).astype(float)
    x[:, 0] = 127
    rows = np.repeat(x, 30, axis=0) + 0.3 * rng.standard_normal((30 * M, 64))
    rows = np.concatenate([rows, -rows]).astype(dtype)
    squared = ((x[:, None].astype(oracle.LONG) - rows) ** 2).sum(2)
    index, found = np.full((M, 2), -7), np.full((M, 2), np.nan)
    kernel.nearest(x, prepare(kernel, rows), alpha=1.0, out={"index": index, "squared_distance": found}, threads=2)
    np.testing.assert_array_equal(index, np.argsort(squared, axis=1, kind="stable")[:, :2])


def test_white_among_grey(kernel):
    """Queries all white, and a white row: sums of products as large as they can be, far above those of other rows."""
    rng = np.random.default_rng(9)
    rows = rng.integers(130, 160, (1200, 64)).astype(np.uint8)
    rows[700] = 255
    x = SCALE[0] * rows[[700] * M] + SCALE[1] - 0.01 * rng.random((M, 64))
    index, found = np.full((M, 1), -7), np.full((M, 1), np.nan)
    data = prepare(kernel, rows, scale=SCALE)
    kernel.nearest(x, data, alpha=1.0, out={"index": index, "squared_distance": found}, threads=2)
    np.testing.assert_array_equal(index, 700)


@pytest.mark.parametrize("d", [24, 37])
@pytest.mark.parametrize("stored", ["float32", "float64", "float16", "bfloat16", "uint8"])
def test_posteriors(engine, stored, d):
    """From noise that mixes clumps to noise that separates the closest rows."""
    rows, values = clumps(stored, d)
    flow = itf.Field(rows, itf.Linear(), backend=engine.backend, threads=2)
    tight = 1e-9 if stored == "float64" else 1e-3
    for ratio in (1.0, 0.2, 0.03, 1e-3):
        t = 1 / (1 + ratio)
        x = t * near(values, ratio)
        x = x if stored == "float64" else x.astype(np.float32)
        ref = oracle.posterior(values, x.astype(float), t, 1 - t)
        post = flow.posterior(x, t)
        error = np.linalg.norm(post.mean - ref.mean, axis=1)
        scale = np.maximum(np.linalg.norm(ref.mean, axis=1), flow.R)
        assert np.all(error <= (1e-10 if stored == "float64" else 5e-6) * scale), (ratio, error / scale)
        clear = ref.gap > 1e-6
        np.testing.assert_array_equal(post.index[clear], ref.index[clear])
        for name in ("ess", "entropy", "variance"):
            got, want = getattr(post, name), getattr(ref, name)
            ok = np.abs(got - want) <= tight * want + 1e-300
            assert np.all(ok | (ref.gap <= 0)), (ratio, name, got, want)  # copies hide what little variance there is
        np.testing.assert_allclose(flow.denoiser(x, t), post.mean, atol=1e-5 * flow.R)


def test_rows_of_weight_zero(kernel, dtype):
    """They may be as long as they like, and nearest to every query."""
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((500, 40)).astype(dtype)
    weights = np.where(np.arange(500) % 3, 1.0, 0.0)
    x = rows[:M].astype(float) + 0.01 * rng.standard_normal((M, 40))
    long = rows.copy()
    long[::6] *= 1e30
    for given in (rows, long):
        ref = oracle.posterior(rows.astype(float), x, 1.0, 0.3, weights)
        post = posterior(kernel, prepare(kernel, given, weights), x, 1.0, 0.3, out=blank(M, 40))
        np.testing.assert_array_equal(post.index, ref.index)
        np.testing.assert_allclose(post.mean, ref.mean, atol=1e-5)


@pytest.mark.parametrize("step", [1, -1, 3])
def test_bytes_in_any_layout(kernel, step):
    """Rows need not follow each other, nor come in whole words."""
    rng = np.random.default_rng(6)
    memory = rng.integers(0, 256, (1000, 31)).astype(np.uint8)
    rows = memory[::step]
    values = SCALE[0] * rows + SCALE[1]
    x = values[:M] + 0.05 * rng.standard_normal((M, 31))
    ref = oracle.posterior(values, x, 1.0, 0.2)
    data = prepare(kernel, rows, scale=SCALE)
    for cut in (INF, 40.0):
        post = posterior(kernel, data, x, 1.0, 0.2, cut=cut, out=blank(M, 31))
        np.testing.assert_array_equal(post.index, ref.index)
        np.testing.assert_allclose(post.mean, ref.mean, atol=1e-5)


def test_a_row_at_the_centre_and_a_query_there(kernel, dtype):
    """Nothing to round to bytes: the row is all zero in normal form, and so is the query."""
    rng = np.random.default_rng(7)
    half = rng.standard_normal((300, 32)).astype(dtype)
    rows = np.concatenate([half, -half, np.zeros((1, 32), dtype)])
    x = np.concatenate([np.zeros((3, 32)), 1e-9 * rng.standard_normal((M, 32))])
    for sigma in (0.5, 0.05):
        ref = oracle.posterior(rows.astype(float), x, 1.0, sigma)
        post = posterior(kernel, prepare(kernel, rows), x, 1.0, sigma, cut=60.0, out=blank(len(x), 32))
        np.testing.assert_array_equal(post.index, 600)
        np.testing.assert_allclose(post.mean, ref.mean, atol=1e-6)
