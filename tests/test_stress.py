"""Large and odd sizes that the small problems cannot reach."""

from __future__ import annotations

import numpy as np
import oracle
import pytest

import interp_fast as itf

pytestmark = pytest.mark.stress


def test_more_dimensions_than_16_bits_count(engine, dtype):
    """d > 65 536: the differences that decide lie in the last coordinates."""
    d = 65_536 + 37
    rows = np.zeros((5, d), dtype)
    rows[:, -1] = [0, 10, 20, 30, 40]
    rows[:, 65_536] = [0, 0, 50, 0, 0]
    flow = itf.Field(rows, backend=engine.backend)
    x = np.zeros((2, d))
    x[0, -1], x[1, 65_536] = 17.51, 24.0
    post = flow.posterior(x, 0.5, top=5)
    ref = oracle.posterior(rows, x, 0.5, 0.5)
    np.testing.assert_array_equal(post.index, ref.index)
    np.testing.assert_allclose(post.ess, ref.ess, rtol=1e-3 if dtype == "float32" else 1e-9)
    np.testing.assert_allclose(post.mean[:, -1], ref.mean[:, -1], rtol=1e-4)
    z = itf.sample(flow, itf.ddim(flow.schedule, 2), 1, rng=1)
    np.testing.assert_allclose(z.x[0], rows[z.index[0]], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("ratio", [10.0, 1.0, 0.05])
def test_many_rows(engine, ratio):
    """A diffuse mean over 200 000 rows keeps its digits; a concentrated one finds its row among them."""
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((200_001, 8)).astype(np.float32)
    t = 1 / (1 + ratio)
    x = t * rows[[0, 77_777, 200_000]] + (1 - t) * rng.standard_normal((3, 8))
    if engine.backend == "reference":
        x = x[:1]
    flow = itf.Field(rows, backend=engine.backend)
    post = flow.posterior(x, t)
    wide = rows.astype(float)
    for m, q in enumerate(x):
        score = -((q - t * wide) ** 2).sum(1) / (2 * (1 - t) ** 2)
        w = np.exp(score - score.max())
        mean = w @ wide / w.sum()
        assert np.linalg.norm(post.mean[m] - mean) <= 5e-6 * max(np.linalg.norm(mean), np.sqrt(8))
        np.testing.assert_allclose(post.ess[m], w.sum() ** 2 / (w**2).sum(), rtol=1e-3)


def test_many_queries(engine):
    """More queries than any group: each is that of a small call."""
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((60, 3)).astype(np.float32)
    x = rng.standard_normal((5003, 3))
    flow = itf.Field(rows, backend=engine.backend)
    whole = flow.velocity(x, 0.6)
    chosen = [0, 1, 63, 64, 4095, 4096, 5002]
    np.testing.assert_allclose(whole[chosen], flow.velocity(x[chosen], 0.6), rtol=1e-4, atol=1e-5)


def test_a_long_run(engine):
    """1000 rows of an SDE with float32 data end on training rows, and repeat to the bit."""
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((50, 6)).astype(np.float32)
    flow = itf.Field(rows, backend=engine.backend)
    table = itf.ddpm(flow.schedule, 1000)
    out = itf.sample(flow, table, 9, rng=4)
    np.testing.assert_array_equal(out.x, rows[out.index])
    np.testing.assert_array_equal(itf.sample(flow, table, 9, rng=4).x, out.x)
